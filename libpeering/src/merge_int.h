/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One merge in progress. Scratch data lives in `scratch` until the end of merge_run, what the result keeps in
 * `result`. The first error sticks. Control thread.
 */
#ifndef ISTHMUS_PEERING_MERGE_INT_H
#define ISTHMUS_PEERING_MERGE_INT_H

#include "core/map.h"
#include "merge.h"

#define MERGE_SANS_MAX 4096u               /* identities of one global service */
#define MERGE_SANS_BYTES_MAX (512u * 1024) /* half of what a resource may have */
#define MERGE_PORTS_MAX 1024u              /* ports of one global service */
#define MERGE_NAME_MAX 63u                 /* bytes of a service name or namespace a peer sends */
#define MERGE_HOST_MAX 253u                /* bytes of a hostname or pod name a peer sends */

enum peer_path {
    PATH_GATEWAY, /* another network: through its east-west gateway */
    PATH_FLAT,    /* our network: straight to its pods */
    PATH_NONE,    /* our network, but flat networks are off */
};
struct merge_peer {
    const struct contrib_peer *p;
    struct pg_str cluster, network, trust_domain;
    enum peer_path path;
    struct pg_map by_key; /* "<ns>/<host at the peer>" -> struct merge_part *, flat peers only */
};
struct merge_pod { /* a pod of a flat peer, for one service */
    const struct xds_workload *w;
    const struct xds_workload_service *service;
    struct merge_pod *next;
};
/* What one cluster brings to one global service. */
struct merge_part {
    struct pg_str ns, name;
    size_t rank;        /* 0: local, else 1 + place of the peer by cluster name */
    size_t local_index; /* of local->services, rank 0 only */
    const struct contrib_service *local;
    struct merge_peer *peer;           /* rank > 0 */
    const struct xds_fed_service *fed; /* rank > 0 */
    struct merge_pod *pods;            /* of a flat peer, by uid */
};
/* What the local services become by merging: extended by remote identities when they are taken over. */
struct merge_own {
    bool is_extended;
    struct pg_str *sans;
    size_t n_sans;
    enum xds_fed_distribution distribution;
    struct pg_str union_key; /* "<ns>/<name>.<ns>.mesh.internal" when it contributes, else empty */
};
struct view_writer {
    struct xds_view *view;
    struct pg_map seen; /* "<type>\n<name>" of everything set in this run */
};
struct merge {
    const struct merge_self *self;
    const struct contrib_local *local;
    struct vip_pool *vips;
    struct pg_arena scratch;
    struct merge_result result;
    struct pg_errtext *err;
    int code;
    size_t problems;

    struct merge_peer *peers; /* sorted by cluster */
    size_t n_peers;
    struct merge_part *parts; /* sorted by (ns, name, rank) */
    size_t n_parts, cap_parts;
    /* Endpoints of local service i: endpoint_ids[endpoint_from[i] .. endpoint_from[i + 1]), indexes into
     * local->workloads. */
    size_t *endpoint_from;
    size_t *endpoint_ids;
    struct pg_str *identities; /* of local workloads */
    struct merge_own *own;     /* one per local service */
    struct pg_map local_keys;  /* "<ns>/<hostname>" -> struct contrib_service * */
    struct pg_map local_ips;   /* bytes of an address -> struct xds_workload *; only with flat peers */
    struct view_writer node, exported;
};

void merge_fail(struct merge *m, int code);
void *merge_scratch(struct merge *m, size_t count, size_t size); /* zeroed; NULL on failure or count 0 */
void *merge_keep(struct merge *m, size_t count, size_t size);    /* the same in the result */
struct pg_str merge_text(struct merge *m, struct pg_arena *a, const char *fmt, ...) PG_PRINTF(3, 4);
struct pg_str merge_key(struct merge *m, struct pg_str ns, struct pg_str host); /* scratch "<ns>/<host>" */
uint32_t merge_capacity(const struct xds_workload *w);
/* Sorts, drops repeats, and cuts to the two caps (true: something was cut). */
bool merge_sort_sans(struct pg_str *sans, size_t *n);

/* merge_peers.c: peers and what they sent. */
void merge_take_peers(struct merge *m, const struct contrib_peer *peers, size_t n);
void merge_take_parts(struct merge *m);
void merge_gateways(struct merge *m); /* NetworkGateway workloads into the node view */
/* merge_global.c: one global service from parts[from..to). */
void merge_global(struct merge *m, size_t from, size_t to, struct merge_global *g);
/* merge_views.c */
void writer_address(struct merge *m, struct view_writer *w, const struct xds_address *a);
void writer_workload(struct merge *m, struct view_writer *w, const struct xds_workload *wl);
void writer_service(struct merge *m, struct view_writer *w, const struct xds_service *s);
void writer_finish(struct merge *m, struct view_writer *w, const char *const *types, size_t n);
void merge_local_view(struct merge *m);
void merge_export_view(struct merge *m);

#endif
