/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as JSON, with the keys of ztunnel's local file format: what config_dump shows and istioctl reads.
 * Long lists are handed on piece by piece, so that memory does not follow the size of a service. Pure; any
 * thread.
 */
#include "records.h"

#include "core/json.h"

#include <stdio.h>

#define PIECE_MAX (4u * 1024 * 1024)
#define FLUSH_AT 4096u

struct dump {
    struct pg_json j;
    struct pg_sb sb;
    peering_write write;
    void *arg;
    int r; /* first failure */
};

static void dump_init(struct dump *d, peering_write write, void *arg)
{
    *d = (struct dump){.write = write, .arg = arg};
    pg_sb_init(&d->sb, PIECE_MAX);
    pg_json_init(&d->j, &d->sb, false);
}

static void flush(struct dump *d, size_t at_least)
{
    struct pg_str s = pg_sb_view(&d->sb);
    if (d->r == 0 && d->sb.err != 0) {
        d->r = d->sb.err;
    }
    if (d->r == 0 && s.len >= at_least && s.len != 0) {
        d->r = d->write(d->arg, s.p, s.len);
        pg_sb_reset(&d->sb);
    }
}

static int dump_end(struct dump *d)
{
    flush(d, 0);
    pg_sb_fini(&d->sb);
    return d->r;
}

/* A value put together from parts; empty parts are fine. */
static void joined(struct dump *d, struct pg_str a, char sep, struct pg_str b)
{
    struct pg_sb sb;
    pg_sb_init(&sb, PIECE_MAX);
    pg_sb_str(&sb, a);
    pg_sb_ch(&sb, sep);
    pg_sb_str(&sb, b);
    if (sb.err != 0 && d->r == 0) {
        d->r = sb.err;
    }
    pg_json_str(&d->j, pg_sb_view(&sb));
    pg_sb_fini(&sb);
}

static void optional(struct dump *d, const char *key, struct pg_str s)
{
    if (s.len != 0) {
        pg_json_kstr(&d->j, key, s);
    }
}

static void ip_value(struct dump *d, const struct pg_ip *ip)
{
    char text[PG_IP_TEXT];
    pg_json_c(&d->j, pg_ip_fmt(ip, text));
}

static void port_key(struct dump *d, uint16_t port)
{
    char key[8];
    snprintf(key, sizeof(key), "%u", port);
    pg_json_key(&d->j, key);
}

static void gateway(struct dump *d, const char *key, const struct xds_gateway *g)
{
    if (g->kind == XDS_GATEWAY_NONE) {
        return;
    }
    pg_json_key(&d->j, key);
    pg_json_obj(&d->j);
    pg_json_key(&d->j, "destination");
    if (g->kind == XDS_GATEWAY_HOSTNAME) {
        joined(d, g->ns, '/', g->hostname);
    } else {
        char ip[PG_IP_TEXT];
        joined(d, g->address.network, '/', pg_str_c(pg_ip_fmt(&g->address.ip, ip)));
    }
    pg_json_ku64(&d->j, "hboneMtlsPort", g->hbone_port);
    pg_json_obj_end(&d->j);
}

static void strings(struct dump *d, const char *key, const peering_str *list, size_t n)
{
    pg_json_key(&d->j, key);
    pg_json_arr(&d->j);
    for (size_t i = 0; i < n; i++) {
        pg_json_str(&d->j, str_in(list[i]));
    }
    pg_json_arr_end(&d->j);
}

static void endpoint_ports(struct dump *d, const struct xds_workload_service *v)
{
    pg_json_obj(&d->j);
    for (size_t i = 0; v != NULL && i < v->n_ports; i++) {
        port_key(d, v->ports[i].service_port);
        pg_json_u64(&d->j, v->ports[i].target_port);
    }
    pg_json_obj_end(&d->j);
}

/* --- workload ----------------------------------------------------------------------------------------- */

static void locality(struct dump *d, const struct xds_locality *l)
{
    pg_json_key(&d->j, "locality");
    pg_json_obj(&d->j);
    optional(d, "region", l->region);
    optional(d, "zone", l->zone);
    optional(d, "subzone", l->subzone);
    pg_json_obj_end(&d->j);
}

static void app_tunnel(struct dump *d, const struct xds_workload *w)
{
    if (w->app_tunnel_protocol == 0 && w->app_tunnel_port == 0) {
        return;
    }
    pg_json_key(&d->j, "applicationTunnel");
    pg_json_obj(&d->j);
    pg_json_kc(&d->j, "protocol", w->app_tunnel_protocol == 1 ? "PROXY" : "NONE");
    if (w->app_tunnel_port != 0) {
        pg_json_ku64(&d->j, "port", w->app_tunnel_port);
    }
    pg_json_obj_end(&d->j);
}

