/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what control planes answered, and the manifest files beside them. One thread. */
#ifndef ISTHMUS_PEERCTL_STATE_H
#define ISTHMUS_PEERCTL_STATE_H

#include "ctl.h"

#define STATE_STATUS_SCHEMA "isthmus.status/v1"
#define STATE_SERVICES_SCHEMA "isthmus.services/v1"
#define STATE_WORKLOADS_SCHEMA "isthmus.workloads/v1"
#define STATE_CONNECTIONS_SCHEMA "isthmus.connections/v1"
#define STATE_EXPLAIN_SCHEMA "isthmus.explain/v1"

/* The entry of /status "settings" by its environment name or option name; NULL when unknown. */
const struct json_node *state_setting(const struct json_node *status, const char *name);
const char *state_setting_value(const struct json_node *status, const char *name); /* "" when unknown */
/* A condition of a peer of /status; NULL when it has none of this type. */
const struct json_node *state_condition(const struct json_node *peer, const char *type);
bool state_condition_true(const struct json_node *peer, const char *type);
/* Whether a connection's identity is that of the east-west gateway object; the first one matching, or NULL.
 */
const struct json_node *state_gateway_of(const struct json_node *status, const struct json_node *connection);
/* "a, b, c" of an array of strings. */
const char *state_join(struct ctl *c, const struct json_node *array, const char *between);
/* Seconds since 1970 of "2026-11-20T14:39:29...Z"; -1 when it is no such time. */
int64_t state_seconds(const char *rfc3339);
/* Age of such a time as kubectl prints ages; "<unknown>". */
const char *state_age(struct ctl *c, const char *rfc3339);
bool state_all_synced(const struct json_node *connection);

/* Writes `text` as <manifests>/<file> through a rename when it differs: *changed. Complains, false. */
bool state_put_manifest(struct ctl *c, const struct context *x, const char *file, struct pg_str text,
                        bool *changed);
/* A lower-case DNS label or name, as Kubernetes wants for names of objects. */
bool state_is_object_name(const char *s);

#endif
