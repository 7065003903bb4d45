/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control plane's life: start, watch, merge, stop. Every change only schedules a merge; one merge reads all
 * contributions and brings both views to what they say. Invariant: nothing outside merge() writes a view. One
 * thread.
 */
#include "peering/control.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "control_internal.h"
#include "core/clock.h"
#include "core/log.h"

#define VIEW_RESOURCES_MAX 1000000u
#define PENDING_TEXT_MAX 65536u
#define VIPS_FILE_MAX (64u * 1024 * 1024)

struct merge_self control_self(const struct peering_control *c)
{
    return (struct merge_self){
        .cluster = option_str(c->options, OPT_CLUSTER),
        .network = pg_str_c(c->network),
        .trust_domain = option_str(c->options, OPT_TRUST_DOMAIN),
        .domain = option_str(c->options, OPT_DOMAIN),
        .system_ns = option_str(c->options, OPT_SYSTEM_NAMESPACE),
        .region = option_str(c->options, OPT_REGION),
        .zone = option_str(c->options, OPT_ZONE),
        .flat_enabled = option_bool(c->options, OPT_FLAT),
    };
}

static struct manifest_config manifest_config(const struct peering_control *c)
{
    return (struct manifest_config){
        .cluster = option_str(c->options, OPT_CLUSTER),
        .network = option_str(c->options, OPT_NETWORK),
        .trust_domain = option_str(c->options, OPT_TRUST_DOMAIN),
        .domain = option_str(c->options, OPT_DOMAIN),
        .system_ns = option_str(c->options, OPT_SYSTEM_NAMESPACE),
        .select_workload_entries = option_bool(c->options, OPT_SELECT_WORKLOAD_ENTRIES),
    };
}

/* --- merge
 * ---------------------------------------------------------------------------------------------------- */

static void save_vips(struct peering_control *c)
{
    if (!vip_pool_is_dirty(c->vips) && !c->vips_unsaved) {
        return;
    }
    struct pg_sb text;
    struct pg_errtext err = {""};
    pg_sb_init(&text, VIPS_FILE_MAX);
    int r = vip_pool_save(c->vips, &text);
    if (r == 0) {
        r = state_write(c, "vips.txt", pg_sb_view(&text), &err);
    }
    c->vips_unsaved = r != 0;
    if (r != 0) {
        PG_LOG(PG_LOG_ERROR, "peering", "virtual addresses not saved, trying again with the next change",
               PG_F_C("error", err.text[0] ? err.text : pg_err_str(r)));
    }
    pg_sb_fini(&text);
}

/* Decided after a merge, never between a peer's first answer and the merge that takes it in: who is told
 * "ready" may rely on the views. */
static void settle_readiness(struct peering_control *c)
{
    if (c->is_ready || c->merges == 0) {
        return;
    }
    struct pg_sb pending;
    pg_sb_init(&pending, PENDING_TEXT_MAX);
    uint64_t age = pg_loop_now_ms(c->loop) - c->started_ms;
    size_t waiting = peers_pending(c->peers, &pending);
    c->is_ready = waiting == 0 || age >= option_ms(c->options, OPT_START_DEADLINE);
    if (c->is_ready && waiting > 0) {
        PG_LOG(PG_LOG_WARN, "peering", "ready without some peers, the start deadline has passed",
               PG_F_STR("peers", pg_sb_view(&pending)));
    }
    pg_sb_fini(&pending);
}

