/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl multicluster link`: for each (source, target) the istio-remote Gateway that describes the target,
 * written into the manifests of the source. All of it is worked out before the first file is written. One
 * thread.
 */
#include "gateway_yaml.h"
#include "state.h"

#define LINK_CONTEXTS_MAX 32u

struct side {
    const struct context *context;
    const struct json_node *status;
};
struct object {
    const struct side *source; /* NULL: only generated */
    struct gateway_yaml yaml;
    const char *file;
    bool changed;
};

static const char *namespace_of(const struct ctl *c)
{
    const char *said = c->args.value[ARG_NAMESPACE];
    return said != NULL ? said : CTL_GATEWAY_NAMESPACE;
}

static bool is_cluster_name(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');
        if (!letter && !(s[i] >= '0' && s[i] <= '9') && s[i] != '-' && s[i] != '_' && s[i] != '.') {
            return false;
        }
    }
    return n > 0 && n <= 200;
}

/* The exposed gateway of the target in the namespace; complains when there is none that can be used. */
static const struct json_node *target_gateway(const struct side *t, const char *ns)
{
    const struct json_node *all = json_in_get(t->status, "gateways");
    const struct json_node *found = NULL;
    for (size_t i = 0; i < json_in_len(all) && found == NULL; i++) {
        const struct json_node *g = json_in_at(all, i);
        if (strcmp(json_in_text(g, "namespace"), ns) == 0) {
            found = g;
        }
    }
    bool without_address = found != NULL && json_in_len(json_in_get(found, "addresses")) == 0;
    if (found == NULL || without_address) {
        (void)ctl_complain(
            0,
            "cluster %s (context %s, %s) has no exposed gateway%s in namespace %s; run: peerctl "
            "multicluster expose --context %s --namespace %s --address IP|HOST",
            json_in_text(t->status, "cluster"), t->context->name, t->context->admin,
            without_address ? " with an address" : "", ns, t->context->name, ns);
        return NULL;
    }
    return found;
}

static const char *locality(const struct json_node *g, const struct json_node *status, const char *key)
{
    const char *own = json_in_text(g, key);
    return own[0] != '\0' ? own : state_setting_value(status, key);
}

/* The object that describes `t`. */
static bool describe(struct ctl *c, const struct side *t, const char *ns, struct object *o)
{
    const struct json_node *g = target_gateway(t, ns);
    const char *cluster = json_in_text(t->status, "cluster");
    const char *network = json_in_text(t->status, "network");
    if (g == NULL) {
        return false;
    }
    if (!is_cluster_name(cluster) || network[0] == '\0') {
        (void)ctl_complain(0, "context %s (%s): %s", t->context->name, t->context->admin,
                           network[0] == '\0' ? "the cluster has no network; label its system namespace with "
                                                "topology.istio.io/network"
                                              : "its cluster name cannot be part of an object name");
        return false;
    }
    const struct json_node *from = json_in_get(g, "addresses");
    size_t n = json_in_len(from);
    const char **addresses = ctl_alloc(c, n, sizeof(*addresses));
    for (size_t i = 0; i < n; i++) {
        addresses[i] = json_in_string(json_in_at(from, i));
    }
    const char *name = ctl_fmt(c, "istio-remote-peer-%s", cluster);
    uint64_t hbone = json_in_u64(g, "hbonePort");
    uint64_t xds = json_in_u64(g, "xdsPort");
    o->file = ctl_fmt(c, "%s.yaml", name);
    o->yaml = (struct gateway_yaml){
        .name = name,
        .ns = ns,
        .gateway_class = "istio-remote",
        .service_account = json_in_text(g, "name"),
        .trust_domain = json_in_text(t->status, "trustDomain"),
        .cluster = cluster,
        .network = network,
        .region = locality(g, t->status, "region"),
        .zone = locality(g, t->status, "zone"),
        .addresses = addresses,
        .n_addresses = n,
        .hbone_port = hbone > 0 && hbone <= 65535 ? (unsigned)hbone : 15008,
        .xds_port = xds > 0 && xds <= 65535 ? (unsigned)xds : 15012,
    };
    return true;
}

static void say(struct ctl *c, const struct object *o, struct pg_sb *out, struct pg_json *j)
{
    const char *to = json_in_text(o->source->status, "cluster");
    if (!c->json) {
        pg_sb_fmt(out, "Gateway %s/%s %s cluster \"%s\" pointing to cluster \"%s\" (network \"%s\")\n",
                  o->yaml.ns, o->yaml.name, o->changed ? "applied to" : "unchanged in", to, o->yaml.cluster,
                  o->yaml.network);
        return;
    }
    pg_json_obj(j);
    pg_json_kc(j, "namespace", o->yaml.ns);
    pg_json_kc(j, "name", o->yaml.name);
    pg_json_kc(j, "cluster", to);
    pg_json_kc(j, "pointsTo", o->yaml.cluster);
    pg_json_kc(j, "network", o->yaml.network);
    pg_json_kc(j, "file", ctl_fmt(c, "%s/%s", o->source->context->manifests, o->file));
    pg_json_kbool(j, "changed", o->changed);
    pg_json_obj_end(j);
}

static void print_yaml(struct ctl *c, const struct object *objects, size_t n)
{
    struct pg_sb out;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    (void)c;
    for (size_t i = 0; i < n; i++) {
        if (n > 1) {
            pg_sb_fmt(&out, "---\n# for cluster \"%s\"\n",
                      json_in_text(objects[i].source->status, "cluster"));
        }
        gateway_yaml_write(&objects[i].yaml, &out);
    }
    ctl_print(&out);
    pg_sb_fini(&out);
}

static int apply(struct ctl *c, struct object *objects, size_t n)
{
    struct pg_sb yaml;
    struct pg_sb out;
    struct pg_json j;
    int status = CTL_OK;
    pg_sb_init(&yaml, CTL_MEMORY_MAX);
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_json_init(&j, &out, true);
    if (c->json) {
        pg_json_obj(&j);
        pg_json_kc(&j, "schema", "isthmus.link/v1");
        pg_json_key(&j, "objects");
        pg_json_arr(&j);
    }
    for (size_t i = 0; i < n && status == CTL_OK; i++) {
        pg_sb_reset(&yaml);
        gateway_yaml_write(&objects[i].yaml, &yaml);
        if (yaml.err != 0) {
            ctl_oom();
        }
        if (state_put_manifest(c, objects[i].source->context, objects[i].file, pg_sb_view(&yaml),
                               &objects[i].changed)) {
            say(c, &objects[i], &out, &j);
        } else {
            status = CTL_FAILED;
        }
    }
    if (c->json) {
        pg_json_arr_end(&j);
        pg_json_obj_end(&j);
        pg_sb_ch(&out, '\n');
    }
    ctl_print(&out);
    pg_sb_fini(&out);
    pg_sb_fini(&yaml);
    return status;
}

static int ask_all(struct ctl *c, struct side *sides, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sides[i].status = ctl_ask(c, sides[i].context, "/status", STATE_STATUS_SCHEMA);
        if (sides[i].status == NULL) {
            return CTL_UNREACHABLE;
        }
        for (size_t k = 0; k < i; k++) {
            const char *cluster = json_in_text(sides[i].status, "cluster");
            if (strcmp(cluster, json_in_text(sides[k].status, "cluster")) == 0) {
                return ctl_complain(CTL_FAILED,
                                    "contexts %s and %s are both cluster \"%s\"; cluster names must differ "
                                    "(peeringd --cluster)",
                                    sides[k].context->name, sides[i].context->name, cluster);
            }
        }
    }
    return CTL_OK;
}

/* sides[from..): sources see every other side, or only sides[1] when one way. */
static int link_sides(struct ctl *c, struct side *sides, size_t n, bool one_way)
{
    struct object *objects = ctl_alloc(c, n * n, sizeof(*objects));
    size_t count = 0;
    int r = ask_all(c, sides, n);
    for (size_t s = 0; r == CTL_OK && s < (one_way ? 1 : n); s++) {
        for (size_t t = 0; r == CTL_OK && t < n; t++) {
            if (s == t) {
                continue;
            }
            objects[count].source = &sides[s];
            if (!describe(c, &sides[t], namespace_of(c), &objects[count++])) {
                r = CTL_FAILED;
            }
        }
    }
    if (r != CTL_OK) {
        return r;
    }
    if (args_on(&c->args, ARG_GENERATE)) {
        print_yaml(c, objects, count);
        return CTL_OK;
    }
    return apply(c, objects, count);
}

static int generate_one(struct ctl *c)
{
    struct side target = {.context = ctl_context(c)};
    struct object o = {.source = NULL};
    if (target.context == NULL) {
        return CTL_USAGE;
    }
    target.status = ctl_ask(c, target.context, "/status", STATE_STATUS_SCHEMA);
    if (target.status == NULL) {
        return CTL_UNREACHABLE;
    }
    if (!describe(c, &target, namespace_of(c), &o)) {
        return CTL_FAILED;
    }
    print_yaml(c, &o, 1);
    return CTL_OK;
}

int cmd_link(struct ctl *c)
{
    static const char usage[] =
        "link what? give --contexts=A,B[,C], or --from A --to B, or --generate --context TARGET";
    const struct args *a = &c->args;
    const struct context *found[LINK_CONTEXTS_MAX];
    struct pg_errtext err = {""};
    bool one_way = a->value[ARG_FROM] != NULL || a->value[ARG_TO] != NULL;
    bool several = a->value[ARG_CONTEXTS] != NULL;
    size_t n = 0;
    if (!state_is_object_name(namespace_of(c))) {
        return ctl_complain(CTL_USAGE, "--namespace: \"%s\" is no namespace", namespace_of(c));
    }
    if (!one_way && !several && args_on(a, ARG_GENERATE)) {
        return generate_one(c);
    }
    if (one_way == several || a->value[ARG_CONTEXT] != NULL ||
        (one_way && (a->value[ARG_FROM] == NULL || a->value[ARG_TO] == NULL))) {
        return ctl_complain(CTL_USAGE, "%s", usage);
    }
    if (!ctl_load(c)) {
        return CTL_USAGE;
    }
    const char *names =
        several ? a->value[ARG_CONTEXTS] : ctl_fmt(c, "%s,%s", a->value[ARG_FROM], a->value[ARG_TO]);
    if (contexts_list(&c->contexts, names, found, LINK_CONTEXTS_MAX, &n, &err) != 0) {
        return ctl_complain(CTL_USAGE, "%s", err.text);
    }
    if (n < 2) {
        return ctl_complain(CTL_USAGE, "linking takes two contexts or more; %s", usage);
    }
    struct side *sides = ctl_alloc(c, n, sizeof(*sides));
    for (size_t i = 0; i < n; i++) {
        sides[i].context = found[i];
    }
    return link_sides(c, sides, n, one_way);
}
