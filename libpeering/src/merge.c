/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run of a merge: sort what came, group it by service, build each global service, write both views.
 * Everything that comes from a hash table is sorted before use, so the order of arrival leaves no trace.
 * Control thread.
 */
#include "merge_int.h"

#include "certs/spiffe.h"
#include "vip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MERGE_TEXT_MAX 2048u

void merge_fail(struct merge *m, int code)
{
    m->code = m->code != 0 ? m->code : code;
}

static void *take(struct merge *m, struct pg_arena *a, size_t count, size_t size)
{
    if (m->code != 0 || count == 0) {
        return NULL;
    }
    void *p = pg_arena_calloc(a, count, size);
    if (p == NULL) {
        merge_fail(m, PG_E_NOMEM);
    }
    return p;
}

void *merge_scratch(struct merge *m, size_t count, size_t size)
{
    return take(m, &m->scratch, count, size);
}

void *merge_keep(struct merge *m, size_t count, size_t size)
{
    return take(m, &m->result.arena, count, size);
}

struct pg_str merge_text(struct merge *m, struct pg_arena *a, const char *fmt, ...)
{
    char text[MERGE_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (m->code != 0) {
        return PG_STR_NONE;
    }
    if (n < 0 || (size_t)n >= sizeof(text)) {
        merge_fail(m, PG_E_LIMIT);
        return PG_STR_NONE;
    }
    const char *p = pg_arena_strndup(a, text, (size_t)n);
    if (p == NULL) {
        merge_fail(m, PG_E_NOMEM);
        return PG_STR_NONE;
    }
    return pg_str_n(p, (size_t)n);
}

struct pg_str merge_key(struct merge *m, struct pg_str ns, struct pg_str host)
{
    return merge_text(m, &m->scratch, "%.*s/%.*s", PG_STR_ARG(ns), PG_STR_ARG(host));
}

uint32_t merge_capacity(const struct xds_workload *w)
{
    return w->has_capacity ? w->capacity : 1;
}

static int by_text(const void *a, const void *b)
{
    return pg_str_cmp(*(const struct pg_str *)a, *(const struct pg_str *)b);
}

bool merge_sort_sans(struct pg_str *sans, size_t *n)
{
    size_t kept = 0, bytes = 0;
    bool cut = false;
    if (*n > 1) {
        qsort(sans, *n, sizeof(*sans), by_text);
    }
    for (size_t i = 0; i < *n; i++) {
        if (kept > 0 && pg_str_eq(sans[kept - 1], sans[i])) {
            continue;
        }
        bytes += sans[i].len;
        if (kept == MERGE_SANS_MAX || bytes > MERGE_SANS_BYTES_MAX) {
            cut = true;
            break;
        }
        sans[kept++] = sans[i];
    }
    *n = kept;
    return cut;
}

void merge_result_fini(struct merge_result *r)
{
    pg_arena_fini(&r->arena);
    *r = (struct merge_result){0};
}

/* --- local services and their endpoints --- */

static void index_services(struct merge *m)
{
    m->own = merge_scratch(m, m->local->n_services + 1, sizeof(*m->own));
    for (size_t i = 0; i < m->local->n_services && m->code == 0; i++) {
        struct contrib_service *s = &m->local->services[i];
        struct pg_str key = merge_key(m, s->svc.ns, s->svc.hostname);
        int r = m->code == 0 ? pg_map_set(&m->local_keys, key, s, NULL) : 0;
        if (r < 0) {
            merge_fail(m, r);
        }
    }
}

static const struct contrib_service *service_of(const struct merge *m, struct pg_str key)
{
    return pg_map_get(&m->local_keys, key);
}

/* Counting sort of (service, workload) pairs. */
static void index_endpoints(struct merge *m)
{
    const struct contrib_local *l = m->local;
    size_t pairs = 0;
    m->endpoint_from = merge_scratch(m, l->n_services + 2, sizeof(size_t));
    m->identities = merge_scratch(m, l->n_workloads + 1, sizeof(struct pg_str));
    for (size_t i = 0; i < l->n_workloads && m->code == 0; i++) {
        const struct xds_workload *w = &l->workloads[i].w;
        m->identities[i] =
            merge_text(m, &m->scratch, "spiffe://%.*s/ns/%.*s/sa/%.*s", PG_STR_ARG(w->trust_domain),
                       PG_STR_ARG(w->ns), PG_STR_ARG(w->service_account));
        for (size_t k = 0; k < w->n_services; k++) {
            const struct contrib_service *s = service_of(m, w->services[k].key);
            if (s != NULL) {
                m->endpoint_from[s - l->services + 2]++;
                pairs++;
            }
        }
    }
    m->endpoint_ids = merge_scratch(m, pairs + 1, sizeof(size_t));
    if (m->code != 0) {
        return;
    }
    for (size_t i = 2; i < l->n_services + 2; i++) {
        m->endpoint_from[i] += m->endpoint_from[i - 1];
    }
    /* endpoint_from[s + 1] is where the next endpoint of s goes; in the end it is where those of s + 1 begin.
     */
    for (size_t i = 0; i < l->n_workloads; i++) {
        const struct xds_workload *w = &l->workloads[i].w;
        for (size_t k = 0; k < w->n_services; k++) {
            const struct contrib_service *s = service_of(m, w->services[k].key);
            if (s != NULL) {
                m->endpoint_ids[m->endpoint_from[s - l->services + 1]++] = i;
            }
        }
    }
}

/* --- groups --- */

static bool same_service(const struct merge_part *a, const struct merge_part *b)
{
    return pg_str_eq(a->ns, b->ns) && pg_str_eq(a->name, b->name);
}

static size_t group_end(const struct merge *m, size_t from)
{
    size_t to = from + 1;
    while (to < m->n_parts && same_service(&m->parts[from], &m->parts[to])) {
        to++;
    }
    return to;
}

static void build_globals(struct merge *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_parts; i = group_end(m, i)) {
        n++;
    }
    m->result.globals = merge_keep(m, n, sizeof(*m->result.globals));
    if (m->code != 0 || n == 0) {
        return;
    }
    for (size_t i = 0; i < m->n_parts && m->code == 0; i = group_end(m, i)) {
        struct merge_global *g = &m->result.globals[m->result.n_globals++];
        const struct merge_part *p = &m->parts[i];
        g->name = merge_text(m, &m->result.arena, "%.*s", PG_STR_ARG(p->name));
        g->ns = merge_text(m, &m->result.arena, "%.*s", PG_STR_ARG(p->ns));
        g->hostname = merge_text(m, &m->result.arena, "%.*s.%.*s." MERGE_DOMAIN, PG_STR_ARG(p->name),
                                 PG_STR_ARG(p->ns));
        vip_pool_touch(m->vips, g->hostname);
    }
    size_t at = 0;
    for (size_t i = 0; i < m->n_parts && m->code == 0; i = group_end(m, i)) {
        merge_global(m, i, group_end(m, i), &m->result.globals[at++]);
    }
}

