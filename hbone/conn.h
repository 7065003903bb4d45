/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of one carried connection: who, where to, how much, how it ended. It feeds the access log, the
 * counters and the admin dump, and lets policy changes and drains cut the connection. Worker thread.
 */
#ifndef ISTHMUS_HBONE_CONN_H
#define ISTHMUS_HBONE_CONN_H

#include "core/list.h"
#include "hbone/glue.h"
#include "net/transport.h"

#include <peering/policy.h>
#include <peering/table.h>

struct hb_worker;
struct hb_pod;
struct hb_series;

enum hb_direction { HB_INBOUND, HB_OUTBOUND };
enum hb_flag { /* response_flags */
               HB_FLAG_NONE,
               HB_FLAG_DENY,
               HB_FLAG_CONNECT,
               HB_FLAG_TLS_FAILURE,
               HB_FLAG_H2_HANDSHAKE_FAILURE,
               HB_FLAG_NETWORK_POLICY,
               HB_FLAG_IDENTITY_ERROR,
};
const char *hb_flag_name(enum hb_flag f); /* "-", "DENY", ... Static storage. */

/* Why an attempt or a connection failed. */
struct hb_fail {
    int err; /* pg_err */
    enum hb_flag flag;
    bool retry;         /* another endpoint may do better; no application byte was lost */
    bool stale_session; /* a session kept for reuse let us down: a new one may do better */
    bool eject;         /* the endpoint itself is at fault */
    char text[256];
};
void hb_fail_set(struct hb_fail *f, int err, enum hb_flag flag, bool retry, const char *fmt, ...)
    PG_PRINTF(5, 6);

/* One side of a connection as logs and labels describe it; empty means unknown. */
struct hb_party {
    struct pg_str pod; /* src.workload, dst.workload */
    struct pg_str ns;
    struct pg_str identity; /* authenticated SPIFFE id */
    struct pg_str cluster;
    struct pg_str workload; /* owner: deployment name */
    struct pg_str canonical, revision;
    struct pg_str region, zone;
    bool known; /* it is a workload of the table */
};
struct hb_conn_text {
    struct hb_party src, dst;
    struct pg_str service, service_ns, service_name; /* hostname, namespace, short name */
    struct pg_str authority;                         /* dst.hbone_addr, HBONE only */
};
#define HB_TEXT_SLICES 22u

struct hb_conn {
    struct pg_list node; /* in worker->conns */
    struct hb_worker *worker;
    struct hb_pod *pod;
    enum hb_direction dir;
    bool mtls;
    bool opened;  /* counted as opened */
    bool checked; /* subject to re-checks of policy */
    uint64_t checked_gen;
    uint64_t opened_ms;
    struct pg_addr src;
    struct pg_addr dst;      /* as logged: next hop outbound, own address inbound */
    struct pg_addr orig_dst; /* what the client asked for */
    struct hb_conn_text text;
    char *block; /* owns the slices of text */
    struct hb_series *series;
    struct pg_relay *relay;
    uint64_t a_seen, b_seen;   /* bytes already counted */
    peering_connection policy; /* inbound: what is checked; identity is text.src.identity */
    /* Ends a connection that is not relaying yet; relaying ones are cut through the relay. */
    void (*cut)(struct hb_conn *c, const struct hb_fail *why);
    struct hb_fail cut_fail; /* why the relay was cut, err 0: it was not */
    void (*on_relay_done)(struct hb_conn *c);
};

/* Links the record into the worker. */
void hb_conn_init(struct hb_conn *c, struct hb_worker *w, struct hb_pod *pod, enum hb_direction dir,
                  const struct pg_addr *src, const struct pg_addr *dst);
/* Copies the description (at any time before the end; replaces the old one). PG_E_NOMEM: the old one stays.
 */
int hb_conn_describe(struct hb_conn *c, const struct hb_conn_text *t) PG_MUST_CHECK;
void hb_party_of(struct hb_party *p, const peering_workload *w); /* w may be NULL */
void hb_text_service(struct hb_conn_text *t, const peering_service *v);
/* Counts and logs the opening. */
void hb_conn_open(struct hb_conn *c);
/* Starts copying; both transports are taken over on success. `done` follows once, from the loop, after
 * hb_conn_end was called by this module. */
int hb_conn_relay(struct hb_conn *c, struct pg_transport *client, struct pg_transport *server,
                  void (*done)(struct hb_conn *c)) PG_MUST_CHECK;
/* Ends it from outside: policy change, drain. */
void hb_conn_cut(struct hb_conn *c, int err, enum hb_flag flag, const char *text);
/* Counts and logs the end, unlinks, frees what init and describe made. `why` NULL or err 0: fine. */
void hb_conn_end(struct hb_conn *c, const struct hb_fail *why, uint64_t client_to_server,
                 uint64_t server_to_client);
/* A connection that was refused before it was registered: a warning line and a counter. Unlinks and frees
 * too. */
void hb_conn_deny_early(struct hb_conn *c, const char *why);
/* Adds the bytes moved since the last call to the counters. */
void hb_conn_flush(struct hb_conn *c);

/* The access log line; exposed for tests. */
void hb_access_log(const struct hb_conn *c, const struct hb_fail *why, uint64_t client_to_server,
                   uint64_t server_to_client, uint64_t duration_ms);
void hb_access_log_open(const struct hb_conn *c);
void hb_access_log_early(enum hb_direction dir, const struct pg_addr *src, const struct pg_addr *dst,
                         const char *why);

/* Values of a baggage header; slices of `header`. Unknown keys are ignored, the last one wins. The pod is not
 * told: logs name the owner instead, and nothing when that is absent. */
void hb_baggage_parse(struct pg_str header, struct hb_party *out);
/* host= element of a forwarded header, unquoted; empty when there is none. */
struct pg_str hb_forwarded_host(struct pg_str header);

#endif
