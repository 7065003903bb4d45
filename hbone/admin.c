/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admin, statistics and readiness answers, in ztunnel's shapes so that its tools work. Private keys and
 * tokens never appear. What workers know is asked for by message. Control thread, but for the run_*
 * functions, which are each worker's.
 */
#include "certs/ca.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "hbone/proxy.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>

#define DUMP_MAX (1024u * 1024 * 1024)
#define CONNECTIONS_MAX 10000u /* connections of one worker shown in a dump */
#define PLAIN "text/plain; charset=utf-8"

static void send_c(struct pg_http1_reply *r, int status, const char *text)
{
    pg_http1_reply_send(r, status, PLAIN, pg_str_c(text));
}

/* ---- statistics
 * ------------------------------------------------------------------------------------------------------------
 */

struct scrape {
    struct pg_http1_reply *reply;
    bool open_metrics;
};

static void run_scrape(struct hb_worker *w, struct hb_call *c)
{
    struct hb_fanout_call *fc = PG_CONTAINER_OF(c, struct hb_fanout_call, call);
    struct hb_totals *t = pg_malloc(sizeof(*t));
    struct hb_gauges g;
    if (t == NULL) {
        return;
    }
    PG_LIST_FOREACH(&w->conns, n)
    {
        hb_conn_flush(PG_CONTAINER_OF(n, struct hb_conn, node));
    }
    hb_worker_gauges(w, &g);
    hb_totals_init(t);
    hb_totals_add(t, &w->metrics, &g);
    fc->result = t;
}

static uint64_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    uint64_t n = 0;
    while (d != NULL && readdir(d) != NULL) {
        n++;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n > 3 ? n - 3 : 0; /* ".", ".." and our own */
}

static void facts(struct hb_proxy *p, struct hb_process_facts *f)
{
    struct rlimit lim = {0};
    peering_node_status s;
    (void)getrlimit(RLIMIT_NOFILE, &lim);
    peering_node_get_status(p->node, &s);
    struct cert_creds *creds = hb_identity_creds(p->identity);
    *f = (struct hb_process_facts){.tag = p->cfg->istio_version,
                                   .open_fds = open_fds(),
                                   .max_fds = lim.rlim_cur,
                                   .workers = p->n_workers,
                                   .world_generation = p->worlds,
                                   .connected = s.connected,
                                   .have_certificate = creds != NULL,
                                   .xds_age_ms = s.last_message_age_ms,
                                   .cert_expires_in_s =
                                       creds != NULL ? cert_creds_not_after(creds) - pg_clock_wall_s() : 0};
    const struct hb_pod_spec *pod = &p->cfg->pod;
    const peering_workload *w = p->table == NULL
                                    ? NULL
                                    : peering_find_workload_by_name(
                                          p->table, hb_pstr(pg_str_c(pod->ns)), hb_pstr(pg_str_c(pod->name)),
                                          hb_pstr(pg_str_c(pod->sa)), hb_pstr(pg_str_c(p->cfg->node_name)));
    if (w != NULL) {
        f->canonical = hb_str(peering_workload_canonical_name(w));
        f->revision = hb_str(peering_workload_canonical_revision(w));
    }
    memcpy(f->xds_messages, s.messages, sizeof(f->xds_messages));
    memcpy(f->xds_bytes, s.bytes, sizeof(f->xds_bytes));
    memcpy(f->xds_terminations, s.terminations, sizeof(f->xds_terminations));
}

static void scrape_done(struct hb_fanout *f)
{
    struct scrape *s = f->arg;
    struct hb_totals sum;
    struct hb_process_facts pf;
    struct pg_sb out;
    hb_totals_init(&sum);
    for (unsigned i = 0; i < f->n; i++) {
        struct hb_totals *t = f->calls[i].result;
        if (t != NULL) {
            hb_totals_merge(&sum, t);
            hb_totals_fini(t);
            pg_free(t);
        } else {
            sum.err = PG_E_NOMEM;
        }
    }
    pg_sb_init(&out, HB_SCRAPE_MAX);
    facts(f->proxy, &pf);
    hb_totals_text(&sum, &pf, &out);
    if (sum.err != 0 || out.err != 0) {
        send_c(s->reply, 500, "out of memory\n");
    } else {
        pg_http1_reply_send(s->reply, 200,
                            s->open_metrics ? "application/openmetrics-text;charset=utf-8;version=1.0.0"
                                            : PLAIN,
                            pg_sb_view(&out));
    }
    pg_sb_fini(&out);
    hb_totals_fini(&sum);
    pg_free(s);
}

