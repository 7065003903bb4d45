/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A data path's link: delta ADS into a table, snapshots out at a bounded rate, certificates on demand.
 * Invariants: a refused resource leaves the table as it was and is NACKed by name; the table is never emptied
 * because the control plane is away; on_ready comes once, after the snapshot that holds the first answers.
 * Loop thread.
 */
#include <peering/unstable/node.h>

#include "certs/tls.h"
#include "core/clock.h"
#include "core/log.h"
#include "xds/client.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOT_MIN_MS 20u
#define FILE_MAX (256u * 1024)
#define FALLBACK_NAME "istiod.istio-system.svc"
#define TYPES 2u
#define NODE_METADATA_MAX 256u

struct endpoint {      /* one of the two addresses */
    char address[300]; /* "host:port", "" for none */
    char host[256];
    const char *names[3];
    size_t n_names;
};
struct peering_node {
    struct pg_loop *loop;
    struct pg_resolver *resolver;
    peering_node_callbacks cb;
    void *arg;
    struct endpoint xds, ca;
    char *xds_root, *ca_root, *alt_xds, *alt_ca, *token, *cluster_id, *node_id;
    struct xds_kv *metadata; /* owned texts */
    size_t n_metadata;
    struct xds_client *client;
    peering_table *table;
    peering_snapshot *last;
    struct pg_timer *timer; /* bounds the rate of snapshots */
    bool ready, synced_seen, connected, was_connected;
    uint64_t last_message_ms;
    uint64_t messages[TYPES], bytes[TYPES], terminations[4];
    char error[256];
};
struct peering_csr_call {
    struct xds_ca_call *call;
    struct cert_creds *creds;
    char *token;
    void (*done)(void *arg, int err, const peering_str *chain, size_t n_chain, const char *text);
    void *arg;
};

/* ---- files, tokens, roots
 * --------------------------------------------------------------------------------------------- */

static int read_file(const char *path, struct pg_sb *out, struct pg_errtext *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        pg_err_set(err, "cannot read %s", path);
        return PG_E_NOTFOUND;
    }
    char buf[4096];
    ssize_t n;
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        pg_sb_add(out, buf, (size_t)n);
    }
    pg_wipe(buf, sizeof(buf));
    (void)close(fd);
    if (n < 0 || out->err != 0) {
        pg_err_set(err, "cannot read %s: %s", path,
                   out->err == PG_E_LIMIT ? "too large" : "input/output error");
        return n < 0 ? PG_E_IO : out->err;
    }
    return 0;
}

/* An existing path is read now; anything else is the text itself. */
static int file_or_text(const char *value, struct pg_sb *out, struct pg_errtext *err)
{
    if (access(value, F_OK) == 0) {
        return read_file(value, out, err);
    }
    pg_sb_c(out, value);
    return out->err;
}

static int read_token(const struct peering_node *n, struct pg_sb *out, struct pg_errtext *err)
{
    struct pg_sb raw;
    if (n->token == NULL || n->token[0] == '\0') {
        return 0;
    }
    pg_sb_init(&raw, FILE_MAX);
    int r = file_or_text(n->token, &raw, err);
    struct pg_str t = pg_str_trim(pg_sb_view(&raw));
    if (r == 0 && t.len == 0) {
        pg_err_set(err, "the token file %s is empty", n->token);
        r = PG_E_CONFIG;
    }
    if (r == 0) {
        pg_sb_str(out, t);
        r = out->err;
    }
    if (raw.p != NULL) {
        pg_wipe(raw.p, raw.len);
    }
    pg_sb_fini(&raw);
    return r;
}

static struct cert_creds *load_roots(const char *value, struct pg_errtext *err)
{
    struct pg_sb pem;
    struct cert_creds *creds = NULL;
    pg_sb_init(&pem, FILE_MAX);
    int r = file_or_text(value, &pem, err);
    if (r == 0 && memmem(pem.p != NULL ? pem.p : "", pem.len, "-----BEGIN", 10) == NULL) {
        pg_err_set(err, "root certificate %.150s: %s", value,
                   access(value, F_OK) == 0 ? "no certificate in PEM form"
                                            : "no such file, and not PEM text");
        r = PG_E_CONFIG;
    }
    if (r == 0) {
        struct cert_creds_options o = {.roots_pem = pg_sb_view(&pem)};
        r = cert_creds_new(&o, &creds, err);
    }
    pg_sb_fini(&pem);
    return r < 0 ? NULL : creds;
}

static struct cert_creds *xds_creds(void *arg, struct pg_errtext *err)
{
    const struct peering_node *n = arg;
    return load_roots(n->xds_root, err);
}

static int xds_token(void *arg, struct pg_sb *out, struct pg_errtext *err)
{
    return read_token(arg, out, err);
}

