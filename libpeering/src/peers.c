/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See peers.h. Invariants: a session's resources change only through its own stream's callbacks or its
 * withdrawal; a link shows exactly one session's data at a time. Control thread.
 */
#include "peers.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "probe.h"
#include "xds/client.h"

#define TYPE_FSDS 0u
#define TYPE_SGDS 1u
#define TYPE_WDS 2u
#define CLIENT_RETRY_MS 1000u

struct condition {
    const char *type;
    bool is_true;
    char reason[48];
    char message[200];
    int64_t since_us; /* wall clock */
};

/* One stream and what it brought. */
struct session {
    struct link *link;
    uint64_t generation;
    struct xds_client *client;
    struct peer_state state;
    struct pg_map services;
    struct pg_map workloads;
    struct probe *probe;
    struct pg_timer *timer; /* state.wait */
    char address[PG_ADDR_TEXT + 256];
    char last_error[256];
    uint64_t retry_at_ms;
    uint64_t last_message_ms;
    uint64_t disconnects;
    uint64_t batch_changes;
    uint64_t bytes; /* of both maps; capped */
};

/* One Gateway object. `active` shows its data; `pending` replaces it when it has synced. */
struct link {
    struct peers *peers;
    struct peer_config config;
    struct session *active;
    struct session *pending;
    struct condition conditions[PEER_CONDITIONS];
    bool seen;   /* in the set being applied */
    bool wanted; /* a session could not be made: the next apply tries again */
};

struct peers {
    struct peers_options o;
    struct link *links[CONTRIB_PEERS_MAX];
    size_t n_links;
    uint64_t next_generation;
    struct pg_errtext scratch;
};

/* --- resources
 * ------------------------------------------------------------------------------------------------ */

static struct pg_map *map_of(struct session *s, size_t type)
{
    return type == TYPE_FSDS ? &s->services : type == TYPE_WDS ? &s->workloads : NULL;
}

static void clear_map(struct pg_map *m)
{
    size_t it = 0;
    struct pg_str key;
    void *value;
    while (pg_map_next(m, &it, &key, &value)) {
        (void)pg_map_del(m, key);
        pg_free(value);
    }
}

/* One block: the struct, then the name, then the bytes. */
static struct contrib_blob *blob_new(struct pg_str name, struct pg_str bytes)
{
    struct contrib_blob *b = pg_malloc(sizeof(*b) + name.len + bytes.len + 1);
    if (b == NULL) {
        return NULL;
    }
    char *p = (char *)(b + 1);
    if (name.len > 0) {
        memcpy(p, name.p, name.len);
    }
    if (bytes.len > 0) {
        memcpy(p + name.len, bytes.p, bytes.len);
    }
    b->name = pg_str_n(p, name.len);
    b->bytes = pg_str_n(p + name.len, bytes.len);
    return b;
}

static uint64_t blob_cost(const struct contrib_blob *b)
{
    return b->name.len + b->bytes.len;
}

static int check_decodes(size_t type, struct pg_str bytes, struct pg_errtext *why)
{
    struct pg_arena arena;
    pg_arena_init(&arena, XDS_RESOURCE_BUDGET);
    int r = PG_E_UNSUPPORTED;
    if (type == TYPE_FSDS) {
        struct xds_fed_service svc;
        r = xds_fed_service_decode(bytes, &arena, &svc, why);
    } else if (type == TYPE_WDS) {
        struct xds_address a;
        r = xds_address_decode(bytes, &arena, &a, why);
    } else if (type == TYPE_SGDS) {
        struct xds_segment seg;
        r = xds_segment_decode(bytes, &arena, &seg, why);
    }
    pg_arena_fini(&arena);
    return r;
}