static void workload_head(struct dump *d, const peering_workload *w)
{
    const struct xds_workload *s = wl_shared(w);
    pg_json_key(&d->j, "workloadIps");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < w->n_ips; i++) {
        struct pg_ip ip = ip_in(&w->ips[i]);
        ip_value(d, &ip);
    }
    pg_json_arr_end(&d->j);
    gateway(d, "waypoint", &s->waypoint);
    gateway(d, "networkGateway", &s->network_gateway);
    pg_json_kc(&d->j, "protocol", s->tunnel == XDS_TUNNEL_HBONE ? "HBONE" : "TCP");
    pg_json_kc(&d->j, "networkMode", s->network_mode == XDS_NETWORK_HOST ? "HostNetwork" : "Standard");
    pg_json_kstr(&d->j, "uid", w->head.key);
    pg_json_kstr(&d->j, "name", w->name);
    pg_json_kstr(&d->j, "namespace", s->ns);
    pg_json_kstr(&d->j, "trustDomain", s->trust_domain);
    pg_json_kstr(&d->j, "serviceAccount", s->service_account);
    pg_json_kstr(&d->j, "network", s->network);
    pg_json_kstr(&d->j, "workloadName", s->workload_name);
    pg_json_kstr(&d->j, "workloadType", str_in(peering_workload_type(w)));
    pg_json_kstr(&d->j, "canonicalName", s->canonical_name);
    pg_json_kstr(&d->j, "canonicalRevision", s->canonical_revision);
    optional(d, "hostname", w->hostname);
    optional(d, "node", w->node);
}

int peering_workload_json(const peering_workload *w, peering_write write, void *arg)
{
    const struct xds_workload *s = wl_shared(w);
    struct dump d;
    dump_init(&d, write, arg);
    pg_json_obj(&d.j);
    workload_head(&d, w);
    if (s->native_tunnel) {
        pg_json_kbool(&d.j, "nativeTunnel", true);
    }
    app_tunnel(&d, s);
    strings(&d, "authorizationPolicies", w->shared->policies, s->n_policies);
    pg_json_kc(&d.j, "status", w->healthy ? "Healthy" : "Unhealthy");
    pg_json_kstr(&d.j, "clusterId", s->cluster_id);
    locality(&d, &s->locality);
    pg_json_ku64(&d.j, "capacity", w->capacity);
    pg_json_key(&d.j, "services");
    pg_json_obj(&d.j);
    for (size_t i = 0; i < s->n_services; i++) {
        struct pg_sb key;
        pg_sb_init(&key, PIECE_MAX);
        pg_sb_str(&key, s->services[i].key);
        if (key.err == 0 && key.p != NULL) {
            pg_json_key(&d.j, key.p);
            endpoint_ports(&d, &s->services[i]);
        } else if (d.r == 0 && key.err != 0) {
            d.r = key.err;
        }
        pg_sb_fini(&key);
        flush(&d, FLUSH_AT);
    }
    pg_json_obj_end(&d.j);
    pg_json_obj_end(&d.j);
    return dump_end(&d);
}

/* --- service ------------------------------------------------------------------------------------------ */

static bool is_exact(const peering_vip *v)
{
    return v->bits == v->ip.len * 8;
}

static void vips(struct dump *d, const struct rec_service *rec)
{
    char text[PG_IP_TEXT];
    bool has_cidr = false;
    pg_json_key(&d->j, "vips");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < rec->s.n_addresses; i++) {
        struct pg_ip ip = ip_in(&rec->vips[i].ip);
        has_cidr = has_cidr || !is_exact(&rec->vips[i]);
        if (is_exact(&rec->vips[i])) {
            joined(d, str_in(rec->vips[i].network), '/', pg_str_c(pg_ip_fmt(&ip, text)));
        }
    }
    pg_json_arr_end(&d->j);
    if (!has_cidr) {
        return;
    }
    pg_json_key(&d->j, "cidrVips");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < rec->s.n_addresses; i++) {
        char cidr[PG_IP_TEXT + 5];
        struct pg_ip ip = ip_in(&rec->vips[i].ip);
        if (!is_exact(&rec->vips[i])) {
            snprintf(cidr, sizeof(cidr), "%s/%u", pg_ip_fmt(&ip, text), rec->vips[i].bits);
            pg_json_obj(&d->j);
            pg_json_kstr(&d->j, "network", str_in(rec->vips[i].network));
            pg_json_kc(&d->j, "cidr", cidr);
            pg_json_obj_end(&d->j);
        }
    }
    pg_json_arr_end(&d->j);
}

