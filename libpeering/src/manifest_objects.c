/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From documents to objects: metadata, which kinds count, Lists, and the core kinds Namespace, Service and
 * Pod. Unknown fields are fine, wrong types are errors, since the API server would have refused them. Control
 * thread.
 */
#include "manifest_objects.h"

struct kind_row {
    const char *group; /* before the slash of apiVersion; "" is the core group */
    const char *name;
    enum obj_kind kind;
    bool cluster_wide;
    void (*read)(struct reader *r, const struct yaml_node *doc, struct object *o);
};

static void read_namespace(struct reader *r, const struct yaml_node *doc, struct object *o);

static const struct kind_row kinds[] = {
    {"", "Namespace", OBJ_NAMESPACE, true, read_namespace},
    {"", "Node", OBJ_NODE, true, NULL},
    {"", "ServiceAccount", OBJ_SERVICE_ACCOUNT, false, NULL},
    {"", "Service", OBJ_SERVICE, false, object_read_service},
    {"", "Pod", OBJ_POD, false, object_read_pod},
    {"discovery.k8s.io", "EndpointSlice", OBJ_ENDPOINT_SLICE, false, object_read_slice},
    {"gateway.networking.k8s.io", "Gateway", OBJ_GATEWAY, false, object_read_gateway},
    {"admin.solo.io", "Segment", OBJ_SEGMENT, false, object_read_segment},
    {"security.istio.io", "AuthorizationPolicy", OBJ_AUTHORIZATION_POLICY, false, object_read_authorization},
    {"security.istio.io", "PeerAuthentication", OBJ_PEER_AUTHENTICATION, false, object_read_peer_auth},
    {"networking.istio.io", "ServiceEntry", OBJ_SERVICE_ENTRY, false, object_read_service_entry},
    {"networking.istio.io", "WorkloadEntry", OBJ_WORKLOAD_ENTRY, false, object_read_workload_entry},
};

const char *object_kind_name(enum obj_kind kind)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(kinds); i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].name;
        }
    }
    return "";
}

static const struct kind_row *find_kind(struct pg_str api_version, struct pg_str kind)
{
    struct pg_str group = api_version;
    ptrdiff_t slash = pg_str_chr(group, '/');
    group.len = slash < 0 ? 0 : (size_t)slash;
    for (size_t i = 0; i < PG_ARRAY_LEN(kinds); i++) {
        if (pg_str_eq_c(kind, kinds[i].name) && pg_str_eq_c(group, kinds[i].group)) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* DNS-1123: a label, or with `dots` a subdomain. */
static bool is_dns_name(struct pg_str s, bool dots)
{
    if (s.len == 0 || s.len > (dots ? 253u : 63u)) {
        return false;
    }
    char prev = '.';
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool edge = i + 1 == s.len || s.p[i + 1] == '.' || prev == '.';
        if (!alnum && !(c == '-' && !edge) && !(c == '.' && dots && prev != '.' && i + 1 < s.len)) {
            return false;
        }
        prev = c;
    }
    return true;
}

static bool read_scope(struct reader *r, const struct yaml_node *doc, const struct obj_kvs *labels,
                       enum xds_fed_scope *out)
{
    static const struct {
        const char *word;
        enum xds_fed_scope scope;
    } words[] = {{"global", XDS_FED_GLOBAL},
                 {"global-only", XDS_FED_GLOBAL_ONLY},
                 {"segment", XDS_FED_SEGMENT},
                 {"cluster", XDS_FED_CLUSTER}};
    if (r->code != 0 || !kvs_has(labels, LABEL_SCOPE)) {
        return false;
    }
    struct pg_str v = kvs_get(labels, LABEL_SCOPE);
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (pg_str_eq_c(v, words[i].word)) {
            *out = words[i].scope;
            return true;
        }
    }
    const struct yaml_node *at = yaml_get(yaml_get(yaml_get(doc, "metadata"), "labels"), LABEL_SCOPE);
    rd_fail(r, at, "%s: %.*s is not one of global, global-only, segment, cluster", LABEL_SCOPE,
            (int)(v.len > 60 ? 60 : v.len), v.p ? v.p : "");
    return false;
}

