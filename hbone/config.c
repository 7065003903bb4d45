/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of variables and what is derived from them. Invariant: either the whole configuration is valid,
 * or there is none and the text says which variable, which value and why. What ztunnel offers and we do not
 * is refused when it is asked for, never ignored. Start of the process, one thread.
 */
#include "hbone/config.h"

#include <unistd.h>

enum var_type { VAR_STR, VAR_BOOL, VAR_TRISTATE, VAR_DURATION, VAR_U32, VAR_U16 };
enum var_flag { VAR_SECRET = 1, VAR_REFUSED = 2 };
struct var {
    const char *name;
    enum var_type type;
    unsigned flags;
    size_t offset;
    const char *fallback; /* NULL: unset */
    const char *help;
};
#define V(name, type, flags, field, fallback, help)                                                          \
    {                                                                                                        \
        name, type, flags, offsetof(struct hb_config, field), fallback, help                                 \
    }

static const struct var vars[] = {
    V("PROXY_MODE", VAR_STR, 0, proxy_mode, "shared", "dedicated or gateway"),
    V("PROXY_WORKLOAD_INFO", VAR_STR, 0, workload_info, NULL,
      "namespace/name/service-account of the workload or gateway"),
    V("ENABLE_PROXY", VAR_BOOL, 0, enable_proxy, "true", "carry TCP; false leaves DNS only"),
    V("NETWORK", VAR_STR, 0, network, "", "network of this node"),
    V("NODE_NAME", VAR_STR, 0, node_name, NULL, "this node; unset: every workload counts as local"),
    V("CLUSTER_ID", VAR_STR, 0, cluster_id, "Kubernetes", "cluster; ISTIO_META_CLUSTER_ID wins"),
    V("CLUSTER_DOMAIN", VAR_STR, 0, cluster_domain, "cluster.local", "domain of Kubernetes service names"),
    V("TRUST_DOMAIN", VAR_STR, 0, trust_domain, "cluster.local",
      "own trust domain until the workload is known"),
    V("TRUST_DOMAINS", VAR_STR, 0, more_trust_domains, "", "further trust domains accepted, comma-separated"),
    V("SKIP_VALIDATE_TRUST_DOMAIN", VAR_BOOL, 0, skip_validate_trust_domain, "false",
      "accept any trust domain our roots sign"),
    V("POD_NAMESPACE", VAR_STR, 0, pod_namespace, NULL, "for the node id"),
    V("SERVICE_ACCOUNT", VAR_STR, 0, service_account, NULL, "for the node id"),
    V("POD_NAME", VAR_STR, 0, pod_name, NULL, "for the node id"),
    V("INSTANCE_IP", VAR_STR, 0, instance_ip, NULL, "for the node id"),
    V("XDS_ADDRESS", VAR_STR, 0, xds_address, NULL, "control plane; empty: none"),
    V("CA_ADDRESS", VAR_STR, 0, ca_address, NULL, "certificate authority; empty: none"),
    V("XDS_ROOT_CA", VAR_STR, 0, xds_root_ca, "./var/run/secrets/istio/root-cert.pem", "file or PEM text"),
    V("CA_ROOT_CA", VAR_STR, 0, ca_root_ca, "./var/run/secrets/istio/root-cert.pem", "file or PEM text"),
    V("ALT_XDS_HOSTNAME", VAR_STR, 0, alt_xds_hostname, NULL, "second acceptable name of the control plane"),
    V("ALT_CA_HOSTNAME", VAR_STR, 0, alt_ca_hostname, NULL, "second acceptable name of the authority"),
    V("AUTH_TOKEN", VAR_STR, VAR_SECRET, auth_token, NULL,
      "token file or token; default ./var/run/secrets/tokens/istio-token"),
    V("SECRET_TTL", VAR_DURATION, 0, secret_ttl_ms, "24h", "certificate lifetime asked for"),
    V("PREFERED_SERVICE_NAMESPACE", VAR_STR, 0, preferred_namespace, "", "DNS tie-break"),
    V("CONTROL_PLANE_FORWARD", VAR_STR, 0, control_plane_forward, "",
      "gateway: host:port that connections to 15012 go to"),
    V("POLICY_UNKNOWN", VAR_STR, 0, policy_unknown, "deny",
      "deny, or ztunnel: skip policies that have not arrived"),
    V("TCP_CONGESTION", VAR_STR, 0, tcp_congestion, "",
      "congestion control of our sockets; empty: the system's"),
    V("PACKET_MARK", VAR_U32, 0, packet_mark, "0", "SO_MARK of our sockets; 0: none"),
    V("ENABLE_ORIG_SRC", VAR_TRISTATE, 0, orig_src, NULL,
      "keep the client's address when dialling; unset: best effort"),
    V("KEEPALIVE_ENABLED", VAR_BOOL, 0, keepalive, "true", "TCP keepalive"),
    V("KEEPALIVE_TIME", VAR_DURATION, 0, keepalive_time_ms, "180s", ""),
    V("KEEPALIVE_INTERVAL", VAR_DURATION, 0, keepalive_interval_ms, "180s", ""),
    V("KEEPALIVE_RETRIES", VAR_U32, 0, keepalive_retries, "9", ""),
    V("USER_TIMEOUT_ENABLED", VAR_BOOL, 0, user_timeout, "false",
      "TCP_USER_TIMEOUT = time + retries * interval"),
    V("POOL_MAX_STREAMS_PER_CONNECTION", VAR_U16, 0, pool_max_streams, "100",
      "streams on one HBONE connection"),
    V("POOL_UNUSED_RELEASE_TIMEOUT", VAR_DURATION, 0, pool_idle_ms, "5m",
      "idle HBONE connections close after this"),
    V("HTTP2_STREAM_WINDOW_SIZE", VAR_U32, 0, stream_window, "4194304", "receive window of a stream"),
    V("HTTP2_CONNECTION_WINDOW_SIZE", VAR_U32, 0, connection_window, "16777216",
      "receive window of a connection"),
    V("HTTP2_FRAME_SIZE", VAR_U32, 0, frame_size, "1048576", "largest frame accepted"),
    V("CONNECTION_TERMINATION_DEADLINE", VAR_DURATION, 0, termination_deadline_ms, NULL, "drain time"),
    V("TERMINATION_GRACE_PERIOD_SECONDS", VAR_STR, 0, grace_period, NULL,
      "drain time, less a margin, when the former is unset"),
    V("ZTUNNEL_WORKER_THREADS", VAR_STR, 0, worker_threads, NULL, "N, 0 (all CPUs) or P%"),
    V("ZTUNNEL_CPU_LIMIT", VAR_STR, 0, cpu_limit, NULL, "CPUs to reckon with"),
    V("ZTUNNEL_RESOURCE_CPU_LIMIT", VAR_STR, 0, resource_cpu_limit, NULL, "Kubernetes quantity"),
    V("ZTUNNEL_RESOURCE_CPU_REQUEST", VAR_STR, 0, resource_cpu_request, NULL, "Kubernetes quantity"),
    V("IPV6_ENABLED", VAR_BOOL, 0, ipv6, "true", ""),
    V("LOCALHOST_APP_TUNNEL", VAR_BOOL, 0, localhost_app_tunnel, "true", "accepted, no effect"),
    V("ENABLE_RESPONSE_BAGGAGE", VAR_BOOL, 0, response_baggage, "true",
      "describe the workload in 200 answers"),
    V("AUTHZ_POLICY_INFO_LOGGING", VAR_STR, 0, authz_info, NULL, "true: policy decisions at info"),
    V("RUST_LOG", VAR_STR, 0, log_filter, "info", "log filter, e.g. info,access=debug"),
    V("LOG_FORMAT", VAR_STR, 0, log_format, "plain", "plain or json"),
    V("ISTIO_META_ISTIO_VERSION", VAR_STR, 0, istio_version, "unknown", "shown in metrics and dumps"),
    V("INPOD_UDS", VAR_STR, 0, inpod_uds, NULL, "accepted, no effect (in-pod mode)"),
    V("INPOD_PORT_REUSE", VAR_BOOL, 0, inpod_port_reuse, "true", "accepted, no effect (in-pod mode)"),
    V("XDS_ON_DEMAND", VAR_BOOL, VAR_REFUSED, u_on_demand, "false", "not supported"),
    V("LOCAL_XDS_PATH", VAR_STR, VAR_REFUSED, u_local_xds_path, NULL, "not supported"),
    V("LOCAL_XDS", VAR_STR, VAR_REFUSED, u_local_xds, NULL, "not supported"),
    V("FAKE_CA", VAR_BOOL, VAR_REFUSED, u_fake_ca, "false", "not supported"),
    V("TLS12_ENABLED", VAR_BOOL, VAR_REFUSED, u_tls12, "false", "not supported"),
    V("COMPLIANCE_POLICY", VAR_STR, VAR_REFUSED, u_compliance, NULL, "not supported"),
    V("CRL_PATH", VAR_STR, VAR_REFUSED, u_crl_path, NULL, "not supported"),
    V("UNSTABLE_ENABLE_SOCKS5", VAR_BOOL, VAR_REFUSED, u_socks5, "false", "not supported"),
    V("PROXY_CONFIG", VAR_STR, VAR_REFUSED, u_proxy_config, NULL, "not supported"),
};
static const char *const known_elsewhere[] = {
    "ISTIO_META_CLUSTER_ID",   "ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_PROXY_ADDR",
    "KUBERNETES_SERVICE_HOST", "INPOD_ENABLED",          "RUST_BACKTRACE"};