/* ---- resources in, snapshots out
 * -------------------------------------------------------------------------------------- */

static enum peering_kind kind_of(size_t type)
{
    return type == 0 ? PEERING_KIND_ADDRESS : PEERING_KIND_AUTHORIZATION;
}

static int on_resource(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    struct peering_node *n = arg;
    peering_text text = {.text = ""};
    if (!r->has_resource) {
        pg_err_set(why, "missing payload");
        return PG_E_PARSE;
    }
    n->bytes[type] += r->bytes.len;
    int err = peering_table_put(n->table, kind_of(type), (peering_str){r->name.p, r->name.len}, r->bytes.p,
                                r->bytes.len, &text);
    if (err < 0) {
        pg_err_set(why, "%s", text.text[0] != '\0' ? text.text : peering_strerror(err));
        PG_LOG(PG_LOG_WARN, "xds", "resource refused", PG_F_STR("name", r->name),
               PG_F_C("reason", why->text));
    }
    return err;
}

static void on_removed(void *arg, size_t type, struct pg_str name)
{
    struct peering_node *n = arg;
    if (peering_table_remove(n->table, kind_of(type), (peering_str){name.p, name.len}) < 0) {
        PG_LOG(PG_LOG_DEBUG, "xds", "removal of an unknown resource", PG_F_STR("name", name));
    }
}

static void publish(struct peering_node *n)
{
    peering_snapshot *s;
    if (peering_table_snapshot(n->table, &s) < 0) {
        PG_LOG0(PG_LOG_ERROR, "xds", "out of memory: the last table stays in force");
        pg_timer_start(n->timer, 1000);
        return;
    }
    if (s == n->last) {
        peering_snapshot_unref(s);
    } else {
        peering_snapshot_unref(n->last);
        n->last = s;
        n->cb.on_snapshot(n->arg, s);
    }
    if (!n->ready && (n->synced_seen || n->client == NULL)) {
        n->ready = true;
        n->cb.on_ready(n->arg);
    }
}

static void on_timer(void *arg)
{
    publish(arg);
}

static void on_batch(void *arg, const struct adsc_result *r)
{
    struct peering_node *n = arg;
    n->last_message_ms = pg_loop_now_ms(n->loop);
    if (r->type < TYPES) {
        n->messages[r->type]++;
    }
    n->synced_seen = n->synced_seen || r->synced;
    if (n->synced_seen && !n->ready) {
        pg_timer_start(n->timer, 0);
    } else if (!pg_timer_is_active(n->timer)) {
        pg_timer_start(n->timer, SNAPSHOT_MIN_MS);
    }
}

static void on_state(void *arg, const struct xds_client_event *e)
{
    struct peering_node *n = arg;
    if (e->state == XDS_CONNECTED || e->state == XDS_SYNCED) {
        n->connected = true;
        n->was_connected = true;
        n->error[0] = '\0';
    } else if (e->state == XDS_DISCONNECTED) {
        const char *text = e->text != NULL ? e->text : "";
        size_t why = !n->was_connected                                                        ? 0
                     : text[0] == '\0'                                                        ? 3
                     : strstr(text, "goaway") != NULL || strstr(text, "transport is closing") ? 2
                                                                                              : 1;
        n->terminations[why]++;
        n->connected = false;
        n->was_connected = false;
        (void)snprintf(n->error, sizeof(n->error), "%s", text);
    }
}

/* ---- lifetime
 * ------------------------------------------------------------------------------------------------------------
 */

static int config_error(peering_text *why, const char *option, const char *value, const char *cause)
{
    if (why != NULL) {
        (void)snprintf(why->text, sizeof(why->text), "%.40s: \"%.90s\": %.100s", option, value, cause);
    }
    return PEERING_ERR_CONFIG;
}

static int parse_address(const char *option, const char *value, const char *alt, struct endpoint *out,
                         peering_text *why)
{
    struct pg_str s = pg_str_c(value);
    struct pg_hostport hp;
    if (s.len == 0) {
        return 0;
    }
    if (pg_str_has_prefix(s, PG_STR("https://"))) {
        s = pg_str_sub(s, 8);
    }
    if (s.len > 0 && s.p[s.len - 1] == '/') {
        s.len--;
    }
    if (s.len >= sizeof(out->address) || pg_hostport_parse(s, &hp) < 0 || hp.host.len >= sizeof(out->host)) {
        return config_error(why, option, value, "expected https://host:port");
    }
    (void)snprintf(out->address, sizeof(out->address), "%.*s", PG_STR_ARG(s));
    (void)snprintf(out->host, sizeof(out->host), "%.*s", PG_STR_ARG(hp.host));
    /* Certificates carry names, so an address needs one given, else istiod's is expected. */
    if (hp.ip.len == 0) {
        out->names[out->n_names++] = out->host;
    }
    if (alt != NULL && alt[0] != '\0') {
        out->names[out->n_names++] = alt;
    }
    if (out->n_names == 0) {
        out->names[out->n_names++] = FALLBACK_NAME;
    }
    return 0;
}