static bool contains(struct pg_str s, const char *what)
{
    return s.len > 0 && memmem(s.p, s.len, what, strlen(what)) != NULL;
}

void hb_stats_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg)
{
    struct hb_proxy *p = arg;
    if (!pg_str_eq_c(req->path, "/metrics") && !pg_str_eq_c(req->path, "/stats/prometheus")) {
        send_c(reply, 404, "not found\n");
        return;
    }
    struct scrape *s = pg_calloc(1, sizeof(*s));
    if (s == NULL) {
        send_c(reply, 500, "out of memory\n");
        return;
    }
    s->reply = reply;
    s->open_metrics = contains(req->accept, "application/openmetrics-text");
    if (hb_fanout_start(p, run_scrape, scrape_done, s) < 0) {
        pg_free(s);
        send_c(reply, 500, "out of memory\n");
    }
}

/* ---- readiness
 * ----------------------------------------------------------------------------------------------------------------
 */

void hb_ready_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg)
{
    const struct hb_proxy *p = arg;
    if (!pg_str_eq_c(req->path, "/healthz/ready")) {
        send_c(reply, 404, "not found\n");
    } else if (!pg_str_eq_c(req->method, "GET")) {
        send_c(reply, 405, "method not allowed\n");
    } else if (!p->bound) {
        send_c(reply, 500, "not ready, pending: proxy\n");
    } else if (!p->open) {
        send_c(reply, 500, "not ready, pending: state manager\n");
    } else {
        send_c(reply, 200, "ready\n");
    }
}

/* ---- config_dump
 * ---------------------------------------------------------------------------------------------------------------
 */

static int write_sb(void *arg, const char *ptr, size_t len)
{
    struct pg_sb *out = arg;
    pg_sb_add(out, ptr, len);
    return out->err;
}

static void dump_tables(const peering_snapshot *s, struct pg_sb *out)
{
    size_t it = 0;
    const char *sep = "";
    const peering_workload *w;
    const peering_service *v;
    const peering_policy *a;
    pg_sb_c(out, "{\"workloads\":[");
    while (s != NULL && (w = peering_next_workload(s, &it)) != NULL && out->err == 0) {
        pg_sb_c(out, sep);
        (void)peering_workload_json(w, write_sb, out);
        sep = ",\n";
    }
    pg_sb_c(out, "],\n\"services\":[");
    it = 0;
    sep = "";
    while (s != NULL && (v = peering_next_service(s, &it)) != NULL && out->err == 0) {
        pg_sb_c(out, sep);
        (void)peering_service_json(v, write_sb, out);
        sep = ",\n";
    }
    pg_sb_c(out, "],\n\"policies\":[");
    it = 0;
    sep = "";
    while (s != NULL && (a = peering_next_policy(s, &it)) != NULL && out->err == 0) {
        pg_sb_c(out, sep);
        (void)peering_policy_json(a, write_sb, out);
        sep = ",\n";
    }
    pg_sb_c(out, "],\n\"stagedServices\":{}");
}

/* One element per certificate of a PEM text. */
static void dump_pem(struct pg_json *j, struct pg_str pem)
{
    static const char end[] = "-----END CERTIFICATE-----";
    pg_json_arr(j);
    for (size_t i = 0; i < CERT_ROOTS_MAX && pem.len > 0; i++) {
        struct cert_facts f;
        char from[PG_RFC3339_LEN];
        char to[PG_RFC3339_LEN];
        const char *e = memmem(pem.p, pem.len, end, sizeof(end) - 1);
        if (e == NULL) {
            break;
        }
        struct pg_str one = {pem.p, (size_t)(e - pem.p) + sizeof(end) - 1};
        pem = pg_str_sub(pem, one.len);
        one = pg_str_trim(one);
        if (cert_facts_of(one, 0, &f) < 0) {
            continue;
        }
        struct pg_sb b64;
        pg_sb_init(&b64, CERT_PEM_MAX * 2);
        pg_base64_encode(one, false, &b64);
        pg_clock_rfc3339(f.not_before * 1000000, from);
        pg_clock_rfc3339(f.not_after * 1000000, to);
        pg_json_obj(j);
        pg_json_kstr(j, "pem", pg_sb_view(&b64));
        pg_json_kc(j, "serialNumber", f.serial);
        pg_json_kc(j, "validFrom", from);
        pg_json_kc(j, "expirationTime", to);
        pg_json_obj_end(j);
        pg_sb_fini(&b64);
    }
    pg_json_arr_end(j);
}

