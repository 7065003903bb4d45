/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's own services: ServiceEntry and WorkloadEntry, as far as layer 4 uses them. Control thread. */
#include "manifest_objects.h"

/* A host name, maybe with "*" as its first label. */
static bool is_host(struct pg_str s)
{
    if (pg_str_has_prefix(s, PG_STR("*."))) {
        s = pg_str_sub(s, 2);
    }
    if (s.len == 0 || s.len > 253) {
        return false;
    }
    char prev = '.';
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!alnum && c != '-' && !(c == '.' && prev != '.' && i + 1 < s.len)) {
            return false;
        }
        prev = c;
    }
    return true;
}

static void read_locality(struct reader *r, const struct yaml_node *spec, const char *in,
                          struct obj_workload_entry *e)
{
    struct pg_str rest = rd_str(r, spec, in, "locality");
    (void)pg_str_cut(&rest, '/', &e->region);
    (void)pg_str_cut(&rest, '/', &e->zone);
    e->subzone = rest;
}

static void read_entry_ports(struct reader *r, const struct yaml_node *spec, const char *in,
                             struct obj_workload_entry *e)
{
    const struct yaml_node *ports = rd_map(r, spec, in, "ports");
    e->ports = ports != NULL ? rd_array(r, ports->n, sizeof(*e->ports)) : NULL;
    for (const struct yaml_node *n = e->ports != NULL ? ports->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        uint64_t port = 0;
        if (n->kind != YAML_SCALAR || pg_str_u64(n->value, 65535, &port) < 0 || port == 0) {
            rd_fail(r, n, "%s.ports: a port must be a number from 1 to 65535", in);
        }
        e->ports[e->n_ports++] = (struct obj_container_port){rd_copy(r, n->key), (uint16_t)port};
    }
}

static void read_entry(struct reader *r, const struct yaml_node *spec, const char *in,
                       struct obj_workload_entry *e)
{
    e->address = rd_str(r, spec, in, "address");
    if (e->address.len > 0 && pg_ip_parse(e->address, &e->ip) < 0 && !is_host(e->address)) {
        rd_fail(r, yaml_get(spec, "address"),
                "%s.address: \"%.80s\" is neither an IP address nor a host name", in, e->address.p);
    }
    e->network = rd_str(r, spec, in, "network");
    e->service_account = rd_str(r, spec, in, "serviceAccount");
    e->weight = rd_uint(r, spec, in, "weight", 0, UINT32_MAX, 0);
    read_locality(r, spec, in, e);
    read_entry_ports(r, spec, in, e);
}

/* Labels of the spec beside those of the metadata; the spec's win. */
static void merge_labels(struct reader *r, const struct yaml_node *spec, struct object *o)
{
    struct obj_kvs own = {0};
    rd_kvs(r, spec, "spec", "labels", &own);
    struct obj_kv *all = own.n > 0 ? rd_array(r, own.n + o->labels.n, sizeof(*all)) : NULL;
    if (all == NULL) {
        return;
    }
    memcpy(all, own.kv, own.n * sizeof(*all));
    size_t n = own.n;
    for (size_t i = 0; i < o->labels.n; i++) {
        if (!kvs_has(&own, o->labels.kv[i].key.p)) {
            all[n++] = o->labels.kv[i];
        }
    }
    o->labels = (struct obj_kvs){all, n};
}

void object_read_workload_entry(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    read_entry(r, spec, "spec", &o->u.workload_entry);
    merge_labels(r, spec, o);
}

/* --- ServiceEntry --- */

static void read_texts(struct reader *r, const struct yaml_node *spec, const char *key, struct pg_str **out,
                       size_t *n)
{
    const struct yaml_node *seq = rd_seq(r, spec, "spec", key);
    struct pg_str *list = seq != NULL ? rd_array(r, seq->n, sizeof(*list)) : NULL;
    if (list == NULL) {
        return;
    }
    for (const struct yaml_node *c = seq->first; c != NULL && r->code == 0; c = c->next) {
        list[(*n)++] = rd_scalar(r, c, key);
    }
    *out = list;
}

