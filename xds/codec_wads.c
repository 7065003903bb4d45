/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WADS: istio.security.Authorization. Invariant (fail closed): a policy of which any part was not understood
 * comes out marked unparsable, with as much of its name, namespace and scope as could be read, never as a
 * policy with that part left out. Any thread.
 */
#include "xds/codec_mem.h"
#include "xds/wire.h"

#include "authorization.pb-c.h"

struct copier {
    struct pg_arena *arena;
    struct pg_errtext *err;
};

static int no_unknown_fields(const struct copier *c, const ProtobufCMessage *m)
{
    if (m->n_unknown_fields != 0) {
        pg_err_set(c->err, "unknown field %u of %s", m->unknown_fields[0].tag, m->descriptor->short_name);
        return PG_E_PARSE;
    }
    return 0;
}

static int copy_string_match(const struct copier *c, const Istio__Security__StringMatch *in,
                             struct xds_string_match *out)
{
    int r = no_unknown_fields(c, &in->base);
    if (r < 0) {
        return r;
    }
    switch (in->match_type_case) {
    case ISTIO__SECURITY__STRING_MATCH__MATCH_TYPE_EXACT:
        out->kind = XDS_MATCH_EXACT;
        return xds_copy_str(c->arena, &in->exact, "exact match", &out->value, c->err);
    case ISTIO__SECURITY__STRING_MATCH__MATCH_TYPE_PREFIX:
        out->kind = XDS_MATCH_PREFIX;
        return xds_copy_str(c->arena, &in->prefix, "prefix match", &out->value, c->err);
    case ISTIO__SECURITY__STRING_MATCH__MATCH_TYPE_SUFFIX:
        out->kind = XDS_MATCH_SUFFIX;
        return xds_copy_str(c->arena, &in->suffix, "suffix match", &out->value, c->err);
    case ISTIO__SECURITY__STRING_MATCH__MATCH_TYPE_PRESENCE:
        out->kind = XDS_MATCH_PRESENCE;
        return 0;
    default:
        pg_err_set(c->err, "string match without a kind");
        return PG_E_PARSE;
    }
}

static int copy_string_matches(const struct copier *c, Istio__Security__StringMatch *const *in, size_t n,
                               struct xds_string_match **out, size_t *n_out)
{
    struct xds_string_match *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = copy_string_match(c, in[i], &all[i]);
    }
    if (r == 0) {
        *out = all;
        *n_out = n;
    }
    return r;
}

static int copy_prefixes(const struct copier *c, Istio__Security__Address *const *in, size_t n,
                         struct pg_prefix **out, size_t *n_out)
{
    struct pg_prefix *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct pg_ip ip = {0};
        uint8_t bits = 0;
        r = no_unknown_fields(c, &in[i]->base);
        if (r == 0) {
            r = xds_copy_ip(&in[i]->address, true, in[i]->length, &ip, &bits, c->err);
        }
        if (r == 0) {
            r = pg_prefix_make(&ip, bits, &all[i]);
        }
    }
    if (r == 0) {
        *out = all;
        *n_out = n;
    }
    return r;
}

static int copy_match_ports(const struct copier *c, const uint32_t *in, size_t n, uint16_t **out,
                            size_t *n_out)
{
    uint16_t *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = xds_copy_port(in[i], "port", &all[i], c->err);
    }
    if (r == 0) {
        *out = all;
        *n_out = n;
    }
    return r;
}

static int copy_accounts(const struct copier *c, Istio__Security__ServiceAccountMatch *const *in, size_t n,
                         struct xds_sa_match **out, size_t *n_out)
{
    struct xds_sa_match *all = xds_copy_array(c->arena, n, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = no_unknown_fields(c, &in[i]->base);
        if (r == 0) {
            r = xds_copy_str(c->arena, &in[i]->namespace_, "service account namespace", &all[i].ns, c->err);
        }
        if (r == 0) {
            r = xds_copy_str(c->arena, &in[i]->service_account, "service account", &all[i].sa, c->err);
        }
    }
    if (r == 0) {
        *out = all;
        *n_out = n;
    }
    return r;
}

static int copy_match_lists(const struct copier *c, const Istio__Security__Match *in, struct xds_match *out)
{
    int r =
        copy_string_matches(c, in->namespaces, in->n_namespaces, &out->namespaces[0], &out->n_namespaces[0]);
    if (r == 0) {
        r = copy_string_matches(c, in->not_namespaces, in->n_not_namespaces, &out->namespaces[1],
                                &out->n_namespaces[1]);
    }
    if (r == 0) {
        r = copy_string_matches(c, in->principals, in->n_principals, &out->principals[0],
                                &out->n_principals[0]);
    }
    if (r == 0) {
        r = copy_string_matches(c, in->not_principals, in->n_not_principals, &out->principals[1],
                                &out->n_principals[1]);
    }
    if (r == 0) {
        r = copy_prefixes(c, in->source_ips, in->n_source_ips, &out->source_ips[0], &out->n_source_ips[0]);
    }
    if (r == 0) {
        r = copy_prefixes(c, in->not_source_ips, in->n_not_source_ips, &out->source_ips[1],
                          &out->n_source_ips[1]);
    }
    if (r == 0) {
        r = copy_prefixes(c, in->destination_ips, in->n_destination_ips, &out->destination_ips[0],
                          &out->n_destination_ips[0]);
    }
    if (r == 0) {
        r = copy_prefixes(c, in->not_destination_ips, in->n_not_destination_ips, &out->destination_ips[1],
                          &out->n_destination_ips[1]);
    }
    return r;
}

