/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AuthorizationPolicy and PeerAuthentication to WADS policies, with istiod's names for the converted ones (an
 * underscore cannot occur in an object's name, so nothing a user writes can collide). Dry-run policies are
 * not sent: a proxy that does not know the field would enforce them. Control thread.
 */
#include "manifest_local.h"

#include <stdlib.h>

#define STATIC_STRICT "istio_converted_static_strict"
#define CONVERTED_PREFIX "converted_peer_authentication_"
#define WORKLOAD_POLICIES_MAX 256u /* selector policies of one workload */

/* --- deep copies --- */

static void *copy_array(struct local_builder *b, const void *from, size_t n, size_t size)
{
    void *p = local_array(b, n, size);
    if (p != NULL) {
        memcpy(p, from, n * size);
    }
    return p;
}

static void copy_strings(struct local_builder *b, struct xds_string_match **list, size_t n)
{
    *list = copy_array(b, *list, n, sizeof(**list));
    for (size_t i = 0; *list != NULL && i < n; i++) {
        (*list)[i].value = local_copy(b, (*list)[i].value);
    }
}

static void copy_accounts(struct local_builder *b, struct xds_sa_match **list, size_t n)
{
    *list = copy_array(b, *list, n, sizeof(**list));
    for (size_t i = 0; *list != NULL && i < n; i++) {
        (*list)[i].ns = local_copy(b, (*list)[i].ns);
        (*list)[i].sa = local_copy(b, (*list)[i].sa);
    }
}

static void copy_match(struct local_builder *b, struct xds_match *m)
{
    for (int i = 0; i < 2; i++) {
        copy_strings(b, &m->namespaces[i], m->n_namespaces[i]);
        copy_strings(b, &m->principals[i], m->n_principals[i]);
        copy_accounts(b, &m->service_accounts[i], m->n_service_accounts[i]);
        m->source_ips[i] = copy_array(b, m->source_ips[i], m->n_source_ips[i], sizeof(struct pg_prefix));
        m->destination_ips[i] =
            copy_array(b, m->destination_ips[i], m->n_destination_ips[i], sizeof(struct pg_prefix));
        m->ports[i] = copy_array(b, m->ports[i], m->n_ports[i], sizeof(uint16_t));
    }
}

static void copy_rule(struct local_builder *b, struct xds_rule *rule)
{
    rule->clauses = copy_array(b, rule->clauses, rule->n_clauses, sizeof(*rule->clauses));
    for (size_t i = 0; rule->clauses != NULL && i < rule->n_clauses; i++) {
        struct xds_clause *c = &rule->clauses[i];
        c->matches = copy_array(b, c->matches, c->n_matches, sizeof(*c->matches));
        for (size_t k = 0; c->matches != NULL && k < c->n_matches; k++) {
            copy_match(b, &c->matches[k]);
        }
    }
}

/* --- AuthorizationPolicy --- */

static bool is_sent(const struct object *o)
{
    return !o->u.authorization.not_for_l4 && !o->u.authorization.policy.dry_run;
}

static void add_authorization(struct local_builder *b, const struct object *o)
{
    struct xds_policy p = o->u.authorization.policy;
    p.name = local_copy(b, p.name);
    p.ns = local_copy(b, p.ns);
    p.scope = o->u.authorization.has_selector     ? XDS_POLICY_SELECTOR
              : pg_str_eq(o->ns, b->c->system_ns) ? XDS_POLICY_GLOBAL
                                                  : XDS_POLICY_NAMESPACE;
    p.rules = copy_array(b, p.rules, p.n_rules, sizeof(*p.rules));
    for (size_t i = 0; p.rules != NULL && i < p.n_rules; i++) {
        copy_rule(b, &p.rules[i]);
    }
    b->out->policies[b->out->n_policies++] = p;
}

/* --- PeerAuthentication --- */

static bool is_older(const struct object *a, const struct object *b)
{
    int c = pg_str_cmp(a->created, b->created);
    return c != 0 ? c < 0 : pg_str_cmp(a->name, b->name) < 0;
}

/* The oldest of a namespace: with `labels`, among those whose selector matches; without, among those without
 * a selector. */