static int on_resource(void *arg, size_t type, const struct xds_delta_resource *res, struct pg_errtext *why)
{
    struct session *s = arg;
    if (!res->has_resource) {
        pg_err_set(why, "resource without payload");
        return PG_E_PARSE;
    }
    int r = check_decodes(type, res->bytes, why);
    struct pg_map *m = map_of(s, type);
    if (r != 0 || m == NULL) {
        return r;
    }
    const struct contrib_blob *have = pg_map_get(m, res->name);
    uint64_t left = s->bytes - (have == NULL ? 0 : blob_cost(have));
    if (left + res->name.len + res->bytes.len > PEER_BYTES_MAX) {
        pg_err_set(why, "more than %llu bytes from this peer", PEER_BYTES_MAX);
        return PG_E_LIMIT;
    }
    struct contrib_blob *b = blob_new(res->name, res->bytes);
    if (b == NULL) {
        pg_err_set(why, "out of memory");
        return PG_E_NOMEM;
    }
    void *old = NULL;
    r = pg_map_set(m, b->name, b, &old);
    if (r != 0) {
        pg_err_set(why, "more than %u resources from this peer", PEER_RESOURCES_MAX);
        pg_free(b);
        return r;
    }
    s->bytes = left + blob_cost(b);
    pg_free(old);
    s->batch_changes++;
    return 0;
}

static void on_removed(void *arg, size_t type, struct pg_str name)
{
    struct session *s = arg;
    struct pg_map *m = map_of(s, type);
    void *old = m == NULL ? NULL : pg_map_del(m, name);
    if (old != NULL) {
        s->bytes -= blob_cost(old);
        pg_free(old);
        s->batch_changes++;
    }
}

/* --- conditions
 * ----------------------------------------------------------------------------------------------- */

static const char *const condition_types[PEER_CONDITIONS] = {
    "Accepted",
    "Programmed",
    "gloo.solo.io/PeerConnected",
    "gloo.solo.io/PeeringSucceeded",
    "gloo.solo.io/PeerDataPlaneProgrammed",
};
enum { COND_ACCEPTED, COND_PROGRAMMED, COND_CONNECTED, COND_SUCCEEDED, COND_DATA_PLANE };

