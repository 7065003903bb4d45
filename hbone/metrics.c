/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Label sets and their text form. Invariant: the number of label sets is bounded; what does not fit is
 * counted under one set marked other="true", never lost. Worker thread, but for hb_totals_* which belong to
 * the control thread.
 */
#include "hbone/metrics.h"

#include <stdio.h>

void hb_metrics_init(struct hb_metrics *m)
{
    *m = (struct hb_metrics){0};
    pg_map_init(&m->map, HB_SERIES_MAX);
}

static void free_map(struct pg_map *map)
{
    size_t it = 0;
    void *v;
    while (pg_map_next(map, &it, NULL, &v)) {
        struct hb_series *s = v;
        pg_free(s->labels);
        pg_free(s);
    }
    pg_map_fini(map);
}

void hb_metrics_fini(struct hb_metrics *m)
{
    free_map(&m->map);
}

static void label(struct pg_sb *out, const char *key, struct pg_str v)
{
    if (v.len == 0) {
        v = PG_STR("unknown");
    }
    pg_sb_fmt(out, ",%s=\"", key);
    for (size_t i = 0; i < v.len; i++) {
        char c = v.p[i];
        if (c == '\\' || c == '"') {
            pg_sb_ch(out, '\\');
            pg_sb_ch(out, c);
        } else if (c == '\n') {
            pg_sb_c(out, "\\n");
        } else {
            pg_sb_ch(out, c);
        }
    }
    pg_sb_ch(out, '"');
}

static void party(struct pg_sb *out, const char *side, const struct hb_party *p, bool mtls)
{
    char key[64];
    const struct {
        const char *name;
        struct pg_str v;
    } all[] = {{"workload", p->workload},
               {"canonical_service", p->canonical},
               {"canonical_revision", p->revision},
               {"workload_namespace", p->ns},
               {"principal", mtls ? p->identity : PG_STR_NONE},
               {"app", p->known ? p->canonical : p->workload}, /* as ztunnel has it */
               {"version", p->revision},
               {"cluster", p->cluster}};
    for (size_t i = 0; i < PG_ARRAY_LEN(all); i++) {
        (void)snprintf(key, sizeof(key), "%s_%s", side, all[i].name);
        label(out, key, all[i].v);
    }
}

void hb_metrics_labels(const struct hb_conn *c, enum hb_flag flag, struct pg_sb *out)
{
    const struct hb_conn_text *t = &c->text;
    pg_sb_fmt(out, "reporter=\"%s\"", c->dir == HB_INBOUND ? "destination" : "source");
    party(out, "source", &t->src, c->mtls);
    label(out, "destination_service", t->service);
    label(out, "destination_service_namespace", t->service_ns);
    label(out, "destination_service_name", t->service_name);
    party(out, "destination", &t->dst, c->mtls);
    pg_sb_fmt(out, ",request_protocol=\"tcp\",response_flags=\"%s\",connection_security_policy=\"%s\"",
              hb_flag_name(flag), c->mtls ? "mutual_tls" : "unknown");
    if (t->src.known || t->dst.known) {
        label(out, "source_region", t->src.region);
        label(out, "source_zone", t->src.zone);
        label(out, "destination_region", t->dst.region);
        label(out, "destination_zone", t->dst.zone);
    }
}

static struct hb_series *find_or_add(struct pg_map *map, struct pg_str labels)
{
    struct hb_series *s = pg_map_get(map, labels);
    if (s != NULL) {
        return s;
    }
    s = pg_calloc(1, sizeof(*s));
    char *copy = s != NULL ? pg_strndup(labels.p, labels.len) : NULL;
    if (copy != NULL) {
        s->labels = copy;
        if (pg_map_set(map, (struct pg_str){copy, labels.len}, s, NULL) == 0) {
            return s;
        }
    }
    pg_free(copy);
    pg_free(s);
    return NULL;
}

struct hb_series *hb_metrics_series(struct hb_metrics *m, const struct hb_conn *c, enum hb_flag flag)
{
    struct pg_sb sb;
    pg_sb_init(&sb, HB_LABELS_MAX);
    hb_metrics_labels(c, flag, &sb);
    struct hb_series *s = sb.err == 0 ? find_or_add(&m->map, pg_sb_view(&sb)) : NULL;
    pg_sb_fini(&sb);
    return s != NULL ? s : &m->overflow;
}

void hb_metrics_expire(struct hb_metrics *m, uint64_t now_ms)
{
    size_t it = 0;
    struct pg_str key;
    void *v;
    while (pg_map_next(&m->map, &it, &key, &v)) {
        struct hb_series *s = v;
        if (s->refs == 0 && now_ms - s->idle_since_ms > HB_SERIES_IDLE_MS && s->idle_since_ms != 0) {
            (void)pg_map_del(&m->map, key);
            pg_free(s->labels);
            pg_free(s);
        }
    }
}

/* ---- sums
 * ---------------------------------------------------------------------------------------------------------
 */