static enum obj_distribution read_distribution(struct reader *r, const struct yaml_node *at, struct pg_str v,
                                               const char *in)
{
    static const struct {
        const char *word;
        enum obj_distribution d;
    } words[] = {{"PreferClose", OBJ_DIST_CLOSE},   {"PreferSameZone", OBJ_DIST_CLOSE},
                 {"PreferSameNode", OBJ_DIST_NODE}, {"PreferNetwork", OBJ_DIST_NETWORK},
                 {"PreferRegion", OBJ_DIST_REGION}, {"Any", OBJ_DIST_ANY}};
    if (r->code != 0 || v.len == 0) {
        return OBJ_DIST_NONE;
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (pg_str_eq_nocase(v, pg_str_c(words[i].word))) {
            return words[i].d;
        }
    }
    rd_fail(r, at,
            "%s: %.*s is not one of PreferClose, PreferNetwork, PreferRegion, PreferSameZone, "
            "PreferSameNode, Any",
            in, (int)(v.len > 60 ? 60 : v.len), v.p);
    return OBJ_DIST_NONE;
}

static enum obj_distribution read_distribution_annotation(struct reader *r, const struct yaml_node *doc,
                                                          const struct object *o)
{
    const struct yaml_node *at =
        yaml_get(yaml_get(yaml_get(doc, "metadata"), "annotations"), ANN_DISTRIBUTION);
    return read_distribution(r, at, kvs_get(&o->annotations, ANN_DISTRIBUTION), ANN_DISTRIBUTION);
}

static void read_namespace(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    o->u.namespace_.has_scope = read_scope(r, doc, &o->labels, &o->u.namespace_.scope);
    o->u.namespace_.distribution = read_distribution_annotation(r, doc, o);
}

/* --- Service --- */

uint8_t object_app_protocol(struct pg_str word)
{
    static const struct {
        const char *word;
        uint8_t p;
    } words[] = {{"http", XDS_APP_HTTP11}, {"http2", XDS_APP_HTTP2}, {"kubernetes.io/h2c", XDS_APP_HTTP2},
                 {"grpc", XDS_APP_GRPC},   {"tls", XDS_APP_TLS},     {"https", XDS_APP_TLS},
                 {"tcp", XDS_APP_TCP}};
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (pg_str_eq_nocase(word, pg_str_c(words[i].word))) {
            return words[i].p;
        }
    }
    return XDS_APP_UNKNOWN;
}

static void read_target_port(struct reader *r, const struct yaml_node *n, struct obj_service_port *p)
{
    const struct yaml_node *t = r->code == 0 ? yaml_get(n, "targetPort") : NULL;
    if (t == NULL || yaml_is_null(t)) {
        p->target = p->port;
        return;
    }
    uint64_t v = 0;
    if (t->kind == YAML_SCALAR && pg_str_u64(t->value, UINT64_MAX, &v) == 0) {
        if (v < 1 || v > 65535) {
            rd_fail(r, t, "spec.ports[].targetPort must be a name or a number from 1 to 65535");
        }
        p->target = (uint16_t)v;
    } else if (yaml_is_string(t) && t->value.len > 0) {
        p->target_name = rd_copy(r, t->value);
    } else {
        rd_fail(r, t, "spec.ports[].targetPort must be a name or a number from 1 to 65535");
    }
}