static void *field(const struct hb_config *c, const struct var *v)
{
    return (char *)(uintptr_t)c + v->offset;
}
static const char *env_get(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=') {
            return env[i] + n + 1;
        }
    }
    return NULL;
}
static int bad(struct pg_errtext *err, const char *name, const char *value, const char *cause)
{
    pg_err_set(err, "%s: invalid value \"%.100s\": %s", name, value, cause);
    return PG_E_CONFIG;
}
static int replace(char **slot, const char *value)
{
    char *copy = pg_strdup(value);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    pg_free(*slot);
    *slot = copy;
    return 0;
}

static int set_bool(const struct var *v, const char *value, bool *out, struct pg_errtext *err)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
        return bad(err, v->name, value, "expected true or false");
    }
    *out = value[0] == 't';
    return 0;
}

static int set_number(struct hb_config *c, const struct var *v, const char *value, struct pg_errtext *err)
{
    uint64_t n;
    if (pg_str_u64(pg_str_c(value), v->type == VAR_U16 ? UINT16_MAX : UINT32_MAX, &n) < 0) {
        return bad(err, v->name, value,
                   v->type == VAR_U16 ? "expected a number up to 65535" : "expected a number");
    }
    *(uint32_t *)field(c, v) = (uint32_t)n;
    return 0;
}

