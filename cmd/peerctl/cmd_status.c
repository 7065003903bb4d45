/* SPDX-License-Identifier: Apache-2.0 */
/* `peerctl status`, `proxy-status`, `version` and `contexts`: each over one cluster or all of them. One
 * thread. */
#include "state.h"

#include <stdlib.h>

#define WAIT_DEFAULT_MS 60000u
#define WAIT_POLL_MS 250u

/* --- status */

/* What a cluster still lacks for "linked and working", or NULL. */
static const char *lacking(struct ctl *c, const struct json_node *s)
{
    const struct json_node *gateways = json_in_get(s, "gateways");
    const struct json_node *peers = json_in_get(s, "peers");
    const char *cluster = json_in_text(s, "cluster");
    if (!json_in_true(s, "ready")) {
        return ctl_fmt(c, "%s to be ready (pending: %s)", cluster, json_in_text(s, "pending"));
    }
    for (size_t i = 0; i < json_in_len(gateways); i++) {
        const struct json_node *g = json_in_at(gateways, i);
        if (!json_in_true(g, "programmed")) {
            return ctl_fmt(c, "gateway %s/%s of %s to be programmed (%s)", json_in_text(g, "namespace"),
                           json_in_text(g, "name"), cluster, json_in_text(g, "reason"));
        }
    }
    for (size_t i = 0; i < json_in_len(peers); i++) {
        const struct json_node *p = json_in_at(peers, i);
        if (!state_condition_true(p, "gloo.solo.io/PeeringSucceeded")) {
            const char *last = json_in_text(p, "lastError");
            return ctl_fmt(c, "%s to be synced with %s%s%s", cluster, json_in_text(p, "cluster"),
                           last[0] != '\0' ? ": " : "", last);
        }
    }
    return NULL;
}

static void status_text(struct ctl *c, const struct context *x, const struct json_node *s, struct pg_sb *out)
{
    const struct json_node *gateways = json_in_get(s, "gateways");
    const struct json_node *peers = json_in_get(s, "peers");
    const struct json_node *problems = json_in_get(json_in_get(s, "manifests"), "problems");
    const char *pending = json_in_text(s, "pending");
    pg_sb_fmt(out, "Cluster %s (context %s, %s)\n", json_in_text(s, "cluster"), x->name, x->admin);
    pg_sb_fmt(out, "  control plane:    %s, version %s, %s%s%s, since %s\n", json_in_text(s, "address"),
              json_in_text(s, "version"), json_in_true(s, "ready") ? "ready" : "not ready",
              pending[0] != '\0' ? ": " : "", pending, json_in_text(s, "startedAt"));
    pg_sb_fmt(out, "  network:          %s, trust domain %s\n", json_in_text(s, "network"),
              json_in_text(s, "trustDomain"));
    pg_sb_fmt(out, "  global services:  %llu\n", (unsigned long long)json_in_u64(s, "globalServices"));
    for (size_t i = 0; i < json_in_len(gateways); i++) {
        const struct json_node *g = json_in_at(gateways, i);
        pg_sb_fmt(out, "  gateway:          %s/%s at %s, %s\n", json_in_text(g, "namespace"),
                  json_in_text(g, "name"), state_join(c, json_in_get(g, "addresses"), ", "),
                  json_in_text(g, "reason"));
    }
    for (size_t i = 0; i < json_in_len(peers); i++) {
        const struct json_node *p = json_in_at(peers, i);
        const char *last = json_in_text(p, "lastError");
        bool connected = state_condition_true(p, "gloo.solo.io/PeerConnected");
        pg_sb_fmt(out, "  peer:             %s, %s%s, data %s, %llu service%s%s%s\n",
                  json_in_text(p, "cluster"), connected ? "connected" : "not connected",
                  state_condition_true(p, "gloo.solo.io/PeeringSucceeded") ? " and synced" : "",
                  json_in_text(p, "data"), (unsigned long long)json_in_u64(p, "services"),
                  json_in_u64(p, "services") == 1 ? "" : "s", !connected && last[0] != '\0' ? "; " : "",
                  !connected ? last : "");
    }
    for (size_t i = 0; i < json_in_len(problems); i++) {
        const struct json_node *p = json_in_at(problems, i);
        pg_sb_fmt(out, "  manifest problem: %s:%llu: %s\n", json_in_text(p, "file"),
                  (unsigned long long)json_in_u64(p, "line"), json_in_text(p, "reason"));
    }
}

