/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AuthorizationPolicy and PeerAuthentication, as far as layer 4 can enforce them. What layer 4 cannot see
 * makes an ALLOW rule void and a DENY rule wider, never the other way round. Control thread.
 */
#include "manifest_objects.h"

/* One AuthorizationPolicy being read. */
struct rule_reader {
    struct reader *r;
    struct pg_str ns;
    bool is_l7; /* the rule at hand uses an attribute that layer 4 cannot see */
};

static struct xds_string_match string_match(struct pg_str v)
{
    if (pg_str_eq_c(v, "*")) {
        return (struct xds_string_match){XDS_MATCH_PRESENCE, PG_STR_NONE};
    }
    if (v.len > 0 && v.p[0] == '*') {
        return (struct xds_string_match){XDS_MATCH_SUFFIX, pg_str_sub(v, 1)};
    }
    if (v.len > 0 && v.p[v.len - 1] == '*') {
        return (struct xds_string_match){XDS_MATCH_PREFIX, pg_str_n(v.p, v.len - 1)};
    }
    return (struct xds_string_match){XDS_MATCH_EXACT, v};
}

/* Lists of the one match: each takes a YAML list of strings (NULL: none). */
static void take_strings(struct reader *r, const struct yaml_node *seq, struct xds_string_match **out,
                         size_t *n)
{
    struct xds_string_match *m = seq != NULL ? rd_array(r, seq->n, sizeof(*m)) : NULL;
    if (m == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && r->code == 0; c = c->next) {
        m[i++] = string_match(rd_scalar(r, c, "a value in rules"));
    }
    *out = m;
    *n = i;
}

static void take_prefixes(struct reader *r, const struct yaml_node *seq, struct pg_prefix **out, size_t *n)
{
    struct pg_prefix *p = seq != NULL ? rd_array(r, seq->n, sizeof(*p)) : NULL;
    if (p == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && r->code == 0; c = c->next) {
        if (c->kind != YAML_SCALAR || pg_prefix_parse(c->value, &p[i++]) < 0) {
            rd_fail(r, c, "rules: \"%.60s\" is not an IP address or CIDR block",
                    c->kind == YAML_SCALAR ? c->value.p : "");
        }
    }
    *out = p;
    *n = i;
}

static void take_ports(struct reader *r, const struct yaml_node *seq, uint16_t **out, size_t *n)
{
    uint16_t *p = seq != NULL ? rd_array(r, seq->n, sizeof(*p)) : NULL;
    if (p == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && r->code == 0; c = c->next) {
        uint64_t v = 0;
        if (c->kind != YAML_SCALAR || pg_str_u64(c->value, 65535, &v) < 0 || v == 0) {
            rd_fail(r, c, "rules: a port must be a number from 1 to 65535");
        }
        p[i++] = (uint16_t)v;
    }
    *out = p;
    *n = i;
}

static void take_accounts(struct rule_reader *x, const struct yaml_node *seq, struct xds_sa_match **out,
                          size_t *n)
{
    struct xds_sa_match *m = seq != NULL ? rd_array(x->r, seq->n, sizeof(*m)) : NULL;
    if (m == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && x->r->code == 0; c = c->next, i++) {
        struct pg_str v = rd_scalar(x->r, c, "a service account in rules");
        ptrdiff_t slash = pg_str_chr(v, '/');
        m[i].ns = slash < 0 ? x->ns : pg_str_n(v.p, (size_t)slash);
        m[i].sa = slash < 0 ? v : pg_str_sub(v, (size_t)slash + 1);
    }
    *out = m;
    *n = i;
}

static bool match_is_empty(const struct xds_match *m)
{
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        n += m->n_namespaces[i] + m->n_principals[i] + m->n_source_ips[i] + m->n_destination_ips[i] +
             m->n_ports[i] + m->n_service_accounts[i];
    }
    return n == 0;
}

/* Any of the keys present makes the rule one of layer 7. */
static void note_l7(struct rule_reader *x, const struct yaml_node *map, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct yaml_node *c = yaml_get(map, keys[i]);
        x->is_l7 = x->is_l7 || (c != NULL && !yaml_is_null(c) && c->n > 0);
    }
}