static void endpoints(struct dump *d, const peering_service *v)
{
    pg_json_key(&d->j, "endpoints");
    pg_json_obj(&d->j);
    for (size_t i = 0; i < v->n_endpoints && d->r == 0; i++) {
        const peering_workload *w = v->endpoints[i];
        struct pg_sb key;
        pg_sb_init(&key, PIECE_MAX);
        pg_sb_str(&key, w->head.key);
        if (key.err != 0) {
            d->r = key.err;
        } else {
            pg_json_key(&d->j, key.p);
            pg_json_obj(&d->j);
            pg_json_kstr(&d->j, "workloadUid", w->head.key);
            pg_json_key(&d->j, "port");
            endpoint_ports(d, wl_service(w, v->rec->head.key));
            pg_json_kc(&d->j, "status", w->healthy ? "Healthy" : "Unhealthy");
            pg_json_obj_end(&d->j);
        }
        pg_sb_fini(&key);
        flush(d, FLUSH_AT);
    }
    pg_json_obj_end(&d->j);
}

static void weighted_waypoints(struct dump *d, const struct xds_service *s)
{
    if (s->n_weighted_waypoints == 0) {
        return;
    }
    pg_json_key(&d->j, "weightedWaypoints");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < s->n_weighted_waypoints; i++) {
        pg_json_obj(&d->j);
        gateway(d, "destination", &s->weighted_waypoints[i].destination);
        pg_json_ku64(&d->j, "weight", s->weighted_waypoints[i].weight);
        pg_json_obj_end(&d->j);
    }
    pg_json_arr_end(&d->j);
}

static void load_balancer(struct dump *d, const struct xds_service *s)
{
    static const char *const scopes[] = {"?", "Region", "Zone", "Subzone", "Node", "Cluster", "Network"};
    static const char *const modes[] = {"Standard", "Strict", "Failover", "Passthrough"};
    if (!s->has_lb) {
        return;
    }
    unsigned mode = (unsigned)s->lb_mode;
    pg_json_key(&d->j, "loadBalancer");
    pg_json_obj(&d->j);
    pg_json_key(&d->j, "routingPreferences");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < s->n_lb_scopes; i++) {
        pg_json_c(&d->j, scopes[s->lb_scopes[i] < PG_ARRAY_LEN(scopes) ? s->lb_scopes[i] : 0]);
    }
    pg_json_arr_end(&d->j);
    pg_json_kc(&d->j, "mode", modes[mode < PG_ARRAY_LEN(modes) ? mode : 0]);
    pg_json_kc(&d->j, "healthPolicy", s->health_policy == XDS_ALLOW_ALL ? "AllowAll" : "OnlyHealthy");
    pg_json_obj_end(&d->j);
}

int peering_service_json(const peering_service *v, peering_write write, void *arg)
{
    static const char *const families[] = {NULL, "IPv4", "IPv6", "Dual"};
    const struct xds_service *s = &v->rec->s;
    struct dump d;
    dump_init(&d, write, arg);
    pg_json_obj(&d.j);
    pg_json_kstr(&d.j, "name", s->name);
    pg_json_kstr(&d.j, "namespace", s->ns);
    pg_json_kstr(&d.j, "hostname", s->hostname);
    vips(&d, v->rec);
    pg_json_key(&d.j, "ports");
    pg_json_obj(&d.j);
    for (size_t i = 0; i < s->n_ports; i++) {
        port_key(&d, v->rec->ports[i].service_port);
        pg_json_u64(&d.j, v->rec->ports[i].target_port);
    }
    pg_json_obj_end(&d.j);
    endpoints(&d, v);
    strings(&d, "subjectAltNames", v->rec->sans, s->n_sans);
    gateway(&d, "waypoint", &s->waypoint);
    weighted_waypoints(&d, s);
    load_balancer(&d, s);
    unsigned family = (unsigned)s->ip_families;
    if (family < PG_ARRAY_LEN(families) && families[family] != NULL) {
        pg_json_kc(&d.j, "ipFamilies", families[family]);
    }
    pg_json_kbool(&d.j, "canonical", s->canonical);
    pg_json_kc(&d.j, "visibility", s->visibility == XDS_VISIBILITY_NAMESPACE ? "Namespace" : "Public");
    pg_json_obj_end(&d.j);
    return dump_end(&d);
}

/* --- policy ------------------------------------------------------------------------------------------- */

static void string_matches(struct dump *d, const char *key, const struct xds_string_match *m, size_t n)
{
    static const char *const kinds[] = {"Exact", "Prefix", "Suffix"};
    if (n == 0) {
        return;
    }
    pg_json_key(&d->j, key);
    pg_json_arr(&d->j);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned)m[i].kind >= PG_ARRAY_LEN(kinds)) {
            pg_json_c(&d->j, "Presence");
            continue;
        }
        pg_json_obj(&d->j);
        pg_json_kstr(&d->j, kinds[m[i].kind], m[i].value);
        pg_json_obj_end(&d->j);
    }
    pg_json_arr_end(&d->j);
}