static bool set_condition(struct link *l, size_t i, bool is_true, const char *reason, const char *message)
{
    struct condition *c = &l->conditions[i];
    bool changed = c->type == NULL || c->is_true != is_true || strcmp(c->reason, reason) != 0;
    if (c->type == NULL || c->is_true != is_true) {
        c->since_us = pg_clock_wall_us();
    }
    c->type = condition_types[i];
    c->is_true = is_true;
    (void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
    (void)snprintf(c->message, sizeof(c->message), "%s", message);
    return changed;
}

static struct session *newest(const struct link *l)
{
    return l->pending != NULL ? l->pending : l->active;
}

static bool data_plane_condition(struct link *l, const struct session *s)
{
    enum peer_data d = s == NULL ? PEER_DATA_NONE : s->state.data;
    bool flat = strcmp(l->config.network, l->peers->o.network) == 0;
    if (d == PEER_DATA_NONE) {
        return set_condition(l, COND_DATA_PLANE, false, "NoData",
                             "nothing received from this peer yet, or withdrawn at the deadline");
    }
    if (d == PEER_DATA_UNHEALTHY) {
        return set_condition(l, COND_DATA_PLANE, false, "GatewayUnreachable",
                             "the HBONE port of the remote gateway does not answer");
    }
    if (flat && !l->peers->o.flat_enabled) {
        return set_condition(
            l, COND_DATA_PLANE, false, "FlatNetworksDisabled",
            "the peer is in our own network and flat networks are off (PEERING_ENABLE_FLAT_NETWORKS)");
    }
    return set_condition(l, COND_DATA_PLANE, true, flat ? "DirectToPods" : "GatewayKnown",
                         d == PEER_DATA_STALE ? "stream lost, data path proven alive by a probe" : "usable");
}

static bool update_conditions(struct link *l)
{
    const struct session *s = newest(l);
    const struct peer_config *c = &l->config;
    bool changed = set_condition(l, COND_ACCEPTED, c->accepted, c->accepted ? "Accepted" : "Invalid",
                                 c->accepted ? "" : c->reason);
    bool usable = c->accepted && c->n_addresses > 0;
    changed |= set_condition(l, COND_PROGRAMMED, usable, usable ? "Programmed" : "AddressNotAssigned", "");
    bool up = s != NULL && s->state.connected;
    changed |= set_condition(l, COND_CONNECTED, up, up ? "Connected" : "Disconnected",
                             up || s == NULL ? "" : s->last_error);
    bool synced = s != NULL && s->state.synced;
    changed |= set_condition(l, COND_SUCCEEDED, synced, synced ? "Synced" : "NotSynced",
                             synced ? "" : "no full reply on this stream yet");
    return data_plane_condition(l, l->active) || changed;
}

/* --- sessions
 * ------------------------------------------------------------------------------------------------- */

static void session_free(struct session *s)
{
    if (s == NULL) {
        return;
    }
    xds_client_free(s->client);
    probe_cancel(s->probe);
    pg_timer_free(s->timer);
    clear_map(&s->services);
    clear_map(&s->workloads);
    pg_map_fini(&s->services);
    pg_map_fini(&s->workloads);
    pg_free(s);
}

static void event(struct session *s, enum peer_event ev);

static void on_probe_done(void *arg, int err, const char *text)
{
    struct session *s = arg;
    s->probe = NULL;
    if (err != 0) {
        PG_LOG(s->state.data == PEER_DATA_UNHEALTHY ? PG_LOG_DEBUG : PG_LOG_WARN, "peering",
               "gateway probe failed, its endpoints are unhealthy",
               PG_F_C("cluster", s->link->config.cluster), PG_F_C("error", text));
    }
    event(s, err == 0 ? PEER_EV_PROBE_OK : PEER_EV_PROBE_FAILED);
}

static int start_probe(struct session *s)
{
    struct link *l = s->link;
    const struct peer_config *c = &l->config;
    struct pg_sb id;
    pg_sb_init(&id, CERT_SPIFFE_MAX);
    cert_spiffe_format(pg_str_c(c->trust_domain), pg_str_c(c->ns), pg_str_c(c->service_account), &id);
    struct cert_creds *creds = l->peers->o.creds(l->peers->o.arg, &l->peers->scratch);
    int r = creds == NULL || id.err != 0 || c->n_addresses == 0 ? PG_E_UNREACHABLE : 0;
    if (r == 0) {
        struct probe_options o = {.loop = l->peers->o.loop,
                                  .resolver = l->peers->o.resolver,
                                  .host = c->addresses[0],
                                  .port = c->hbone_port,
                                  .creds = creds,
                                  .expect = pg_sb_view(&id),
                                  .timeout_ms = PEER_PROBE_TIMEOUT_MS};
        r = probe_start(&o, on_probe_done, s, &s->probe);
    }
    cert_creds_unref(creds);
    pg_sb_fini(&id);
    return r;
}

static void arm(struct session *s)
{
    uint64_t wait = peer_state_wait_ms(&s->state, pg_loop_now_ms(s->link->peers->o.loop));
    if (s->client == NULL && wait > CLIENT_RETRY_MS) {
        wait = CLIENT_RETRY_MS;
    }
    if (wait == UINT64_MAX) {
        pg_timer_stop(s->timer);
    } else {
        pg_timer_start(s->timer, wait);
    }
}

static int make_client(struct session *s, struct pg_errtext *err);

/* Withdrawn means forgotten: the stream's memory of versions goes too, or the peer would leave out what it
 * thinks we have. */
static void restart_client(struct session *s)
{
    struct pg_errtext err = {""};
    if (make_client(s, &err) != 0) {
        PG_LOG(PG_LOG_ERROR, "peering", "cannot restart the link to a peer, trying again in 1s",
               PG_F_C("cluster", s->link->config.cluster), PG_F_C("error", err.text));
    }
}

static void forget(struct session *s)
{
    clear_map(&s->services);
    clear_map(&s->workloads);
    s->bytes = 0;
    xds_client_free(s->client); /* says nothing more */
    s->client = NULL;
    s->state.connected = false;
    restart_client(s);
}

static void log_data(const struct session *s, enum peer_data before)
{
    if (s->state.data != before) {
        PG_LOG(PG_LOG_INFO, "peering", "peer data changed state", PG_F_C("cluster", s->link->config.cluster),
               PG_F_C("from", peer_data_name(before)), PG_F_C("to", peer_data_name(s->state.data)),
               PG_F_U64("services", s->services.len), PG_F_U64("workloads", s->workloads.len));
    }
}

static void event(struct session *s, enum peer_event ev)
{
    struct link *l = s->link;
    enum peer_data before = s->state.data;
    unsigned todo = peer_state_step(&s->state, ev, pg_loop_now_ms(l->peers->o.loop));
    if (todo & PEER_DO_CANCEL) {
        probe_cancel(s->probe);
        s->probe = NULL;
    }
    if (todo & PEER_DO_CLEAR) {
        PG_LOG(PG_LOG_WARN, "peering", "stale deadline passed, peer data withdrawn",
               PG_F_C("cluster", l->config.cluster));
        forget(s);
    }
    if ((todo & PEER_DO_PROBE) && start_probe(s) != 0) {
        todo |= peer_state_step(&s->state, PEER_EV_PROBE_FAILED, pg_loop_now_ms(l->peers->o.loop));
    }
    log_data(s, before);
    arm(s);
    bool changed = update_conditions(l);
    if (changed || (todo & PEER_DO_MERGE)) {
        l->peers->o.on_change(l->peers->o.arg);
    }
}

static void on_timer(void *arg)
{
    struct session *s = arg;
    if (s->client == NULL) {
        restart_client(s);
    }
    event(s, PEER_EV_TICK);
}

static void promote(struct session *s)
{
    struct link *l = s->link;
    if (l->pending != s) {
        return;
    }
    session_free(l->active);
    l->active = s;
    l->pending = NULL;
}

static void on_batch(void *arg, const struct adsc_result *r)
{
    struct session *s = arg;
    s->last_message_ms = pg_loop_now_ms(s->link->peers->o.loop);
    if (r->rejected > 0) {
        PG_LOG(PG_LOG_WARN, "peering", "resources of a peer rejected",
               PG_F_C("cluster", s->link->config.cluster), PG_F_U64("rejected", r->rejected),
               PG_F_U64("accepted", r->accepted));
    }
    if (r->synced && !s->state.synced) {
        promote(s);
        PG_LOG(PG_LOG_INFO, "peering", "peer synced", PG_F_C("cluster", s->link->config.cluster),
               PG_F_C("address", s->address), PG_F_U64("services", s->services.len),
               PG_F_U64("workloads", s->workloads.len));
        event(s, PEER_EV_SYNCED);
    } else if (s->batch_changes > 0) {
        s->link->peers->o.on_change(s->link->peers->o.arg);
    }
    s->batch_changes = 0;
}

static void on_state(void *arg, const struct xds_client_event *e)
{
    struct session *s = arg;
    if (e->address != NULL && e->address[0] != '\0') {
        (void)snprintf(s->address, sizeof(s->address), "%s", e->address);
    }
    switch (e->state) {
    case XDS_CONNECTING:
    case XDS_SYNCED:
        break;
    case XDS_CONNECTED:
        s->last_error[0] = '\0';
        s->retry_at_ms = 0;
        event(s, PEER_EV_STREAM_UP);
        break;
    case XDS_DISCONNECTED:
        s->disconnects++;
        (void)snprintf(s->last_error, sizeof(s->last_error), "%s", e->text == NULL ? "" : e->text);
        s->retry_at_ms = pg_loop_now_ms(s->link->peers->o.loop) + e->retry_ms;
        event(s, PEER_EV_STREAM_LOST);
        break;
    }
}

static struct cert_creds *get_creds(void *arg, struct pg_errtext *err)
{
    const struct session *s = arg;
    return s->link->peers->o.creds(s->link->peers->o.arg, err);
}

static int make_client(struct session *s, struct pg_errtext *err)
{
    struct link *l = s->link;
    const struct peers_options *o = &l->peers->o;
    char text[PEER_ADDRESSES_MAX][300];
    const char *addresses[PEER_ADDRESSES_MAX];
    for (size_t i = 0; i < l->config.n_addresses; i++) {
        bool v6 = strchr(l->config.addresses[i], ':') != NULL;
        (void)snprintf(text[i], sizeof(text[i]), v6 ? "[%s]:%u" : "%s:%u", l->config.addresses[i],
                       l->config.xds_port);
        addresses[i] = text[i];
    }
    char target[300];
    char id[600];
    char names[300];
    (void)snprintf(target, sizeof(target), "peering-%s", l->config.cluster);
    (void)snprintf(names, sizeof(names), "istiod-%s", o->cluster.p);
    (void)snprintf(id, sizeof(id), "ztunnel~1.1.1.1~%s.%s~%s.svc.cluster.local", names, o->system_ns.p,
                   o->system_ns.p);
    struct xds_kv md[] = {
        {PG_STR("NAME"), pg_str_c(names)},
        {PG_STR("NAMESPACE"), o->system_ns},
        {PG_STR("CLUSTER_ID"), o->cluster},
        {PG_STR("NETWORK"), pg_str_c(o->network)},
        {PG_STR("ISTIO_VERSION"), pg_str_c(o->version)},
        {PG_STR("ISTHMUS_PEER"), PG_STR("1")},
    };
    static const char *const server_names[] = {"istiod.istio-system.svc"};
    const struct adsc_type types[] = {
        [TYPE_FSDS] = {.type_url = XDS_TYPE_FEDERATED_SERVICE},
        [TYPE_SGDS] = {.type_url = XDS_TYPE_SEGMENT},
        [TYPE_WDS] = {.type_url = XDS_TYPE_ADDRESS},
    };
    struct xds_client_options co = {
        .target = target,
        .log_scope = "deltaadsc",
        .addresses = addresses,
        .n_addresses = l->config.n_addresses,
        .server_names = server_names,
        .n_server_names = 1,
        .creds = get_creds,
        .node = {.id = pg_str_c(id), .metadata = md, .n_metadata = PG_ARRAY_LEN(md)},
        .types = types,
        .n_types = PG_ARRAY_LEN(types),
        .max_message = XDS_MESSAGE_MAX_CLIENT,
        .backoff =
            {.first_ms = 500, .max_ms = 60000, .factor_pct = 150, .jitter_pct = 50, .stable_ms = 10000},
    };
    const struct xds_client_callbacks cb = {on_resource, on_removed, on_batch, on_state};
    return xds_client_new(o->loop, o->resolver, &co, &cb, s, &s->client, err);
}

static int session_new(struct link *l, struct session **out)
{
    struct session *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        return PG_E_NOMEM;
    }
    s->link = l;
    s->generation = ++l->peers->next_generation;
    peer_state_init(&s->state, l->config.stale_deadline_s);
    pg_map_init(&s->services, PEER_RESOURCES_MAX);
    pg_map_init(&s->workloads, PEER_RESOURCES_MAX);
    struct pg_errtext err = {""};
    int r = pg_timer_new(l->peers->o.loop, on_timer, s, &s->timer);
    if (r == 0) {
        r = make_client(s, &err);
    }
    if (r != 0) {
        PG_LOG(PG_LOG_ERROR, "peering", "cannot start the link to a peer",
               PG_F_C("cluster", l->config.cluster),
               PG_F_C("error", err.text[0] != '\0' ? err.text : pg_err_str(r)));
        session_free(s);
        return r;
    }
    *out = s;
    return 0;
}

