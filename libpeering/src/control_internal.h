/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a running control plane, shared by control.c (life and merge), serve.c (xDS and CA port),
 * keys.c (certificates), admin.c and metrics.c (answers about itself). One thread owns all of it.
 */
#ifndef ISTHMUS_PEERING_CONTROL_INTERNAL_H
#define ISTHMUS_PEERING_CONTROL_INTERNAL_H

#include "certs/ca.h"
#include "certs/jwt.h"
#include "certs/tls.h"
#include "core/json.h"
#include "manifest.h"
#include "merge.h"
#include "net/http1.h"
#include "net/resolve.h"
#include "net/sock.h"
#include "options.h"
#include "peering/table.h"
#include "peers.h"
#include "xds/server.h"

#define CONTROL_MERGE_DELAY_MS 10u /* a burst of changes is merged once */
#define CONTROL_TICK_MS 1000u      /* certificates, files, deadlines */
#define CONTROL_DRAIN_MS 2000u     /* between GOAWAY and the end */
#define CONTROL_TLS_HANDSHAKE_MS 10000u
#define CONTROL_REPLY_MAX (256u * 1024 * 1024)

#define STAMP_LEN 20u
struct keys { /* own certificates: CA, serving and peering credentials */
    struct cert_ca *ca;
    char *ca_dir;
    bool self_signed;
    char stamp[STAMP_LEN];    /* of the CA files, to notice a change */
    struct cert_creds *creds; /* serving certificate, also what we show to peers */
    int64_t renew_at_s;
    uint64_t domains;      /* digest of the trust domains the credentials accept */
    int64_t ca_retry_at_s; /* the changed CA files were of no use; 0: they were */
    struct cert_jwks *jwks;
    char jwks_stamp[STAMP_LEN];
    char jwks_bad[STAMP_LEN]; /* of a file found wanting, so that it is told once */
    uint64_t issued, refused;
};
struct peering_control {
    peering_options *options;
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    struct pg_async *stop;
    struct pg_timer *merge_timer;
    struct pg_timer *tick;
    struct pg_timer *drain;
    struct keys keys;

    struct manifest *manifest;
    struct pg_io *manifest_io;
    struct contrib_local local;
    bool has_local;
    bool had_problems; /* some manifest was not accepted at the last look */
    char network[254]; /* in force: label of the system namespace, else the option */
    struct eastwest_config *eastwest;
    size_t n_eastwest;

    struct peers *peers;
    struct contrib_peer *contributions; /* CONTRIB_PEERS_MAX, scratch of a merge */
    struct vip_pool *vips;
    struct xds_view *node_view, *export_view;
    struct merge_result merged;
    uint64_t merges, merge_failures;

    peering_table *table; /* the node view as a proxy sees it; made when asked for */
    uint64_t table_generation;

    struct xds_server *server;
    struct pg_listener *listener;
    char address[PG_ADDR_TEXT];
    struct pg_list handshakes; /* TLS connections not yet handed to the server */
    size_t n_handshakes;       /* capped */
    struct pg_http1_server *admin, *admin_socket;
    uint64_t started_ms;
    int64_t started_us;
    bool is_ready;     /* stays so once it was */
    bool reload;       /* manifests changed and were not taken over whole */
    bool vips_unsaved; /* the last write failed */
    bool stopping;
};

/* keys.c: loads or makes the CA and the serving certificate. */
int keys_load(struct peering_control *c, struct pg_errtext *err) PG_MUST_CHECK;
void keys_fini(struct keys *k);
void keys_tick(struct peering_control *c); /* renewal at half life, reload of changed files */
/* The set of accepted trust domains follows the set of peers: new credentials when it changed. */
int keys_follow_peers(struct peering_control *c, struct pg_errtext *err) PG_MUST_CHECK;

/* serve.c */
int serve_start(struct peering_control *c, struct pg_errtext *err) PG_MUST_CHECK;
void serve_end_handshakes(struct peering_control *c); /* before the end; also when it never started */
/* The SPIFFE id in what authenticate() noted of a caller: the id, maybe " pod=<name>". */
struct pg_str serve_caller_id(struct pg_str caller);

/* control.c */
struct merge_self control_self(const struct peering_control *c);
void control_changed(struct peering_control *c);                               /* schedules a merge */
bool control_is_ready(const struct peering_control *c, struct pg_sb *pending); /* what it waits for */
int control_snapshot(struct peering_control *c, peering_snapshot **out) PG_MUST_CHECK;
bool control_eastwest_is_up(const struct peering_control *c,
                            const struct eastwest_config *e); /* a gateway proxy is connected */

/* admin.c, explain.c, metrics.c */
int admin_start(struct peering_control *c, struct pg_errtext *err) PG_MUST_CHECK;
void explain_json(struct peering_control *c, struct pg_str src, struct pg_str dst, struct pg_json *j);
void metrics_text(struct peering_control *c, struct pg_sb *out);
/* Writes `text` to <state>/<name> by rename. */
int state_write(const struct peering_control *c, const char *name, struct pg_str text,
                struct pg_errtext *err) PG_MUST_CHECK;
/* Reads a file whole; PG_E_NOTFOUND, PG_E_IO, PG_E_LIMIT. */
int file_read(const char *path, size_t max, struct pg_sb *out, struct pg_errtext *err) PG_MUST_CHECK;

#endif