static int set_var(struct hb_config *c, const struct var *v, const char *value, struct pg_errtext *err)
{
    int r = 0;
    bool b = false;
    switch (v->type) {
    case VAR_STR:
        return replace(field(c, v), value);
    case VAR_BOOL:
        return set_bool(v, value, field(c, v), err);
    case VAR_TRISTATE:
        r = set_bool(v, value, &b, err);
        if (r == 0) {
            *(enum hb_tristate *)field(c, v) = b ? HB_TRUE : HB_FALSE;
        }
        return r;
    case VAR_DURATION:
        if (pg_str_duration_ms(pg_str_c(value), field(c, v)) < 0) {
            return bad(err, v->name, value, "expected a duration such as 10s, 5m or 1h30m");
        }
        return 0;
    case VAR_U32:
    case VAR_U16:
        return set_number(c, v, value, err);
    }
    return PG_E_BUG;
}

static int read_vars(struct hb_config *c, char *const *env, struct pg_errtext *err)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        const struct var *v = &vars[i];
        const char *value = env_get(env, v->name);
        if ((v->flags & VAR_REFUSED) != 0 && value != NULL && value[0] != '\0' &&
            (v->fallback == NULL || strcmp(value, v->fallback) != 0)) {
            return bad(err, v->name, value, "this feature is not supported");
        }
        if (value == NULL) {
            value = v->fallback;
        }
        int r = value == NULL ? 0 : set_var(c, v, value, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* ---- misspelt variables
 * ---------------------------------------------------------------------------------------- */

/* Edit distance, cut at 3; names are short. */
static unsigned distance(struct pg_str a, struct pg_str b)
{
    unsigned row[64];
    if (a.len >= PG_ARRAY_LEN(row) || b.len >= PG_ARRAY_LEN(row) || a.len > b.len + 2 || b.len > a.len + 2) {
        return 3;
    }
    for (unsigned j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diag = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned best = diag + (a.p[i - 1] == b.p[j - 1] ? 0u : 1u);
            diag = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
        }
    }
    return row[b.len];
}

