/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects about networks: EndpointSlice, Gateway, Segment. Control thread.
 */
#include "manifest_objects.h"

#define ANN_STALE_DEADLINE "isthmus.dev/stale-deadline"
#define STALE_DEADLINE_DEFAULT_S 3600u

/* --- EndpointSlice --- */

static void read_slice_ports(struct reader *r, const struct yaml_node *doc, struct obj_slice *s)
{
    const struct yaml_node *seq = rd_seq(r, doc, "", "ports");
    if (seq == NULL) {
        return;
    }
    if (seq->n > OBJECT_PORTS_MAX) {
        rd_fail(r, seq, "ports has more than 1024 entries");
    }
    s->ports = rd_array(r, seq->n, sizeof(*s->ports));
    for (const struct yaml_node *n = seq->first; n != NULL && r->code == 0; n = n->next) {
        if (!rd_is_map(r, n, "ports[]")) {
            return;
        }
        struct obj_slice_port p = {.name = rd_str(r, n, "ports[]", "name"),
                                   .port = (uint16_t)rd_uint(r, n, "ports[]", "port", 1, 65535, 0)};
        struct pg_str protocol = rd_str(r, n, "ports[]", "protocol");
        if (r->code == 0 && p.port != 0 && (protocol.len == 0 || pg_str_eq_c(protocol, "TCP"))) {
            s->ports[s->n_ports++] = p;
        }
    }
}

static void read_slice_endpoint(struct reader *r, const struct yaml_node *n, bool fqdn,
                                struct obj_slice_endpoint *e)
{
    static const char in[] = "endpoints[]";
    if (!rd_is_map(r, n, in)) {
        return;
    }
    if (!fqdn) {
        object_read_ips(r, rd_seq(r, n, in, "addresses"), NULL, "endpoints[].addresses[]", &e->ips);
    }
    const struct yaml_node *ref = rd_map(r, n, in, "targetRef");
    if (pg_str_eq_c(rd_str(r, ref, "endpoints[].targetRef", "kind"), "Pod")) {
        e->pod = rd_str(r, ref, "endpoints[].targetRef", "name");
    }
    const struct yaml_node *conditions = rd_map(r, n, in, "conditions");
    const struct yaml_node *ready = yaml_get(conditions, "ready");
    /* The API says: an unknown readiness is to be read as ready. */
    e->ready =
        ready == NULL || yaml_is_null(ready) || rd_bool(r, conditions, "endpoints[].conditions", "ready");
}

void object_read_slice(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_slice *s = &o->u.slice;
    s->service = kvs_get(&o->labels, "kubernetes.io/service-name");
    s->fqdn = pg_str_eq_c(rd_str(r, doc, "EndpointSlice", "addressType"), "FQDN");
    read_slice_ports(r, doc, s);
    const struct yaml_node *seq = rd_seq(r, doc, "", "endpoints");
    s->endpoints = seq != NULL ? rd_array(r, seq->n, sizeof(*s->endpoints)) : NULL;
    for (const struct yaml_node *n = s->endpoints != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        read_slice_endpoint(r, n, s->fqdn, &s->endpoints[s->n_endpoints++]);
    }
}

/* --- Gateway --- */

static bool is_hostname(struct pg_str s)
{
    if (s.len == 0 || s.len > 253 || s.p[0] == '.' || s.p[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '-' && c != '.' && c != '_') {
            return false;
        }
        if (c == '.' && i + 1 < s.len && s.p[i + 1] == '.') {
            return false;
        }
    }
    return true;
}