static void run(struct merge *m, const struct contrib_peer *peers, size_t n_peers)
{
    static const char *const node_types[] = {XDS_TYPE_ADDRESS, XDS_TYPE_AUTHORIZATION};
    static const char *const export_types[] = {XDS_TYPE_FEDERATED_SERVICE, XDS_TYPE_SEGMENT,
                                               XDS_TYPE_ADDRESS};
    index_services(m);
    index_endpoints(m);
    merge_take_peers(m, peers, n_peers);
    merge_take_parts(m);
    vip_pool_begin_round(m->vips);
    for (size_t i = 0; i < m->local->n_services && m->code == 0; i++) {
        if (m->local->services[i].auto_vip) {
            vip_pool_touch(m->vips, m->local->services[i].svc.hostname);
        }
    }
    build_globals(m);
    merge_local_view(m);
    merge_gateways(m);
    merge_export_view(m);
    writer_finish(m, &m->node, node_types, PG_ARRAY_LEN(node_types));
    writer_finish(m, &m->exported, export_types, PG_ARRAY_LEN(export_types));
}

static void fini(struct merge *m)
{
    for (size_t i = 0; i < m->n_peers; i++) {
        pg_map_fini(&m->peers[i].by_key);
    }
    pg_free(m->parts);
    pg_map_fini(&m->local_keys);
    pg_map_fini(&m->local_ips);
    pg_map_fini(&m->node.seen);
    pg_map_fini(&m->exported.seen);
    pg_arena_fini(&m->scratch);
}

int merge_run(const struct merge_self *self, const struct contrib_local *local,
              const struct contrib_peer *peers, size_t n_peers, struct vip_pool *vips, struct xds_view *node,
              struct xds_view *export_view, struct merge_result *out, size_t *decode_problems,
              struct pg_errtext *err)
{
    struct merge m = {.self = self, .local = local, .vips = vips, .err = err};
    m.node.view = node;
    m.exported.view = export_view;
    pg_arena_init(&m.scratch, CONTRIB_ARENA_MAX);
    pg_arena_init(&m.result.arena, CONTRIB_ARENA_MAX);
    pg_map_init(&m.local_keys, CONTRIB_SERVICES_MAX);
    pg_map_init(&m.local_ips, SIZE_MAX / 64);
    pg_map_init(&m.node.seen, SIZE_MAX / 64);
    pg_map_init(&m.exported.seen, SIZE_MAX / 64);
    run(&m, peers, n_peers);
    fini(&m);
    if (m.code < 0) {
        merge_result_fini(&m.result);
        if (m.code == PG_E_LIMIT) {
            pg_err_wrap(err, "merge");
        }
        return m.code;
    }
    xds_view_commit(node);
    xds_view_commit(export_view);
    *out = m.result;
    *decode_problems = m.problems;
    return 0;
}