static bool is_known(struct pg_str name)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        if (pg_str_eq_c(name, vars[i].name)) {
            return true;
        }
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(known_elsewhere); i++) {
        if (pg_str_eq_c(name, known_elsewhere[i])) {
            return true;
        }
    }
    return false;
}

static void warn_if_misspelt(struct pg_str name, void (*warn)(void *arg, const char *line), void *arg)
{
    if (name.len < 7 || is_known(name)) {
        return;
    }
    if (pg_str_has_prefix(name, PG_STR("XDS_HEADER_")) || pg_str_has_prefix(name, PG_STR("CA_HEADER_")) ||
        pg_str_has_prefix(name, PG_STR("ISTIO_METAJSON_"))) {
        struct pg_errtext line;
        pg_err_set(&line, "%.*s is not supported and has no effect", PG_STR_ARG(name));
        warn(arg, line.text);
        return;
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        if (distance(name, pg_str_c(vars[i].name)) <= 2) {
            struct pg_errtext line;
            pg_err_set(&line, "unknown variable %.*s: did you mean %s?", PG_STR_ARG(name), vars[i].name);
            warn(arg, line.text);
            return;
        }
    }
}

/* ---- what follows from several variables
 * ------------------------------------------------------------------------ */

static int read_meta(struct hb_config *c, char *const *env)
{
    size_t cap = 0;
    for (size_t i = 0; env[i] != NULL; i++) {
        struct pg_str value = pg_str_c(env[i]);
        struct pg_str name;
        if (!pg_str_cut(&value, '=', &name) || !pg_str_has_prefix(name, PG_STR("ISTIO_META_"))) {
            continue;
        }
        int r = pg_vec_grow(&c->meta, &cap, c->n_meta + 1, sizeof(*c->meta), HB_META_MAX);
        if (r == PG_E_LIMIT) {
            return 0;
        }
        struct hb_meta m = {NULL, NULL};
        if (r == 0) {
            m.key = pg_strndup(name.p + 11, name.len - 11);
            m.value = pg_strndup(value.p, value.len);
        }
        if (m.key == NULL || m.value == NULL) {
            pg_free(m.key);
            pg_free(m.value);
            return PG_E_NOMEM;
        }
        c->meta[c->n_meta++] = m;
    }
    return 0;
}

static const char *meta_get(const struct hb_config *c, const char *key)
{
    for (size_t i = 0; i < c->n_meta; i++) {
        if (strcmp(c->meta[i].key, key) == 0) {
            return c->meta[i].value;
        }
    }
    return NULL;
}

static int derive_mode(struct hb_config *c, struct pg_errtext *err)
{
    if (strcmp(c->proxy_mode, "shared") == 0) {
        return bad(err, "PROXY_MODE", c->proxy_mode,
                   "in-pod mode needs the node agent's namespace hand-over (ZDS), which this build does not "
                   "have; use "
                   "dedicated (one workload per process) or gateway");
    }
    if (strcmp(c->proxy_mode, "dedicated") == 0) {
        c->mode = HB_MODE_DEDICATED;
    } else if (strcmp(c->proxy_mode, "gateway") == 0) {
        c->mode = HB_MODE_GATEWAY;
    } else {
        return bad(err, "PROXY_MODE", c->proxy_mode, "expected dedicated or gateway");
    }
    if (c->workload_info == NULL) {
        pg_err_set(err,
                   "PROXY_WORKLOAD_INFO: not set, but PROXY_MODE=%s needs namespace/name/service-account",
                   c->proxy_mode);
        return PG_E_CONFIG;
    }
    struct pg_str rest = pg_str_c(c->workload_info);
    struct pg_str ns = PG_STR_NONE;
    struct pg_str name = PG_STR_NONE;
    (void)pg_str_cut(&rest, '/', &ns);
    (void)pg_str_cut(&rest, '/', &name);
    if (ns.len == 0 || name.len == 0 || rest.len == 0) {
        return bad(err, "PROXY_WORKLOAD_INFO", c->workload_info, "expected namespace/name/service-account");
    }
    c->pod.netns_fd = -1;
    c->pod.ns = pg_strndup(ns.p, ns.len);
    c->pod.name = pg_strndup(name.p, name.len);
    c->pod.sa = pg_strndup(rest.p, rest.len);
    return c->pod.ns == NULL || c->pod.name == NULL || c->pod.sa == NULL ? PG_E_NOMEM : 0;
}