/* --- the set of links
 * ----------------------------------------------------------------------------------------- */

int peers_new(const struct peers_options *o, struct peers **out)
{
    struct peers *p = pg_calloc(1, sizeof(*p));
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    p->o = *o;
    *out = p;
    return 0;
}

static void link_free(struct link *l)
{
    session_free(l->active);
    session_free(l->pending);
    peer_config_fini(&l->config);
    pg_free(l);
}

void peers_free(struct peers *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->n_links; i++) {
        link_free(p->links[i]);
    }
    pg_free(p);
}

static struct link *find_link(struct peers *p, const struct peer_config *c)
{
    for (size_t i = 0; i < p->n_links; i++) {
        struct peer_config *have = &p->links[i]->config;
        if (strcmp(have->ns, c->ns) == 0 && strcmp(have->name, c->name) == 0) {
            return p->links[i];
        }
    }
    return NULL;
}

/* Only what the stream itself depends on; the rest is read from the config at each merge. */
static bool needs_new_stream(const struct peer_config *a, const struct peer_config *b)
{
    if (a->n_addresses != b->n_addresses || a->xds_port != b->xds_port ||
        strcmp(a->cluster, b->cluster) != 0) {
        return true;
    }
    for (size_t i = 0; i < a->n_addresses; i++) {
        if (strcmp(a->addresses[i], b->addresses[i]) != 0) {
            return true;
        }
    }
    return a->accepted != b->accepted;
}

