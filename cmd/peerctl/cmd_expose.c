/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl multicluster expose`: the Gateway object of the own east-west gateway, written into the manifests
 * of one cluster, and a look whether the control plane took it. Doing it twice changes nothing. One thread.
 */
#include "gateway_yaml.h"
#include "state.h"

#include "core/addr.h"

#define TAKEN_WAIT_MS 10000u
#define TAKEN_POLL_MS 100u

static bool is_address(struct ctl *c, const char *s)
{
    struct pg_ip ip;
    struct pg_hostport hp;
    return pg_ip_parse(pg_str_c(s), &ip) == 0 ||
           (strchr(s, ':') == NULL && pg_hostport_parse(pg_str_c(ctl_fmt(c, "%s:1", s)), &hp) == 0);
}

static int check_words(struct ctl *c, const char *ns, const char *name)
{
    if (!state_is_object_name(ns) || !state_is_object_name(name)) {
        return ctl_complain(CTL_USAGE, "\"%s/%s\": namespace and name have small letters, digits, - and .",
                            ns, name);
    }
    for (size_t i = 0; i < c->args.n_addresses; i++) {
        if (!is_address(c, c->args.addresses[i])) {
            return ctl_complain(CTL_USAGE,
                                "--address: \"%s\" is neither an IP address nor a host name (no port here)",
                                c->args.addresses[i]);
        }
    }
    return CTL_OK;
}

static const struct json_node *find_gateway(const struct json_node *status, const char *ns, const char *name)
{
    const struct json_node *all = json_in_get(status, "gateways");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        if (strcmp(json_in_text(g, "namespace"), ns) == 0 && strcmp(json_in_text(g, "name"), name) == 0) {
            return g;
        }
    }
    return NULL;
}

/* Without --address an existing object keeps its addresses. */
static void choose_addresses(struct ctl *c, const struct json_node *have, struct gateway_yaml *g)
{
    const struct json_node *old = json_in_get(have, "addresses");
    g->addresses = c->args.addresses;
    g->n_addresses = c->args.n_addresses;
    if (g->n_addresses == 0 && json_in_len(old) > 0) {
        const char **list = ctl_alloc(c, json_in_len(old), sizeof(*list));
        for (size_t i = 0; i < json_in_len(old); i++) {
            list[i] = json_in_string(json_in_at(old, i));
        }
        g->addresses = list;
        g->n_addresses = json_in_len(old);
    }
}

static bool is_taken(const struct json_node *status, const struct gateway_yaml *g)
{
    const struct json_node *have = find_gateway(status, g->ns, g->name);
    const struct json_node *addresses = json_in_get(have, "addresses");
    bool same = have != NULL && json_in_len(addresses) == g->n_addresses &&
                strcmp(json_in_text(have, "network"), g->network) == 0;
    for (size_t i = 0; same && i < g->n_addresses; i++) {
        same = strcmp(json_in_string(json_in_at(addresses, i)), g->addresses[i]) == 0;
    }
    return same;
}

/* Why the control plane left the file out, or NULL. */
static const char *problem_of(struct ctl *c, const struct json_node *status, const char *file)
{
    const struct json_node *all = json_in_get(json_in_get(status, "manifests"), "problems");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *p = json_in_at(all, i);
        struct pg_str at = pg_str_c(json_in_text(p, "file"));
        if (pg_str_has_suffix(at, pg_str_c(file))) {
            return ctl_fmt(c, "%s:%llu: %s", at.p, (unsigned long long)json_in_u64(p, "line"),
                           json_in_text(p, "reason"));
        }
    }
    return NULL;
}

static int wait_taken(struct ctl *c, const struct context *x, const struct gateway_yaml *g, const char *file)
{
    uint64_t end = pg_loop_now_ms(c->loop) + TAKEN_WAIT_MS;
    for (;;) {
        struct answer a;
        if (!ctl_fetch(c, x, "/status", STATE_STATUS_SCHEMA, &a)) {
            return ctl_complain(CTL_UNREACHABLE, "%s", a.why);
        }
        if (is_taken(a.doc, g)) {
            return CTL_OK;
        }
        const char *problem = problem_of(c, a.doc, file);
        if (problem != NULL || pg_loop_now_ms(c->loop) >= end) {
            return ctl_complain(CTL_FAILED,
                                "%s/%s is written, but the control plane of context %s has not taken it%s%s",
                                x->manifests, file, x->name,
                                problem != NULL ? ": "
                                                : " within 10 s; does it watch that "
                                                  "directory (option --manifests)?",
                                problem != NULL ? problem : "");
        }
        ctl_pause(c, TAKEN_POLL_MS);
    }
}

static void report(struct ctl *c, const struct gateway_yaml *g, const char *cluster, const char *path,
                   bool changed)
{
    struct pg_sb out;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    if (!c->json) {
        pg_sb_fmt(&out, "Gateway %s/%s %s cluster \"%s\" (network \"%s\"", g->ns, g->name,
                  changed ? "applied to" : "unchanged in", cluster, g->network);
        for (size_t i = 0; i < g->n_addresses; i++) {
            pg_sb_fmt(&out, "%s%s", i == 0 ? ", address " : ", ", g->addresses[i]);
        }
        pg_sb_c(&out, ")\n");
    } else {
        struct pg_json j;
        pg_json_init(&j, &out, true);
        pg_json_obj(&j);
        pg_json_kc(&j, "schema", "isthmus.expose/v1");
        pg_json_kc(&j, "cluster", cluster);
        pg_json_kc(&j, "namespace", g->ns);
        pg_json_kc(&j, "name", g->name);
        pg_json_kc(&j, "network", g->network);
        pg_json_key(&j, "addresses");
        pg_json_arr(&j);
        for (size_t i = 0; i < g->n_addresses; i++) {
            pg_json_c(&j, g->addresses[i]);
        }
        pg_json_arr_end(&j);
        pg_json_kc(&j, "file", path);
        pg_json_kbool(&j, "changed", changed);
        pg_json_obj_end(&j);
        pg_sb_ch(&out, '\n');
    }
    ctl_print(&out);
    pg_sb_fini(&out);
}

/* The object stands in another file: two of them would conflict. */
static bool is_elsewhere(const struct json_node *have, const char *file)
{
    struct pg_str at = pg_str_c(json_in_text(have, "object"));
    ptrdiff_t colon = pg_str_rchr(at, ':');
    if (at.len == 0) {
        return false;
    }
    struct pg_str in = colon < 0 ? at : pg_str_n(at.p, (size_t)colon);
    ptrdiff_t slash = pg_str_rchr(in, '/');
    return !pg_str_eq_c(slash < 0 ? in : pg_str_sub(in, (size_t)slash + 1), file);
}

static int apply(struct ctl *c, const struct context *x, const struct json_node *status,
                 struct gateway_yaml *g, struct pg_sb *yaml)
{
    const struct json_node *have = find_gateway(status, g->ns, g->name);
    const char *file = ctl_fmt(c, "%s.yaml", g->name);
    bool changed;
    gateway_yaml_write(g, yaml);
    if (yaml->err != 0) {
        ctl_oom();
    }
    if (args_on(&c->args, ARG_GENERATE)) {
        ctl_print(yaml);
        return CTL_OK;
    }
    if (have != NULL && is_elsewhere(have, file)) {
        return ctl_complain(
            CTL_FAILED,
            "Gateway %s/%s of cluster %s stands in %s already; change it there, or remove it first", g->ns,
            g->name, json_in_text(status, "cluster"), json_in_text(have, "object"));
    }
    if (!state_put_manifest(c, x, file, pg_sb_view(yaml), &changed)) {
        return CTL_FAILED;
    }
    report(c, g, json_in_text(status, "cluster"), ctl_fmt(c, "%s/%s", x->manifests, file), changed);
    if (g->n_addresses == 0) {
        (void)ctl_complain(0, "the gateway has no address, so nobody can link to it; add: --address IP|HOST");
    }
    return wait_taken(c, x, g, file);
}

int cmd_expose(struct ctl *c)
{
    const char *name = c->args.value[ARG_NAME] != NULL ? c->args.value[ARG_NAME] : "istio-eastwest";
    const char *ns =
        c->args.value[ARG_NAMESPACE] != NULL ? c->args.value[ARG_NAMESPACE] : CTL_GATEWAY_NAMESPACE;
    int r = check_words(c, ns, name);
    const struct context *x = r == CTL_OK ? ctl_context(c) : NULL;
    if (x == NULL) {
        return CTL_USAGE;
    }
    const struct json_node *status = ctl_ask(c, x, "/status", STATE_STATUS_SCHEMA);
    if (status == NULL) {
        return CTL_UNREACHABLE;
    }
    struct gateway_yaml g = {
        .name = name,
        .ns = ns,
        .gateway_class = "istio-eastwest",
        .expose_istiod = "15012",
        .network = json_in_text(status, "network"),
        .region = state_setting_value(status, "region"),
        .zone = state_setting_value(status, "zone"),
        .hbone_port = 15008,
        .xds_port = 15012,
    };
    if (g.network[0] == '\0') {
        return ctl_complain(CTL_FAILED,
                            "cluster %s (context %s) has no network; label its system namespace %s with "
                            "topology.istio.io/network=NAME, or start peeringd with --network NAME",
                            json_in_text(status, "cluster"), x->name,
                            json_in_text(status, "systemNamespace"));
    }
    choose_addresses(c, find_gateway(status, ns, name), &g);
    struct pg_sb yaml;
    pg_sb_init(&yaml, CTL_MEMORY_MAX);
    r = apply(c, x, status, &g, &yaml);
    pg_sb_fini(&yaml);
    return r;
}