static int derive_address(char **slot, char *const *env, const char *name, struct pg_errtext *err)
{
    if (*slot == NULL) {
        return replace(slot, env_get(env, "KUBERNETES_SERVICE_HOST") != NULL
                                 ? "https://istiod.istio-system.svc:15012"
                                 : "https://localhost:15012");
    }
    struct pg_str s = pg_str_c(*slot);
    if (s.len == 0) {
        return 0;
    }
    if (pg_str_has_prefix(s, PG_STR("http://"))) {
        return bad(err, name, *slot, "TLS is mandatory, use https://");
    }
    struct pg_str rest = pg_str_has_prefix(s, PG_STR("https://")) ? pg_str_sub(s, 8) : s;
    if (pg_str_has_suffix(rest, PG_STR("/"))) {
        rest.len--;
    }
    struct pg_hostport hp;
    if (pg_hostport_parse(rest, &hp) < 0) {
        return bad(err, name, *slot, "expected https://host:port");
    }
    return 0;
}

static int derive_drain(struct hb_config *c, struct pg_errtext *err)
{
    c->drain_ms = 5000;
    if (c->termination_deadline_ms != 0) {
        c->drain_ms = c->termination_deadline_ms;
    } else if (c->grace_period != NULL) {
        uint64_t n;
        if (pg_str_u64(pg_str_c(c->grace_period), 1000000, &n) < 0) {
            return bad(err, "TERMINATION_GRACE_PERIOD_SECONDS", c->grace_period, "expected seconds");
        }
        uint64_t s = n > 10 ? n - 5 : n > 1 ? n - 1 : 1;
        c->drain_ms = s * 1000;
    }
    return 0;
}

static int derive_dns(struct hb_config *c, struct pg_errtext *err)
{
    const char *capture = meta_get(c, "DNS_CAPTURE");
    const char *addr = meta_get(c, "DNS_PROXY_ADDR");
    char low[8];
    c->dns = c->mode == HB_MODE_DEDICATED &&
             (capture == NULL || pg_str_eq_c(pg_str_lower(pg_str_c(capture), low, sizeof(low)), "true"));
    if (addr != NULL && addr[0] != '\0') {
        struct pg_str s = pg_str_c(addr);
        uint64_t port;
        if (pg_str_has_prefix(s, PG_STR("localhost:")) && pg_str_u64(pg_str_sub(s, 10), 65535, &port) == 0) {
            c->dns_addr.port = (uint16_t)port;
        } else if (pg_addr_parse(s, &c->dns_addr) < 0) {
            return bad(err, "ISTIO_META_DNS_PROXY_ADDR", addr, "expected localhost:PORT or IP:PORT");
        }
    }
    if (!c->dns && !c->enable_proxy) {
        pg_err_set(err, "ENABLE_PROXY: is false and the DNS proxy is off too: nothing to do");
        return PG_E_CONFIG;
    }
    return 0;
}

static int derive_trust(struct hb_config *c, struct pg_errtext *err)
{
    if (c->skip_validate_trust_domain) {
        c->trust_domains[c->n_trust_domains++] = PG_STR("*");
        return 0;
    }
    c->trust_domains[c->n_trust_domains++] = pg_str_c(c->trust_domain);
    struct pg_str rest = pg_str_c(c->more_trust_domains);
    struct pg_str one;
    while (pg_str_cut(&rest, ',', &one)) {
        one = pg_str_trim(one);
        if (one.len == 0) {
            continue;
        }
        if (c->n_trust_domains == HB_TRUST_DOMAINS_MAX) {
            return bad(err, "TRUST_DOMAINS", c->more_trust_domains, "more than 63 entries");
        }
        if (pg_str_eq(one, PG_STR("*"))) {
            return bad(err, "TRUST_DOMAINS", "*", "name each domain, or set SKIP_VALIDATE_TRUST_DOMAIN=true");
        }
        c->trust_domains[c->n_trust_domains++] = one;
    }
    return 0;
}

