/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A control plane of one cluster: reads local state (a manifest directory), links to the control planes of
 * other clusters over mutually authenticated delta xDS, merges all into one global service table, serves it
 * (and workload certificates) to proxies and peers on one TLS port, and answers questions about itself on an
 * admin port.
 *
 * It runs on one thread with its own event loop: peering_control_run. `peeringd` is exactly this plus option
 * parsing.
 */
#ifndef PEERING_CONTROL_H
#define PEERING_CONTROL_H

#include <peering/peering.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Settings by name; see peering_options_describe for the list. */
typedef struct peering_options peering_options;
/** A running control plane. */
typedef struct peering_control peering_control;

/** All defaults. PEERING_ERR_NOMEM. */
PEERING_API int peering_options_new(peering_options **out);
/** NULL is fine. */
PEERING_API void peering_options_free(peering_options *o);
/** Sets one option from text; the value is copied and checked. PEERING_ERR_NOTFOUND (no such option; `why`
 * names the nearest), PEERING_ERR_CONFIG (bad value; `why` says what is accepted), PEERING_ERR_NOMEM. `why`
 * may be NULL. */
PEERING_API int peering_options_set(peering_options *o, const char *name, const char *value,
                                    peering_text *why);
/** The value in force, or NULL when there is no such option. Lives until the option is set again. */
PEERING_API const char *peering_options_get(const peering_options *o, const char *name);
/** The i-th option: name, environment variable (or NULL), default and one line of help; false past the end.
 * Static storage. */
typedef struct peering_option_info {
    const char *name;
    const char *env;
    const char *fallback;
    const char *help;
} peering_option_info;
PEERING_API bool peering_options_describe(size_t i, peering_option_info *out);

/** Loads certificates and manifests and opens the ports; nothing runs yet. Fails with a text that names what
 * and where: PEERING_ERR_CONFIG, PEERING_ERR_NOMEM, or another negative code. The options are copied. */
PEERING_API int peering_control_new(const peering_options *o, peering_control **out, peering_text *why);
/** Runs until peering_control_stop; the calling thread becomes the control thread. */
PEERING_API void peering_control_run(peering_control *c);
/** From any thread or a signal handler: ends peering_control_run after a graceful GOAWAY to clients. */
PEERING_API void peering_control_stop(peering_control *c);
/** Not while running. NULL is fine. */
PEERING_API void peering_control_free(peering_control *c);
/** "ip:port" the xDS port is bound to (useful with port 0). Lives with the control. */
PEERING_API const char *peering_control_address(const peering_control *c);

#ifdef __cplusplus
}
#endif
#endif