static int copy(char **slot, const char *value)
{
    if (value == NULL) {
        return 0;
    }
    *slot = pg_strdup(value);
    return *slot == NULL ? PEERING_ERR_NOMEM : 0;
}

static int copy_kv(struct xds_kv *to, const peering_node_kv *from)
{
    char *key = pg_strdup(from->key);
    char *value = pg_strdup(from->value);
    if (key == NULL || value == NULL) {
        pg_free(key);
        pg_free(value);
        return PEERING_ERR_NOMEM;
    }
    *to = (struct xds_kv){pg_str_c(key), pg_str_c(value)};
    return 0;
}

static int copy_options(struct peering_node *n, const peering_node_options *o)
{
    int r = copy(&n->xds_root, o->xds_root_ca != NULL ? o->xds_root_ca : "");
    r = r < 0 ? r : copy(&n->ca_root, o->ca_root_ca != NULL ? o->ca_root_ca : "");
    r = r < 0 ? r : copy(&n->alt_xds, o->alt_xds_hostname);
    r = r < 0 ? r : copy(&n->alt_ca, o->alt_ca_hostname);
    r = r < 0 ? r : copy(&n->token, o->token);
    r = r < 0 ? r : copy(&n->cluster_id, o->cluster_id != NULL ? o->cluster_id : "Kubernetes");
    r = r < 0 ? r : copy(&n->node_id, o->node_id != NULL ? o->node_id : "");
    size_t count = o->n_metadata < NODE_METADATA_MAX ? o->n_metadata : NODE_METADATA_MAX;
    if (r == 0 && count > 0) {
        n->metadata = pg_calloc(count, sizeof(*n->metadata));
        r = n->metadata == NULL ? PEERING_ERR_NOMEM : 0;
    }
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = copy_kv(&n->metadata[i], &o->metadata[i]);
        n->n_metadata += r == 0 ? 1 : 0;
    }
    return r;
}

static int start_client(struct peering_node *n, peering_text *why)
{
    const char *addresses[] = {n->xds.address};
    const struct adsc_type types[TYPES] = {{.type_url = XDS_TYPE_ADDRESS},
                                           {.type_url = XDS_TYPE_AUTHORIZATION}};
    const struct xds_client_callbacks cb = {
        .on_resource = on_resource, .on_removed = on_removed, .on_batch = on_batch, .on_state = on_state};
    struct xds_client_options o = {
        .target = "xds",
        .log_scope = "xds",
        .addresses = addresses,
        .n_addresses = 1,
        .server_names = n->xds.names,
        .n_server_names = n->xds.n_names,
        .creds = xds_creds,
        .token = xds_token,
        .cluster_id = n->cluster_id,
        .node = {.id = pg_str_c(n->node_id), .metadata = n->metadata, .n_metadata = n->n_metadata},
        .types = types,
        .n_types = TYPES,
        .max_message = XDS_MESSAGE_MAX_CLIENT,
        .backoff =
            {.first_ms = 100, .max_ms = 15000, .factor_pct = 200, .jitter_pct = 50, .stable_ms = 30000},
    };
    struct pg_errtext err = {.text = ""};
    int r = xds_client_new(n->loop, n->resolver, &o, &cb, n, &n->client, &err);
    return r == PG_E_NOMEM ? PEERING_ERR_NOMEM
           : r < 0         ? config_error(why, "xds_address", n->xds.address, err.text)
                           : 0;
}

int peering_node_new(struct pg_loop *l, struct pg_resolver *r, const peering_node_options *o,
                     const peering_node_callbacks *cb, void *arg, peering_node **out, peering_text *why)
{
    struct peering_node *n = pg_calloc(1, sizeof(*n));
    if (n == NULL) {
        return PEERING_ERR_NOMEM;
    }
    n->loop = l;
    n->resolver = r;
    n->cb = *cb;
    n->arg = arg;
    n->last_message_ms = pg_loop_now_ms(l);
    int err = copy_options(n, o);
    err = err < 0 ? err : peering_table_new(&n->table);
    err = err < 0 ? err
                  : parse_address("xds_address", o->xds_address != NULL ? o->xds_address : "", n->alt_xds,
                                  &n->xds, why);
    err = err < 0 ? err
                  : parse_address("ca_address", o->ca_address != NULL ? o->ca_address : "", n->alt_ca, &n->ca,
                                  why);
    err = err < 0 ? err : pg_timer_new(l, on_timer, n, &n->timer);
    if (err == 0 && n->xds.address[0] != '\0') {
        err = start_client(n, why);
    } else if (err == 0) {
        pg_timer_start(n->timer, 0);
    }
    if (err < 0) {
        if (err == PEERING_ERR_NOMEM && why != NULL) {
            (void)snprintf(why->text, sizeof(why->text), "out of memory");
        }
        peering_node_free(n);
        return err;
    }
    *out = n;
    return 0;
}