static int derive_rest(struct hb_config *c, struct pg_errtext *err)
{
    if (strcmp(c->policy_unknown, "ztunnel") != 0 && strcmp(c->policy_unknown, "deny") != 0) {
        return bad(err, "POLICY_UNKNOWN", c->policy_unknown, "expected deny or ztunnel");
    }
    c->policy_lenient = c->policy_unknown[0] == 'z';
    if (strcmp(c->log_format, "json") != 0 && strcmp(c->log_format, "plain") != 0) {
        return bad(err, "LOG_FORMAT", c->log_format, "expected plain or json");
    }
    if (c->control_plane_forward[0] != '\0' &&
        pg_hostport_parse(pg_str_c(c->control_plane_forward), &c->forward) < 0) {
        return bad(err, "CONTROL_PLANE_FORWARD", c->control_plane_forward, "expected host:port");
    }
    if (c->stream_window < 65535 || c->stream_window > INT32_MAX) {
        return bad(err, "HTTP2_STREAM_WINDOW_SIZE", "", "expected 65535 to 2147483647");
    }
    if (c->connection_window < 65535 || c->connection_window > INT32_MAX) {
        return bad(err, "HTTP2_CONNECTION_WINDOW_SIZE", "", "expected 65535 to 2147483647");
    }
    if (c->frame_size < 16384 || c->frame_size > 16777215) {
        return bad(err, "HTTP2_FRAME_SIZE", "", "expected 16384 to 16777215");
    }
    if (c->pool_max_streams == 0) {
        return bad(err, "POOL_MAX_STREAMS_PER_CONNECTION", "0", "expected at least 1");
    }
    const char *token = "./var/run/secrets/tokens/istio-token";
    if (c->auth_token == NULL && access(token, F_OK) == 0) {
        return replace(&c->auth_token, token);
    }
    return 0;
}

static int derive(struct hb_config *c, char *const *env, struct pg_errtext *err)
{
    int r = derive_mode(c, err);
    if (r == 0) {
        r = read_meta(c, env);
    }
    const char *cluster = r == 0 ? meta_get(c, "CLUSTER_ID") : NULL;
    if (cluster != NULL) {
        r = replace(&c->cluster_id, cluster);
    }
    if (r == 0) {
        r = derive_address(&c->xds_address, env, "XDS_ADDRESS", err);
    }
    if (r == 0) {
        r = derive_address(&c->ca_address, env, "CA_ADDRESS", err);
    }
    if (r == 0) {
        r = derive_drain(c, err);
    }
    if (r == 0) {
        r = derive_dns(c, err);
    }
    if (r == 0) {
        r = derive_trust(c, err);
    }
    return r == 0 ? derive_rest(c, err) : r;
}

int hb_config_load(struct hb_config *c, char *const *env, void (*warn)(void *arg, const char *line),
                   void *arg, struct pg_errtext *err)
{
    *c = (struct hb_config){.pod.netns_fd = -1};
    int r = read_vars(c, env, err);
    if (r == 0) {
        r = derive(c, env, err);
    }
    if (r == 0) {
        unsigned n;
        r = hb_config_workers(c, 4, &n, err);
    }
    if (r < 0) {
        if (r == PG_E_NOMEM) {
            pg_err_set(err, "out of memory");
        }
        hb_config_fini(c);
        return r;
    }
    for (size_t i = 0; warn != NULL && env[i] != NULL; i++) {
        struct pg_str s = pg_str_c(env[i]);
        struct pg_str name;
        if (pg_str_cut(&s, '=', &name)) {
            warn_if_misspelt(name, warn, arg);
        }
    }
    if (warn != NULL && c->skip_validate_trust_domain) {
        warn(arg, "SKIP_VALIDATE_TRUST_DOMAIN is set: peers of any trust domain are accepted; prefer "
                  "TRUST_DOMAINS");
    }
    return 0;
}

