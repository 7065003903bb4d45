/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy's settings: lines NAME=value as its environment, and after a NUL the text of a resolv.conf. What
 * is in force prints as lines that load and print the same, and as strict JSON. One thread.
 */
#include "fuzz.h"
#include "json_check.h"

#include "hbone/config.h"

#define LINES_MAX 64u

/* The settings of `lines`, or false. They are not kept. */
static bool load(struct hb_config *c, struct pg_str lines)
{
    char *env[LINES_MAX + 1];
    struct pg_errtext err = {{0}};
    struct pg_str line;
    size_t n = 0;
    while (n < LINES_MAX && pg_str_cut(&lines, '\n', &line)) {
        env[n++] = fuzz_z(line);
    }
    env[n] = NULL;
    int r = hb_config_load(c, env, NULL, NULL, &err);
    PG_BUG_ON(r < 0 && err.text[0] == '\0');
    for (size_t i = 0; i < n; i++) {
        pg_free(env[i]);
    }
    return r == 0;
}

static void one(struct pg_str in)
{
    struct hb_config c;
    struct pg_sb text;
    struct pg_errtext err = {{0}};
    struct pg_str lines = PG_STR_NONE;
    unsigned workers = 0;
    (void)pg_str_cut(&in, '\0', &lines);
    pg_sb_init(&text, 1u << 20);
    if (load(&c, lines)) {
        struct pg_json j;
        hb_config_resolv(&c, in);
        PG_BUG_ON(c.n_dns_servers > HB_DNS_SERVERS_MAX || c.n_dns_search > HB_DNS_SEARCH_MAX);
        PG_BUG_ON(hb_config_workers(&c, 8, &workers, &err) == 0 &&
                  (workers == 0 || workers > HB_WORKERS_MAX));
        pg_json_init(&j, &text, false);
        hb_config_json(&c, &j);
        PG_BUG_ON(text.err != 0 || !jc_document(pg_sb_view(&text)));
        pg_sb_reset(&text);
        hb_config_print(&c, &text);
        PG_BUG_ON(text.err != 0);
        hb_config_fini(&c);
    }
    pg_sb_fini(&text);
}
FUZZ_TARGET(one, fuzz_no_init)
