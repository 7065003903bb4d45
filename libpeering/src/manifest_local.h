/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that build the local contribution share: the builder with its sticky error. Everything kept
 * is copied into the contribution's arena, since file versions may go away at the next scan. Control thread.
 */
#ifndef ISTHMUS_PEERING_MANIFEST_LOCAL_H
#define ISTHMUS_PEERING_MANIFEST_LOCAL_H

#include "core/map.h"
#include "manifest_objects.h"

struct local_builder {
    const struct manifest_config *c;
    const struct object_index *x;
    struct contrib_local *out;
    struct pg_arena scratch;
    int code;                                     /* 0 or the first error */
    struct pg_str cluster, network, trust_domain; /* copies, shared by all workloads */
    /* Services that count: out->services[i] was made from service_objects[i]; keys[i] is "<ns>/<hostname>".
     */
    const struct object **service_objects;
    struct pg_str *keys;
    size_t n_kubernetes;       /* the first ones are from Services, in (ns, name) order; the others from
                                  ServiceEntries */
    struct pg_map by_selector; /* "<ns>\n<label>\n<value>" -> struct local_service_ref */
    struct pg_map by_pod;      /* "<ns>/<pod>" -> struct local_slice_ref */
};

void *local_array(struct local_builder *b, size_t count,
                  size_t size); /* zeroed, kept; NULL on failure or count 0 */
struct pg_str local_copy(struct local_builder *b, struct pg_str s);                     /* kept */
struct pg_str local_fmt(struct local_builder *b, const char *fmt, ...) PG_PRINTF(2, 3); /* kept */

/* manifest_local.c: what Pods and entries share. */
bool local_find_service(const struct local_builder *b, struct pg_str ns, struct pg_str name, size_t *out);
void local_join_services(struct local_builder *b, const struct object *o,
                         struct xds_workload *w); /* by selectors and slices */
void local_entry_service(struct local_builder *b, size_t service, const struct obj_workload_entry *e,
                         struct xds_workload *w);
void local_names(struct local_builder *b, const struct obj_kvs *labels, struct pg_str workload,
                 struct xds_workload *w);
void local_tunnel(const struct local_builder *b, const struct object *o, struct xds_workload *w);
void local_set_ips(struct local_builder *b, const struct pg_ip *ips, size_t n, struct xds_workload *w);

/* manifest_local_entry.c: ServiceEntry and WorkloadEntry. */
size_t local_entry_hosts(const struct local_builder *b); /* at most so many services will be added */
void local_entry_services(struct local_builder *b);
size_t local_entry_workloads_max(const struct local_builder *b); /* at most so many workloads will be added */
void local_entry_workloads(struct local_builder *b);

/* manifest_local_policy.c: fills out->policies. */
void local_policies(struct local_builder *b);
/* The names of the policies that a workload lists, into w->policies. */
void local_workload_policies(struct local_builder *b, struct pg_str ns, const struct obj_kvs *labels,
                             struct xds_workload *w);

#endif
