/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one record. Everything outside the table goes through here, so the layout of records can change.
 * Pure; any thread; what is returned lives as long as the snapshot.
 */
#include "records.h"

peering_str peering_workload_uid(const peering_workload *w)
{
    return str_out(w->head.key);
}
peering_str peering_workload_name(const peering_workload *w)
{
    return str_out(w->name);
}
peering_str peering_workload_namespace(const peering_workload *w)
{
    return str_out(wl_shared(w)->ns);
}
peering_str peering_workload_service_account(const peering_workload *w)
{
    return str_out(wl_shared(w)->service_account);
}
peering_str peering_workload_trust_domain(const peering_workload *w)
{
    return str_out(wl_shared(w)->trust_domain);
}
peering_str peering_workload_identity(const peering_workload *w)
{
    return str_out(w->shared->identity);
}
peering_str peering_workload_network(const peering_workload *w)
{
    return str_out(wl_shared(w)->network);
}
peering_str peering_workload_node(const peering_workload *w)
{
    return str_out(w->node);
}
peering_str peering_workload_cluster(const peering_workload *w)
{
    return str_out(wl_shared(w)->cluster_id);
}
peering_str peering_workload_hostname(const peering_workload *w)
{
    return str_out(w->hostname);
}
peering_str peering_workload_canonical_name(const peering_workload *w)
{
    return str_out(wl_shared(w)->canonical_name);
}
peering_str peering_workload_canonical_revision(const peering_workload *w)
{
    return str_out(wl_shared(w)->canonical_revision);
}
peering_str peering_workload_workload_name(const peering_workload *w)
{
    return str_out(wl_shared(w)->workload_name);
}
peering_str peering_workload_type(const peering_workload *w)
{
    static const char *const names[] = {"deployment", "cronjob", "pod", "job"};
    unsigned type = (unsigned)wl_shared(w)->type;
    return str_out(pg_str_c(names[type < PG_ARRAY_LEN(names) ? type : 0]));
}
peering_str peering_workload_region(const peering_workload *w)
{
    return str_out(wl_shared(w)->locality.region);
}
peering_str peering_workload_zone(const peering_workload *w)
{
    return str_out(wl_shared(w)->locality.zone);
}
peering_str peering_workload_subzone(const peering_workload *w)
{
    return str_out(wl_shared(w)->locality.subzone);
}
enum peering_protocol peering_workload_protocol(const peering_workload *w)
{
    return wl_shared(w)->tunnel == XDS_TUNNEL_HBONE ? PEERING_PROTOCOL_HBONE : PEERING_PROTOCOL_TCP;
}
bool peering_workload_is_healthy(const peering_workload *w)
{
    return w->healthy;
}
bool peering_workload_is_host_network(const peering_workload *w)
{
    return wl_shared(w)->network_mode == XDS_NETWORK_HOST;
}
bool peering_workload_is_native_tunnel(const peering_workload *w)
{
    return wl_shared(w)->native_tunnel;
}
bool peering_workload_app_tunnel(const peering_workload *w, bool *proxy, uint16_t *port)
{
    *proxy = wl_shared(w)->app_tunnel_protocol == 1;
    *port = wl_shared(w)->app_tunnel_port;
    return *proxy || *port != 0;
}
uint32_t peering_workload_capacity(const peering_workload *w)
{
    return w->capacity;
}
size_t peering_workload_ips(const peering_workload *w, const peering_ip **out)
{
    *out = w->ips;
    return w->n_ips;
}
peering_str peering_workload_gateway(const peering_workload *w)
{
    return str_out(w->shared->gateway_text);
}
peering_str peering_workload_waypoint(const peering_workload *w)
{
    return str_out(w->shared->waypoint_text);
}
size_t peering_workload_policies(const peering_workload *w, const peering_str **out)
{
    *out = w->shared->policies;
    return wl_shared(w)->n_policies;
}
size_t peering_workload_services(const peering_workload *w, const peering_str **out)
{
    *out = w->shared->service_keys;
    return wl_shared(w)->n_services;
}
uint16_t peering_workload_target_port(const peering_workload *w, peering_str key, uint16_t service_port)
{
    const struct xds_workload_service *v = wl_service(w, str_in(key));
    for (size_t i = 0; v != NULL && i < v->n_ports; i++) {
        if (v->ports[i].service_port == service_port) {
            return v->ports[i].target_port;
        }
    }
    return 0;
}

peering_str peering_service_key(const peering_service *v)
{
    return str_out(v->rec->head.key);
}
peering_str peering_service_name(const peering_service *v)
{
    return str_out(v->rec->s.name);
}
peering_str peering_service_namespace(const peering_service *v)
{
    return str_out(v->rec->s.ns);
}
peering_str peering_service_hostname(const peering_service *v)
{
    return str_out(v->rec->s.hostname);
}
size_t peering_service_vips(const peering_service *v, const peering_vip **out)
{
    *out = v->rec->vips;
    return v->rec->s.n_addresses;
}
size_t peering_service_ports(const peering_service *v, const peering_port **out)
{
    *out = v->rec->ports;
    return v->rec->s.n_ports;
}
size_t peering_service_sans(const peering_service *v, const peering_str **out)
{
    *out = v->rec->sans;
    return v->rec->s.n_sans;
}
size_t peering_service_endpoints(const peering_service *v, const peering_workload *const **out)
{
    *out = v->endpoints;
    return v->n_endpoints;
}
bool peering_service_is_canonical(const peering_service *v)
{
    return v->rec->s.canonical;
}
bool peering_service_is_passthrough(const peering_service *v)
{
    return v->rec->s.has_lb && v->rec->s.lb_mode == XDS_LB_PASSTHROUGH;
}
peering_str peering_service_load_balancing(const peering_service *v)
{
    return str_out(v->rec->lb_text);
}

peering_str peering_policy_key(const peering_policy *p)
{
    return str_out(p->head.key);
}
