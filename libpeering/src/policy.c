/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorization at layer 4. Fails closed: what was not understood denies, what has not arrived is reported as
 * missing, and a DENY whose conditions cannot be seen at this layer (a match without any field) applies. Only
 * `lenient` restores the reading of ztunnel. Pure; any thread.
 */
#include <peering/policy.h>

#include "snapshot.h"

/* The client as policies see it. */
struct subject {
    struct pg_str principal; /* "td/ns/X/sa/Y", empty without identity */
    struct pg_str ns, sa;
    struct pg_ip src, dst;
    uint16_t port;
};

/* --- fields ------------------------------------------------------------------------------------------- */

static bool string_matches(const struct xds_string_match *m, struct pg_str s)
{
    switch (m->kind) {
    case XDS_MATCH_EXACT:
        return pg_str_eq(m->value, s);
    case XDS_MATCH_PREFIX:
        return pg_str_has_prefix(s, m->value);
    case XDS_MATCH_SUFFIX:
        return pg_str_has_suffix(s, m->value);
    default:
        return s.len != 0;
    }
}

static bool any_string(const struct xds_string_match *list, size_t n, struct pg_str s)
{
    for (size_t i = 0; i < n; i++) {
        if (string_matches(&list[i], s)) {
            return true;
        }
    }
    return false;
}

/* Without an identity no principal matches, whatever the pattern: not even an empty prefix. */
static bool any_principal(const struct xds_string_match *list, size_t n, struct pg_str s)
{
    return s.len != 0 && any_string(list, n, s);
}

static bool any_prefix(const struct pg_prefix *list, size_t n, const struct pg_ip *ip)
{
    for (size_t i = 0; i < n; i++) {
        if (pg_prefix_has(&list[i], ip)) {
            return true;
        }
    }
    return false;
}

static bool any_port(const uint16_t *list, size_t n, uint16_t port)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == port) {
            return true;
        }
    }
    return false;
}

static bool any_account(const struct xds_sa_match *list, size_t n, const struct subject *c)
{
    for (size_t i = 0; i < n; i++) {
        if (c->principal.len != 0 && pg_str_eq(list[i].ns, c->ns) && pg_str_eq(list[i].sa, c->sa)) {
            return true;
        }
    }
    return false;
}

/* A pair of lists: any of the first, if there is a first, and none of the second. */
static bool pair(size_t n_positive, bool positive, bool negative)
{
    return (n_positive == 0 || positive) && !negative;
}

static bool fields_match(const struct xds_match *m, const struct subject *c)
{
    return pair(m->n_namespaces[0], any_string(m->namespaces[0], m->n_namespaces[0], c->ns),
                any_string(m->namespaces[1], m->n_namespaces[1], c->ns)) &&
           pair(m->n_principals[0], any_principal(m->principals[0], m->n_principals[0], c->principal),
                any_principal(m->principals[1], m->n_principals[1], c->principal)) &&
           pair(m->n_service_accounts[0], any_account(m->service_accounts[0], m->n_service_accounts[0], c),
                any_account(m->service_accounts[1], m->n_service_accounts[1], c)) &&
           pair(m->n_source_ips[0], any_prefix(m->source_ips[0], m->n_source_ips[0], &c->src),
                any_prefix(m->source_ips[1], m->n_source_ips[1], &c->src)) &&
           pair(m->n_destination_ips[0], any_prefix(m->destination_ips[0], m->n_destination_ips[0], &c->dst),
                any_prefix(m->destination_ips[1], m->n_destination_ips[1], &c->dst)) &&
           pair(m->n_ports[0], any_port(m->ports[0], m->n_ports[0], c->port),
                any_port(m->ports[1], m->n_ports[1], c->port));
}

static bool is_empty(const struct xds_match *m)
{
    size_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        n += m->n_namespaces[i] + m->n_principals[i] + m->n_service_accounts[i] + m->n_source_ips[i] +
             m->n_destination_ips[i] + m->n_ports[i];
    }
    return n == 0;
}

/* --- one policy --------------------------------------------------------------------------------------- */

static bool clause_matches(const struct xds_clause *clause, const struct subject *c, bool empty_matches)
{
    for (size_t i = 0; i < clause->n_matches; i++) {
        const struct xds_match *m = &clause->matches[i];
        if (is_empty(m) ? empty_matches : fields_match(m, c)) {
            return true;
        }
    }
    return clause->n_matches == 0;
}