static void read_service_port(struct reader *r, const struct yaml_node *n, struct obj_service_port *p)
{
    static const char in[] = "spec.ports[]";
    if (!rd_is_map(r, n, in)) {
        return;
    }
    if (yaml_get(n, "port") == NULL) {
        rd_fail(r, n, "spec.ports[].port is missing");
    }
    p->name = rd_str(r, n, in, "name");
    p->port = (uint16_t)rd_uint(r, n, in, "port", 1, 65535, 0);
    read_target_port(r, n, p);
    struct pg_str protocol = rd_str(r, n, in, "protocol");
    struct pg_str app = rd_str(r, n, in, "appProtocol");
    p->udp = protocol.len > 0 && !pg_str_eq_c(protocol, "TCP");
    if (p->udp && !pg_str_eq_c(protocol, "UDP") && !pg_str_eq_c(protocol, "SCTP")) {
        rd_fail(r, yaml_get(n, "protocol"), "spec.ports[].protocol must be TCP, UDP or SCTP");
    }
    struct pg_str prefix = p->name;
    ptrdiff_t dash = pg_str_chr(prefix, '-');
    prefix.len = dash < 0 ? prefix.len : (size_t)dash;
    p->app_protocol = p->udp ? XDS_APP_UNKNOWN : object_app_protocol(app.len > 0 ? app : prefix);
}

/* A port number may stand once for TCP and once for UDP; only the TCP one is of use here. */
static bool port_is_repeated(const struct obj_service *s, size_t n, const struct obj_service_port *p)
{
    for (size_t i = 0; i < n; i++) {
        if (s->ports[i].port == p->port) {
            return true;
        }
    }
    return false;
}

static void read_service_ports(struct reader *r, const struct yaml_node *spec, struct obj_service *s)
{
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "ports");
    if (seq == NULL) {
        return;
    }
    if (seq->n > OBJECT_PORTS_MAX) {
        rd_fail(r, seq, "spec.ports has more than 1024 entries");
    }
    s->ports = rd_array(r, seq->n, sizeof(*s->ports));
    /* TCP first, so that a UDP port of the same number is the one left out. */
    for (int udp = 0; udp < 2 && s->ports != NULL; udp++) {
        for (const struct yaml_node *n = seq->first; n != NULL && r->code == 0; n = n->next) {
            struct obj_service_port p = {0};
            read_service_port(r, n, &p);
            if (r->code == 0 && p.udp == (udp == 1) && !port_is_repeated(s, s->n_ports, &p)) {
                s->ports[s->n_ports++] = p;
            }
        }
    }
}

void object_read_ips(struct reader *r, const struct yaml_node *seq, const char *key, const char *in,
                     struct obj_ips *out)
{
    if (seq == NULL || r->code != 0) {
        return;
    }
    if (seq->n > OBJECT_IPS_MAX) {
        rd_fail(r, seq, "%s has more than 16 entries", in);
    }
    struct pg_ip *ip = rd_array(r, seq->n, sizeof(*ip));
    size_t n = 0;
    for (const struct yaml_node *c = seq->first; c != NULL && r->code == 0; c = c->next) {
        const struct yaml_node *v = key != NULL && rd_is_map(r, c, in) ? yaml_get(c, key) : c;
        struct pg_ip one = rd_ip(r, v != NULL ? v : c, in);
        bool seen = false;
        for (size_t i = 0; i < n; i++) {
            seen = seen || pg_ip_eq(&ip[i], &one);
        }
        if (r->code == 0 && !seen) {
            ip[n++] = one;
        }
    }
    out->ip = ip;
    out->n = n;
}

static bool is_no_address(const struct yaml_node *n)
{
    return n->kind == YAML_SCALAR && (n->value.len == 0 || pg_str_eq_c(n->value, "None"));
}

static void read_cluster_ips(struct reader *r, const struct yaml_node *spec, struct obj_service *s)
{
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "clusterIPs");
    if (seq != NULL && seq->n > 0) {
        if (!is_no_address(seq->first)) {
            object_read_ips(r, seq, NULL, "spec.clusterIPs[]", &s->ips);
        }
        return;
    }
    const struct yaml_node *one = r->code == 0 ? yaml_get(spec, "clusterIP") : NULL;
    if (one == NULL || is_no_address(one)) {
        return;
    }
    struct pg_ip *ip = rd_array(r, 1, sizeof(*ip));
    if (ip != NULL) {
        *ip = rd_ip(r, one, "spec.clusterIP");
        s->ips = (struct obj_ips){ip, 1};
    }
}

