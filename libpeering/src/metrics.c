/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus text of the control plane. One series a peer, so the number of series is capped by the number of
 * peers. */
#include "control_internal.h"
#include "core/log.h"

static void head(struct pg_sb *out, const char *name, const char *type, const char *help)
{
    pg_sb_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct pg_sb *out, const char *name, const char *type, const char *help, uint64_t value)
{
    head(out, name, type, help);
    pg_sb_fmt(out, "%s %llu\n", name, (unsigned long long)value);
}

struct peer_metric {
    struct pg_sb *out;
    const char *name;
    uint64_t (*value)(const struct peers_fact *f);
};

static void one_peer(void *arg, const struct peers_fact *f)
{
    const struct peer_metric *m = arg;
    pg_sb_fmt(m->out, "%s{peer=\"%s\"} %llu\n", m->name, f->cluster, (unsigned long long)m->value(f));
}

static uint64_t connected(const struct peers_fact *f)
{
    return f->connected;
}
static uint64_t synced(const struct peers_fact *f)
{
    return f->synced;
}
static uint64_t data_state(const struct peers_fact *f)
{
    return f->data;
}
static uint64_t data_age(const struct peers_fact *f)
{
    return f->data_age_ms / 1000;
}
static uint64_t services(const struct peers_fact *f)
{
    return f->services;
}
static uint64_t workloads(const struct peers_fact *f)
{
    return f->workloads;
}
static uint64_t disconnects(const struct peers_fact *f)
{
    return f->disconnects;
}
static uint64_t probes_failed(const struct peers_fact *f)
{
    return f->probes_failed;
}

static void peer_metrics(struct peering_control *c, struct pg_sb *out)
{
    static const struct {
        const char *name, *type, *help;
        uint64_t (*value)(const struct peers_fact *f);
    } table[] = {
        {"peering_peer_connected", "gauge", "1 while the stream to the peer is up", connected},
        {"peering_peer_synced", "gauge", "1 when the first full reply has come on this stream", synced},
        {"peering_peer_data_state", "gauge", "0 none, 1 fresh, 2 stale, 3 unhealthy", data_state},
        {"peering_peer_data_age_seconds", "gauge", "time since the data became stale", data_age},
        {"peering_peer_services", "gauge", "services received from the peer", services},
        {"peering_peer_workloads", "gauge", "workloads received from the peer", workloads},
        {"peering_peer_disconnects_total", "counter", "lost or failed streams", disconnects},
        {"peering_peer_probes_failed_total", "counter", "failed probes of the peer's gateway", probes_failed},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(table); i++) {
        struct peer_metric m = {out, table[i].name, table[i].value};
        head(out, table[i].name, table[i].type, table[i].help);
        peers_each(c->peers, one_peer, &m);
    }
}

static void count_stream(void *arg, const struct xds_stream_info *i)
{
    (void)i;
    (*(uint64_t *)arg)++;
}

void metrics_text(struct peering_control *c, struct pg_sb *out)
{
    uint64_t streams = 0;
    const struct manifest_problem *problems;
    xds_server_each(c->server, count_stream, &streams);
    head(out, "peering_build", "gauge", "version of the control plane");
    pg_sb_fmt(out, "peering_build{component=\"peeringd\",tag=\"%s\"} 1\n", peering_version());
    single(out, "peering_global_services", "gauge", "services that span clusters", c->merged.n_globals);
    single(out, "peering_addresses", "gauge", "workloads and services served to proxies",
           xds_view_count(c->node_view, XDS_TYPE_ADDRESS));
    single(out, "peering_policies", "gauge", "policies served to proxies",
           xds_view_count(c->node_view, XDS_TYPE_AUTHORIZATION));
    single(out, "peering_exported_services", "gauge", "services offered to peers",
           xds_view_count(c->export_view, XDS_TYPE_FEDERATED_SERVICE));
    single(out, "peering_view_generation", "counter", "changes of the table served to proxies",
           xds_view_generation(c->node_view));
    single(out, "peering_xds_streams", "gauge", "connected proxies and peers", streams);
    single(out, "peering_merges_total", "counter", "merges done", c->merges);
    single(out, "peering_merge_failures_total", "counter", "merges that failed and were tried again",
           c->merge_failures);
    single(out, "peering_manifest_problems", "gauge", "documents not accepted",
           manifest_problems(c->manifest, &problems));
    single(out, "peering_certificates_issued_total", "counter", "certificates signed", c->keys.issued);
    single(out, "peering_authentications_refused_total", "counter", "callers or requests refused",
           c->keys.refused);
    single(out, "peering_ca_not_after_seconds", "gauge", "end of the signing certificate, epoch seconds",
           (uint64_t)cert_ca_not_after(c->keys.ca));
    single(out, "peering_log_lines_dropped_total", "counter",
           "log lines lost because the reader did not keep up", pg_log_dropped());
    peer_metrics(c, out);
}
