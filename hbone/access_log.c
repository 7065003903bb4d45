/* SPDX-License-Identifier: Apache-2.0 */
/* Access log lines: ztunnel's fields, names and order. Bytes a peer chose are escaped by the log's writer.
 * Worker thread. */
#include "core/log.h"
#include "hbone/conn.h"

#include <stdio.h>

#define FIELDS_MAX 18u

static size_t describe(const struct hb_conn *c, struct pg_field *f)
{
    const struct hb_conn_text *t = &c->text;
    size_t n = 0;
    f[n++] = PG_F_ADDR("src.addr", &c->src);
    f[n++] = PG_F_OPT_STR("src.workload", t->src.pod);
    f[n++] = PG_F_OPT_STR("src.namespace", t->src.ns);
    f[n++] = PG_F_OPT_STR("src.identity", c->mtls ? t->src.identity : PG_STR_NONE);
    f[n++] = PG_F_OPT_STR("src.cluster", t->src.cluster);
    f[n++] = PG_F_ADDR("dst.addr", &c->dst);
    f[n++] = (struct pg_field){.key = "dst.hbone_addr",
                               .kind = t->authority.len > 0 ? PG_FIELD_RAW : PG_FIELD_NONE,
                               .v.str = t->authority};
    f[n++] = PG_F_OPT_STR("dst.service", t->service);
    f[n++] = PG_F_OPT_STR("dst.workload", t->dst.pod);
    f[n++] = PG_F_OPT_STR("dst.namespace", t->dst.ns);
    f[n++] = PG_F_OPT_STR("dst.identity", c->mtls ? t->dst.identity : PG_STR_NONE);
    f[n++] = PG_F_OPT_STR("dst.cluster", t->dst.cluster);
    f[n++] = PG_F_C("direction", c->dir == HB_INBOUND ? "inbound" : "outbound");
    return n;
}

void hb_access_log_open(const struct hb_conn *c)
{
    if (pg_log_enabled(PG_LOG_DEBUG, "access")) {
        struct pg_field f[FIELDS_MAX];
        size_t n = describe(c, f);
        pg_log_emit(PG_LOG_DEBUG, "access", "connection opened", f, n);
    }
}

void hb_access_log(const struct hb_conn *c, const struct hb_fail *why, uint64_t client_to_server,
                   uint64_t server_to_client, uint64_t duration_ms)
{
    bool failed = why != NULL && why->err != 0;
    enum pg_log_level level = failed ? PG_LOG_ERROR : PG_LOG_INFO;
    if (!pg_log_enabled(level, "access")) {
        return;
    }
    struct pg_field f[FIELDS_MAX];
    char duration[32];
    size_t n = describe(c, f);
    (void)snprintf(duration, sizeof(duration), "%llums", (unsigned long long)duration_ms);
    f[n++] = PG_F_U64("bytes_sent", c->dir == HB_OUTBOUND ? client_to_server : server_to_client);
    f[n++] = PG_F_U64("bytes_recv", c->dir == HB_OUTBOUND ? server_to_client : client_to_server);
    f[n++] = PG_F_C("duration", duration);
    if (failed) {
        f[n++] = PG_F_C("error", why->text);
    }
    pg_log_emit(level, "access", "connection complete", f, n);
}

void hb_access_log_early(enum hb_direction dir, const struct pg_addr *src, const struct pg_addr *dst,
                         const char *why)
{
    PG_LOG(PG_LOG_WARN, "access", "connection failed", PG_F_ADDR("src.addr", src), PG_F_ADDR("dst.addr", dst),
           PG_F_C("direction", dir == HB_INBOUND ? "inbound" : "outbound"), PG_F_C("error", why));
}