/* Two objects for one cluster would fight over the same names: the first (by file order) is kept. */
static void refuse_duplicate(struct peers *p, struct peer_config *c)
{
    for (size_t i = 0; i < p->n_links; i++) {
        const struct link *l = p->links[i];
        if (l->seen && l->config.accepted && strcmp(l->config.cluster, c->cluster) == 0 &&
            (strcmp(l->config.ns, c->ns) != 0 || strcmp(l->config.name, c->name) != 0)) {
            c->accepted = false;
            (void)snprintf(c->reason, sizeof(c->reason),
                           "DuplicateCluster: %.40s is linked by Gateway %.30s/%.40s already", c->cluster,
                           l->config.ns, l->config.name);
        }
    }
}

static int start(struct link *l)
{
    if (!l->config.accepted) {
        return 0;
    }
    struct session *s;
    int r = session_new(l, &s);
    l->wanted = r != 0;
    if (r != 0) {
        return r;
    }
    session_free(l->pending);
    l->pending = NULL;
    if (l->active == NULL) {
        l->active = s;
    } else {
        l->pending = s;
    }
    return 0;
}

static void set_deadline(struct session *s, uint64_t deadline_s)
{
    if (s != NULL) {
        s->state.deadline_ms = deadline_s * 1000;
        arm(s);
    }
}