static void merge(void *arg)
{
    struct peering_control *c = arg;
    if (!c->has_local) {
        return;
    }
    size_t n = peers_contributions(c->peers, c->contributions);
    struct merge_self self = control_self(c);
    struct merge_result fresh;
    size_t undecodable = 0;
    struct pg_errtext err = {""};
    int r = merge_run(&self, &c->local, c->contributions, n, c->vips, c->node_view, c->export_view, &fresh,
                      &undecodable, &err);
    if (r != 0) {
        c->merge_failures++;
        PG_LOG(PG_LOG_ERROR, "peering", "merge failed, trying again in 1s",
               PG_F_C("error", err.text[0] ? err.text : pg_err_str(r)));
        pg_timer_start(c->merge_timer, 1000);
        return;
    }
    c->merges++;
    merge_result_fini(&c->merged);
    c->merged = fresh;
    save_vips(c);
    settle_readiness(c);
    xds_server_kick(c->server);
}

void control_changed(struct peering_control *c)
{
    if (!pg_timer_is_active(c->merge_timer)) {
        pg_timer_start(c->merge_timer, CONTROL_MERGE_DELAY_MS);
    }
}

static void on_peers_change(void *arg)
{
    control_changed(arg);
}

static struct cert_creds *current_creds(void *arg, struct pg_errtext *err)
{
    struct peering_control *c = arg;
    if (c->keys.creds == NULL) {
        pg_err_set(err, "no certificate");
        return NULL;
    }
    return cert_creds_ref(c->keys.creds);
}

/* --- manifests
 * ------------------------------------------------------------------------------------------------ */

static void log_problems(struct peering_control *c)
{
    const struct manifest_problem *problems;
    size_t n = manifest_problems(c->manifest, &problems);
    if (n == 0 && c->had_problems) {
        PG_LOG0(PG_LOG_INFO, "manifests", "all files accepted again");
    }
    c->had_problems = n > 0;
    for (size_t i = 0; i < n; i++) {
        PG_LOG(PG_LOG_ERROR, "manifests", "not accepted, the last good version of the file stays",
               PG_F_C("file", problems[i].file), PG_F_U64("line", problems[i].line),
               PG_F_C("reason", problems[i].reason));
    }
}

static void take_network(struct peering_control *c)
{
    struct pg_str label = c->local.network;
    struct pg_str option = option_str(c->options, OPT_NETWORK);
    struct pg_str now = label.len > 0 ? label : option;
    if (pg_str_eq_c(now, c->network)) {
        return;
    }
    if (label.len > 0 && option.len > 0 && !pg_str_eq(label, option)) {
        PG_LOG(PG_LOG_WARN, "peering",
               "network option and label topology.istio.io/network differ, the label wins",
               PG_F_STR("option", option), PG_F_STR("label", label));
    }
    (void)snprintf(c->network, sizeof(c->network), "%.*s", PG_STR_ARG(now));
}

static void free_eastwest(struct peering_control *c)
{
    for (size_t i = 0; i < c->n_eastwest; i++) {
        eastwest_config_fini(&c->eastwest[i]);
    }
    pg_free(c->eastwest);
    c->eastwest = NULL;
    c->n_eastwest = 0;
}

static int load_local(struct peering_control *c, struct pg_errtext *err)
{
    struct manifest_config mc = manifest_config(c);
    struct contrib_local fresh;
    int r = manifest_local(c->manifest, &mc, &fresh, err);
    if (r != 0) {
        return r;
    }
    if (c->has_local) {
        contrib_local_fini(&c->local);
    }
    c->local = fresh;
    c->has_local = true;
    take_network(c);
    struct eastwest_config *gateways = NULL;
    size_t n = 0;
    r = manifest_eastwest(c->manifest, &gateways, &n);
    if (r == 0) {
        free_eastwest(c);
        c->eastwest = gateways;
        c->n_eastwest = n;
    }
    return r;
}

static int load_peers(struct peering_control *c, struct pg_errtext *err)
{
    if (!option_bool(c->options, OPT_PEERING)) {
        return 0;
    }
    struct manifest_config mc = manifest_config(c);
    struct peer_config *configs = NULL;
    size_t n = 0;
    int r = manifest_peers(c->manifest, &mc, &configs, &n);
    if (r == 0) {
        r = peers_apply(c->peers, configs, n);
    }
    pg_free(configs);
    return r == 0 ? keys_follow_peers(c, err) : r;
}

