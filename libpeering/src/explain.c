/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `explain SRC DST:PORT`: the whole answer for one connection, from the very functions the proxy uses: name
 * to address, address to route, and at the far end the policy. Control thread.
 */
#include <stdio.h>

#include "control_internal.h"
#include "convert.h"
#include "core/clock.h"
#include "peering/dns.h"
#include "peering/policy.h"
#include "peering/route.h"

static const char *ip_text(const peering_ip *ip, char out[PG_IP_TEXT])
{
    struct pg_ip in = ip_in(ip);
    return pg_ip_fmt(&in, out);
}

static void line(void *arg, const char *text)
{
    pg_json_c(arg, text);
}

/* NS/POD, a workload uid, or a pod's name prefix inside NS (deployment-style names are long). */
static const peering_workload *find_source(const struct peering_control *c, const peering_snapshot *s,
                                           struct pg_str src)
{
    const peering_workload *w = peering_find_workload(s, str_out(src));
    struct pg_str name = src;
    struct pg_str ns;
    if (w != NULL || !pg_str_cut(&name, '/', &ns)) {
        return w;
    }
    const peering_workload *by_prefix = NULL;
    size_t it = 0;
    while ((w = peering_next_workload(s, &it)) != NULL) {
        if (!pg_str_eq(str_in(peering_workload_namespace(w)), ns) ||
            !pg_str_eq(str_in(peering_workload_cluster(w)), option_str(c->options, OPT_CLUSTER))) {
            continue;
        }
        struct pg_str have = str_in(peering_workload_name(w));
        if (pg_str_eq(have, name)) {
            return w;
        }
        if (by_prefix == NULL && name.len > 0 && pg_str_has_prefix(have, name)) {
            by_prefix = w;
        }
    }
    return by_prefix;
}

/* Fills `ip` from a literal or by the mesh's own DNS answer; false when the mesh does not know the name. */
static bool resolve(struct peering_control *c, const peering_snapshot *s, const peering_workload *src,
                    struct pg_str host, struct pg_json *j, peering_ip *ip)
{
    struct pg_ip literal;
    char text[PG_IP_TEXT];
    char said[400];
    if (pg_ip_parse(host, &literal) == 0) {
        *ip = ip_out(&literal);
        return true;
    }
    peering_dns_query q = {.client = src,
                           .network = str_out(pg_str_c(c->network)),
                           .cluster_domain = str_out(option_str(c->options, OPT_DOMAIN)),
                           .name = str_out(host)};
    struct peering_dns_answer *a = pg_calloc(1, sizeof(*a));
    if (a == NULL) {
        return false;
    }
    peering_dns_lookup(s, &q, a);
    bool found = a->result == PEERING_DNS_ANSWER && a->n > 0;
    if (found) {
        *ip = a->ips[0];
        (void)snprintf(said, sizeof(said), "name %.*s: service %.*s, address %s", PG_STR_ARG(host),
                       PG_STR_ARG(str_in(peering_service_key(a->service))), ip_text(ip, text));
    } else {
        (void)snprintf(said, sizeof(said), "name %.*s: %s", PG_STR_ARG(host),
                       a->result == PEERING_DNS_FORWARD
                           ? "unknown to the mesh, the proxy asks the upstream resolver"
                       : a->service == NULL ? "no service of that name is shared by any cluster"
                                            : "known to the mesh, but without an IPv4 address");
    }
    pg_free(a);
    pg_json_c(j, said);
    return found;
}

static void sans_json(struct pg_json *j, const char *key, const peering_str *sans, size_t n)
{
    pg_json_key(j, key);
    pg_json_arr(j);
    for (size_t i = 0; i < n; i++) {
        pg_json_str(j, str_in(sans[i]));
    }
    pg_json_arr_end(j);
}

static void policy_json(const peering_snapshot *s, const peering_workload *src, const peering_route *r,
                        struct pg_json *j)
{
    static const char *const names[] = {"allow", "deny", "policy missing"};
    const peering_ip *src_ips;
    const peering_ip *dst_ips;
    size_t n_src = peering_workload_ips(src, &src_ips);
    size_t n_dst = r->workload == NULL ? 0 : peering_workload_ips(r->workload, &dst_ips);
    if (n_dst == 0) {
        pg_json_kc(j, "policy", "decided by the destination's proxy, in its own cluster");
        return;
    }
    peering_connection conn = {.dst_ip = dst_ips[0], .dst_port = r->target_port};
    if (peering_workload_protocol(r->workload) == PEERING_PROTOCOL_HBONE) {
        conn.identity = peering_workload_identity(src);
    }
    if (n_src > 0) {
        conn.src_ip = src_ips[0];
    }
    peering_text why = {""};
    enum peering_verdict v = peering_policy_check(s, r->workload, &conn, false, &why);
    char said[400];
    (void)snprintf(said, sizeof(said), "%s%s%s", names[v], why.text[0] != '\0' ? ": " : "", why.text);
    pg_json_kc(j, "policy", said);
}