void peering_node_free(struct peering_node *n)
{
    if (n == NULL) {
        return;
    }
    xds_client_free(n->client);
    pg_timer_free(n->timer);
    peering_snapshot_unref(n->last);
    peering_table_free(n->table);
    for (size_t i = 0; i < n->n_metadata; i++) {
        pg_free((void *)(uintptr_t)n->metadata[i].key.p);
        pg_free((void *)(uintptr_t)n->metadata[i].value.p);
    }
    pg_free(n->metadata);
    if (n->token != NULL) {
        pg_wipe(n->token, strlen(n->token));
    }
    char *all[] = {n->xds_root, n->ca_root, n->alt_xds, n->alt_ca, n->token, n->cluster_id, n->node_id};
    for (size_t i = 0; i < PG_ARRAY_LEN(all); i++) {
        pg_free(all[i]);
    }
    pg_free(n);
}

void peering_node_get_status(const struct peering_node *n, peering_node_status *out)
{
    *out = (peering_node_status){.connected = n->connected,
                                 .synced = n->ready,
                                 .last_error = n->error,
                                 .last_message_age_ms = pg_loop_now_ms(n->loop) - n->last_message_ms};
    memcpy(out->messages, n->messages, sizeof(out->messages));
    memcpy(out->bytes, n->bytes, sizeof(out->bytes));
    memcpy(out->terminations, n->terminations, sizeof(out->terminations));
}

/* ---- certificates
 * -------------------------------------------------------------------------------------------------------- */

static void call_free(struct peering_csr_call *c)
{
    cert_creds_unref(c->creds);
    if (c->token != NULL) {
        pg_wipe(c->token, strlen(c->token));
    }
    pg_free(c->token);
    pg_free(c);
}

static void on_signed(void *arg, int err, const struct pg_str *chain, size_t count, const char *text)
{
    struct peering_csr_call *c = arg;
    peering_str out[XDS_CERT_CHAIN_MAX];
    count = count < XDS_CERT_CHAIN_MAX ? count : XDS_CERT_CHAIN_MAX;
    for (size_t i = 0; i < count; i++) {
        out[i] = (peering_str){chain[i].p, chain[i].len};
    }
    c->done(c->arg, err, out, count, text != NULL ? text : "");
    call_free(c);
}

static int start_call(struct peering_node *n, struct peering_csr_call *c, peering_str csr_pem, int64_t ttl_s,
                      peering_str impersonate, struct pg_errtext *err)
{
    struct pg_sb token;
    pg_sb_init(&token, FILE_MAX);
    int r = read_token(n, &token, err);
    c->creds = r == 0 ? load_roots(n->ca_root, err) : NULL;
    c->token = pg_sb_take(&token);
    pg_sb_fini(&token);
    if (c->creds == NULL) {
        return r < 0 ? r : PG_E_CONFIG;
    }
    struct xds_ca_options o = {
        .address = n->ca.address,
        .server_names = n->ca.names,
        .n_server_names = n->ca.n_names,
        .creds = c->creds,
        .token = pg_str_c(c->token),
        .cluster_id = n->cluster_id,
        .request = {.csr = {csr_pem.ptr, csr_pem.len},
                    .validity_s = ttl_s,
                    .impersonated = {impersonate.ptr, impersonate.len}},
    };
    return xds_ca_call(n->loop, n->resolver, &o, on_signed, c, &c->call, err);
}

int peering_node_sign(struct peering_node *n, peering_str csr_pem, int64_t ttl_s, peering_str impersonate,
                      void (*done)(void *arg, int err, const peering_str *chain, size_t n_chain,
                                   const char *text),
                      void *arg, struct peering_csr_call **out, peering_text *why)
{
    struct pg_errtext err = {.text = ""};
    if (n->ca.address[0] == '\0') {
        return config_error(why, "ca_address", "", "no certificate authority is configured");
    }
    struct peering_csr_call *c = pg_calloc(1, sizeof(*c));
    if (c == NULL) {
        return PEERING_ERR_NOMEM;
    }
    c->done = done;
    c->arg = arg;
    int r = start_call(n, c, csr_pem, ttl_s, impersonate, &err);
    if (r < 0) {
        if (why != NULL) {
            (void)snprintf(why->text, sizeof(why->text), "%s",
                           err.text[0] != '\0' ? err.text : pg_err_str(r));
        }
        call_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void peering_csr_call_cancel(struct peering_csr_call *c)
{
    if (c != NULL) {
        xds_ca_call_cancel(c->call);
        call_free(c);
    }
}