static void read_source(struct rule_reader *x, const struct yaml_node *s, struct xds_match *m)
{
    static const char *const l7[] = {"requestPrincipals", "notRequestPrincipals", "remoteIpBlocks",
                                     "notRemoteIpBlocks"};
    static const char in[] = "spec.rules[].from[].source";
    struct reader *r = x->r;
    take_strings(r, rd_seq(r, s, in, "principals"), &m->principals[0], &m->n_principals[0]);
    take_strings(r, rd_seq(r, s, in, "notPrincipals"), &m->principals[1], &m->n_principals[1]);
    take_strings(r, rd_seq(r, s, in, "namespaces"), &m->namespaces[0], &m->n_namespaces[0]);
    take_strings(r, rd_seq(r, s, in, "notNamespaces"), &m->namespaces[1], &m->n_namespaces[1]);
    take_prefixes(r, rd_seq(r, s, in, "ipBlocks"), &m->source_ips[0], &m->n_source_ips[0]);
    take_prefixes(r, rd_seq(r, s, in, "notIpBlocks"), &m->source_ips[1], &m->n_source_ips[1]);
    take_accounts(x, rd_seq(r, s, in, "serviceAccounts"), &m->service_accounts[0], &m->n_service_accounts[0]);
    take_accounts(x, rd_seq(r, s, in, "notServiceAccounts"), &m->service_accounts[1],
                  &m->n_service_accounts[1]);
    note_l7(x, s, l7, PG_ARRAY_LEN(l7));
}

static void read_operation(struct rule_reader *x, const struct yaml_node *o, struct xds_match *m)
{
    static const char *const l7[] = {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"};
    static const char in[] = "spec.rules[].to[].operation";
    take_ports(x->r, rd_seq(x->r, o, in, "ports"), &m->ports[0], &m->n_ports[0]);
    take_ports(x->r, rd_seq(x->r, o, in, "notPorts"), &m->ports[1], &m->n_ports[1]);
    note_l7(x, o, l7, PG_ARRAY_LEN(l7));
}

static void read_condition(struct rule_reader *x, const struct yaml_node *w, struct xds_match *m)
{
    static const char in[] = "spec.rules[].when[]";
    struct reader *r = x->r;
    struct pg_str key = rd_str(r, w, in, "key");
    const struct yaml_node *values[2] = {rd_seq(r, w, in, "values"), rd_seq(r, w, in, "notValues")};
    if (r->code == 0 && (key.len == 0 || (values[0] == NULL && values[1] == NULL))) {
        rd_fail(r, w, "%s needs key and values or notValues", in);
    }
    for (int i = 0; i < 2; i++) {
        if (pg_str_eq_c(key, "source.ip")) {
            take_prefixes(r, values[i], &m->source_ips[i], &m->n_source_ips[i]);
        } else if (pg_str_eq_c(key, "source.namespace")) {
            take_strings(r, values[i], &m->namespaces[i], &m->n_namespaces[i]);
        } else if (pg_str_eq_c(key, "source.principal")) {
            take_strings(r, values[i], &m->principals[i], &m->n_principals[i]);
        } else if (pg_str_eq_c(key, "destination.ip")) {
            take_prefixes(r, values[i], &m->destination_ips[i], &m->n_destination_ips[i]);
        } else if (pg_str_eq_c(key, "destination.port")) {
            take_ports(r, values[i], &m->ports[i], &m->n_ports[i]);
        } else {
            x->is_l7 = true;
        }
    }
}

/* A list of alternatives under one key, each an object holding `part`. The clause is left out when one
 * alternative has nothing that layer 4 can test: that alternative may be true for anyone. */
static void
read_alternatives(struct rule_reader *x, const struct yaml_node *rule, const char *key, const char *part,
                  void (*read)(struct rule_reader *, const struct yaml_node *, struct xds_match *),
                  struct xds_rule *out)
{
    const struct yaml_node *seq = rd_seq(x->r, rule, "spec.rules[]", key);
    struct xds_match *m = seq != NULL ? rd_array(x->r, seq->n, sizeof(*m)) : NULL;
    if (m == NULL) {
        return;
    }
    bool open = false;
    size_t i = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && x->r->code == 0; c = c->next, i++) {
        bool had_l7 = x->is_l7;
        x->is_l7 = false;
        const struct yaml_node *inner = rd_is_map(x->r, c, key) ? rd_map(x->r, c, key, part) : NULL;
        if (x->r->code == 0 && inner == NULL) {
            rd_fail(x->r, c, "spec.rules[].%s[].%s is missing", key, part);
        }
        read(x, inner, &m[i]);
        if (x->r->code == 0 && match_is_empty(&m[i]) && !x->is_l7) {
            rd_fail(x->r, c, "spec.rules[].%s[].%s is empty", key, part);
        }
        open = open || match_is_empty(&m[i]);
        x->is_l7 = x->is_l7 || had_l7;
    }
    if (!open && x->r->code == 0) {
        out->clauses[out->n_clauses++] = (struct xds_clause){m, i};
    }
}