void hb_totals_init(struct hb_totals *t)
{
    *t = (struct hb_totals){0};
    pg_map_init(&t->map, (size_t)HB_SERIES_MAX * 4);
}

void hb_totals_fini(struct hb_totals *t)
{
    free_map(&t->map);
}

static void add_series(struct hb_totals *t, struct pg_str labels, const uint64_t *v)
{
    struct hb_series *s = find_or_add(&t->map, labels);
    if (s == NULL) {
        t->err = PG_E_NOMEM;
        return;
    }
    for (size_t i = 0; i < HB_M_N; i++) {
        s->v[i] += v[i];
    }
}

static void add_counters(struct hb_totals *t, const struct hb_counters *n, const struct hb_dns_counts *dns,
                         const struct hb_gauges *g)
{
#define HB_COUNTER_ADD(name, text, help) t->n.name += n->name;
    HB_COUNTER_MAP(HB_COUNTER_ADD)
#undef HB_COUNTER_ADD
    for (size_t i = 0; i < HB_DNS_KINDS; i++) {
        t->dns[i].requests += dns[i].requests;
        t->dns[i].upstream += dns[i].upstream;
        t->dns[i].failures += dns[i].failures;
    }
    t->g.inbound_open += g->inbound_open;
    t->g.outbound_open += g->outbound_open;
    t->g.inbound_h2 += g->inbound_h2;
    t->g.pool_conns += g->pool_conns;
    t->g.pool_inner += g->pool_inner;
    t->g.ejected += g->ejected;
    t->g.series += g->series;
}

static void add_map(struct hb_totals *t, const struct pg_map *map)
{
    size_t it = 0;
    struct pg_str key;
    void *v;
    while (pg_map_next(map, &it, &key, &v)) {
        add_series(t, key, ((struct hb_series *)v)->v);
    }
}

void hb_totals_add(struct hb_totals *t, const struct hb_metrics *m, const struct hb_gauges *g)
{
    add_map(t, &m->map);
    add_counters(t, &m->n, m->dns, g);
    const uint64_t *o = m->overflow.v;
    if (o[HB_M_OPENED] + o[HB_M_CLOSED] + o[HB_M_FAILED] > 0) {
        add_series(t, PG_STR("other=\"true\""), o);
    }
}

void hb_totals_merge(struct hb_totals *t, const struct hb_totals *from)
{
    add_map(t, &from->map);
    add_counters(t, &from->n, from->dns, &from->g);
    t->err = t->err != 0 ? t->err : from->err;
}

static void family(struct pg_sb *out, const char *name, const char *type, const char *help)
{
    pg_sb_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}
static void gauge(struct pg_sb *out, const char *name, const char *help, uint64_t v)
{
    family(out, name, "gauge", help);
    pg_sb_fmt(out, "%s %llu\n", name, (unsigned long long)v);
}

static void tcp_family(const struct hb_totals *t, struct pg_sb *out, size_t which, const char *name,
                       const char *help)
{
    size_t it = 0;
    struct pg_str key;
    void *v;
    bool first = true;
    while (pg_map_next(&t->map, &it, &key, &v)) {
        uint64_t n = ((struct hb_series *)v)->v[which];
        if (n == 0) {
            continue;
        }
        if (first) {
            family(out, name, "counter", help);
            first = false;
        }
        pg_sb_fmt(out, "%s_total{%.*s} %llu\n", name, PG_STR_ARG(key), (unsigned long long)n);
    }
}

static void counters_text(const struct hb_totals *t, struct pg_sb *out)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } all[] = {
#define HB_COUNTER_ROW(name, text, help) {text, help, offsetof(struct hb_counters, name)},
        HB_COUNTER_MAP(HB_COUNTER_ROW)
#undef HB_COUNTER_ROW
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(all); i++) {
        uint64_t v;
        memcpy(&v, (const char *)&t->n + all[i].offset, sizeof(v));
        struct pg_str base = {all[i].name, strlen(all[i].name) - 6};
        pg_sb_fmt(out, "# HELP %.*s %s\n# TYPE %.*s counter\n%s %llu\n", PG_STR_ARG(base), all[i].help,
                  PG_STR_ARG(base), all[i].name, (unsigned long long)v);
    }
}

static void dns_family(const struct hb_totals *t, const struct hb_process_facts *f, size_t offset,
                       const char *name, const char *help, struct pg_sb *out)
{
    static const char *const types[] = {"A", "AAAA", "OTHER"};
    bool first = true;
    for (size_t i = 0; i < HB_DNS_KINDS; i++) {
        uint64_t v;
        memcpy(&v, (const char *)&t->dns[i] + offset, sizeof(v));
        if (v == 0) {
            continue;
        }
        if (first) {
            family(out, name, "counter", help);
            first = false;
        }
        pg_sb_fmt(out, "%s_total{request_query_type=\"%s\",request_protocol=\"%s\"", name, types[i / 2],
                  i % 2 == 0 ? "udp" : "tcp");
        label(out, "source_canonical_service", f->canonical);
        label(out, "source_canonical_revision", f->revision);
        pg_sb_fmt(out, "} %llu\n", (unsigned long long)v);
    }
}

