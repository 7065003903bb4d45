/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gateway objects as peers and as the own east-west gateway. A remote object that is not complete stays in
 * the list, not accepted, with the reason in the words of its condition. Control thread.
 */
#include "manifest_objects.h"

#include <stdio.h>

#define PORT_XDS_DEFAULT 15012u
#define PORT_HBONE_DEFAULT 15008u
#define REMOTE_NAME_PREFIX "istio-remote-peer-"
#define ANN_TRUST_DOMAIN "gateway.istio.io/trust-domain"
#define ANN_SERVICE_ACCOUNT "gateway.istio.io/service-account"

static int dup_str(struct pg_str s, char **out)
{
    *out = pg_strndup(s.p ? s.p : "", s.len);
    return *out != NULL ? 0 : PG_E_NOMEM;
}

static int dup_addresses(const struct obj_gateway *g, char **out, size_t *n)
{
    for (size_t i = 0; i < g->n_addresses; i++) {
        int r = dup_str(g->addresses[i], &out[i]);
        if (r < 0) {
            return r;
        }
        (*n)++;
    }
    return 0;
}

static void set_file(const struct object *o, char *out, size_t cap)
{
    (void)snprintf(out, cap, "%s:%u", o->file, o->line);
}

static uint16_t xds_port(const struct obj_gateway *g)
{
    uint16_t by_protocol = 0;
    for (size_t i = 0; i < g->n_listeners; i++) {
        if (pg_str_eq_c(g->listeners[i].name, "xds-tls")) {
            return g->listeners[i].port;
        }
        if (by_protocol == 0 && pg_str_eq_c(g->listeners[i].protocol, "TLS")) {
            by_protocol = g->listeners[i].port;
        }
    }
    return by_protocol != 0 ? by_protocol : PORT_XDS_DEFAULT;
}

static uint16_t hbone_port(const struct obj_gateway *g)
{
    for (size_t i = 0; i < g->n_listeners; i++) {
        if (pg_str_eq_c(g->listeners[i].protocol, "HBONE")) {
            return g->listeners[i].port;
        }
    }
    return PORT_HBONE_DEFAULT;
}

static struct pg_str cluster_of(const struct object *o)
{
    struct pg_str cluster = kvs_get(&o->labels, LABEL_CLUSTER);
    if (cluster.len == 0) {
        cluster = kvs_get(&o->labels, LABEL_NETWORK);
    }
    if (cluster.len == 0 && pg_str_has_prefix(o->name, PG_STR(REMOTE_NAME_PREFIX))) {
        cluster = pg_str_sub(o->name, sizeof(REMOTE_NAME_PREFIX) - 1);
    }
    return cluster;
}

static struct pg_str or_else(struct pg_str s, struct pg_str fallback)
{
    return s.len > 0 ? s : fallback;
}

static int fill_peer(const struct object *o, const struct manifest_config *c, struct peer_config *p)
{
    const struct obj_gateway *g = &o->u.gateway;
    int r = dup_str(o->ns, &p->ns);
    r = r < 0 ? r : dup_str(o->name, &p->name);
    r = r < 0 ? r : dup_str(cluster_of(o), &p->cluster);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_NETWORK), &p->network);
    r = r < 0
            ? r
            : dup_str(or_else(kvs_get(&o->annotations, ANN_TRUST_DOMAIN), c->trust_domain), &p->trust_domain);
    r = r < 0 ? r
              : dup_str(or_else(kvs_get(&o->annotations, ANN_SERVICE_ACCOUNT), o->name), &p->service_account);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_REGION), &p->region);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_ZONE), &p->zone);
    r = r < 0 ? r : dup_addresses(g, p->addresses, &p->n_addresses);
    p->xds_port = xds_port(g);
    p->hbone_port = hbone_port(g);
    p->stale_deadline_s = g->stale_deadline_s;
    set_file(o, p->file, sizeof(p->file));
    return r;
}

/* A cluster name becomes the first part of uids and of object names. */
static bool is_cluster_name(const char *s)
{
    size_t len = strlen(s);
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '-' && c != '.' && c != '_') {
            return false;
        }
    }
    return len > 0 && len <= 253;
}