static void read_address(struct reader *r, const struct yaml_node *n, const char *in, struct obj_gateway *g)
{
    if (!rd_is_map(r, n, in)) {
        return;
    }
    struct pg_str type = rd_str(r, n, in, "type");
    struct pg_str value = rd_str(r, n, in, "value");
    struct pg_ip ip;
    bool is_ip = pg_ip_parse(value, &ip) == 0;
    bool want_host = pg_str_eq_c(type, "Hostname");
    if (r->code == 0 && type.len > 0 && !want_host && !pg_str_eq_c(type, "IPAddress")) {
        rd_fail(r, yaml_get(n, "type"), "%s.type must be IPAddress or Hostname", in);
    }
    if (r->code == 0 && !want_host && !is_ip) {
        rd_fail(r, n, "%s.value: \"%.80s\" is not an IP address (type: Hostname for a name)", in,
                value.p ? value.p : "");
    }
    if (r->code == 0 && want_host && !is_hostname(value)) {
        rd_fail(r, n, "%s.value: \"%.80s\" is not a host name", in, value.p ? value.p : "");
    }
    if (r->code != 0) {
        return;
    }
    if (g->n_addresses == PEER_ADDRESSES_MAX) {
        rd_fail(r, n, "%s: more than %u addresses", in, PEER_ADDRESSES_MAX);
        return;
    }
    g->addresses[g->n_addresses++] = value;
}

static void read_addresses(struct reader *r, const struct yaml_node *part, const char *name, const char *in,
                           struct obj_gateway *g)
{
    const struct yaml_node *seq = rd_seq(r, part, name, "addresses");
    for (const struct yaml_node *n = seq != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        read_address(r, n, in, g);
    }
}

static void read_listeners(struct reader *r, const struct yaml_node *spec, struct obj_gateway *g)
{
    static const char in[] = "spec.listeners[]";
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "listeners");
    if (seq == NULL) {
        return;
    }
    if (seq->n > OBJECT_PORTS_MAX) {
        rd_fail(r, seq, "spec.listeners has more than 1024 entries");
    }
    g->listeners = rd_array(r, seq->n, sizeof(*g->listeners));
    for (const struct yaml_node *n = g->listeners != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        if (!rd_is_map(r, n, in)) {
            return;
        }
        if (yaml_get(n, "port") == NULL) {
            rd_fail(r, n, "spec.listeners[].port is missing");
        }
        struct obj_listener *l = &g->listeners[g->n_listeners++];
        l->name = rd_str(r, n, in, "name");
        l->protocol = rd_str(r, n, in, "protocol");
        l->port = (uint16_t)rd_uint(r, n, in, "port", 1, 65535, 0);
    }
}

void object_read_gateway(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_gateway *g = &o->u.gateway;
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    g->gateway_class = rd_str(r, spec, "spec", "gatewayClassName");
    if (r->code == 0 && g->gateway_class.len == 0) {
        rd_fail(r, spec != NULL ? spec : doc, "spec.gatewayClassName is missing");
    }
    read_addresses(r, spec, "spec", "spec.addresses[]", g);
    if (g->n_addresses == 0) {
        read_addresses(r, rd_map(r, doc, "", "status"), "status", "status.addresses[]", g);
    }
    read_listeners(r, spec, g);
    struct pg_str deadline = kvs_get(&o->annotations, ANN_STALE_DEADLINE);
    uint64_t ms = 0;
    g->stale_deadline_s = STALE_DEADLINE_DEFAULT_S;
    if (r->code != 0 || deadline.len == 0) {
        return;
    }
    if (pg_str_eq_c(deadline, "never")) {
        g->stale_deadline_s = 0;
    } else if (pg_str_duration_ms(deadline, &ms) < 0 || ms < 1000) {
        rd_fail(r, yaml_get(yaml_get(yaml_get(doc, "metadata"), "annotations"), ANN_STALE_DEADLINE),
                "%s: \"%.40s\" is not a duration of at least 1s, nor \"never\"", ANN_STALE_DEADLINE,
                deadline.p);
    } else {
        g->stale_deadline_s = ms / 1000;
    }
}

/* --- Segment --- */

void object_read_segment(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    o->u.segment.domain = rd_str(r, spec, "spec", "domain");
    if (r->code == 0 && !is_hostname(o->u.segment.domain)) {
        rd_fail(r, spec != NULL ? spec : doc, "spec.domain of a Segment must be a domain name");
    }
}