void hb_config_fini(struct hb_config *c)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        if (vars[i].type == VAR_STR) {
            char **s = field(c, &vars[i]);
            if ((vars[i].flags & VAR_SECRET) != 0 && *s != NULL) {
                pg_wipe(*s, strlen(*s));
            }
            pg_free(*s);
        }
    }
    for (size_t i = 0; i < c->n_meta; i++) {
        pg_free(c->meta[i].key);
        pg_free(c->meta[i].value);
    }
    pg_free(c->meta);
    for (size_t i = 0; i < c->n_dns_search; i++) {
        pg_free(c->dns_search[i]);
    }
    pg_free(c->pod.ns);
    pg_free(c->pod.name);
    pg_free(c->pod.sa);
    *c = (struct hb_config){.pod.netns_fd = -1};
}

/* Next word of a line; blanks and tabs part them. */
static bool next_word(struct pg_str *line, struct pg_str *word)
{
    *line = pg_str_trim(*line);
    size_t n = 0;
    while (n < line->len && line->p[n] != ' ' && line->p[n] != '\t') {
        n++;
    }
    *word = pg_str_n(line->p, n);
    *line = pg_str_sub(*line, n);
    return n > 0;
}

void hb_config_resolv(struct hb_config *c, struct pg_str text)
{
    struct pg_str line;
    while (pg_str_cut(&text, '\n', &line)) {
        struct pg_str word;
        if (!next_word(&line, &word)) {
            continue;
        }
        if (pg_str_eq(word, PG_STR("nameserver")) && c->n_dns_servers < HB_DNS_SERVERS_MAX &&
            next_word(&line, &word)) {
            if (pg_ip_parse(word, &c->dns_servers[c->n_dns_servers]) == 0) {
                c->n_dns_servers++;
            }
        } else if (pg_str_eq(word, PG_STR("search"))) {
            while (c->n_dns_search < HB_DNS_SEARCH_MAX && next_word(&line, &word)) {
                char *copy = pg_strndup(word.p, word.len);
                if (copy != NULL) {
                    c->dns_search[c->n_dns_search++] = copy;
                }
            }
        }
    }
}

static void print_value(const struct hb_config *c, const struct var *v, struct pg_sb *out)
{
    const void *p = field(c, v);
    const char *s;
    switch (v->type) {
    case VAR_STR:
        s = *(char *const *)p;
        pg_sb_c(out, s == NULL ? "" : (v->flags & VAR_SECRET) != 0 && access(s, F_OK) != 0 ? "<hidden>" : s);
        break;
    case VAR_BOOL:
        pg_sb_c(out, *(const bool *)p ? "true" : "false");
        break;
    case VAR_TRISTATE:
        pg_sb_c(out, *(const enum hb_tristate *)p == HB_UNSET  ? ""
                     : *(const enum hb_tristate *)p == HB_TRUE ? "true"
                                                               : "false");
        break;
    case VAR_DURATION:
        pg_sb_fmt(out, "%llums", (unsigned long long)*(const uint64_t *)p);
        break;
    case VAR_U32:
    case VAR_U16:
        pg_sb_fmt(out, "%u", *(const uint32_t *)p);
        break;
    }
}

void hb_config_print(const struct hb_config *c, struct pg_sb *out)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        pg_sb_fmt(out, "%s=", vars[i].name);
        print_value(c, &vars[i], out);
        pg_sb_ch(out, '\n');
    }
    for (size_t i = 0; i < c->n_meta; i++) {
        pg_sb_fmt(out, "ISTIO_META_%s=%s\n", c->meta[i].key, c->meta[i].value);
    }
    pg_sb_fmt(out, "# drain: %llums, DNS proxy: %s\n", (unsigned long long)c->drain_ms,
              c->dns ? "on" : "off");
}

static void camel(const char *name, char *out, size_t cap)
{
    size_t n = 0;
    bool upper = false;
    for (; *name != '\0' && n + 1 < cap; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        bool letter = *name >= 'A' && *name <= 'Z';
        out[n++] = letter && !upper ? (char)(*name + 32) : *name;
        upper = false;
    }
    out[n] = '\0';
}

void hb_config_json(const struct hb_config *c, struct pg_json *j)
{
    char key[64];
    struct pg_sb value;
    pg_sb_init(&value, 65536);
    pg_json_obj(j);
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        if ((vars[i].flags & (VAR_SECRET | VAR_REFUSED)) == 0) {
            camel(vars[i].name, key, sizeof(key));
            pg_sb_reset(&value);
            print_value(c, &vars[i], &value);
            pg_json_kstr(j, key, pg_sb_view(&value));
        }
    }
    pg_json_ku64(j, "drainMs", c->drain_ms);
    pg_json_kbool(j, "dnsProxy", c->dns);
    pg_json_obj_end(j);
    pg_sb_fini(&value);
}

