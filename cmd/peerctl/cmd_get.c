/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl get`: what a control plane knows, in kubectl's columns. Without -n every namespace is listed. One
 * thread.
 */
#include "state.h"

#include "core/clock.h"

#include <sys/stat.h>

struct row { /* one item, whatever its kind */
    const char *ns, *name;
    const struct json_node *item;    /* for -o json */
    const struct json_node *service; /* serviceentry: the global service; workloadentry: it too */
};
struct listing {
    struct ctl *c;
    const struct context *x;
    const struct json_node *doc; /* /status, /services or /workloads */
    struct row *rows;
    size_t n, cap;
};
struct kind {
    const char *names[5]; /* accepted words, the first one for people */
    const char *prefix;   /* of -o name */
    const char *path, *schema;
    void (*collect)(struct listing *l);
    size_t n_columns, n_wide; /* without NAMESPACE */
    const char *heads[12];
    void (*cells)(struct listing *l, const struct row *r, struct table *t, bool wide);
};

static void add(struct listing *l, const char *ns, const char *name, const struct json_node *item,
                const struct json_node *service)
{
    const char *wanted = l->c->args.value[ARG_NAMESPACE];
    if (wanted != NULL && strcmp(wanted, ns) != 0) {
        return;
    }
    if (l->n == l->cap) {
        struct row *bigger = ctl_alloc(l->c, l->cap == 0 ? 64 : l->cap * 2, sizeof(*bigger));
        if (l->n > 0) {
            memcpy(bigger, l->rows, l->n * sizeof(*bigger));
        }
        l->rows = bigger;
        l->cap = l->cap == 0 ? 64 : l->cap * 2;
    }
    l->rows[l->n++] = (struct row){ns, name, item, service};
}

static void add_all(struct listing *l, const char *key)
{
    const struct json_node *all = json_in_get(l->doc, key);
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *o = json_in_at(all, i);
        add(l, json_in_text(o, "namespace"), json_in_text(o, "name"), o, NULL);
    }
}

static const char *yes(bool b)
{
    return b ? "True" : "False";
}

static const char *number(struct listing *l, const struct json_node *o, const char *key)
{
    return ctl_fmt(l->c, "%llu", (unsigned long long)json_in_u64(o, key));
}

/* --- services */

static void collect_services(struct listing *l)
{
    add_all(l, "services");
}

static const struct json_node *global_of(const struct listing *l, const char *hostname)
{
    const struct json_node *all = json_in_get(l->doc, "global");
    for (size_t i = 0; i < json_in_len(all); i++) {
        if (strcmp(json_in_text(json_in_at(all, i), "hostname"), hostname) == 0) {
            return json_in_at(all, i);
        }
    }
    return NULL;
}

static const char *ports_of(struct listing *l, const struct json_node *o)
{
    struct pg_sb sb;
    const struct json_node *ports = json_in_get(o, "ports");
    pg_sb_init(&sb, 65536);
    for (size_t i = 0; i < json_in_len(ports); i++) {
        struct pg_sb one;
        pg_sb_init(&one, 64);
        json_in_dump(json_in_at(ports, i), &one);
        pg_sb_fmt(&sb, "%s%s", i > 0 ? "," : "", one.p != NULL ? one.p : "");
        pg_sb_fini(&one);
    }
    const char *out = ctl_copy(l->c, pg_sb_view(&sb));
    pg_sb_fini(&sb);
    return out;
}

static void service_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    const struct json_node *o = r->item;
    const struct json_node *g = global_of(l, json_in_text(o, "hostname"));
    table_cell(t, r->name);
    table_cell(t, json_in_text(o, "hostname"));
    table_cell(t, state_join(l->c, json_in_get(o, "vips"), ","));
    table_cell(t, ports_of(l, o));
    table_cell(t, ctl_fmt(l->c, "%s/%s", number(l, o, "healthy"), number(l, o, "endpoints")));
    if (wide) {
        table_cell(t, g != NULL ? json_in_text(g, "scope") : "cluster");
        table_cell(t, state_join(l->c, json_in_get(g, "clusters"), ","));
        table_cell(t, json_in_text(o, "loadBalancing"));
    }
}

/* --- workloads */

static void collect_workloads(struct listing *l)
{
    add_all(l, "workloads");
}

static void workload_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    const struct json_node *o = r->item;
    table_cell(t, r->name);
    table_cell(t, state_join(l->c, json_in_get(o, "addresses"), ","));
    table_cell(t, json_in_text(o, "cluster"));
    table_cell(t, json_in_text(o, "network"));
    table_cell(t, json_in_text(o, "protocol"));
    table_cell(t, yes(json_in_true(o, "healthy")));
    if (wide) {
        table_cell(t, json_in_text(o, "node"));
        table_cell(t, json_in_text(o, "identity"));
        table_cell(t, json_in_text(o, "gateway"));
        table_cell(t, state_join(l->c, json_in_get(o, "services"), ","));
    }
}

/* --- peers */

static void collect_peers(struct listing *l)
{
    add_all(l, "peers");
}

static void peer_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    const struct json_node *o = r->item;
    bool connected = state_condition_true(o, "gloo.solo.io/PeerConnected");
    table_cell(t, r->name);
    table_cell(t, json_in_text(o, "cluster"));
    table_cell(t, json_in_text(o, "network"));
    table_cell(t, state_join(l->c, json_in_get(o, "addresses"), ","));
    table_cell(t, yes(connected));
    table_cell(t, yes(state_condition_true(o, "gloo.solo.io/PeeringSucceeded")));
    table_cell(t, json_in_text(o, "data"));
    /* How long nothing new has come, when the next attempt is, and why the last one failed. */
    table_cell(t, connected ? "" : ctl_age(l->c, json_in_u64(o, "dataAgeMs") / 1000));
    table_cell(
        t, connected ? "" : ctl_fmt(l->c, "in %s", ctl_age(l->c, (json_in_u64(o, "retryMs") + 999) / 1000)));
    table_cell(t, connected ? "" : json_in_text(o, "lastError"));
    if (wide) {
        table_cell(t, number(l, o, "services"));
        table_cell(t, number(l, o, "workloads"));
    }
}

/* --- gateways */

static void collect_gateways(struct listing *l)
{
    add_all(l, "gateways");
    add_all(l, "peers");
}

/* Age of the manifest, the nearest thing to an object's age that a directory has. */
static const char *age_of(struct listing *l, const struct json_node *o)
{
    struct pg_str file = pg_str_c(json_in_text(o, "object"));
    ptrdiff_t colon = pg_str_rchr(file, ':');
    struct stat st;
    if (colon <= 0) {
        return "<unknown>";
    }
    file.len = (size_t)colon;
    const char *path =
        file.p[0] == '/' ? ctl_copy(l->c, file) : ctl_fmt(l->c, "%s/%.*s", l->x->manifests, PG_STR_ARG(file));
    int64_t now = pg_clock_wall_s();
    if (stat(path, &st) != 0 || st.st_mtime > now) {
        return "<unknown>";
    }
    return ctl_age(l->c, (uint64_t)(now - st.st_mtime));
}

static bool is_peer(const struct row *r)
{
    return json_in_get(r->item, "conditions") != NULL;
}

static void gateway_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    const struct json_node *o = r->item;
    bool programmed = is_peer(r) ? state_condition_true(o, "Programmed") : json_in_true(o, "programmed");
    table_cell(t, r->name);
    table_cell(t, is_peer(r) ? "istio-remote" : "istio-eastwest");
    table_cell(t, state_join(l->c, json_in_get(o, "addresses"), ","));
    table_cell(t, yes(programmed));
    table_cell(t, age_of(l, o));
    if (wide) {
        table_cell(t, json_in_text(o, "network"));
        table_cell(t, is_peer(r) ? json_in_text(state_condition(o, "Programmed"), "reason")
                                 : json_in_text(o, "reason"));
        table_cell(t, json_in_text(o, "object"));
    }
}

/* --- the objects other tools know */

#define SYSTEM_NAMESPACE "istio-system"

static void collect_service_entries(struct listing *l)
{
    const struct json_node *all = json_in_get(l->doc, "global");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        add(l, SYSTEM_NAMESPACE,
            ctl_fmt(l->c, "autogen.%s.%s", json_in_text(g, "namespace"), json_in_text(g, "name")), g, g);
    }
}

static void service_entry_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    table_cell(t, r->name);
    table_cell(t, ctl_fmt(l->c, "[\"%s\"]", json_in_text(r->item, "hostname")));
    table_cell(t, "");
    table_cell(t, "STATIC");
    table_cell(t, "<unknown>");
    if (wide) {
        table_cell(t, state_join(l->c, json_in_get(r->item, "vips"), ","));
        table_cell(t, state_join(l->c, json_in_get(r->item, "clusters"), ","));
        table_cell(t, json_in_text(r->item, "distribution"));
    }
}

static void collect_workload_entries(struct listing *l)
{
    const struct json_node *all = json_in_get(l->doc, "global");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        const struct json_node *endpoints = json_in_get(g, "endpoints");
        for (size_t k = 0; k < json_in_len(endpoints); k++) {
            const struct json_node *e = json_in_at(endpoints, k);
            const char *name = json_in_text(e, "object");
            if (strncmp(name, "autogen.", 8) == 0 || strncmp(name, "autogenflat.", 12) == 0) {
                add(l, SYSTEM_NAMESPACE, name, e, g);
            }
        }
    }
}

static void workload_entry_cells(struct listing *l, const struct row *r, struct table *t, bool wide)
{
    table_cell(t, r->name);
    table_cell(t, "<unknown>");
    table_cell(t, json_in_text(r->item, "address"));
    table_cell(t, yes(json_in_true(r->item, "healthy")));
    table_cell(t, json_in_true(r->item, "stale") ? "stale" : "fresh");
    if (wide) {
        table_cell(t, json_in_text(r->item, "cluster"));
        table_cell(t, json_in_text(r->item, "network"));
        table_cell(t, number(l, r->item, "capacity"));
    }
}

static const struct kind kinds[] = {
    {{"services", "service", "svc"},
     "service",
     "/services",
     STATE_SERVICES_SCHEMA,
     collect_services,
     5,
     8,
     {"NAME", "HOSTNAME", "VIPS", "PORTS", "ENDPOINTS", "SCOPE", "CLUSTERS", "LOAD BALANCING"},
     service_cells},
    {{"workloads", "workload"},
     "workload",
     "/workloads",
     STATE_WORKLOADS_SCHEMA,
     collect_workloads,
     6,
     10,
     {"NAME", "ADDRESS", "CLUSTER", "NETWORK", "PROTOCOL", "HEALTHY", "NODE", "IDENTITY", "GATEWAY",
      "SERVICES"},
     workload_cells},
    {{"peers", "peer"},
     "peer",
     "/status",
     STATE_STATUS_SCHEMA,
     collect_peers,
     10,
     12,
     {"NAME", "CLUSTER", "NETWORK", "ADDRESS", "CONNECTED", "SYNCED", "DATA", "AGE", "NEXT TRY", "LAST ERROR",
      "SERVICES", "WORKLOADS"},
     peer_cells},
    {{"gateways", "gateway", "gtw"},
     "gateway",
     "/status",
     STATE_STATUS_SCHEMA,
     collect_gateways,
     5,
     8,
     {"NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE", "NETWORK", "REASON", "OBJECT"},
     gateway_cells},
    {{"serviceentries", "serviceentry", "se"},
     "serviceentry",
     "/services",
     STATE_SERVICES_SCHEMA,
     collect_service_entries,
     5,
     8,
     {"NAME", "HOSTS", "LOCATION", "RESOLUTION", "AGE", "ADDRESSES", "CLUSTERS", "DISTRIBUTION"},
     service_entry_cells},
    {{"workloadentries", "workloadentry", "we"},
     "workloadentry",
     "/services",
     STATE_SERVICES_SCHEMA,
     collect_workload_entries,
     5,
     8,
     {"NAME", "AGE", "ADDRESS", "HEALTHY", "DATA", "CLUSTER", "NETWORK", "CAPACITY"},
     workload_entry_cells},
};

static const struct kind *find_kind(const char *word)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(kinds); i++) {
        for (size_t k = 0; k < PG_ARRAY_LEN(kinds[i].names) && kinds[i].names[k] != NULL; k++) {
            if (strcmp(kinds[i].names[k], word) == 0) {
                return &kinds[i];
            }
        }
    }
    return NULL;
}

/* Clusters that disagree about a service: not part of the table, so that pipes stay clean. */
static void warn(const struct listing *l)
{
    const struct json_node *all = json_in_get(l->doc, "global");
    const char *wanted = l->c->args.value[ARG_NAMESPACE];
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        const char *warning = json_in_text(g, "warning");
        if (warning[0] != '\0' && (wanted == NULL || strcmp(wanted, json_in_text(g, "namespace")) == 0)) {
            (void)ctl_complain(0, "warning: %s: %s", json_in_text(g, "hostname"), warning);
        }
    }
}

static void as_table(struct listing *l, const struct kind *k, bool wide, struct pg_sb *out)
{
    const char *heads[13];
    struct table t;
    bool with_ns = l->c->args.value[ARG_NAMESPACE] == NULL;
    size_t n = 0;
    if (with_ns) {
        heads[n++] = "NAMESPACE";
    }
    for (size_t i = 0; i < (wide ? k->n_wide : k->n_columns); i++) {
        heads[n++] = k->heads[i];
    }
    table_begin(&t, l->c, n, heads);
    for (size_t i = 0; i < l->n; i++) {
        if (with_ns) {
            table_cell(&t, l->rows[i].ns);
        }
        k->cells(l, &l->rows[i], &t, wide);
    }
    table_print(&t, "", out);
}

static void as_json(struct listing *l, const struct kind *k, struct pg_sb *out)
{
    pg_sb_fmt(out, "{\"schema\":\"isthmus.get.%s/v1\",\"context\":\"", k->names[0]);
    pg_json_escape(out, pg_str_c(l->x->name));
    pg_sb_c(out, "\",\"items\":[");
    for (size_t i = 0; i < l->n; i++) {
        pg_sb_fmt(out, "%s\n{\"namespace\":\"", i > 0 ? "," : "");
        pg_json_escape(out, pg_str_c(l->rows[i].ns));
        pg_sb_c(out, "\",\"name\":\"");
        pg_json_escape(out, pg_str_c(l->rows[i].name));
        pg_sb_c(out, "\",\"value\":");
        json_in_dump(l->rows[i].item, out);
        pg_sb_ch(out, '}');
    }
    pg_sb_c(out, "]}\n");
}

int cmd_get(struct ctl *c)
{
    const struct kind *k = find_kind(c->args.operands[0]);
    const char *format = c->args.value[ARG_OUTPUT] != NULL ? c->args.value[ARG_OUTPUT] : "";
    struct pg_sb out;
    if (k == NULL) {
        return ctl_complain(CTL_USAGE,
                            "get knows services, workloads, peers, gateways, serviceentries and "
                            "workloadentries, not \"%.60s\"",
                            c->args.operands[0]);
    }
    if (c->args.value[ARG_NAMESPACE] != NULL && args_on(&c->args, ARG_ALL_NAMESPACES)) {
        return ctl_complain(CTL_USAGE, "give -n NS or -A, not both");
    }
    struct listing l = {.c = c, .x = ctl_context(c)};
    if (l.x == NULL) {
        return CTL_USAGE;
    }
    l.doc = ctl_ask(c, l.x, k->path, k->schema);
    if (l.doc == NULL) {
        return CTL_UNREACHABLE;
    }
    k->collect(&l);
    pg_sb_init(&out, CTL_MEMORY_MAX);
    if (c->json) {
        as_json(&l, k, &out);
    } else if (strcmp(format, "name") == 0) {
        for (size_t i = 0; i < l.n; i++) {
            pg_sb_fmt(&out, "%s/%s\n", k->prefix, l.rows[i].name);
        }
    } else if (l.n == 0) {
        (void)fprintf(stderr, "no %s found%s%s in context %s\n", k->names[0],
                      c->args.value[ARG_NAMESPACE] != NULL ? " in namespace " : "",
                      c->args.value[ARG_NAMESPACE] != NULL ? c->args.value[ARG_NAMESPACE] : "", l.x->name);
    } else {
        as_table(&l, k, strcmp(format, "wide") == 0, &out);
    }
    ctl_print(&out);
    pg_sb_fini(&out);
    if (!c->json) {
        warn(&l);
    }
    return CTL_OK;
}