static int apply_changed(struct link *l, struct peer_config *c)
{
    bool restart = needs_new_stream(&l->config, c);
    peer_config_fini(&l->config);
    l->config = *c;
    *c = (struct peer_config){0};
    if (!l->config.accepted) {
        session_free(l->active);
        session_free(l->pending);
        l->active = NULL;
        l->pending = NULL;
        l->wanted = false;
        return 0;
    }
    set_deadline(l->active, l->config.stale_deadline_s);
    set_deadline(l->pending, l->config.stale_deadline_s);
    PG_LOG(PG_LOG_INFO, "peering", "peer changed", PG_F_C("cluster", l->config.cluster),
           PG_F_C("object", l->config.file), PG_F_BOOL("new_stream", restart));
    return restart || l->active == NULL ? start(l) : 0;
}

static int apply_new(struct peers *p, struct peer_config *c, struct link **out)
{
    if (p->n_links == CONTRIB_PEERS_MAX) {
        PG_LOG(PG_LOG_ERROR, "peering", "too many peers, Gateway left out", PG_F_C("object", c->file),
               PG_F_U64("limit", CONTRIB_PEERS_MAX));
        return 0; /* trying again would not help */
    }
    struct link *l = pg_calloc(1, sizeof(*l));
    if (l == NULL) {
        return PG_E_NOMEM;
    }
    l->peers = p;
    l->config = *c;
    *c = (struct peer_config){0};
    p->links[p->n_links++] = l;
    *out = l;
    if (!l->config.accepted) {
        PG_LOG(PG_LOG_WARN, "peering", "Gateway not accepted as a peer", PG_F_C("object", l->config.file),
               PG_F_C("reason", l->config.reason));
        return 0;
    }
    PG_LOG(PG_LOG_INFO, "peering", "peer linked", PG_F_C("cluster", l->config.cluster),
           PG_F_C("network", l->config.network),
           PG_F_C("address", l->config.n_addresses > 0 ? l->config.addresses[0] : ""),
           PG_F_C("object", l->config.file));
    return start(l);
}