static void read_families(struct reader *r, const struct yaml_node *spec, struct obj_service *s)
{
    const struct yaml_node *seq = rd_seq(r, spec, "spec", "ipFamilies");
    if (seq == NULL) {
        return;
    }
    for (const struct yaml_node *n = seq->first; n != NULL && r->code == 0; n = n->next) {
        bool v6 = n->kind == YAML_SCALAR && pg_str_eq_c(n->value, "IPv6");
        if (n->kind != YAML_SCALAR || (!v6 && !pg_str_eq_c(n->value, "IPv4")) || s->n_families == 2) {
            rd_fail(r, n, "spec.ipFamilies must be IPv4, IPv6 or both");
        }
        if (s->n_families == 0) {
            s->first_family_is_v6 = v6;
        }
        s->n_families++;
    }
}

void object_read_service(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_service *s = &o->u.service;
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    if (!is_dns_name(o->name, false)) {
        rd_fail(r, NULL,
                "metadata.name of a Service must be lower-case letters, digits and \"-\", at most 63");
    }
    rd_kvs(r, spec, "spec", "selector", &s->selector);
    read_service_ports(r, spec, s);
    s->external_name = pg_str_eq_c(rd_str(r, spec, "spec", "type"), "ExternalName");
    if (!s->external_name) {
        read_cluster_ips(r, spec, s);
    }
    read_families(r, spec, s);
    s->node_local = pg_str_eq_c(rd_str(r, spec, "spec", "internalTrafficPolicy"), "Local");
    s->publish_not_ready = rd_bool(r, spec, "spec", "publishNotReadyAddresses");
    struct pg_str word = rd_str(r, spec, "spec", "trafficDistribution");
    s->distribution =
        read_distribution(r, yaml_get(spec, "trafficDistribution"), word, "spec.trafficDistribution");
    enum obj_distribution annotated = read_distribution_annotation(r, doc, o);
    if (s->distribution == OBJ_DIST_NONE) {
        s->distribution = annotated;
    }
    s->has_scope = read_scope(r, doc, &o->labels, &s->scope);
}

/* --- Pod --- */

static size_t count_ports(struct reader *r, const struct yaml_node *spec, const char *list)
{
    size_t n = 0;
    const struct yaml_node *seq = rd_seq(r, spec, "spec", list);
    for (const struct yaml_node *c = seq != NULL ? seq->first : NULL; c != NULL; c = c->next) {
        const struct yaml_node *ports = rd_seq(r, c, "spec.containers[]", "ports");
        n += ports != NULL ? ports->n : 0;
    }
    return n;
}

static void read_container_ports(struct reader *r, const struct yaml_node *container, struct obj_pod *p)
{
    static const char in[] = "spec.containers[].ports[]";
    const struct yaml_node *seq = rd_seq(r, container, "spec.containers[]", "ports");
    for (const struct yaml_node *n = seq != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        if (!rd_is_map(r, n, in)) {
            return;
        }
        struct obj_container_port port = {.name = rd_str(r, n, in, "name"),
                                          .port = (uint16_t)rd_uint(r, n, in, "containerPort", 1, 65535, 0)};
        struct pg_str protocol = rd_str(r, n, in, "protocol");
        bool tcp = protocol.len == 0 || pg_str_eq_c(protocol, "TCP");
        if (r->code == 0 && tcp && port.name.len > 0 && port.port != 0) {
            p->ports[p->n_ports++] = port;
        }
    }
}

static void read_pod_ports(struct reader *r, const struct yaml_node *spec, struct obj_pod *p)
{
    static const char *const lists[] = {"containers", "initContainers"};
    size_t n = count_ports(r, spec, lists[0]) + count_ports(r, spec, lists[1]);
    if (n > OBJECT_PORTS_MAX) {
        rd_fail(r, spec, "spec.containers has more than 1024 ports");
    }
    p->ports = rd_array(r, n, sizeof(*p->ports));
    for (size_t i = 0; i < PG_ARRAY_LEN(lists) && p->ports != NULL; i++) {
        const struct yaml_node *seq = rd_seq(r, spec, "spec", lists[i]);
        for (const struct yaml_node *c = seq != NULL ? seq->first : NULL; c != NULL && r->code == 0;
             c = c->next) {
            /* An init container serves only when it stays: a sidecar. */
            if (i == 0 || pg_str_eq_c(rd_str(r, c, "spec.initContainers[]", "restartPolicy"), "Always")) {
                read_container_ports(r, c, p);
            }
        }
    }
}