static int copy_match(const struct copier *c, const Istio__Security__Match *in, struct xds_match *out)
{
    int r = no_unknown_fields(c, &in->base);
    if (r == 0 && in->n_extensions != 0) {
        pg_err_set(c->err, "extension in a match is not understood");
        r = PG_E_PARSE;
    }
    if (r == 0) {
        r = copy_match_lists(c, in, out);
    }
    if (r == 0) {
        r = copy_match_ports(c, in->destination_ports, in->n_destination_ports, &out->ports[0],
                             &out->n_ports[0]);
    }
    if (r == 0) {
        r = copy_match_ports(c, in->not_destination_ports, in->n_not_destination_ports, &out->ports[1],
                             &out->n_ports[1]);
    }
    if (r == 0) {
        r = copy_accounts(c, in->service_accounts, in->n_service_accounts, &out->service_accounts[0],
                          &out->n_service_accounts[0]);
    }
    if (r == 0) {
        r = copy_accounts(c, in->not_service_accounts, in->n_not_service_accounts, &out->service_accounts[1],
                          &out->n_service_accounts[1]);
    }
    return r;
}

static int copy_clause(const struct copier *c, const Istio__Security__Clause *in, struct xds_clause *out)
{
    int r = no_unknown_fields(c, &in->base);
    out->matches = r == 0 ? xds_copy_array(c->arena, in->n_matches, sizeof(*out->matches), c->err) : NULL;
    if (r == 0 && out->matches == NULL) {
        r = PG_E_NOMEM;
    }
    for (size_t i = 0; r == 0 && i < in->n_matches; i++) {
        r = copy_match(c, in->matches[i], &out->matches[i]);
        out->n_matches = i + 1;
    }
    return r;
}

static int copy_rule(const struct copier *c, const Istio__Security__Rule *in, struct xds_rule *out)
{
    int r = no_unknown_fields(c, &in->base);
    out->clauses = r == 0 ? xds_copy_array(c->arena, in->n_clauses, sizeof(*out->clauses), c->err) : NULL;
    if (r == 0 && out->clauses == NULL) {
        r = PG_E_NOMEM;
    }
    for (size_t i = 0; r == 0 && i < in->n_clauses; i++) {
        r = copy_clause(c, in->clauses[i], &out->clauses[i]);
        out->n_clauses = i + 1;
    }
    return r;
}

static int copy_rules(const struct copier *c, const Istio__Security__Authorization *in,
                      struct xds_policy *out)
{
    struct xds_rule *all = xds_copy_array(c->arena, in->n_rules, sizeof(*all), c->err);
    int r = all != NULL ? 0 : PG_E_NOMEM;
    for (size_t i = 0; r == 0 && i < in->n_rules; i++) {
        r = copy_rule(c, in->rules[i], &all[i]);
    }
    if (r == 0) {
        out->rules = all;
        out->n_rules = in->n_rules;
    }
    return r;
}

static int copy_policy(const struct copier *c, const Istio__Security__Authorization *in,
                       struct xds_policy *out)
{
    int scope = (int)in->scope;
    int action = (int)in->action;
    /* Unknown fields at this level are let pass: what they may add is on top of conditions that are read
     * below. */
    if (scope < 0 || scope > (int)XDS_POLICY_SELECTOR || action < 0 || action > (int)XDS_POLICY_DENY) {
        pg_err_set(c->err, "unknown scope %d or action %d", scope, action);
        return PG_E_PARSE;
    }
    out->scope = (enum xds_policy_scope)scope;
    out->action = (enum xds_policy_action)action;
    out->dry_run = in->dry_run != 0;
    return copy_rules(c, in, out);
}

/* Name, namespace and scope from whatever can be read, so that a refused policy can still be found and denied
 * under its name. Reads as far as the bytes go. */
static int read_head(struct pg_str bytes, struct pg_arena *arena, struct xds_policy *out,
                     struct pg_errtext *err)
{
    struct xds_cursor cur = {.rest = bytes};
    struct xds_field f;
    while (xds_wire_next(&cur, &f) > 0) {
        if (f.wire == XDS_WIRE_BYTES && (f.number == 1 || f.number == 2) && pg_str_is_utf8(f.bytes)) {
            char *copy = pg_arena_strndup(arena, f.bytes.p, f.bytes.len);
            if (copy == NULL) {
                pg_err_set(err, "out of memory");
                return PG_E_NOMEM;
            }
            *(f.number == 1 ? &out->name : &out->ns) = pg_str_n(copy, f.bytes.len);
        } else if (f.wire == XDS_WIRE_VARINT && f.number == 3 && f.value <= XDS_POLICY_SELECTOR) {
            out->scope = (enum xds_policy_scope)f.value;
        }
    }
    return 0;
}