static void drop_unseen(struct peers *p)
{
    size_t keep = 0;
    for (size_t i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        if (l->seen) {
            p->links[keep++] = l;
            continue;
        }
        PG_LOG(PG_LOG_INFO, "peering", "peer unlinked", PG_F_C("cluster", l->config.cluster));
        link_free(l);
    }
    p->n_links = keep;
}

int peers_apply(struct peers *p, struct peer_config *configs, size_t n)
{
    int result = 0;
    for (size_t i = 0; i < p->n_links; i++) {
        p->links[i]->seen = false;
    }
    for (size_t i = 0; i < n; i++) {
        refuse_duplicate(p, &configs[i]);
        struct link *l = find_link(p, &configs[i]);
        int r = 0;
        if (l == NULL) {
            r = apply_new(p, &configs[i], &l);
        } else if (!peer_config_eq(&l->config, &configs[i])) {
            r = apply_changed(l, &configs[i]);
        } else if (l->wanted) {
            r = start(l);
        }
        if (l != NULL) {
            l->seen = true;
            (void)update_conditions(l);
        }
        if (r != 0) {
            result = r;
        }
        peer_config_fini(&configs[i]);
    }
    drop_unseen(p);
    p->o.on_change(p->o.arg);
    return result;
}

size_t peers_contributions(struct peers *p, struct contrib_peer *out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        if (l->active != NULL && l->config.accepted) {
            out[n++] = (struct contrib_peer){.config = &l->config,
                                             .generation = l->active->generation,
                                             .data = l->active->state.data,
                                             .services = &l->active->services,
                                             .workloads = &l->active->workloads};
        }
    }
    return n;
}

void peers_reconnect(struct peers *p)
{
    for (size_t i = 0; i < p->n_links; i++) {
        struct session *s = newest(p->links[i]);
        if (s != NULL && s->client != NULL) {
            xds_client_reconnect(s->client);
        }
    }
}

void peers_renew(struct peers *p)
{
    for (size_t i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        if (l->active != NULL && l->pending == NULL && l->active->state.connected && start(l) != 0) {
            l->wanted = false; /* the old stream goes on until its certificate ends */
        }
    }
}

size_t peers_pending(const struct peers *p, struct pg_sb *names)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_links; i++) {
        const struct link *l = p->links[i];
        if (l->config.accepted && (l->active == NULL || l->active->state.data == PEER_DATA_NONE)) {
            pg_sb_c(names, n > 0 ? ", " : "");
            pg_sb_c(names, l->config.cluster);
            n++;
        }
    }
    return n;
}

/* --- reporting
 * ------------------------------------------------------------------------------------------------ */

