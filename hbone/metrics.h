/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters. Each worker owns its own, plain integers touched by its thread only; a scrape asks every worker
 * for a copy by mailbox and the control thread adds the copies up. So there is no lock and no shared cache
 * line on the data path.
 */
#ifndef ISTHMUS_HBONE_METRICS_H
#define ISTHMUS_HBONE_METRICS_H

#include "core/map.h"
#include "hbone/conn.h"

#define HB_SERIES_MAX                                                                                        \
    20000u /* label sets per worker; beyond it new ones are counted as one with other="true" */
#define HB_SERIES_IDLE_MS (15u * 60000) /* a label set without connections is forgotten after this */
#define HB_LABELS_MAX 8192u
#define HB_SCRAPE_MAX (64u * 1024 * 1024)

enum { HB_M_OPENED, HB_M_CLOSED, HB_M_FAILED, HB_M_RECEIVED, HB_M_SENT, HB_M_N };
struct hb_series {
    char *labels; /* inside the braces */
    uint64_t v[HB_M_N];
    uint32_t refs; /* connections that point here */
    uint64_t idle_since_ms;
};
/* name, help */
#define HB_COUNTER_MAP(X)                                                                                    \
    X(early_denied, "isthmus_hbone_early_denied_total", "connections refused before routing")                \
    X(inbound_tls_failures, "isthmus_hbone_inbound_tls_failures_total", "inbound handshakes that failed")    \
    X(retries, "isthmus_hbone_retries_total", "attempts repeated on another endpoint")                       \
    X(ejections, "isthmus_hbone_ejections_total", "endpoints set aside after a failure")                     \
    X(pool_dials, "isthmus_hbone_pool_dials_total", "HBONE connections dialled")                             \
    X(pool_dial_failures, "isthmus_hbone_pool_dial_failures_total",                                          \
      "HBONE connections that could not be made")                                                            \
    X(pool_reuses, "isthmus_hbone_pool_reuses_total", "streams that found an open connection")               \
    X(policy_holds, "isthmus_hbone_policy_holds_total", "connections held for a missing policy")             \
    X(policy_cuts, "isthmus_hbone_policy_cuts_total", "open connections cut by a policy change")             \
    X(guard_closed, "isthmus_hbone_h2_guard_closed_total", "HTTP/2 connections closed by a flood guard")     \
    X(limit_refused, "isthmus_hbone_limit_refused_total", "connections refused by a cap")                    \
    X(dns_dropped, "isthmus_hbone_dns_dropped_total",                                                        \
      "DNS packets dropped as malformed, forged or over a cap")                                              \
    X(on_demand_dns, "istio_on_demand_dns_total", "endpoint host names resolved")
struct hb_counters {
#define HB_COUNTER_FIELD(name, text, help) uint64_t name;
    HB_COUNTER_MAP(HB_COUNTER_FIELD)
#undef HB_COUNTER_FIELD
};
/* DNS questions by type (A, AAAA, other) and protocol (udp, tcp): kind = type * 2 + tcp. */
#define HB_DNS_KINDS 6u
struct hb_dns_counts {
    uint64_t requests, upstream, failures;
};
struct hb_gauges {
    uint64_t inbound_open, outbound_open; /* connections carried now */
    uint64_t inbound_h2, pool_conns, pool_inner, ejected, series;
};
struct hb_metrics {
    struct pg_map map; /* labels -> series */
    struct hb_series overflow;
    struct hb_counters n;
    struct hb_dns_counts dns[HB_DNS_KINDS];
};
void hb_metrics_init(struct hb_metrics *m);
void hb_metrics_fini(struct hb_metrics *m);
/* The series of a connection's labels and an ending; never NULL. */
struct hb_series *hb_metrics_series(struct hb_metrics *m, const struct hb_conn *c, enum hb_flag flag);
/* Forgets series without connections that were idle too long. */
void hb_metrics_expire(struct hb_metrics *m, uint64_t now_ms);
void hb_metrics_labels(const struct hb_conn *c, enum hb_flag flag, struct pg_sb *out);

/* A sum over workers, made by the control thread. */
struct hb_totals {
    struct pg_map map; /* labels -> struct hb_series, owned */
    struct hb_counters n;
    struct hb_dns_counts dns[HB_DNS_KINDS];
    struct hb_gauges g;
    int err;
};
void hb_totals_init(struct hb_totals *t);
void hb_totals_fini(struct hb_totals *t);
void hb_totals_add(struct hb_totals *t, const struct hb_metrics *m, const struct hb_gauges *g);
/* Adds `from` into `t`. */
void hb_totals_merge(struct hb_totals *t, const struct hb_totals *from);
struct hb_process_facts {
    const char *tag;                   /* version of the build */
    struct pg_str canonical, revision; /* of the local workload */
    uint64_t open_fds, max_fds, workers, world_generation;
    bool connected, have_certificate;
    uint64_t xds_messages[2], xds_bytes[2], xds_terminations[4], xds_age_ms;
    int64_t cert_expires_in_s;
};
/* OpenMetrics text with the final "# EOF". Builder errors stay in `out`. */
void hb_totals_text(const struct hb_totals *t, const struct hb_process_facts *f, struct pg_sb *out);

#endif