static void rescan(struct peering_control *c)
{
    struct pg_errtext err = {""};
    int r = manifest_scan(c->manifest, &err);
    if (r == 1) {
        log_problems(c);
    }
    /* The directory tells a change once: what could not be taken then is tried until it is. */
    if (r == 1 || (r == 0 && c->reload)) {
        c->reload = true;
        r = load_local(c, &err);
        if (r == 0) {
            r = load_peers(c, &err);
        }
        c->reload = r != 0;
        control_changed(c);
    }
    if (r < 0) {
        static struct pg_log_limit limit;
        uint32_t held = 0;
        if (pg_log_allowed(&limit, 5, 1, pg_loop_now_ms(c->loop), &held)) {
            PG_LOG(PG_LOG_ERROR, "manifests", "not taken over, the old state stays; next try in 1s",
                   PG_F_C("error", err.text[0] ? err.text : pg_err_str(r)), PG_F_U64("suppressed", held));
        }
    }
}

static void on_manifest(void *arg, unsigned rw)
{
    (void)rw;
    struct peering_control *c = arg;
    manifest_drain(c->manifest);
    rescan(c);
}

/* --- questions
 * ------------------------------------------------------------------------------------------------ */

struct gateway_search {
    const struct eastwest_config *wanted;
    struct pg_str trust_domain;
    bool found;
};

static void match_gateway(void *arg, const struct xds_stream_info *i)
{
    struct gateway_search *g = arg;
    struct cert_spiffe id;
    if (cert_spiffe_parse(serve_caller_id(i->identity), &id, NULL) == 0 &&
        pg_str_eq_c(id.ns, g->wanted->ns) && pg_str_eq_c(id.sa, g->wanted->name)) {
        g->found = true;
    }
}

bool control_eastwest_is_up(const struct peering_control *c, const struct eastwest_config *e)
{
    struct gateway_search g = {.wanted = e};
    xds_server_each(c->server, match_gateway, &g);
    return g.found;
}

bool control_is_ready(const struct peering_control *c, struct pg_sb *pending)
{
    if (c->merges == 0) {
        pg_sb_c(pending, "local state");
    } else if (!c->is_ready && peers_pending(c->peers, pending) == 0) {
        pg_sb_c(pending, "merge");
    }
    return c->is_ready;
}

struct table_fill {
    peering_table *table;
    enum peering_kind kind;
    int err;
};

static void fill(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    (void)version;
    struct table_fill *f = arg;
    if (f->err == 0) {
        int r =
            peering_table_put(f->table, f->kind, (peering_str){name.p, name.len}, bytes.p, bytes.len, NULL);
        f->err = r == PEERING_ERR_PARSE ? 0 : r;
    }
}

int control_snapshot(struct peering_control *c, peering_snapshot **out)
{
    uint64_t now = xds_view_generation(c->node_view);
    if (c->table == NULL || c->table_generation != now) {
        struct table_fill f = {.kind = PEERING_KIND_ADDRESS};
        int r = peering_table_new(&f.table);
        if (r != 0) {
            return r;
        }
        r = xds_view_each(c->node_view, XDS_TYPE_ADDRESS, fill, &f);
        f.kind = PEERING_KIND_AUTHORIZATION;
        r = r < 0 ? r : xds_view_each(c->node_view, XDS_TYPE_AUTHORIZATION, fill, &f);
        if (r < 0 || f.err != 0) {
            peering_table_free(f.table);
            return r < 0 ? r : f.err;
        }
        peering_table_free(c->table);
        c->table = f.table;
        c->table_generation = now;
    }
    return peering_table_snapshot(c->table, out);
}

/* --- life
 * ----------------------------------------------------------------------------------------------------- */