static void read_rule(struct rule_reader *x, const struct yaml_node *n, struct xds_rule *out)
{
    if (!rd_is_map(x->r, n, "spec.rules[]")) {
        return;
    }
    const struct yaml_node *when = rd_seq(x->r, n, "spec.rules[]", "when");
    out->clauses = rd_array(x->r, 2 + (when != NULL ? when->n : 0), sizeof(*out->clauses));
    if (out->clauses == NULL) {
        return;
    }
    x->is_l7 = false;
    read_alternatives(x, n, "from", "source", read_source, out);
    read_alternatives(x, n, "to", "operation", read_operation, out);
    for (const struct yaml_node *c = when != NULL ? when->first : NULL; c != NULL && x->r->code == 0;
         c = c->next) {
        struct xds_match *m =
            rd_is_map(x->r, c, "spec.rules[].when[]") ? rd_array(x->r, 1, sizeof(*m)) : NULL;
        if (m == NULL) {
            return;
        }
        read_condition(x, c, m);
        if (!match_is_empty(m)) {
            out->clauses[out->n_clauses++] = (struct xds_clause){m, 1};
        }
    }
}

static bool is_in(struct pg_str s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (pg_str_eq_c(s, words[i])) {
            return true;
        }
    }
    return false;
}

static void read_action(struct reader *r, const struct yaml_node *spec, struct obj_authorization *a)
{
    static const char *const known[] = {"", "ALLOW", "DENY", "AUDIT", "CUSTOM"};
    struct pg_str action = rd_str(r, spec, "spec", "action");
    if (r->code == 0 && !is_in(action, known, PG_ARRAY_LEN(known))) {
        rd_fail(r, yaml_get(spec, "action"), "spec.action must be ALLOW, DENY, AUDIT or CUSTOM");
    }
    a->not_for_l4 = is_in(action, &known[3], 2) || rd_map(r, spec, "spec", "targetRef") != NULL ||
                    rd_seq(r, spec, "spec", "targetRefs") != NULL;
    a->policy.action = pg_str_eq_c(action, "DENY") ? XDS_POLICY_DENY : XDS_POLICY_ALLOW;
}

void object_read_authorization(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_authorization *a = &o->u.authorization;
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    const struct yaml_node *selector = rd_map(r, spec, "spec", "selector");
    rd_kvs(r, selector, "spec.selector", "matchLabels", &a->selector);
    a->has_selector = a->selector.n > 0;
    read_action(r, spec, a);
    a->policy.name = o->name;
    a->policy.ns = o->ns;
    a->policy.dry_run = pg_str_eq_c(kvs_get(&o->annotations, "istio.io/dry-run"), "true");
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "rules");
    a->policy.rules = seq != NULL ? rd_array(r, seq->n, sizeof(*a->policy.rules)) : NULL;
    if (a->policy.rules == NULL || a->not_for_l4) {
        return;
    }
    struct rule_reader x = {.r = r, .ns = o->ns};
    for (const struct yaml_node *n = seq->first; n != NULL && r->code == 0; n = n->next) {
        struct xds_rule rule = {0};
        read_rule(&x, n, &rule);
        if (a->policy.action == XDS_POLICY_ALLOW && x.is_l7) {
            continue;
        }
        a->policy.rules[a->policy.n_rules++] = rule;
    }
}

/* --- PeerAuthentication --- */

static enum obj_mtls read_mode(struct reader *r, const struct yaml_node *mtls, const char *in)
{
    static const char *const words[] = {"UNSET", "DISABLE", "PERMISSIVE", "STRICT"};
    struct pg_str mode = rd_str(r, mtls, in, "mode");
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (pg_str_eq_c(mode, words[i])) {
            return (enum obj_mtls)i;
        }
    }
    if (r->code == 0 && mode.len > 0) {
        rd_fail(r, mtls, "%s.mode must be UNSET, DISABLE, PERMISSIVE or STRICT", in);
    }
    return OBJ_MTLS_UNSET;
}

void object_read_peer_auth(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_peer_auth *p = &o->u.peer_auth;
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    rd_kvs(r, rd_map(r, spec, "spec", "selector"), "spec.selector", "matchLabels", &p->selector);
    p->mode = read_mode(r, rd_map(r, spec, "spec", "mtls"), "spec.mtls");
    const struct yaml_node *ports = rd_map(r, spec, "spec", "portLevelMtls");
    p->ports = ports != NULL ? rd_array(r, ports->n, sizeof(*p->ports)) : NULL;
    for (const struct yaml_node *n = p->ports != NULL ? ports->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        uint64_t port = 0;
        if (pg_str_u64(n->key, 65535, &port) < 0 || port == 0) {
            rd_fail(r, n, "spec.portLevelMtls: \"%.20s\" is not a port", n->key.p);
        }
        if (rd_is_map(r, n, "spec.portLevelMtls[]")) {
            p->ports[p->n_ports++] =
                (struct obj_port_mtls){(uint16_t)port, read_mode(r, n, "spec.portLevelMtls[]")};
        }
    }
}