static void print_status(struct ctl *c, const struct context *const *list,
                         const struct json_node *const *docs, size_t n)
{
    struct pg_sb out;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    if (c->json) {
        pg_sb_c(&out, "{\"schema\":\"isthmus.peerctl-status/v1\",\"contexts\":[");
    }
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (docs[i] == NULL) {
            continue;
        }
        if (c->json) {
            pg_sb_fmt(&out, "%s\n{\"context\":\"", first ? "" : ",");
            pg_json_escape(&out, pg_str_c(list[i]->name));
            pg_sb_c(&out, "\",\"status\":");
            json_in_dump(docs[i], &out);
            pg_sb_ch(&out, '}');
        } else {
            pg_sb_c(&out, first ? "" : "\n");
            status_text(c, list[i], docs[i], &out);
        }
        first = false;
    }
    pg_sb_c(&out, c->json ? "]}\n" : "");
    ctl_print(&out);
    pg_sb_fini(&out);
}

/* One look at a cluster; with --wait looks until nothing is lacking or the time is over. */
static int look(struct ctl *c, const struct context *x, uint64_t end_ms, const struct json_node **doc)
{
    bool wait = args_on(&c->args, ARG_WAIT);
    for (;;) {
        struct answer a;
        bool reached = ctl_fetch(c, x, "/status", STATE_STATUS_SCHEMA, &a);
        const char *lacks = reached ? lacking(c, a.doc) : a.why;
        *doc = a.doc;
        if (!wait || lacks == NULL) {
            if (!reached) {
                return ctl_complain(CTL_UNREACHABLE, "%s", a.why);
            }
            return json_in_true(a.doc, "ready") ? CTL_OK : CTL_FAILED;
        }
        if (pg_loop_now_ms(c->loop) >= end_ms) {
            return ctl_complain(reached ? CTL_FAILED : CTL_UNREACHABLE, "waited in vain for %s", lacks);
        }
        ctl_pause(c, WAIT_POLL_MS);
    }
}

int cmd_status(struct ctl *c)
{
    const struct context **list;
    size_t n = ctl_contexts(c, &list);
    int worst = CTL_OK;
    if (n == 0) {
        return CTL_USAGE;
    }
    uint64_t end_ms = pg_loop_now_ms(c->loop) + ctl_duration(c, ARG_TIMEOUT, WAIT_DEFAULT_MS);
    const struct json_node **docs = ctl_alloc(c, n, sizeof(*docs));
    for (size_t i = 0; i < n; i++) {
        int r = look(c, list[i], end_ms, &docs[i]);
        worst = r > worst ? r : worst;
    }
    print_status(c, list, docs, n);
    return worst;
}

/* --- proxy-status */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "3 (FSDS,SGDS,WDS)" */
static const char *types_text(struct ctl *c, const struct json_node *connection)
{
    const struct json_node *types = json_in_get(connection, "types");
    const char *names[64];
    size_t n = 0;
    struct pg_sb sb;
    for (size_t i = 0; i < json_in_len(types) && n < PG_ARRAY_LEN(names); i++) {
        names[n++] = json_in_text(json_in_at(types, i), "type");
    }
    qsort(names, n, sizeof(names[0]), by_text);
    size_t unique = 0;
    for (size_t i = 0; i < n; i++) {
        if (unique == 0 || strcmp(names[unique - 1], names[i]) != 0) {
            names[unique++] = names[i];
        }
    }
    pg_sb_init(&sb, 65536);
    pg_sb_fmt(&sb, "%zu (", unique);
    for (size_t i = 0; i < unique; i++) {
        pg_sb_fmt(&sb, "%s%s", i > 0 ? "," : "", names[i]);
    }
    pg_sb_ch(&sb, ')');
    const char *out = ctl_copy(c, pg_sb_view(&sb));
    pg_sb_fini(&sb);
    return out;
}

static void proxies_json(const struct context *x, const struct json_node *doc, bool first, struct pg_sb *out)
{
    pg_sb_fmt(out, "%s\n{\"context\":\"", first ? "" : ",");
    pg_json_escape(out, pg_str_c(x->name));
    pg_sb_c(out, "\",\"cluster\":\"");
    pg_json_escape(out, pg_str_c(json_in_text(doc, "cluster")));
    pg_sb_c(out, "\",\"connections\":");
    json_in_dump(json_in_get(doc, "connections"), out);
    pg_sb_ch(out, '}');
}