static void read_pod_status(struct reader *r, const struct yaml_node *doc, struct obj_pod *p)
{
    const struct yaml_node *status = rd_map(r, doc, "", "status");
    struct pg_str phase = rd_str(r, status, "status", "phase");
    p->finished = pg_str_eq_c(phase, "Succeeded") || pg_str_eq_c(phase, "Failed");
    object_read_ips(r, rd_seq(r, status, "status", "podIPs"), "ip", "status.podIPs[].ip", &p->ips);
    const struct yaml_node *one = r->code == 0 ? yaml_get(status, "podIP") : NULL;
    if (p->ips.n == 0 && one != NULL && !is_no_address(one)) {
        struct pg_ip *ip = rd_array(r, 1, sizeof(*ip));
        if (ip != NULL) {
            *ip = rd_ip(r, one, "status.podIP");
            p->ips = (struct obj_ips){ip, 1};
        }
    }
    const struct yaml_node *conditions = rd_seq(r, status, "status", "conditions");
    for (const struct yaml_node *c = conditions != NULL ? conditions->first : NULL; c != NULL; c = c->next) {
        if (!rd_is_map(r, c, "status.conditions[]")) {
            return;
        }
        if (pg_str_eq_c(rd_str(r, c, "status.conditions[]", "type"), "Ready")) {
            p->ready = pg_str_eq_c(rd_str(r, c, "status.conditions[]", "status"), "True");
        }
    }
}

static void read_owner(struct reader *r, const struct yaml_node *meta, struct obj_pod *p)
{
    static const char in[] = "metadata.ownerReferences[]";
    const struct yaml_node *seq = rd_seq(r, meta, "metadata", "ownerReferences");
    for (const struct yaml_node *n = seq != NULL ? seq->first : NULL; n != NULL && r->code == 0;
         n = n->next) {
        if (rd_is_map(r, n, in) && rd_bool(r, n, in, "controller")) {
            p->owner_kind = rd_str(r, n, in, "kind");
            p->owner_name = rd_str(r, n, in, "name");
        }
    }
}

void object_read_pod(struct reader *r, const struct yaml_node *doc, struct object *o)
{
    struct obj_pod *p = &o->u.pod;
    const struct yaml_node *meta = yaml_get(doc, "metadata");
    const struct yaml_node *spec = rd_map(r, doc, "", "spec");
    p->node = rd_str(r, spec, "spec", "nodeName");
    p->service_account = rd_str(r, spec, "spec", "serviceAccountName");
    if (p->service_account.len == 0) {
        p->service_account = PG_STR("default");
    }
    p->host_network = rd_bool(r, spec, "spec", "hostNetwork");
    p->deleting = rd_str(r, meta, "metadata", "deletionTimestamp").len > 0;
    read_owner(r, meta, p);
    read_pod_ports(r, spec, p);
    read_pod_status(r, doc, p);
}

/* --- any object --- */

static void read_meta(struct reader *r, const struct yaml_node *doc, const struct kind_row *k,
                      struct object *o)
{
    const struct yaml_node *meta = rd_map(r, doc, "", "metadata");
    o->name = rd_str(r, meta, "metadata", "name");
    o->ns = k->cluster_wide ? PG_STR_NONE : rd_str(r, meta, "metadata", "namespace");
    if (r->code == 0 && o->name.len == 0) {
        rd_fail(r, meta != NULL ? meta : doc, "%s: metadata.name is missing", k->name);
    }
    if (r->code == 0 && !is_dns_name(o->name, !k->cluster_wide || k->kind == OBJ_NODE)) {
        rd_fail(r, yaml_get(meta, "name"),
                "metadata.name must be lower-case letters, digits, \"-\" and \".\"");
    }
    if (!k->cluster_wide && o->ns.len == 0) {
        o->ns = PG_STR("default");
    }
    if (r->code == 0 && o->ns.len > 0 && !is_dns_name(o->ns, false)) {
        rd_fail(r, yaml_get(meta, "namespace"),
                "metadata.namespace must be lower-case letters, digits and \"-\"");
    }
    rd_kvs(r, meta, "metadata", "labels", &o->labels);
    rd_kvs(r, meta, "metadata", "annotations", &o->annotations);
    o->created = rd_str(r, meta, "metadata", "creationTimestamp");
}

