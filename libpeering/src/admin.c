/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers about the running control plane, over HTTP on loopback and on a Unix socket. Shapes are described
 * in docs/ADMIN.md; JSON carries "schema" and keeps its fields. No private key ever passes here. Control
 * thread.
 */
#include <stdio.h>

#include "control_internal.h"
#include "convert.h"
#include "core/clock.h"
#include "core/log.h"

static void ip_json(struct pg_json *j, const struct pg_ip *ip)
{
    char text[PG_IP_TEXT];
    pg_json_c(j, pg_ip_fmt(ip, text));
}

/* --- /status
 * -------------------------------------------------------------------------------------------------- */

static void settings_json(const struct peering_control *c, struct pg_json *j)
{
    pg_json_key(j, "settings");
    pg_json_arr(j);
    peering_option_info info;
    for (size_t i = 0; peering_options_describe(i, &info); i++) {
        pg_json_obj(j);
        pg_json_kc(j, "name", info.name);
        pg_json_kc(j, "env", info.env);
        pg_json_kc(j, "value", peering_options_get(c->options, info.name));
        pg_json_kbool(j, "set", c->options->is_set[i]);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
}

static void manifests_json(const struct peering_control *c, struct pg_json *j)
{
    static const char *const kinds[] = {"Namespace",
                                        "Service",
                                        "Pod",
                                        "ServiceAccount",
                                        "Node",
                                        "Gateway",
                                        "EndpointSlice",
                                        "AuthorizationPolicy",
                                        "PeerAuthentication"};
    const struct manifest_problem *problems;
    size_t n = manifest_problems(c->manifest, &problems);
    pg_json_key(j, "manifests");
    pg_json_obj(j);
    pg_json_kc(j, "directory", option_text(c->options, OPT_MANIFESTS));
    pg_json_key(j, "objects");
    pg_json_obj(j);
    for (size_t i = 0; i < PG_ARRAY_LEN(kinds); i++) {
        pg_json_ku64(j, kinds[i], manifest_count(c->manifest, kinds[i]));
    }
    pg_json_obj_end(j);
    pg_json_key(j, "problems");
    pg_json_arr(j);
    for (size_t i = 0; i < n; i++) {
        pg_json_obj(j);
        pg_json_kc(j, "file", problems[i].file);
        pg_json_ku64(j, "line", problems[i].line);
        pg_json_kc(j, "reason", problems[i].reason);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
}

static void time_json(struct pg_json *j, const char *key, int64_t s)
{
    char when[PG_RFC3339_LEN];
    pg_clock_rfc3339(s * 1000000, when);
    pg_json_kc(j, key, when);
}

static void ca_json(const struct peering_control *c, struct pg_json *j)
{
    struct pg_str root = cert_ca_root_pem(c->keys.ca);
    struct cert_facts facts;
    pg_json_key(j, "ca");
    pg_json_obj(j);
    pg_json_kbool(j, "selfSigned", c->keys.self_signed);
    pg_json_kc(j, "directory", c->keys.ca_dir);
    if (cert_facts_of(root, 0, &facts) == 0) {
        pg_json_kc(j, "rootSha256", facts.sha256);
        time_json(j, "rootNotAfter", facts.not_after);
    }
    time_json(j, "notAfter", cert_ca_not_after(c->keys.ca));
    time_json(j, "servingNotAfter", cert_creds_not_after(c->keys.creds));
    pg_json_kstr(j, "servingIdentity", cert_creds_identity(c->keys.creds));
    pg_json_kstr(j, "rootPem", root);
    pg_json_kstr(j, "intermediatePem", cert_ca_intermediate_pem(c->keys.ca));
    pg_json_kstr(j, "chainPem", cert_ca_chain_pem(c->keys.ca));
    pg_json_ku64(j, "issued", c->keys.issued);
    pg_json_ku64(j, "refused", c->keys.refused);
    pg_json_obj_end(j);
}

static void gateways_json(const struct peering_control *c, struct pg_json *j)
{
    pg_json_key(j, "gateways");
    pg_json_arr(j);
    for (size_t i = 0; i < c->n_eastwest; i++) {
        const struct eastwest_config *e = &c->eastwest[i];
        bool up = control_eastwest_is_up(c, e);
        pg_json_obj(j);
        pg_json_kc(j, "namespace", e->ns);
        pg_json_kc(j, "name", e->name);
        pg_json_kc(j, "network", e->network);
        pg_json_kc(j, "region", e->region);
        pg_json_kc(j, "zone", e->zone);
        pg_json_ku64(j, "xdsPort", e->xds_port);
        pg_json_ku64(j, "hbonePort", e->hbone_port);
        pg_json_key(j, "addresses");
        pg_json_arr(j);
        for (size_t k = 0; k < e->n_addresses; k++) {
            pg_json_c(j, e->addresses[k]);
        }
        pg_json_arr_end(j);
        pg_json_kbool(j, "programmed", up && e->n_addresses > 0);
        pg_json_kc(j, "reason",
                   e->n_addresses == 0 ? "AddressNotAssigned"
                   : up                ? "Programmed"
                                       : "NoGatewayProxyConnected");
        pg_json_kc(j, "object", e->file);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
}

static void status_json(struct peering_control *c, struct pg_json *j)
{
    struct pg_sb pending;
    pg_sb_init(&pending, 65536);
    bool ready = control_is_ready(c, &pending);
    pg_json_obj(j);
    pg_json_kc(j, "schema", "isthmus.status/v1");
    pg_json_kc(j, "version", peering_version());
    pg_json_kc(j, "cluster", option_text(c->options, OPT_CLUSTER));
    pg_json_kc(j, "network", c->network);
    pg_json_kc(j, "trustDomain", option_text(c->options, OPT_TRUST_DOMAIN));
    pg_json_kc(j, "domain", option_text(c->options, OPT_DOMAIN));
    pg_json_kc(j, "systemNamespace", option_text(c->options, OPT_SYSTEM_NAMESPACE));
    pg_json_kc(j, "address", c->address);
    pg_json_kbool(j, "ready", ready);
    pg_json_kstr(j, "pending", pg_sb_view(&pending));
    time_json(j, "startedAt", c->started_us / 1000000);
    pg_json_ku64(j, "generation", xds_view_generation(c->node_view));
    char digest[24];
    (void)snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)xds_view_digest(c->node_view));
    pg_json_kc(j, "digest", digest);
    pg_json_ku64(j, "globalServices", c->merged.n_globals);
    settings_json(c, j);
    manifests_json(c, j);
    ca_json(c, j);
    gateways_json(c, j);
    pg_json_key(j, "peers");
    peers_json(c->peers, j);
    pg_json_obj_end(j);
    pg_sb_fini(&pending);
}

/* --- /services
 * ------------------------------------------------------------------------------------------------ */

static void endpoint_json(const struct merge_endpoint *e, struct pg_json *j)
{
    pg_json_obj(j);
    pg_json_kstr(j, "object", e->object);
    pg_json_kstr(j, "cluster", e->cluster);
    pg_json_kstr(j, "network", e->network);
    pg_json_kstr(j, "address", e->address);
    pg_json_ku64(j, "capacity", e->capacity);
    pg_json_kbool(j, "healthy", e->healthy);
    pg_json_kbool(j, "stale", e->stale);
    pg_json_obj_end(j);
}

static void global_json(const struct merge_global *g, struct pg_json *j)
{
    static const char *const scopes[] = {"cluster", "global", "global-only", "segment"};
    static const char *const spreads[] = {"PreferNetwork", "PreferClose", "PreferRegion", "Any"};
    pg_json_obj(j);
    pg_json_kstr(j, "namespace", g->ns);
    pg_json_kstr(j, "name", g->name);
    pg_json_kstr(j, "hostname", g->hostname);
    pg_json_kc(j, "scope", scopes[g->scope]);
    pg_json_kc(j, "distribution", spreads[g->distribution]);
    pg_json_key(j, "vips");
    pg_json_arr(j);
    ip_json(j, &g->vip4);
    ip_json(j, &g->vip6);
    pg_json_arr_end(j);
    pg_json_key(j, "clusters");
    pg_json_arr(j);
    for (size_t i = 0; i < g->n_clusters; i++) {
        pg_json_str(j, g->clusters[i]);
    }
    pg_json_arr_end(j);
    pg_json_kstr(j, "warning", g->warning);
    pg_json_key(j, "endpoints");
    pg_json_arr(j);
    for (size_t i = 0; i < g->n_endpoints; i++) {
        endpoint_json(&g->endpoints[i], j);
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
}

static void known_service_json(const peering_service *v, struct pg_json *j)
{
    const peering_vip *vips;
    const peering_port *ports;
    const peering_workload *const *endpoints;
    size_t n_vips = peering_service_vips(v, &vips);
    size_t n_ports = peering_service_ports(v, &ports);
    size_t n = peering_service_endpoints(v, &endpoints);
    size_t healthy = 0;
    for (size_t i = 0; i < n; i++) {
        healthy += peering_workload_is_healthy(endpoints[i]) ? 1 : 0;
    }
    pg_json_obj(j);
    pg_json_kstr(j, "namespace", str_in(peering_service_namespace(v)));
    pg_json_kstr(j, "name", str_in(peering_service_name(v)));
    pg_json_kstr(j, "hostname", str_in(peering_service_hostname(v)));
    pg_json_kstr(j, "loadBalancing", str_in(peering_service_load_balancing(v)));
    pg_json_key(j, "vips");
    pg_json_arr(j);
    for (size_t i = 0; i < n_vips; i++) {
        struct pg_ip ip = ip_in(&vips[i].ip);
        ip_json(j, &ip);
    }
    pg_json_arr_end(j);
    pg_json_key(j, "ports");
    pg_json_arr(j);
    for (size_t i = 0; i < n_ports; i++) {
        pg_json_u64(j, ports[i].service_port);
    }
    pg_json_arr_end(j);
    pg_json_ku64(j, "endpoints", n);
    pg_json_ku64(j, "healthy", healthy);
    pg_json_obj_end(j);
}

static int services_json(struct peering_control *c, struct pg_json *j)
{
    peering_snapshot *snap;
    int r = control_snapshot(c, &snap);
    if (r != 0) {
        return r;
    }
    pg_json_obj(j);
    pg_json_kc(j, "schema", "isthmus.services/v1");
    pg_json_key(j, "global");
    pg_json_arr(j);
    for (size_t i = 0; i < c->merged.n_globals; i++) {
        global_json(&c->merged.globals[i], j);
    }
    pg_json_arr_end(j);
    pg_json_key(j, "services");
    pg_json_arr(j);
    size_t it = 0;
    const peering_service *v;
    while ((v = peering_next_service(snap, &it)) != NULL) {
        known_service_json(v, j);
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
    peering_snapshot_unref(snap);
    return 0;
}

/* --- /workloads
 * ----------------------------------------------------------------------------------------------- */

static void workload_json(const peering_workload *w, struct pg_json *j)
{
    const peering_ip *ips;
    const peering_str *services;
    size_t n_ips = peering_workload_ips(w, &ips);
    size_t n_services = peering_workload_services(w, &services);
    pg_json_obj(j);
    pg_json_kstr(j, "uid", str_in(peering_workload_uid(w)));
    pg_json_kstr(j, "namespace", str_in(peering_workload_namespace(w)));
    pg_json_kstr(j, "name", str_in(peering_workload_name(w)));
    pg_json_key(j, "addresses");
    pg_json_arr(j);
    for (size_t i = 0; i < n_ips; i++) {
        struct pg_ip ip = ip_in(&ips[i]);
        ip_json(j, &ip);
    }
    pg_json_arr_end(j);
    pg_json_kstr(j, "cluster", str_in(peering_workload_cluster(w)));
    pg_json_kstr(j, "network", str_in(peering_workload_network(w)));
    pg_json_kstr(j, "node", str_in(peering_workload_node(w)));
    pg_json_kstr(j, "identity", str_in(peering_workload_identity(w)));
    pg_json_kstr(j, "gateway", str_in(peering_workload_gateway(w)));
    pg_json_kc(j, "protocol", peering_workload_protocol(w) == PEERING_PROTOCOL_HBONE ? "HBONE" : "TCP");
    pg_json_kbool(j, "healthy", peering_workload_is_healthy(w));
    pg_json_ku64(j, "capacity", peering_workload_capacity(w));
    pg_json_key(j, "services");
    pg_json_arr(j);
    for (size_t i = 0; i < n_services; i++) {
        pg_json_str(j, str_in(services[i]));
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
}

static int workloads_json(struct peering_control *c, struct pg_json *j)
{
    peering_snapshot *snap;
    int r = control_snapshot(c, &snap);
    if (r != 0) {
        return r;
    }
    pg_json_obj(j);
    pg_json_kc(j, "schema", "isthmus.workloads/v1");
    pg_json_key(j, "workloads");
    pg_json_arr(j);
    size_t it = 0;
    const peering_workload *w;
    while ((w = peering_next_workload(snap, &it)) != NULL) {
        workload_json(w, j);
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
    peering_snapshot_unref(snap);
    return 0;
}

/* --- /connections
 * --------------------------------------------------------------------------------------------- */

struct connections {
    struct pg_json *j;
    const struct peering_control *c;
};

static const char *short_type(const char *type_url)
{
    static const struct {
        const char *url, *name;
    } names[] = {{XDS_TYPE_ADDRESS, "WDS"},
                 {XDS_TYPE_WORKLOAD, "WDS"},
                 {XDS_TYPE_AUTHORIZATION, "WADS"},
                 {XDS_TYPE_FEDERATED_SERVICE, "FSDS"},
                 {XDS_TYPE_SEGMENT, "SGDS"}};
    for (size_t i = 0; i < PG_ARRAY_LEN(names); i++) {
        if (strcmp(names[i].url, type_url) == 0) {
            return names[i].name;
        }
    }
    return type_url;
}

static void connection_json(void *arg, const struct xds_stream_info *i)
{
    struct connections *o = arg;
    struct pg_json *j = o->j;
    struct adss_type_status types[16];
    size_t n = i->machine == NULL ? 0 : adss_status(i->machine, types, PG_ARRAY_LEN(types));
    struct pg_str rest = i->node_id;
    struct pg_str part = PG_STR_NONE;
    for (int k = 0; k < 3; k++) {
        (void)pg_str_cut(&rest, '~', &part);
    }
    pg_json_obj(j);
    pg_json_kstr(j, "name", part);
    pg_json_kstr(j, "node", i->node_id);
    pg_json_kstr(j, "cluster", xds_node_metadata(i->node, "CLUSTER_ID"));
    pg_json_kstr(j, "network", xds_node_metadata(i->node, "NETWORK"));
    pg_json_kstr(j, "version", xds_node_metadata(i->node, "ISTIO_VERSION"));
    pg_json_kstr(j, "dnsCapture", xds_node_metadata(i->node, "DNS_CAPTURE"));
    pg_json_kbool(j, "peer", pg_str_eq_c(xds_node_metadata(i->node, "ISTHMUS_PEER"), "1"));
    pg_json_kstr(j, "identity", serve_caller_id(i->identity));
    pg_json_kstr(j, "from", i->from);
    uint64_t now = pg_loop_now_ms(o->c->loop);
    pg_json_ku64(j, "ageMs", now - i->connected_at_ms);
    pg_json_ku64(j, "lastMessageAgeMs", i->last_message_ms == 0 ? 0 : now - i->last_message_ms);
    pg_json_key(j, "types");
    pg_json_arr(j);
    for (size_t k = 0; k < n; k++) {
        pg_json_obj(j);
        pg_json_kc(j, "type", short_type(types[k].type_url));
        pg_json_ku64(j, "sent", types[k].sent);
        pg_json_ku64(j, "acked", types[k].acked);
        pg_json_ku64(j, "nacked", types[k].nacked);
        pg_json_ku64(j, "resources", types[k].resources);
        pg_json_kbool(j, "synced", types[k].sent > 0 && types[k].acked > 0);
        pg_json_kstr(j, "lastError", types[k].last_error);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
    pg_json_obj_end(j);
}

static void connections_json(struct peering_control *c, struct pg_json *j)
{
    struct connections o = {j, c};
    pg_json_obj(j);
    pg_json_kc(j, "schema", "isthmus.connections/v1");
    pg_json_kc(j, "cluster", option_text(c->options, OPT_CLUSTER));
    pg_json_key(j, "connections");
    pg_json_arr(j);
    xds_server_each(c->server, connection_json, &o);
    pg_json_arr_end(j);
    pg_json_obj_end(j);
}

/* --- requests
 * ------------------------------------------------------------------------------------------------- */

static void on_logging(const struct pg_http1_request *req, struct pg_http1_reply *reply)
{
    char level[256];
    char text[600];
    struct pg_str value;
    struct pg_errtext err = {""};
    if (!pg_str_eq_c(req->method, "POST")) {
        pg_http1_reply_send(reply, 405, "text/plain",
                            PG_STR("POST /logging?level=<level> or ?level=<target>=<level>,...\n"));
        return;
    }
    if (pg_http1_query(req->query, "level", level, sizeof(level), &value)) {
        if (pg_log_set_filter(level, &err) != 0) {
            (void)snprintf(text, sizeof(text), "invalid level: %s\n", err.text);
            pg_http1_reply_send(reply, 400, "text/plain", pg_str_c(text));
            return;
        }
    }
    char filter[256];
    pg_log_get_filter(filter, sizeof(filter));
    (void)snprintf(text, sizeof(text), "current log level is %s\n", filter);
    pg_http1_reply_send(reply, 200, "text/plain", pg_str_c(text));
}

static void on_ready(struct peering_control *c, struct pg_http1_reply *reply)
{
    struct pg_sb pending;
    struct pg_sb text;
    pg_sb_init(&pending, 65536);
    pg_sb_init(&text, 65536);
    bool ready = control_is_ready(c, &pending);
    if (ready) {
        pg_sb_c(&text, "ready\n");
    } else {
        pg_sb_fmt(&text, "not ready, pending: %.*s\n", PG_STR_ARG(pg_sb_view(&pending)));
    }
    pg_http1_reply_send(reply, ready ? 200 : 500, "text/plain", pg_sb_view(&text));
    pg_sb_fini(&text);
    pg_sb_fini(&pending);
}

static int explain_request(struct peering_control *c, const struct pg_http1_request *req, struct pg_json *j)
{
    char a[512];
    char b[512];
    struct pg_str src;
    struct pg_str dst;
    if (!pg_http1_query(req->query, "src", a, sizeof(a), &src) ||
        !pg_http1_query(req->query, "dst", b, sizeof(b), &dst)) {
        return PG_E_CONFIG;
    }
    explain_json(c, src, dst, j);
    return 0;
}

static int answer(struct peering_control *c, const struct pg_http1_request *req, struct pg_json *j)
{
    if (pg_str_eq_c(req->path, "/status")) {
        status_json(c, j);
        return 0;
    }
    if (pg_str_eq_c(req->path, "/services")) {
        return services_json(c, j);
    }
    if (pg_str_eq_c(req->path, "/workloads")) {
        return workloads_json(c, j);
    }
    if (pg_str_eq_c(req->path, "/connections")) {
        connections_json(c, j);
        return 0;
    }
    return pg_str_eq_c(req->path, "/explain") ? explain_request(c, req, j) : PG_E_NOTFOUND;
}

static void on_request(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg)
{
    struct peering_control *c = arg;
    if (pg_str_eq_c(req->path, "/healthz/ready") || pg_str_eq_c(req->path, "/ready")) {
        on_ready(c, reply);
        return;
    }
    if (pg_str_eq_c(req->path, "/logging")) {
        on_logging(req, reply);
        return;
    }
    struct pg_sb body;
    pg_sb_init(&body, CONTROL_REPLY_MAX);
    if (pg_str_eq_c(req->path, "/metrics")) {
        metrics_text(c, &body);
        pg_http1_reply_send(reply, 200, "text/plain; version=0.0.4; charset=utf-8", pg_sb_view(&body));
        pg_sb_fini(&body);
        return;
    }
    struct pg_json j;
    pg_json_init(&j, &body, true);
    int r = answer(c, req, &j);
    pg_sb_ch(&body, '\n');
    if (r == 0 && body.err == 0) {
        pg_http1_reply_send(reply, 200, "application/json", pg_sb_view(&body));
    } else if (r == PG_E_NOTFOUND) {
        pg_http1_reply_send(
            reply, 404, "text/plain",
            PG_STR("try /status /services /workloads /connections /explain?src=NS/POD&dst=HOST:PORT "
                   "/metrics /healthz/ready /logging\n"));
    } else if (r == PG_E_CONFIG) {
        pg_http1_reply_send(reply, 400, "text/plain", PG_STR("explain needs src=NS/POD and dst=HOST:PORT\n"));
    } else {
        pg_http1_reply_send(reply, 500, "text/plain", pg_str_c(pg_err_str(r != 0 ? r : body.err)));
    }
    pg_sb_fini(&body);
}

int admin_start(struct peering_control *c, struct pg_errtext *err)
{
    const char *at = option_text(c->options, OPT_ADMIN);
    const char *path = option_text(c->options, OPT_ADMIN_SOCKET);
    int r = at[0] == '\0' ? 0 : pg_http1_listen(c->loop, at, on_request, c, &c->admin, err);
    if (r == 0 && path[0] != '\0') {
        char unix_at[4200];
        (void)snprintf(unix_at, sizeof(unix_at), "unix:%s", path);
        r = pg_http1_listen(c->loop, unix_at, on_request, c, &c->admin_socket, err);
    }
    return r;
}