static int check_names(const struct copier *c, const Istio__Security__Authorization *in)
{
    struct pg_str unused;
    int r = xds_copy_str(c->arena, &in->name, "name", &unused, c->err);
    return r < 0 ? r : xds_copy_str(c->arena, &in->namespace_, "namespace", &unused, c->err);
}

int xds_policy_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_policy *out,
                      struct pg_errtext *err)
{
    struct xds_scratch scratch;
    const struct copier c = {arena, err};
    struct xds_policy p = {.name = PG_STR(""), .ns = PG_STR("")};
    int r = read_head(bytes, arena, &p, err);
    struct xds_policy head = p;
    int unpacked = 0;
    const Istio__Security__Authorization *m = xds_scratch_unpack(
        &scratch, &istio__security__authorization__descriptor, bytes, &unpacked, r < 0 ? NULL : err);
    if (r == 0) {
        r = m != NULL ? check_names(&c, m) : unpacked;
    }
    if (r == 0) {
        r = copy_policy(&c, m, &p);
    }
    xds_scratch_fini(&scratch);
    if (r < 0) {
        p = head;
        p.unparsable = true;
    }
    *out = p;
    return r;
}

/* --- encoding
 * ------------------------------------------------------------------------------------------------- */

static void put_string_matches(struct pg_sb *out, uint32_t number, const struct xds_string_match *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = xds_put_open(out, number);
        switch (m[i].kind) {
        case XDS_MATCH_EXACT:
            xds_put_entry(out, 1, m[i].value);
            break;
        case XDS_MATCH_PREFIX:
            xds_put_entry(out, 2, m[i].value);
            break;
        case XDS_MATCH_SUFFIX:
            xds_put_entry(out, 3, m[i].value);
            break;
        case XDS_MATCH_PRESENCE:
            xds_put_entry(out, 4, PG_STR_NONE);
            break;
        }
        xds_put_close(out, at);
    }
}

static void put_prefixes(struct pg_sb *out, uint32_t number, const struct pg_prefix *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = xds_put_open(out, number);
        xds_put_bytes(out, 1, pg_str_n((const char *)p[i].ip.b, p[i].ip.len));
        xds_put_uint(out, 2, p[i].bits);
        xds_put_close(out, at);
    }
}

static void put_match_ports(struct pg_sb *out, uint32_t number, const uint16_t *ports, size_t n)
{
    if (n == 0) {
        return;
    }
    size_t at = xds_put_open(out, number);
    for (size_t i = 0; i < n; i++) {
        xds_put_varint(out, ports[i]);
    }
    xds_put_close(out, at);
}

static void put_accounts(struct pg_sb *out, uint32_t number, const struct xds_sa_match *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = xds_put_open(out, number);
        xds_put_bytes(out, 1, m[i].ns);
        xds_put_bytes(out, 2, m[i].sa);
        xds_put_close(out, at);
    }
}

static void put_match(struct pg_sb *out, const struct xds_match *m)
{
    size_t at = xds_put_open(out, 2);
    for (uint32_t i = 0; i < 2; i++) {
        put_string_matches(out, 1 + i, m->namespaces[i], m->n_namespaces[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        put_string_matches(out, 3 + i, m->principals[i], m->n_principals[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        put_prefixes(out, 5 + i, m->source_ips[i], m->n_source_ips[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        put_prefixes(out, 7 + i, m->destination_ips[i], m->n_destination_ips[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        put_match_ports(out, 9 + i, m->ports[i], m->n_ports[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        put_accounts(out, 11 + i, m->service_accounts[i], m->n_service_accounts[i]);
    }
    xds_put_close(out, at);
}

int xds_policy_encode(const struct xds_policy *p, struct pg_sb *out)
{
    xds_put_bytes(out, 1, p->name);
    xds_put_bytes(out, 2, p->ns);
    xds_put_uint(out, 3, p->scope);
    xds_put_uint(out, 4, p->action);
    for (size_t i = 0; i < p->n_rules; i++) {
        size_t rule = xds_put_open(out, 5);
        for (size_t j = 0; j < p->rules[i].n_clauses; j++) {
            const struct xds_clause *clause = &p->rules[i].clauses[j];
            size_t at = xds_put_open(out, 1);
            for (size_t k = 0; k < clause->n_matches; k++) {
                put_match(out, &clause->matches[k]);
            }
            xds_put_close(out, at);
        }
        xds_put_close(out, rule);
    }
    xds_put_uint(out, 6, p->dry_run);
    return out->err;
}