static void dns_text(const struct hb_totals *t, const struct hb_process_facts *f, struct pg_sb *out)
{
    dns_family(t, f, offsetof(struct hb_dns_counts, requests), "istio_dns_requests",
               "Total number of DNS requests (unstable).", out);
    dns_family(t, f, offsetof(struct hb_dns_counts, upstream), "istio_dns_upstream_requests",
               "Total number of DNS requests forwarded to upstream (unstable).", out);
    dns_family(t, f, offsetof(struct hb_dns_counts, failures), "istio_dns_upstream_failures",
               "Total number of DNS requests forwarded to upstream that failed (unstable).", out);
}

static void xds_text(const struct hb_process_facts *f, struct pg_sb *out)
{
    static const char *const urls[] = {"type.googleapis.com/istio.workload.Address",
                                       "type.googleapis.com/istio.security.Authorization"};
    static const char *const reasons[] = {"ConnectionError", "Error", "Reconnect", "Complete"};
    family(out, "istio_xds_message", "counter", "Total number of messages received (unstable).");
    for (size_t i = 0; i < 2; i++) {
        pg_sb_fmt(out, "istio_xds_message_total{url=\"%s\"} %llu\n", urls[i],
                  (unsigned long long)f->xds_messages[i]);
    }
    family(out, "istio_xds_message_bytes", "counter", "Total number of bytes received (unstable).");
    for (size_t i = 0; i < 2; i++) {
        pg_sb_fmt(out, "istio_xds_message_bytes_total{url=\"%s\"} %llu\n", urls[i],
                  (unsigned long long)f->xds_bytes[i]);
    }
    family(out, "istio_xds_connection_terminations", "counter",
           "Total number of completed connections to the xds server (unstable).");
    for (size_t i = 0; i < 4; i++) {
        pg_sb_fmt(out, "istio_xds_connection_terminations_total{reason=\"%s\"} %llu\n", reasons[i],
                  (unsigned long long)f->xds_terminations[i]);
    }
    gauge(out, "isthmus_hbone_xds_connected", "1 while the control plane's stream is up", f->connected);
    gauge(out, "isthmus_hbone_xds_last_message_age_ms", "age of the control plane's last message",
          f->xds_age_ms);
}

void hb_totals_text(const struct hb_totals *t, const struct hb_process_facts *f, struct pg_sb *out)
{
    family(out, "istio_build", "gauge", "Istio component build info");
    pg_sb_fmt(out, "istio_build{component=\"ztunnel\",tag=\"%s\"} 1\n", f->tag);
    tcp_family(t, out, HB_M_OPENED, "istio_tcp_connections_opened",
               "The total number of TCP connections opened");
    tcp_family(t, out, HB_M_CLOSED, "istio_tcp_connections_closed",
               "The total number of TCP connections closed");
    tcp_family(t, out, HB_M_FAILED, "istio_tcp_connections_failed",
               "The total number of TCP connections that failed");
    tcp_family(t, out, HB_M_RECEIVED, "istio_tcp_received_bytes",
               "The size of total bytes received during request");
    tcp_family(t, out, HB_M_SENT, "istio_tcp_sent_bytes", "The size of total bytes sent during response");
    family(out, "istio_tcp_sockets_open", "gauge", "Open TCP sockets by reporter");
    pg_sb_fmt(out,
              "istio_tcp_sockets_open{reporter=\"destination\"} "
              "%llu\nistio_tcp_sockets_open{reporter=\"source\"} %llu\n",
              (unsigned long long)t->g.inbound_open, (unsigned long long)t->g.outbound_open);
    counters_text(t, out);
    dns_text(t, f, out);
    xds_text(f, out);
    gauge(out, "isthmus_hbone_inbound_h2_connections", "inbound HBONE connections", t->g.inbound_h2);
    gauge(out, "isthmus_hbone_pool_connections", "outbound HBONE connections", t->g.pool_conns);
    gauge(out, "isthmus_hbone_pool_inner_connections", "tunnels through gateways", t->g.pool_inner);
    gauge(out, "isthmus_hbone_endpoints_ejected", "endpoints set aside now", t->g.ejected);
    gauge(out, "isthmus_hbone_label_sets", "label sets held by the workers", t->g.series);
    gauge(out, "isthmus_hbone_workers", "worker threads", f->workers);
    gauge(out, "isthmus_hbone_world_generation", "tables delivered to the workers", f->world_generation);
    gauge(out, "isthmus_hbone_have_certificate", "1 while a valid certificate is held", f->have_certificate);
    family(out, "isthmus_hbone_certificate_expires_in_seconds", "gauge",
           "time to the end of the certificate");
    pg_sb_fmt(out, "isthmus_hbone_certificate_expires_in_seconds %lld\n", (long long)f->cert_expires_in_s);
    gauge(out, "process_open_fds", "Number of open file descriptors", f->open_fds);
    gauge(out, "process_max_fds", "Maximum number of file descriptors", f->max_fds);
    pg_sb_c(out, "# EOF\n");
}
