/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest directory: Kubernetes-style YAML files (*.yaml, *.yml, multi-document, also kind List), the
 * very objects an API server would hold. A bad document is reported with file, line and reason, and the last
 * good version of that FILE stays in force. Control thread; reads files synchronously (local disk), never
 * follows YAML aliases, caps sizes.
 */
#ifndef ISTHMUS_PEERING_MANIFEST_H
#define ISTHMUS_PEERING_MANIFEST_H

#include "contrib.h"

#define MANIFEST_FILES_MAX 4096u
#define MANIFEST_FILE_MAX (16u * 1024 * 1024) /* bytes */
#define MANIFEST_DEPTH_MAX 32u
#define MANIFEST_OBJECTS_MAX 400000u

struct manifest;
struct manifest_problem { /* strings live until the next scan */
    const char *file;     /* name inside the directory */
    unsigned line;        /* 1-based, 0: whole file */
    const char *reason;
};
int manifest_new(const char *dir, struct manifest **out, struct pg_errtext *err) PG_MUST_CHECK;
void manifest_free(struct manifest *m);
/* Descriptor that turns readable when something in the directory changed (inotify: writes, renames, symlink
 * swaps as Kubernetes does them); manifest_changed drains it. */
int manifest_fd(const struct manifest *m);
void manifest_drain(struct manifest *m);
/* Re-reads files that changed (size, mtime, inode). 1 something changed, 0 nothing; problems are listed
 * whatever is returned. PG_E_IO when the directory cannot be read (the old state stays). */
int manifest_scan(struct manifest *m, struct pg_errtext *err) PG_MUST_CHECK;
size_t manifest_problems(const struct manifest *m, const struct manifest_problem **out);

struct manifest_config {
    struct pg_str cluster; /* uid prefix */
    struct pg_str network; /* used when the system namespace has no label */
    struct pg_str trust_domain;
    struct pg_str domain;    /* "cluster.local" */
    struct pg_str system_ns; /* "istio-system" */
    bool select_workload_entries;
};
/* Builds the local contribution from the objects now in force (istiod's rules: spec of Workload from a Pod,
 * Service, EndpointSlice). */
int manifest_local(const struct manifest *m, const struct manifest_config *c, struct contrib_local *out,
                   struct pg_errtext *err) PG_MUST_CHECK;
/* Gateways. *out is a heap array (pg_free after _fini of each). An object whose cluster is the own cluster is
 * skipped. */
int manifest_peers(const struct manifest *m, const struct manifest_config *c, struct peer_config **out,
                   size_t *n) PG_MUST_CHECK;
int manifest_eastwest(const struct manifest *m, struct eastwest_config **out, size_t *n) PG_MUST_CHECK;
/* True when a ServiceAccount object (or a Pod using it) of that name exists: who may get a certificate
 * without a token's word. */
bool manifest_has_service_account(const struct manifest *m, struct pg_str ns, struct pg_str sa);
/* Counts by kind for status: "Service" -> n; "" -> objects of kinds that mean nothing here and were passed
 * over. */
size_t manifest_count(const struct manifest *m, const char *kind);

#endif