static void dump_certificates(const struct hb_proxy *p, struct pg_sb *out)
{
    struct pg_json j;
    struct cert_creds *c = hb_identity_creds(p->identity);
    pg_sb_c(out, ",\n\"certificates\":");
    pg_json_init(&j, out, false);
    pg_json_arr(&j);
    pg_json_obj(&j);
    pg_json_kc(&j, "identity", hb_identity_name(p->identity));
    pg_json_kc(&j, "state", hb_identity_state(p->identity));
    pg_json_key(&j, "certChain");
    dump_pem(&j, c != NULL ? cert_creds_chain_pem(c) : PG_STR_NONE);
    pg_json_key(&j, "rootCerts");
    dump_pem(&j, c != NULL ? cert_creds_roots_pem(c) : PG_STR_NONE);
    pg_json_obj_end(&j);
    pg_json_arr_end(&j);
}

static void dump_process(struct hb_proxy *p, struct pg_sb *out)
{
    struct pg_json j;
    peering_node_status s;
    peering_node_get_status(p->node, &s);
    pg_sb_c(out, ",\n\"version\":");
    pg_json_init(&j, out, false);
    pg_json_obj(&j);
    pg_json_kc(&j, "version", ISTHMUS_VERSION);
    pg_json_kc(&j, "gitRevision", "unknown");
    pg_json_kc(&j, "rustVersion", "none (C17)");
    pg_json_kc(&j, "buildProfile", "release");
    pg_json_kc(&j, "buildStatus", "Clean");
    pg_json_kc(&j, "istioVersion", p->cfg->istio_version);
    pg_json_kc(&j, "cryptoProvider", "openssl");
    pg_json_obj_end(&j);
    pg_sb_c(out, ",\n\"config\":");
    pg_json_init(&j, out, false);
    hb_config_json(p->cfg, &j);
    pg_sb_c(out, ",\n\"controlPlane\":");
    pg_json_init(&j, out, false);
    pg_json_obj(&j);
    pg_json_kbool(&j, "connected", s.connected);
    pg_json_kbool(&j, "synced", s.synced);
    pg_json_ku64(&j, "lastMessageAgeMs", s.last_message_age_ms);
    pg_json_kc(&j, "lastError", s.last_error);
    pg_json_obj_end(&j);
}

static void dump_conn(const struct hb_conn *c, struct pg_sb *out)
{
    char a[PG_ADDR_TEXT];
    char b[PG_ADDR_TEXT];
    char d[PG_ADDR_TEXT];
    pg_sb_fmt(out, "%s{\"src\":\"%s\",\"originalDst\":\"%s\",\"actualDst\":\"%s\",\"protocol\":\"%s\"}",
              out->len > 0 ? "," : "", pg_addr_fmt(&c->src, a), pg_addr_fmt(&c->orig_dst, b),
              pg_addr_fmt(&c->dst, d), c->mtls ? "HBONE" : "TCP");
}

struct conn_dump {
    struct pg_sb dir[2];
};

static void run_conns(struct hb_worker *w, struct hb_call *call)
{
    struct hb_fanout_call *fc = PG_CONTAINER_OF(call, struct hb_fanout_call, call);
    struct conn_dump *d = pg_calloc(1, sizeof(*d));
    size_t n = 0;
    if (d == NULL) {
        return;
    }
    pg_sb_init(&d->dir[0], DUMP_MAX);
    pg_sb_init(&d->dir[1], DUMP_MAX);
    PG_LIST_FOREACH(&w->conns, node)
    {
        const struct hb_conn *c = PG_CONTAINER_OF(node, struct hb_conn, node);
        if (n++ < CONNECTIONS_MAX) {
            dump_conn(c, &d->dir[c->dir]);
        }
    }
    fc->result = d;
}

static void dump_connections(struct hb_fanout *f, struct pg_sb *out)
{
    const struct hb_pod_spec *s = &f->proxy->cfg->pod;
    struct pg_json j;
    pg_sb_c(out, ",\n\"workloadState\":{\"");
    pg_json_escape(out, pg_str_c(s->ns));
    pg_sb_ch(out, '/');
    pg_json_escape(out, pg_str_c(s->name));
    pg_sb_c(out, "\":{\"state\":\"Up\",\"connections\":{");
    for (int dir = 0; dir < 2; dir++) {
        const char *sep = "";
        pg_sb_fmt(out, "%s\"%s\":[", dir == 0 ? "" : ",", dir == HB_INBOUND ? "inbound" : "outbound");
        for (unsigned i = 0; i < f->n; i++) {
            const struct conn_dump *d = f->calls[i].result;
            if (d != NULL && d->dir[dir].len > 0) {
                pg_sb_c(out, sep);
                pg_sb_str(out, pg_sb_view(&d->dir[dir]));
                sep = ",";
            }
        }
        pg_sb_ch(out, ']');
    }
    pg_sb_c(out, "},\"info\":");
    pg_json_init(&j, out, false);
    pg_json_obj(&j);
    pg_json_kc(&j, "name", s->name);
    pg_json_kc(&j, "namespace", s->ns);
    pg_json_kc(&j, "serviceAccount", s->sa);
    pg_json_obj_end(&j);
    pg_sb_c(out, "}}");
}