static void read_hosts(struct reader *r, const struct yaml_node *doc, const struct yaml_node *spec,
                       struct obj_service_entry *s)
{
    read_texts(r, spec, "hosts", &s->hosts, &s->n_hosts);
    if (r->code == 0 && s->n_hosts == 0) {
        rd_fail(r, spec != NULL ? spec : doc, "spec.hosts is missing");
    }
    for (size_t i = 0; i < s->n_hosts && r->code == 0; i++) {
        if (!is_host(s->hosts[i])) {
            rd_fail(r, yaml_get(spec, "hosts"), "spec.hosts: \"%.80s\" is not a host name",
                    s->hosts[i].p ? s->hosts[i].p : "");
        }
    }
}

static void read_addresses(struct reader *r, const struct yaml_node *spec, struct obj_service_entry *s)
{
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "addresses");
    s->addresses = seq != NULL ? rd_array(r, seq->n, sizeof(*s->addresses)) : NULL;
    for (const struct yaml_node *c = s->addresses != NULL ? seq->first : NULL; c != NULL && r->code == 0;
         c = c->next) {
        if (c->kind != YAML_SCALAR || pg_prefix_parse(c->value, &s->addresses[s->n_addresses++]) < 0) {
            rd_fail(r, c, "spec.addresses: \"%.80s\" is not an IP address or CIDR block",
                    c->kind == YAML_SCALAR ? c->value.p : "");
        }
    }
}

static void read_ports(struct reader *r, const struct yaml_node *spec, struct obj_service *s)
{
    static const char in[] = "spec.ports[]";
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "ports");
    if (seq != NULL && seq->n > OBJECT_PORTS_MAX) {
        rd_fail(r, seq, "spec.ports has more than 1024 entries");
    }
    s->ports = seq != NULL ? rd_array(r, seq->n, sizeof(*s->ports)) : NULL;
    for (const struct yaml_node *n = s->ports != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        if (!rd_is_map(r, n, in)) {
            return;
        }
        struct obj_service_port p = {.name = rd_str(r, n, in, "name"),
                                     .port = (uint16_t)rd_uint(r, n, in, "number", 1, 65535, 0)};
        if (r->code == 0 && p.port == 0) {
            rd_fail(r, n, "spec.ports[].number is missing");
        }
        p.target = (uint16_t)rd_uint(r, n, in, "targetPort", 1, 65535, p.port);
        p.app_protocol = object_app_protocol(rd_str(r, n, in, "protocol"));
        s->ports[s->n_ports++] = p;
    }
}

static void read_resolution(struct reader *r, const struct yaml_node *spec, struct obj_service_entry *s)
{
    struct pg_str word = rd_str(r, spec, "spec", "resolution");
    if (pg_str_eq_c(word, "STATIC")) {
        s->resolution = OBJ_RESOLUTION_STATIC;
    } else if (pg_str_has_prefix(word, PG_STR("DNS")) || pg_str_eq_c(word, "DYNAMIC_DNS")) {
        s->resolution = OBJ_RESOLUTION_DNS;
    } else if (r->code == 0 && word.len > 0 && !pg_str_eq_c(word, "NONE")) {
        rd_fail(r, yaml_get(spec, "resolution"),
                "spec.resolution must be NONE, STATIC, DNS or DNS_ROUND_ROBIN");
    }
}

void object_read_service_entry(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_service_entry *s = &o->u.service_entry;
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    read_hosts(r, doc, spec, s);
    read_addresses(r, spec, s);
    read_ports(r, spec, &s->as_service);
    read_resolution(r, spec, s);
    read_texts(r, spec, "subjectAltNames", &s->sans, &s->n_sans);
    rd_kvs(r, rd_map(r, spec, "spec", "workloadSelector"), "spec.workloadSelector", "labels",
           &s->as_service.selector);
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "endpoints");
    s->endpoints = seq != NULL ? rd_array(r, seq->n, sizeof(*s->endpoints)) : NULL;
    for (const struct yaml_node *n = s->endpoints != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        if (rd_is_map(r, n, "spec.endpoints[]")) {
            read_entry(r, n, "spec.endpoints[]", &s->endpoints[s->n_endpoints++]);
        }
    }
    s->no_auto_address =
        pg_str_eq_c(kvs_get(&o->labels, "networking.istio.io/enable-autoallocate-ip"), "false");
}