static void conditions_json(const struct link *l, struct pg_json *j)
{
    pg_json_key(j, "conditions");
    pg_json_arr(j);
    for (size_t i = 0; i < PEER_CONDITIONS; i++) {
        const struct condition *c = &l->conditions[i];
        char when[PG_RFC3339_LEN];
        pg_clock_rfc3339(c->since_us, when);
        pg_json_obj(j);
        pg_json_kc(j, "type", condition_types[i]);
        pg_json_kc(j, "status", c->is_true ? "True" : "False");
        pg_json_kc(j, "reason", c->reason);
        pg_json_kc(j, "message", c->message);
        pg_json_kc(j, "lastTransitionTime", when);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
}

static void session_json(const struct session *s, uint64_t now_ms, struct pg_json *j)
{
    pg_json_kc(j, "address", s->address);
    pg_json_kc(j, "data", peer_data_name(s->state.data));
    pg_json_ku64(j, "dataAgeMs", s->state.lost_at_ms == 0 ? 0 : now_ms - s->state.lost_at_ms);
    pg_json_ku64(j, "lastMessageAgeMs", s->last_message_ms == 0 ? 0 : now_ms - s->last_message_ms);
    pg_json_kc(j, "lastError", s->last_error);
    pg_json_ku64(j, "retryMs", s->retry_at_ms > now_ms ? s->retry_at_ms - now_ms : 0);
    pg_json_ku64(j, "generation", s->generation);
    pg_json_ku64(j, "disconnects", s->disconnects);
    pg_json_ku64(j, "services", s->services.len);
    pg_json_ku64(j, "workloads", s->workloads.len);
}

void peers_json(const struct peers *p, struct pg_json *j)
{
    uint64_t now_ms = pg_loop_now_ms(p->o.loop);
    pg_json_arr(j);
    for (size_t i = 0; i < p->n_links; i++) {
        const struct link *l = p->links[i];
        const struct peer_config *c = &l->config;
        pg_json_obj(j);
        pg_json_kc(j, "namespace", c->ns);
        pg_json_kc(j, "name", c->name);
        pg_json_kc(j, "cluster", c->cluster);
        pg_json_kc(j, "network", c->network);
        pg_json_kc(j, "trustDomain", c->trust_domain);
        pg_json_kc(j, "serviceAccount", c->service_account);
        pg_json_kc(j, "object", c->file);
        pg_json_ku64(j, "hbonePort", c->hbone_port);
        pg_json_ku64(j, "xdsPort", c->xds_port);
        pg_json_key(j, "addresses");
        pg_json_arr(j);
        for (size_t k = 0; k < c->n_addresses; k++) {
            pg_json_c(j, c->addresses[k]);
        }
        pg_json_arr_end(j);
        if (newest(l) != NULL) {
            session_json(newest(l), now_ms, j);
        }
        conditions_json(l, j);
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
}

void peers_each(const struct peers *p, void (*fn)(void *arg, const struct peers_fact *f), void *arg)
{
    uint64_t now_ms = pg_loop_now_ms(p->o.loop);
    for (size_t i = 0; i < p->n_links; i++) {
        const struct session *s = newest(p->links[i]);
        if (s == NULL) {
            continue;
        }
        struct peers_fact f = {
            .cluster = p->links[i]->config.cluster,
            .connected = s->state.connected,
            .synced = s->state.synced,
            .data = s->state.data,
            .data_age_ms = s->state.lost_at_ms == 0 ? 0 : now_ms - s->state.lost_at_ms,
            .last_message_age_ms = s->last_message_ms == 0 ? 0 : now_ms - s->last_message_ms,
            .services = s->services.len,
            .workloads = s->workloads.len,
            .disconnects = s->disconnects,
            .probes_ok = s->state.probes_ok,
            .probes_failed = s->state.probes_failed,
        };
        fn(arg, &f);
    }
}