static void judge(struct peer_config *p, const struct peer_config *before, size_t n_before)
{
    p->accepted = false;
    if (p->cluster[0] == '\0') {
        (void)snprintf(p->reason, sizeof(p->reason), "Invalid: label %s is missing", LABEL_CLUSTER);
        return;
    }
    if (!is_cluster_name(p->cluster)) {
        (void)snprintf(p->reason, sizeof(p->reason), "Invalid: \"%.40s\" is not a cluster name", p->cluster);
        return;
    }
    if (p->network[0] == '\0') {
        (void)snprintf(p->reason, sizeof(p->reason), "Invalid: label %s is missing", LABEL_NETWORK);
        return;
    }
    if (p->n_addresses == 0) {
        (void)snprintf(p->reason, sizeof(p->reason), "AddressNotAssigned: spec.addresses is empty");
        return;
    }
    for (size_t i = 0; i < n_before; i++) {
        if (before[i].accepted && strcmp(before[i].cluster, p->cluster) == 0) {
            (void)snprintf(p->reason, sizeof(p->reason),
                           "Conflicted: cluster %.24s is already the peer of %.24s/%.20s", p->cluster,
                           before[i].ns, before[i].name);
            return;
        }
    }
    p->accepted = true;
}

static void free_peers(struct peer_config *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        peer_config_fini(&p[i]);
    }
    pg_free(p);
}

int manifest_peers(const struct manifest *m, const struct manifest_config *c, struct peer_config **out,
                   size_t *n_out)
{
    const struct object_index *x = manifest_index(m);
    size_t from, count = index_range(x, OBJ_GATEWAY, NULL, &from);
    struct peer_config *peers = pg_calloc(count + 1, sizeof(*peers));
    if (peers == NULL) {
        return PG_E_NOMEM;
    }
    size_t n = 0;
    for (size_t i = from; i < from + count; i++) {
        const struct object *o = x->objects[i];
        if (!pg_str_eq_c(o->u.gateway.gateway_class, "istio-remote") ||
            pg_str_eq(cluster_of(o), c->cluster)) {
            continue;
        }
        struct peer_config *p = &peers[n++];
        int r = fill_peer(o, c, p);
        if (r < 0) {
            free_peers(peers, n);
            return r;
        }
        judge(p, peers, n - 1);
        if (n > CONTRIB_PEERS_MAX) {
            p->accepted = false;
            (void)snprintf(p->reason, sizeof(p->reason), "Invalid: more than %u peers", CONTRIB_PEERS_MAX);
        }
    }
    *out = peers;
    *n_out = n;
    return 0;
}

static bool is_eastwest(const struct object *o)
{
    return pg_str_eq_c(o->u.gateway.gateway_class, "istio-eastwest") ||
           pg_str_eq_c(o->u.gateway.gateway_class, "istio-east-west");
}

static int fill_eastwest(const struct object *o, struct eastwest_config *e)
{
    const struct obj_gateway *g = &o->u.gateway;
    int r = dup_str(o->ns, &e->ns);
    r = r < 0 ? r : dup_str(o->name, &e->name);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_NETWORK), &e->network);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_REGION), &e->region);
    r = r < 0 ? r : dup_str(kvs_get(&o->labels, LABEL_ZONE), &e->zone);
    r = r < 0 ? r : dup_addresses(g, e->addresses, &e->n_addresses);
    e->xds_port = xds_port(g);
    e->hbone_port = hbone_port(g);
    set_file(o, e->file, sizeof(e->file));
    return r;
}

int manifest_eastwest(const struct manifest *m, struct eastwest_config **out, size_t *n_out)
{
    const struct object_index *x = manifest_index(m);
    size_t from, count = index_range(x, OBJ_GATEWAY, NULL, &from);
    struct eastwest_config *list = pg_calloc(count + 1, sizeof(*list));
    if (list == NULL) {
        return PG_E_NOMEM;
    }
    size_t n = 0;
    int r = 0;
    for (size_t i = from; i < from + count && r == 0; i++) {
        if (is_eastwest(x->objects[i])) {
            r = fill_eastwest(x->objects[i], &list[n++]);
        }
    }
    if (r < 0) {
        for (size_t i = 0; i < n; i++) {
            eastwest_config_fini(&list[i]);
        }
        pg_free(list);
        return r;
    }
    *out = list;
    *n_out = n;
    return 0;
}