static const struct object *oldest(const struct local_builder *b, struct pg_str ns,
                                   const struct obj_kvs *labels)
{
    const struct object *best = NULL;
    size_t from, n = index_range(b->x, OBJ_PEER_AUTHENTICATION, &ns, &from);
    for (size_t i = from; i < from + n; i++) {
        const struct object *o = b->x->objects[i];
        const struct obj_kvs *selector = &o->u.peer_auth.selector;
        bool counts = labels != NULL ? selector->n > 0 && kvs_match(selector, labels) : selector->n == 0;
        if (counts && (best == NULL || is_older(o, best))) {
            best = o;
        }
    }
    return best;
}

/* Mode of a namespace: its own, else the mesh's. */
static enum obj_mtls namespace_mode(const struct local_builder *b, struct pg_str ns)
{
    const struct object *o = oldest(b, ns, NULL);
    if ((o == NULL || o->u.peer_auth.mode == OBJ_MTLS_UNSET) && !pg_str_eq(ns, b->c->system_ns)) {
        o = oldest(b, b->c->system_ns, NULL);
    }
    return o != NULL ? o->u.peer_auth.mode : OBJ_MTLS_UNSET;
}

static bool is_strict(const struct local_builder *b, const struct object *o)
{
    enum obj_mtls mode = o->u.peer_auth.mode;
    return (mode != OBJ_MTLS_UNSET ? mode : namespace_mode(b, o->ns)) == OBJ_MTLS_STRICT;
}

/* Ports whose mode differs in strictness from the object's own: what the converted policy is about. */
static size_t odd_ports(const struct local_builder *b, const struct object *o)
{
    size_t n = 0;
    bool strict = is_strict(b, o);
    for (size_t i = 0; i < o->u.peer_auth.n_ports; i++) {
        enum obj_mtls mode = o->u.peer_auth.ports[i].mode;
        n += mode != OBJ_MTLS_UNSET && (mode == OBJ_MTLS_STRICT) != strict ? 1 : 0;
    }
    return n;
}

static bool is_converted(const struct local_builder *b, const struct object *o)
{
    return o->u.peer_auth.selector.n > 0 && !pg_str_eq(o->ns, b->c->system_ns) && odd_ports(b, o) > 0;
}

static struct xds_clause *clause_with_match(struct local_builder *b, struct xds_rule *rule)
{
    struct xds_clause *c = &rule->clauses[rule->n_clauses++];
    c->matches = local_array(b, 1, sizeof(*c->matches));
    c->n_matches = c->matches != NULL ? 1 : 0;
    return c->matches != NULL ? c : NULL;
}

/* "The client has no identity" */
static void add_no_principal(struct local_builder *b, struct xds_rule *rule)
{
    struct xds_clause *c = clause_with_match(b, rule);
    struct xds_string_match *any = local_array(b, 1, sizeof(*any));
    if (c != NULL && any != NULL) {
        any->kind = XDS_MATCH_PRESENCE;
        c->matches[0].principals[1] = any;
        c->matches[0].n_principals[1] = 1;
    }
}

static void add_port(struct local_builder *b, struct xds_rule *rule, uint16_t port, bool negative)
{
    struct xds_clause *c = clause_with_match(b, rule);
    uint16_t *p = local_array(b, 1, sizeof(*p));
    if (c != NULL && p != NULL) {
        *p = port;
        c->matches[0].ports[negative ? 1 : 0] = p;
        c->matches[0].n_ports[negative ? 1 : 0] = 1;
    }
}

static void add_static_strict(struct local_builder *b)
{
    struct xds_policy *p = &b->out->policies[b->out->n_policies++];
    p->name = PG_STR(STATIC_STRICT);
    p->ns = local_copy(b, b->c->system_ns);
    p->scope = XDS_POLICY_SELECTOR;
    p->action = XDS_POLICY_DENY;
    p->rules = local_array(b, 1, sizeof(*p->rules));
    if (p->rules != NULL) {
        p->n_rules = 1;
        p->rules[0].clauses = local_array(b, 1, sizeof(*p->rules[0].clauses));
    }
    if (b->code == 0) {
        add_no_principal(b, &p->rules[0]);
    }
}