static void prefixes(struct dump *d, const char *key, const struct pg_prefix *p, size_t n)
{
    if (n == 0) {
        return;
    }
    pg_json_key(&d->j, key);
    pg_json_arr(&d->j);
    for (size_t i = 0; i < n; i++) {
        char ip[PG_IP_TEXT];
        char text[PG_IP_TEXT + 5];
        snprintf(text, sizeof(text), "%s/%u", pg_ip_fmt(&p[i].ip, ip), p[i].bits);
        pg_json_c(&d->j, text);
    }
    pg_json_arr_end(&d->j);
}

static void match_ports(struct dump *d, const char *key, const uint16_t *ports, size_t n)
{
    if (n == 0) {
        return;
    }
    pg_json_key(&d->j, key);
    pg_json_arr(&d->j);
    for (size_t i = 0; i < n; i++) {
        pg_json_u64(&d->j, ports[i]);
    }
    pg_json_arr_end(&d->j);
}

static void accounts(struct dump *d, const char *key, const struct xds_sa_match *m, size_t n)
{
    if (n == 0) {
        return;
    }
    pg_json_key(&d->j, key);
    pg_json_arr(&d->j);
    for (size_t i = 0; i < n; i++) {
        pg_json_obj(&d->j);
        pg_json_kstr(&d->j, "namespace", m[i].ns);
        pg_json_kstr(&d->j, "serviceAccount", m[i].sa);
        pg_json_obj_end(&d->j);
    }
    pg_json_arr_end(&d->j);
}

static void match(struct dump *d, const struct xds_match *m)
{
    pg_json_obj(&d->j);
    string_matches(d, "namespaces", m->namespaces[0], m->n_namespaces[0]);
    string_matches(d, "notNamespaces", m->namespaces[1], m->n_namespaces[1]);
    string_matches(d, "principals", m->principals[0], m->n_principals[0]);
    string_matches(d, "notPrincipals", m->principals[1], m->n_principals[1]);
    accounts(d, "serviceAccounts", m->service_accounts[0], m->n_service_accounts[0]);
    accounts(d, "notServiceAccounts", m->service_accounts[1], m->n_service_accounts[1]);
    prefixes(d, "sourceIps", m->source_ips[0], m->n_source_ips[0]);
    prefixes(d, "notSourceIps", m->source_ips[1], m->n_source_ips[1]);
    prefixes(d, "destinationIps", m->destination_ips[0], m->n_destination_ips[0]);
    prefixes(d, "notDestinationIps", m->destination_ips[1], m->n_destination_ips[1]);
    match_ports(d, "destinationPorts", m->ports[0], m->n_ports[0]);
    match_ports(d, "notDestinationPorts", m->ports[1], m->n_ports[1]);
    pg_json_obj_end(&d->j);
    flush(d, FLUSH_AT);
}

static void rules(struct dump *d, const struct xds_policy *p)
{
    pg_json_key(&d->j, "rules");
    pg_json_arr(&d->j);
    for (size_t i = 0; i < p->n_rules && d->r == 0; i++) {
        pg_json_arr(&d->j);
        for (size_t k = 0; k < p->rules[i].n_clauses; k++) {
            const struct xds_clause *clause = &p->rules[i].clauses[k];
            pg_json_arr(&d->j);
            for (size_t m = 0; m < clause->n_matches; m++) {
                match(d, &clause->matches[m]);
            }
            pg_json_arr_end(&d->j);
        }
        pg_json_arr_end(&d->j);
    }
    pg_json_arr_end(&d->j);
}

int peering_policy_json(const peering_policy *p, peering_write write, void *arg)
{
    static const char *const scopes[] = {"Global", "Namespace", "WorkloadSelector"};
    unsigned scope = (unsigned)p->p.scope;
    struct dump d;
    dump_init(&d, write, arg);
    pg_json_obj(&d.j);
    pg_json_kstr(&d.j, "name", p->p.name);
    pg_json_kstr(&d.j, "namespace", p->p.ns);
    pg_json_kc(&d.j, "scope", scopes[scope < PG_ARRAY_LEN(scopes) ? scope : 0]);
    pg_json_kc(&d.j, "action", p->p.action == XDS_POLICY_DENY || p->p.unparsable ? "Deny" : "Allow");
    rules(&d, &p->p);
    pg_json_kbool(&d.j, "dryRun", p->p.dry_run);
    if (p->p.unparsable) {
        pg_json_kbool(&d.j, "notUnderstood", true);
    }
    pg_json_obj_end(&d.j);
    return dump_end(&d);
}