static void on_tick(void *arg)
{
    struct peering_control *c = arg;
    keys_tick(c);
    if (!c->is_ready) {
        settle_readiness(c);
        xds_server_kick(c->server); /* those that were told to wait */
    }
    /* inotify can lose events under load: a scan is a few stats. */
    rescan(c);
    pg_timer_start(c->tick, CONTROL_TICK_MS);
}

static void on_drained(void *arg)
{
    struct peering_control *c = arg;
    pg_loop_stop(c->loop);
}

static void on_stop(void *arg)
{
    struct peering_control *c = arg;
    if (c->stopping) {
        pg_loop_stop(c->loop);
        return;
    }
    c->stopping = true;
    PG_LOG(PG_LOG_INFO, "peering", "stopping", PG_F_U64("drain_ms", CONTROL_DRAIN_MS));
    pg_listener_free(c->listener);
    c->listener = NULL;
    xds_server_drain(c->server);
    pg_timer_start(c->drain, CONTROL_DRAIN_MS);
}

static int load_vips(struct peering_control *c, struct pg_errtext *err)
{
    const char *dir = option_text(c->options, OPT_STATE);
    if (dir[0] == '\0') {
        return 0;
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        pg_err_set(err, "state directory %s: %s", dir, strerror(errno));
        return pg_err_from_errno(errno);
    }
    char path[4400];
    struct pg_sb text;
    (void)snprintf(path, sizeof(path), "%s/vips.txt", dir);
    pg_sb_init(&text, VIPS_FILE_MAX);
    int r = file_read(path, VIPS_FILE_MAX, &text, err);
    size_t skipped = r == 0 ? vip_pool_load(c->vips, pg_sb_view(&text)) : 0;
    if (skipped > 0) {
        PG_LOG(PG_LOG_WARN, "peering", "lines of vips.txt not understood, their addresses may change",
               PG_F_U64("lines", skipped));
    }
    pg_sb_fini(&text);
    return r == PG_E_NOTFOUND ? 0 : r;
}

static int make_parts(struct peering_control *c, struct pg_errtext *err)
{
    int r = pg_loop_new(&c->loop);
    r = r == 0 ? pg_resolver_new(c->loop, NULL, &c->resolver, err) : r;
    r = r == 0 ? pg_async_new(c->loop, on_stop, c, &c->stop) : r;
    r = r == 0 ? pg_timer_new(c->loop, merge, c, &c->merge_timer) : r;
    r = r == 0 ? pg_timer_new(c->loop, on_tick, c, &c->tick) : r;
    r = r == 0 ? pg_timer_new(c->loop, on_drained, c, &c->drain) : r;
    r = r == 0 ? vip_pool_new(&c->vips) : r;
    r = r == 0 ? xds_view_new(VIEW_RESOURCES_MAX, &c->node_view) : r;
    r = r == 0 ? xds_view_new(VIEW_RESOURCES_MAX, &c->export_view) : r;
    if (r == 0) {
        c->contributions = pg_calloc(CONTRIB_PEERS_MAX, sizeof(*c->contributions));
        r = c->contributions == NULL ? PG_E_NOMEM : 0;
    }
    return r;
}

static int make_peers(struct peering_control *c)
{
    struct peers_options o = {.loop = c->loop,
                              .resolver = c->resolver,
                              .cluster = option_str(c->options, OPT_CLUSTER),
                              .network = c->network,
                              .system_ns = option_str(c->options, OPT_SYSTEM_NAMESPACE),
                              .version = peering_version(),
                              .flat_enabled = option_bool(c->options, OPT_FLAT),
                              .creds = current_creds,
                              .on_change = on_peers_change,
                              .arg = c};
    return peers_new(&o, &c->peers);
}