static void add_converted(struct local_builder *b, const struct object *o)
{
    struct xds_policy *p = &b->out->policies[b->out->n_policies++];
    size_t n = odd_ports(b, o);
    bool strict = is_strict(b, o);
    p->name = local_fmt(b, CONVERTED_PREFIX "%.*s", PG_STR_ARG(o->name));
    p->ns = local_copy(b, o->ns);
    p->scope = XDS_POLICY_SELECTOR;
    p->action = XDS_POLICY_DENY;
    p->rules = local_array(b, strict ? 1 : n, sizeof(*p->rules));
    for (size_t i = 0; b->code == 0 && i < o->u.peer_auth.n_ports; i++) {
        const struct obj_port_mtls *pm = &o->u.peer_auth.ports[i];
        if (pm->mode == OBJ_MTLS_UNSET || (pm->mode == OBJ_MTLS_STRICT) == strict) {
            continue;
        }
        if (p->n_rules == 0 || !strict) {
            p->rules[p->n_rules].clauses = local_array(b, strict ? n + 1 : 2, sizeof(struct xds_clause));
            if (b->code != 0) {
                return;
            }
            add_no_principal(b, &p->rules[p->n_rules++]);
        }
        add_port(b, &p->rules[p->n_rules - 1], pm->port, strict);
    }
}

void local_policies(struct local_builder *b)
{
    size_t from, n = index_range(b->x, OBJ_AUTHORIZATION_POLICY, NULL, &from);
    size_t pa_from, pa = index_range(b->x, OBJ_PEER_AUTHENTICATION, NULL, &pa_from);
    b->out->policies = local_array(b, n + pa + 1, sizeof(*b->out->policies));
    for (size_t i = from; i < from + n && b->code == 0; i++) {
        if (is_sent(b->x->objects[i])) {
            add_authorization(b, b->x->objects[i]);
        }
    }
    if (pa > 0 && b->code == 0) {
        add_static_strict(b);
    }
    for (size_t i = pa_from; i < pa_from + pa && b->code == 0; i++) {
        if (is_converted(b, b->x->objects[i])) {
            add_converted(b, b->x->objects[i]);
        }
    }
}

/* --- what a workload lists --- */

static int by_text(const void *a, const void *b)
{
    return pg_str_cmp(*(const struct pg_str *)a, *(const struct pg_str *)b);
}

static size_t matching(const struct local_builder *b, struct pg_str ns, const struct obj_kvs *labels,
                       const struct object **out, size_t cap)
{
    size_t n = 0, from, count = index_range(b->x, OBJ_AUTHORIZATION_POLICY, &ns, &from);
    for (size_t i = from; i < from + count && n < cap; i++) {
        const struct object *o = b->x->objects[i];
        if (is_sent(o) && o->u.authorization.has_selector &&
            kvs_match(&o->u.authorization.selector, labels)) {
            out[n++] = o;
        }
    }
    return n;
}

static void add_mtls(struct local_builder *b, struct pg_str ns, const struct obj_kvs *labels,
                     struct xds_workload *w)
{
    const struct object *o = oldest(b, ns, labels);
    bool strict = o != NULL ? is_strict(b, o) : namespace_mode(b, ns) == OBJ_MTLS_STRICT;
    bool converted = o != NULL && is_converted(b, o);
    if (strict && !converted) {
        w->policies[w->n_policies++] = local_fmt(b, "%.*s/" STATIC_STRICT, PG_STR_ARG(b->c->system_ns));
    }
    if (converted) {
        w->policies[w->n_policies++] =
            local_fmt(b, "%.*s/" CONVERTED_PREFIX "%.*s", PG_STR_ARG(ns), PG_STR_ARG(o->name));
    }
}

void local_workload_policies(struct local_builder *b, struct pg_str ns, const struct obj_kvs *labels,
                             struct xds_workload *w)
{
    const struct object *found[WORKLOAD_POLICIES_MAX];
    size_t n = matching(b, ns, labels, found, PG_ARRAY_LEN(found));
    if (!pg_str_eq(ns, b->c->system_ns)) {
        n += matching(b, b->c->system_ns, labels, found + n, PG_ARRAY_LEN(found) - n);
    }
    if (n == PG_ARRAY_LEN(found)) {
        b->code = b->code != 0 ? b->code : PG_E_LIMIT; /* leaving one out would open a door */
        return;
    }
    w->policies = local_array(b, n + 2, sizeof(*w->policies));
    if (w->policies == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        w->policies[w->n_policies++] =
            local_fmt(b, "%.*s/%.*s", PG_STR_ARG(found[i]->ns), PG_STR_ARG(found[i]->name));
    }
    qsort(w->policies, w->n_policies, sizeof(*w->policies), by_text);
    add_mtls(b, ns, labels, w);
}