static void read_one(struct reader *r, const struct yaml_node *doc, const struct kind_row *k,
                     const char *file, struct object ***tail, size_t *n)
{
    struct object *o = rd_array(r, 1, sizeof(*o));
    if (o == NULL) {
        return;
    }
    r->line = doc->line;
    o->kind = k->kind;
    o->file = file;
    o->line = doc->line;
    read_meta(r, doc, k, o);
    if (k->read != NULL) {
        k->read(r, doc, o);
    }
    if (r->code == 0) {
        **tail = o;
        *tail = &o->next;
        (*n)++;
    }
}

static void read_document(struct reader *r, const struct yaml_node *doc, const char *file,
                          struct object ***tail, size_t *n, size_t *ignored, bool in_list)
{
    if (!rd_is_map(r, doc, "an object")) {
        return;
    }
    r->line = doc->line;
    struct pg_str kind = rd_str(r, doc, "object", "kind");
    struct pg_str api = rd_str(r, doc, "object", "apiVersion");
    if (r->code == 0 && (kind.len == 0 || api.len == 0)) {
        rd_fail(r, doc, "%s is missing", kind.len == 0 ? "kind" : "apiVersion");
    }
    if (r->code != 0) {
        return;
    }
    if (pg_str_eq_c(kind, "List") && !in_list) {
        const struct yaml_node *items = rd_seq(r, doc, "", "items");
        for (const struct yaml_node *c = items != NULL ? items->first : NULL; c != NULL && r->code == 0;
             c = c->next) {
            read_document(r, c, file, tail, n, ignored, true);
        }
        return;
    }
    const struct kind_row *k = find_kind(api, kind);
    if (k == NULL) {
        (*ignored)++;
        return;
    }
    read_one(r, doc, k, file, tail, n);
}

int objects_read(struct reader *r, const struct yaml_node *doc, const char *file, struct object ***tail,
                 size_t *n, size_t *ignored)
{
    if (!yaml_is_null(doc)) {
        read_document(r, doc, file, tail, n, ignored, false);
    }
    return r->code;
}

int object_key_cmp(enum obj_kind kind, struct pg_str ns, struct pg_str name, const struct object *o)
{
    if (kind != o->kind) {
        return kind < o->kind ? -1 : 1;
    }
    int c = pg_str_cmp(ns, o->ns);
    return c != 0 ? c : pg_str_cmp(name, o->name);
}

/* First position whose key is not below the given one. */
static size_t lower_bound(const struct object_index *x, enum obj_kind kind, struct pg_str ns,
                          struct pg_str name)
{
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (object_key_cmp(kind, ns, name, x->objects[mid]) > 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

const struct object *index_find(const struct object_index *x, enum obj_kind kind, struct pg_str ns,
                                struct pg_str name)
{
    size_t i = lower_bound(x, kind, ns, name);
    return i < x->n && object_key_cmp(kind, ns, name, x->objects[i]) == 0 ? x->objects[i] : NULL;
}

size_t index_range(const struct object_index *x, enum obj_kind kind, const struct pg_str *ns, size_t *from)
{
    size_t i = lower_bound(x, kind, ns != NULL ? *ns : PG_STR_NONE, PG_STR_NONE);
    *from = i;
    while (i < x->n && x->objects[i]->kind == kind && (ns == NULL || pg_str_eq(x->objects[i]->ns, *ns))) {
        i++;
    }
    return i - *from;
}
