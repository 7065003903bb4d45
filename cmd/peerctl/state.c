/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accessors over the admin answers, and the writer of manifests. Invariant: a manifest is replaced whole, by
 * rename, and only when its text changes, so that the watching control plane sees no half file and no
 * needless change.
 */
#include "state.h"

#include "certs/file.h"
#include "certs/spiffe.h"
#include "core/clock.h"

#define MANIFEST_MAX (1024u * 1024)

const struct json_node *state_setting(const struct json_node *status, const char *name)
{
    const struct json_node *all = json_in_get(status, "settings");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *s = json_in_at(all, i);
        if (strcmp(json_in_text(s, "env"), name) == 0 || strcmp(json_in_text(s, "name"), name) == 0) {
            return s;
        }
    }
    return NULL;
}

const char *state_setting_value(const struct json_node *status, const char *name)
{
    return json_in_text(state_setting(status, name), "value");
}

const struct json_node *state_condition(const struct json_node *peer, const char *type)
{
    const struct json_node *all = json_in_get(peer, "conditions");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *s = json_in_at(all, i);
        if (strcmp(json_in_text(s, "type"), type) == 0) {
            return s;
        }
    }
    return NULL;
}

bool state_condition_true(const struct json_node *peer, const char *type)
{
    return strcmp(json_in_text(state_condition(peer, type), "status"), "True") == 0;
}

const struct json_node *state_gateway_of(const struct json_node *status, const struct json_node *connection)
{
    const struct json_node *all = json_in_get(status, "gateways");
    struct cert_spiffe id;
    if (cert_spiffe_parse(pg_str_c(json_in_text(connection, "identity")), &id, NULL) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        if (pg_str_eq_c(id.ns, json_in_text(g, "namespace")) && pg_str_eq_c(id.sa, json_in_text(g, "name"))) {
            return g;
        }
    }
    return NULL;
}

const char *state_join(struct ctl *c, const struct json_node *array, const char *between)
{
    struct pg_sb sb;
    pg_sb_init(&sb, CTL_MEMORY_MAX);
    for (size_t i = 0; i < json_in_len(array); i++) {
        pg_sb_fmt(&sb, "%s%s", i > 0 ? between : "", json_in_string(json_in_at(array, i)));
    }
    if (sb.err != 0) {
        ctl_oom();
    }
    const char *out = ctl_copy(c, pg_sb_view(&sb));
    pg_sb_fini(&sb);
    return out;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar; years are counted from March, so that the leap
 * day is the last of a year. */
static int64_t days(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2 ? 1 : 0;
    int64_t era = y / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

int64_t state_seconds(const char *rfc3339)
{
    static const struct {
        unsigned char at, len, max;
    } parts[] = {{5, 2, 12}, {8, 2, 31}, {11, 2, 23}, {14, 2, 59}, {17, 2, 60}};
    static const char shape[] = "0000-00-00T00:00:00";
    struct pg_str s = pg_str_c(rfc3339);
    uint64_t year;
    uint64_t v[PG_ARRAY_LEN(parts)];
    if (s.len < sizeof(shape) || s.p[s.len - 1] != 'Z') {
        return -1;
    }
    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] != '0' && s.p[i] != shape[i]) {
            return -1;
        }
    }
    if (pg_str_u64(pg_str_n(s.p, 4), 9999, &year) != 0 || year < 1970) {
        return -1;
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(parts); i++) {
        if (pg_str_u64(pg_str_n(s.p + parts[i].at, parts[i].len), parts[i].max, &v[i]) != 0) {
            return -1;
        }
    }
    if (v[0] == 0 || v[1] == 0) {
        return -1;
    }
    return days((int64_t)year, (int64_t)v[0], (int64_t)v[1]) * 86400 +
           (int64_t)(v[2] * 3600 + v[3] * 60 + v[4]);
}

const char *state_age(struct ctl *c, const char *rfc3339)
{
    int64_t then = state_seconds(rfc3339);
    int64_t now = pg_clock_wall_s();
    return then < 0 || then > now ? "<unknown>" : ctl_age(c, (uint64_t)(now - then));
}

bool state_all_synced(const struct json_node *connection)
{
    const struct json_node *types = json_in_get(connection, "types");
    for (size_t i = 0; i < json_in_len(types); i++) {
        if (!json_in_true(json_in_at(types, i), "synced")) {
            return false;
        }
    }
    return json_in_len(types) > 0;
}

bool state_put_manifest(struct ctl *c, const struct context *x, const char *file, struct pg_str text,
                        bool *changed)
{
    struct pg_errtext err = {""};
    struct pg_sb have;
    (void)c;
    if (x->manifests[0] == '\0') {
        (void)ctl_complain(
            0,
            "context %s has no \"manifests = DIR\" (%s:%u); add it, or use --generate and put the YAML "
            "where the control plane reads it",
            x->name, x->file, x->line);
        return false;
    }
    if (!cert_file_exists(x->manifests, ".")) {
        (void)ctl_complain(0, "context %s: the manifest directory %s does not exist (%s:%u)", x->name,
                           x->manifests, x->file, x->line);
        return false;
    }
    pg_sb_init(&have, MANIFEST_MAX);
    *changed = true;
    if (cert_file_exists(x->manifests, file)) {
        int r = cert_file_read(x->manifests, file, MANIFEST_MAX, &have, &err);
        *changed = r != 0 || !pg_str_eq(pg_sb_view(&have), text);
    }
    pg_sb_fini(&have);
    if (*changed && cert_file_write(x->manifests, file, text, 0644, &err) != 0) {
        (void)ctl_complain(0, "context %s: %s", x->name, err.text);
        return false;
    }
    return true;
}

bool state_is_object_name(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');
        if (!alnum && (i == 0 || i + 1 == n || (s[i] != '-' && s[i] != '.'))) {
            return false;
        }
    }
    return n > 0 && n <= 253;
}