static void decision_json(const peering_snapshot *s, const peering_workload *src, const peering_route *r,
                          bool resolved, struct pg_json *j)
{
    static const char *const kinds[] = {"passthrough", "tcp", "hbone", "double-hbone", "refused"};
    char text[PG_IP_TEXT];
    char hop[400];
    pg_json_key(j, "decision");
    pg_json_obj(j);
    pg_json_kc(j, "kind", resolved ? kinds[r->kind] : "unresolved");
    pg_json_kc(j, "error", r->error);
    if (r->kind != PEERING_ROUTE_NONE) {
        (void)snprintf(hop, sizeof(hop), "%s%.*s:%u", ip_text(&r->hop_ip, text),
                       r->hop_ip.len == 0 ? (int)r->hop_host.len : 0,
                       r->hop_ip.len == 0 ? r->hop_host.ptr : "", r->hop_port);
        pg_json_kc(j, "hop", hop);
        pg_json_kc(j, "authority", r->authority);
        pg_json_kstr(j, "service",
                     r->service == NULL ? PG_STR_NONE : str_in(peering_service_key(r->service)));
        pg_json_kstr(j, "endpoint",
                     r->workload == NULL ? PG_STR_NONE : str_in(peering_workload_uid(r->workload)));
        pg_json_kstr(j, "cluster",
                     r->workload == NULL ? PG_STR_NONE : str_in(peering_workload_cluster(r->workload)));
        pg_json_ku64(j, "candidates", r->candidates);
        sans_json(j, "hopIdentities", r->outer_sans, r->n_outer_sans);
        sans_json(j, "endIdentities", r->inner_sans, r->n_inner_sans);
        policy_json(s, src, r, j);
    }
    pg_json_obj_end(j);
}

/* Writes the lines array and the decision; the enclosing object is open. */
static void explain_known(struct peering_control *c, const peering_snapshot *s, const peering_workload *src,
                          const struct pg_hostport *hp, struct pg_json *j)
{
    const peering_ip *ips;
    char said[600];
    peering_route_query q = {.source = src,
                             .network = str_out(pg_str_c(c->network)),
                             .dst_port = hp->port,
                             .random = pg_clock_mono_ns() / 1000u,
                             .trace = line,
                             .trace_arg = j};
    if (peering_workload_ips(src, &ips) > 0) {
        q.client_ip = ips[0];
    }
    pg_json_key(j, "lines");
    pg_json_arr(j);
    (void)snprintf(said, sizeof(said), "source %.*s: identity %.*s, network \"%.*s\", %s",
                   PG_STR_ARG(str_in(peering_workload_uid(src))),
                   PG_STR_ARG(str_in(peering_workload_identity(src))),
                   PG_STR_ARG(str_in(peering_workload_network(src))),
                   peering_workload_protocol(src) == PEERING_PROTOCOL_HBONE ? "in the mesh"
                                                                            : "not in the mesh (no tunnel)");
    pg_json_c(j, said);
    peering_route r = {.kind = PEERING_ROUTE_NONE};
    bool known = resolve(c, s, src, hp->host, j, &q.dst_ip);
    int err = known ? peering_route_decide(s, &q, &r) : 0;
    pg_json_arr_end(j);
    if (!known || err != 0) {
        (void)snprintf(r.error, sizeof(r.error), "%s",
                       err != 0 ? peering_strerror(err) : "the mesh has no address for the name");
    }
    decision_json(s, src, &r, known, j);
    peering_route_fini(&r);
}

void explain_json(struct peering_control *c, struct pg_str src, struct pg_str dst, struct pg_json *j)
{
    peering_snapshot *s = NULL;
    struct pg_hostport hp;
    const char *error = NULL;
    pg_json_obj(j);
    pg_json_kc(j, "schema", "isthmus.explain/v1");
    pg_json_kc(j, "cluster", option_text(c->options, OPT_CLUSTER));
    const peering_workload *w = NULL;
    if (pg_hostport_parse(dst, &hp) != 0) {
        error = "the destination must be HOST:PORT, for example reviews.shop.mesh.internal:80";
    } else if (control_snapshot(c, &s) != 0) {
        error = "out of memory";
    } else if ((w = find_source(c, s, src)) == NULL) {
        error = "no such source; give NAMESPACE/POD of a pod of this cluster (see: peerctl get workloads)";
    }
    if (error != NULL) {
        pg_json_kc(j, "error", error);
    } else {
        explain_known(c, s, w, &hp, j);
    }
    pg_json_obj_end(j);
    peering_snapshot_unref(s);
}