static bool rule_matches(const struct xds_rule *rule, const struct subject *c, bool empty_matches)
{
    for (size_t i = 0; i < rule->n_clauses; i++) {
        if (!clause_matches(&rule->clauses[i], c, empty_matches)) {
            return false;
        }
    }
    return true;
}

static bool policy_matches(const struct xds_policy *p, const struct subject *c, bool lenient)
{
    /* An empty match had conditions of layer 7 that were left out on the way: in a DENY it must be taken as
     * met, in an ALLOW as not met. */
    bool empty_matches = !lenient && p->action == XDS_POLICY_DENY;
    for (size_t i = 0; i < p->n_rules; i++) {
        if (rule_matches(&p->rules[i], c, empty_matches)) {
            return true;
        }
    }
    return false;
}

/* --- all policies of a workload ------------------------------------------------------------------------ */

struct check {
    const struct subject *subject;
    bool lenient;
    const peering_policy *denied_by;
    bool has_allow;
    bool allowed;
};

static void consider(struct check *k, const peering_policy *p)
{
    if (k->denied_by != NULL) {
        return;
    }
    if (p->p.unparsable) {
        k->denied_by = k->lenient ? NULL : p;
        return;
    }
    if (p->p.dry_run) {
        return;
    }
    bool matches = policy_matches(&p->p, k->subject, k->lenient);
    if (p->p.action == XDS_POLICY_DENY) {
        k->denied_by = matches ? p : NULL;
    } else {
        k->has_allow = true;
        k->allowed = k->allowed || matches;
    }
}

/* False with the first name that is missing. */
static bool consider_all(const peering_snapshot *s, const peering_workload *local, struct check *k,
                         peering_str *missing)
{
    bool complete = true;
    for (size_t i = 0; i < s->n_globals; i++) {
        consider(k, s->globals[i]);
    }
    size_t from;
    size_t to;
    snapshot_policy_range(s, wl_shared(local)->ns, &from, &to);
    for (size_t i = from; i < to; i++) {
        if (s->policies[i]->p.scope == XDS_POLICY_NAMESPACE) {
            consider(k, s->policies[i]);
        }
    }
    for (size_t i = 0; i < wl_shared(local)->n_policies; i++) {
        const peering_policy *p = peering_find_policy(s, local->shared->policies[i]);
        if (p == NULL) {
            *missing = complete ? local->shared->policies[i] : *missing;
            complete = false;
        } else {
            consider(k, p);
        }
    }
    return complete;
}

static void read_identity(struct pg_str uri, struct subject *out)
{
    static const char scheme[] = "spiffe://";
    if (!pg_str_has_prefix(uri, PG_STR("spiffe://"))) {
        return;
    }
    struct pg_str rest = pg_str_sub(uri, sizeof(scheme) - 1);
    struct pg_str part[5];
    struct pg_str all = rest;
    for (size_t i = 0; i < PG_ARRAY_LEN(part); i++) {
        if (!pg_str_cut(&rest, '/', &part[i])) {
            return;
        }
    }
    if (rest.len != 0 || !pg_str_eq_c(part[1], "ns") || !pg_str_eq_c(part[3], "sa")) {
        return;
    }
    out->principal = all;
    out->ns = part[2];
    out->sa = part[4];
}

enum peering_verdict peering_policy_check(const peering_snapshot *s, const peering_workload *local,
                                          const peering_connection *c, bool lenient, peering_text *why)
{
    struct subject subject = {.src = ip_in(&c->src_ip), .dst = ip_in(&c->dst_ip), .port = c->dst_port};
    struct check k = {.subject = &subject, .lenient = lenient};
    peering_str missing = {NULL, 0};
    read_identity(str_in(c->identity), &subject);
    bool complete = consider_all(s, local, &k, &missing);
    if (k.denied_by != NULL) {
        pg_err_set(text_in(why), "explicitly denied by: %.*s%s", PG_STR_ARG(k.denied_by->head.key),
                   k.denied_by->p.unparsable ? " (not understood)" : "");
        return PEERING_DENY;
    }
    if (!complete && !lenient) {
        pg_err_set(text_in(why), "policy has not arrived: %.*s", PG_STR_ARG(str_in(missing)));
        return PEERING_POLICY_MISSING;
    }
    if (k.has_allow && !k.allowed) {
        pg_err_set(text_in(why), "allow policies exist, but none allowed");
        return PEERING_DENY;
    }
    return PEERING_ALLOW;
}
