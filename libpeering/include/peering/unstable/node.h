/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * UNSTABLE. A data path's link to its control plane: keeps a table over delta ADS (Address, Authorization)
 * and fetches certificates from IstioCertificateService, on a loop of this project (net/loop.h). Everything
 * runs on that loop's thread. Wire behaviour is ztunnel's: node id, headers, versions on reconnect, wildcard
 * subscription, NACK text; better where it is weak: back-off with jitter, a last-message age.
 */
#ifndef PEERING_UNSTABLE_NODE_H
#define PEERING_UNSTABLE_NODE_H

#include <peering/table.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pg_loop;
struct pg_resolver;
typedef struct peering_node peering_node;

typedef struct peering_node_kv {
    const char *key;
    const char *value;
} peering_node_kv;
/** Copied by peering_node_new. */
typedef struct peering_node_options {
    const char *xds_address; /**< "https://host:port" or "host:port"; "" or NULL: no control plane */
    const char *ca_address;
    const char *xds_root_ca; /**< existing path (re-read at each connect), or PEM text */
    const char *ca_root_ca;
    const char *alt_xds_hostname; /**< second acceptable name, or NULL */
    const char *alt_ca_hostname;
    const char *token; /**< existing path (re-read) or the token itself; NULL: none */
    const char *cluster_id;
    const char *node_id; /**< "ztunnel~<ip>~<pod>.<ns>~<ns>.svc.cluster.local" */
    const peering_node_kv *metadata;
    size_t n_metadata;
} peering_node_options;
typedef struct peering_node_callbacks {
    /** A new snapshot is in force (at most every 20 ms while a burst lasts); borrowed for the call. */
    void (*on_snapshot)(void *arg, peering_snapshot *s);
    /** Once: every type had its first reply (or there is no control plane). */
    void (*on_ready)(void *arg);
} peering_node_callbacks;
typedef struct peering_node_status {
    bool connected, synced;
    const char *last_error; /**< "" when none; lives until the next callback */
    uint64_t last_message_age_ms;
    uint64_t messages[2], bytes[2]; /**< per type: Address, Authorization */
    uint64_t terminations[4];       /**< ConnectionError, Error, Reconnect, Complete */
} peering_node_status;
/** PEERING_ERR_CONFIG with the reason (names the option), PEERING_ERR_NOMEM. */
int peering_node_new(struct pg_loop *l, struct pg_resolver *r, const peering_node_options *o,
                     const peering_node_callbacks *cb, void *arg, peering_node **out, peering_text *why);
void peering_node_free(peering_node *n);
void peering_node_get_status(const peering_node *n, peering_node_status *out);
/** Signs a CSR at the CA; `impersonate` empty: the caller's own identity. `done` once from the loop: chain[0]
 * leaf, last roots. */
typedef struct peering_csr_call peering_csr_call;
int peering_node_sign(peering_node *n, peering_str csr_pem, int64_t ttl_s, peering_str impersonate,
                      void (*done)(void *arg, int err, const peering_str *chain, size_t n_chain,
                                   const char *text),
                      void *arg, peering_csr_call **out, peering_text *why);
void peering_csr_call_cancel(peering_csr_call *c);

#ifdef __cplusplus
}
#endif
#endif