static void dump_done(struct hb_fanout *f)
{
    struct pg_http1_reply *reply = f->arg;
    struct pg_sb out;
    pg_sb_init(&out, DUMP_MAX);
    dump_tables(f->proxy->table, &out);
    dump_certificates(f->proxy, &out);
    dump_process(f->proxy, &out);
    dump_connections(f, &out);
    pg_sb_c(&out, "}\n");
    for (unsigned i = 0; i < f->n; i++) {
        struct conn_dump *d = f->calls[i].result;
        if (d != NULL) {
            pg_sb_fini(&d->dir[0]);
            pg_sb_fini(&d->dir[1]);
            pg_free(d);
        }
    }
    if (out.err != 0) {
        send_c(reply, 500, "out of memory\n");
    } else {
        pg_http1_reply_send(reply, 200, "application/json", pg_sb_view(&out));
    }
    pg_sb_fini(&out);
}

/* ---- logging and the rest
 * ---------------------------------------------------------------------------------------------------------
 */

static void logging(const struct hb_proxy *p, const struct pg_http1_request *req,
                    struct pg_http1_reply *reply)
{
    char buf[512];
    char text[640];
    struct pg_str level;
    struct pg_errtext err = {.text = ""};
    if (!pg_str_eq_c(req->method, "POST")) {
        send_c(
            reply, 405,
            "usage: POST /logging\t\t\t\t\t\t(To list current level)\n"
            "usage: POST /logging?level=<level>\t\t\t\t(To change global levels)\n"
            "usage: POST /logging?level={mod1=level1,mod2=level2}\t(To change specific mods' logging level)\n"
            "usage: POST /logging?reset\t\t\t\t\t(To reset levels)\n");
        return;
    }
    int r = 0;
    if (contains(req->query, "reset")) {
        r = pg_log_set_filter(p->cfg->log_filter, &err);
    }
    if (r == 0 && pg_http1_query(req->query, "level", buf, sizeof(buf), &level)) {
        char filter[513];
        (void)snprintf(filter, sizeof(filter), "%.*s", PG_STR_ARG(level));
        for (char *c = filter; *c != '\0'; c++) {
            *c = *c == ':' ? '=' : *c;
        }
        r = pg_log_set_filter(filter, &err);
    }
    if (r < 0) {
        (void)snprintf(text, sizeof(text), "failed to set new level: %s\n", err.text);
        send_c(reply, 400, text);
        return;
    }
    pg_log_get_filter(buf, sizeof(buf));
    (void)snprintf(text, sizeof(text), "current log level is %s\n", buf);
    send_c(reply, 200, text);
}

void hb_admin_handle(const struct pg_http1_request *req, struct pg_http1_reply *reply, void *arg)
{
    struct hb_proxy *p = arg;
    if (pg_str_eq_c(req->path, "/")) {
        pg_http1_reply_send(
            reply, 200, "text/html; charset=utf-8",
            PG_STR("<!doctype html><title>hbone</title><ul><li><a href=\"/config_dump\">config_dump</a>"
                   "<li>POST /logging?level=debug<li>POST /quitquitquit</ul>\n"));
    } else if (pg_str_eq_c(req->path, "/config_dump")) {
        if (hb_fanout_start(p, run_conns, dump_done, reply) < 0) {
            send_c(reply, 500, "out of memory\n");
        }
    } else if (pg_str_eq_c(req->path, "/logging")) {
        logging(p, req, reply);
    } else if (pg_str_eq_c(req->path, "/quitquitquit")) {
        bool post = pg_str_eq_c(req->method, "POST");
        send_c(reply, post ? 200 : 405, post ? "shutdown now\n" : "use POST\n");
        if (post) {
            hb_proxy_drain(p, "/quitquitquit");
        }
    } else {
        send_c(reply, 404, "not found\n");
    }
}