static int start(struct peering_control *c, struct pg_errtext *err)
{
    int r = make_parts(c, err);
    r = r == 0 ? load_vips(c, err) : r;
    r = r == 0 ? keys_load(c, err) : r;
    if (r == 0 && option_text(c->options, OPT_MANIFESTS)[0] == '\0') {
        pg_err_set(err, "no --manifests directory given");
        r = PG_E_CONFIG;
    }
    r = r == 0 ? manifest_new(option_text(c->options, OPT_MANIFESTS), &c->manifest, err) : r;
    r = r == 0 ? manifest_scan(c->manifest, err) : r;
    r = r >= 0 ? load_local(c, err) : r;
    if (r == 0) {
        log_problems(c);
        r = make_peers(c);
    }
    r = r == 0 ? serve_start(c, err) : r;
    r = r == 0 ? admin_start(c, err) : r;
    r = r == 0 ? pg_io_new(c->loop, manifest_fd(c->manifest), on_manifest, c, &c->manifest_io) : r;
    r = r == 0 ? load_peers(c, err) : r;
    return r;
}

int peering_control_new(const peering_options *o, peering_control **out, peering_text *why)
{
    struct pg_errtext err = {""};
    struct peering_control *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        if (why != NULL) {
            (void)snprintf(why->text, sizeof(why->text), "%s", pg_err_str(PG_E_NOMEM));
        }
        return PG_E_NOMEM;
    }
    int r = options_copy(o, &c->options);
    r = r == 0 ? start(c, &err) : r;
    if (r != 0) {
        if (why != NULL) {
            (void)snprintf(why->text, sizeof(why->text), "%s",
                           err.text[0] != '\0' ? err.text : pg_err_str(r));
        }
        peering_control_free(c);
        return r;
    }
    pg_io_want(c->manifest_io, PG_READ);
    c->started_ms = pg_loop_now_ms(c->loop);
    c->started_us = pg_clock_wall_us();
    control_changed(c);
    pg_timer_start(c->tick, CONTROL_TICK_MS);
    *out = c;
    return 0;
}

void peering_control_run(peering_control *c)
{
    PG_LOG(PG_LOG_INFO, "peering", "control plane running",
           PG_F_C("cluster", option_text(c->options, OPT_CLUSTER)), PG_F_C("network", c->network),
           PG_F_C("trust_domain", option_text(c->options, OPT_TRUST_DOMAIN)), PG_F_C("address", c->address),
           PG_F_C("version", peering_version()));
    pg_loop_run(c->loop);
}

void peering_control_stop(peering_control *c)
{
    pg_async_send(c->stop);
}

const char *peering_control_address(const peering_control *c)
{
    return c->address;
}

static void stop_timer(struct pg_timer *t)
{
    if (t != NULL) {
        pg_timer_stop(t);
    }
}

void peering_control_free(peering_control *c)
{
    if (c == NULL) {
        return;
    }
    pg_http1_free(c->admin);
    pg_http1_free(c->admin_socket);
    pg_listener_free(c->listener);
    serve_end_handshakes(c);
    /* Nothing that is due may run in the last turn: what it would use is gone. */
    stop_timer(c->merge_timer);
    stop_timer(c->tick);
    stop_timer(c->drain);
    pg_io_free(c->manifest_io);
    peers_free(c->peers);
    xds_server_free(c->server);
    if (c->loop != NULL) {
        pg_loop_turn(c->loop, false); /* what was closed dies in the deferred phase */
    }
    xds_view_free(c->node_view);
    xds_view_free(c->export_view);
    merge_result_fini(&c->merged);
    vip_pool_free(c->vips);
    peering_table_free(c->table);
    if (c->has_local) {
        contrib_local_fini(&c->local);
    }
    free_eastwest(c);
    manifest_free(c->manifest);
    keys_fini(&c->keys);
    pg_timer_free(c->drain);
    pg_timer_free(c->tick);
    pg_timer_free(c->merge_timer);
    pg_async_free(c->stop);
    pg_resolver_free(c->resolver);
    pg_loop_free(c->loop);
    peering_options_free(c->options);
    pg_free(c->contributions);
    pg_free(c);
}