void hb_config_help(struct pg_sb *out)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(vars); i++) {
        if ((vars[i].flags & VAR_REFUSED) == 0) {
            pg_sb_fmt(out, "  %-34s %-12s %s\n", vars[i].name,
                      vars[i].fallback != NULL ? vars[i].fallback : "-", vars[i].help);
        }
    }
    pg_sb_c(out, "  ISTIO_META_<key>                   -            metadata of the node; DNS_CAPTURE and "
                 "DNS_PROXY_ADDR "
                 "steer the DNS proxy\n");
}

/* A Kubernetes quantity of CPUs, rounded up; 0 when unset. */
static int quantity(const char *name, const char *s, unsigned *out, struct pg_errtext *err)
{
    *out = 0;
    if (s == NULL || s[0] == '\0') {
        return 0;
    }
    struct pg_str rest = pg_str_c(s);
    struct pg_str whole;
    uint64_t n = 0;
    uint64_t frac = 0;
    if (pg_str_has_suffix(rest, PG_STR("m"))) {
        rest.len--;
        if (pg_str_u64(rest, 1000000, &n) < 0) {
            return bad(err, name, s, "expected CPUs such as 2, 1.5 or 500m");
        }
        *out = (unsigned)((n + 999) / 1000);
        return 0;
    }
    (void)pg_str_cut(&rest, '.', &whole);
    if (pg_str_u64(whole, 4096, &n) < 0 || (rest.len > 0 && pg_str_u64(rest, 999999999, &frac) < 0)) {
        return bad(err, name, s, "expected CPUs such as 2, 1.5 or 500m");
    }
    *out = (unsigned)n + (frac > 0 ? 1u : 0u);
    return 0;
}

static int explicit_workers(const char *s, unsigned cpus, unsigned *out, struct pg_errtext *err)
{
    struct pg_str t = pg_str_c(s);
    uint64_t n;
    if (pg_str_has_suffix(t, PG_STR("%"))) {
        t.len--;
        if (pg_str_u64(t, 100, &n) < 0 || n == 0) {
            return bad(err, "ZTUNNEL_WORKER_THREADS", s, "expected a share of 1% to 100%");
        }
        *out = (unsigned)((cpus * n + 99) / 100);
    } else {
        if (pg_str_u64(t, HB_WORKERS_MAX, &n) < 0) {
            return bad(err, "ZTUNNEL_WORKER_THREADS", s,
                       "expected a number up to 256 or a share such as 25%");
        }
        *out = n == 0 ? cpus : (unsigned)n;
    }
    return 0;
}

int hb_config_workers(const struct hb_config *c, unsigned cpus, unsigned *out, struct pg_errtext *err)
{
    unsigned limit;
    unsigned request;
    int r = quantity("ZTUNNEL_RESOURCE_CPU_LIMIT", c->resource_cpu_limit, &limit, err);
    if (r == 0) {
        r = quantity("ZTUNNEL_RESOURCE_CPU_REQUEST", c->resource_cpu_request, &request, err);
    }
    uint64_t n = 0;
    if (r == 0 && limit == 0 && c->cpu_limit != NULL && c->cpu_limit[0] != '\0') {
        if (pg_str_u64(pg_str_c(c->cpu_limit), 4096, &n) < 0) {
            return bad(err, "ZTUNNEL_CPU_LIMIT", c->cpu_limit, "expected a number");
        }
        cpus = n > 0 ? (unsigned)n : cpus;
    }
    if (r < 0) {
        return r;
    }
    cpus = limit > 0 ? limit : cpus;
    unsigned w;
    if (c->worker_threads != NULL && c->worker_threads[0] != '\0') {
        r = explicit_workers(c->worker_threads, cpus, &w, err);
        if (r < 0) {
            return r;
        }
    } else if (limit > 0) {
        w = limit > request ? limit : request;
    } else {
        w = (cpus + 3) / 4;
        w = w > request ? w : request;
        w = w > 2 ? w : 2;
    }
    *out = w == 0 ? 1 : w > HB_WORKERS_MAX ? HB_WORKERS_MAX : w;
    return 0;
}
