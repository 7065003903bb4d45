/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * libpeering: service tables for Istio ambient meshes, peered across clusters.
 *
 * Concepts. A **table** takes WDS and WADS resources (istio.workload, istio.security) and publishes immutable
 * **snapshots**; snapshots are shared freely between threads and answer every question of a data path: who is
 * this address, where does this connection go (route.h), may it come in (policy.h), what does this name
 * resolve to (dns.h). A **control** (control.h) is the other half: it reads local state, links to peer
 * control planes, merges all into one global service table and serves it.
 *
 * Threads. A table belongs to one thread. A snapshot may be read by any number of threads; referencing is
 * atomic. Functions that take a `const peering_snapshot *` are pure.
 *
 * Errors. Functions return 0 (or a count) on success and a negative peering_error; outputs are untouched on
 * failure. Text goes to an optional `peering_text`. Out of memory is an ordinary error.
 *
 * Strings are slices (pointer and length, UTF-8, not NUL-terminated); those read from a snapshot live as long
 * as a reference to it.
 */
#ifndef PEERING_PEERING_H
#define PEERING_PEERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEERING_API __attribute__((visibility("default")))

/** A slice of bytes; owns nothing. */
typedef struct peering_str {
    const char *ptr;
    size_t len;
} peering_str;

/** An IP address: 4 or 16 bytes, or len 0 for none. IPv4-mapped IPv6 is stored as IPv4. */
typedef struct peering_ip {
    uint8_t len;
    uint8_t bytes[16];
} peering_ip;

/** Human text of an error; always NUL-terminated, cut when too long. */
typedef struct peering_text {
    char text[256];
} peering_text;

/** Error codes; negative. Values equal those of the internal pg_err. */
enum peering_error {
    PEERING_OK = 0,
    PEERING_ERR_NOMEM = -8,
    PEERING_ERR_LIMIT = -9,
    PEERING_ERR_DENIED = -13,
    PEERING_ERR_CONFIG = -14,
    PEERING_ERR_PARSE = -15,
    PEERING_ERR_NOTFOUND = -16,
    PEERING_ERR_UNSUPPORTED = -19,
};

/** Version of the library, "0.1.0". Static storage. */
PEERING_API const char *peering_version(void);
/** One short English phrase for an error code. Static storage. */
PEERING_API const char *peering_strerror(int err);

#ifdef __cplusplus
}
#endif
#endif