int cmd_proxy_status(struct ctl *c)
{
    static const char *const heads[] = {"NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"};
    const struct context **list;
    size_t n = ctl_contexts(c, &list);
    struct table t;
    struct pg_sb out;
    int worst = n == 0 ? CTL_USAGE : CTL_OK;
    bool first = true;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_sb_c(&out, c->json ? "{\"schema\":\"isthmus.proxy-status/v1\",\"contexts\":[" : "");
    table_begin(&t, c, PG_ARRAY_LEN(heads), heads);
    for (size_t i = 0; i < n; i++) {
        const struct json_node *doc = ctl_ask(c, list[i], "/connections", STATE_CONNECTIONS_SCHEMA);
        if (doc == NULL) {
            worst = CTL_UNREACHABLE;
            continue;
        }
        if (c->json) {
            proxies_json(list[i], doc, first, &out);
        }
        const struct json_node *all = json_in_get(doc, "connections");
        for (size_t k = 0; k < json_in_len(all); k++) {
            const struct json_node *o = json_in_at(all, k);
            table_cell(&t, json_in_text(o, "name"));
            table_cell(&t, json_in_text(o, "cluster"));
            table_cell(&t, list[i]->name);
            table_cell(&t, json_in_text(o, "version"));
            table_cell(&t, types_text(c, o));
        }
        first = false;
    }
    if (c->json) {
        pg_sb_c(&out, "]}\n");
    } else if (!first) {
        table_print(&t, "", &out);
    }
    if (n > 0) {
        ctl_print(&out);
    }
    pg_sb_fini(&out);
    return worst;
}

/* --- version, contexts */

int cmd_version(struct ctl *c)
{
    bool remote = c->args.value[ARG_REMOTE] == NULL || args_on(&c->args, ARG_REMOTE);
    const struct context **list = NULL;
    struct pg_sb out;
    struct pg_json j;
    int worst = CTL_OK;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_json_init(&j, &out, true);
    pg_json_obj(&j);
    pg_json_kc(&j, "schema", "isthmus.version/v1");
    pg_json_kc(&j, "client", ISTHMUS_VERSION);
    pg_json_key(&j, "controlPlanes");
    pg_json_arr(&j);
    if (!c->json) {
        printf("client version: %s\n", ISTHMUS_VERSION);
    }
    size_t n = remote ? ctl_contexts(c, &list) : 0;
    worst = remote && n == 0 ? CTL_USAGE : CTL_OK;
    for (size_t i = 0; i < n; i++) {
        const struct json_node *s = ctl_ask(c, list[i], "/status", STATE_STATUS_SCHEMA);
        if (s == NULL) {
            worst = CTL_UNREACHABLE;
            continue;
        }
        if (!c->json) {
            printf("control plane version: %s (context %s, cluster %s)\n", json_in_text(s, "version"),
                   list[i]->name, json_in_text(s, "cluster"));
        }
        pg_json_obj(&j);
        pg_json_kc(&j, "context", list[i]->name);
        pg_json_kc(&j, "cluster", json_in_text(s, "cluster"));
        pg_json_kc(&j, "version", json_in_text(s, "version"));
        pg_json_obj_end(&j);
    }
    pg_json_arr_end(&j);
    pg_json_obj_end(&j);
    pg_sb_ch(&out, '\n');
    if (c->json) {
        ctl_print(&out);
    }
    pg_sb_fini(&out);
    return worst;
}

int cmd_contexts(struct ctl *c)
{
    static const char *const heads[] = {"NAME", "MANIFESTS", "ADMIN"};
    struct table t;
    struct pg_sb out;
    struct pg_json j;
    if (!ctl_load(c)) {
        return CTL_USAGE;
    }
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_json_init(&j, &out, true);
    table_begin(&t, c, PG_ARRAY_LEN(heads), heads);
    if (c->json) {
        pg_json_obj(&j);
        pg_json_kc(&j, "schema", "isthmus.contexts/v1");
        pg_json_key(&j, "contexts");
        pg_json_arr(&j);
    }
    for (size_t i = 0; i < c->contexts.n; i++) {
        const struct context *x = &c->contexts.items[i];
        table_cell(&t, x->name);
        table_cell(&t, x->manifests);
        table_cell(&t, x->admin);
        if (c->json) {
            pg_json_obj(&j);
            pg_json_kc(&j, "name", x->name);
            pg_json_kc(&j, "manifests", x->manifests);
            pg_json_kc(&j, "admin", x->admin);
            pg_json_obj_end(&j);
        }
    }
    if (c->json) {
        pg_json_arr_end(&j);
        pg_json_obj_end(&j);
        pg_sb_ch(&out, '\n');
    } else {
        table_print(&t, "", &out);
    }
    ctl_print(&out);
    pg_sb_fini(&out);
    return CTL_OK;
}
