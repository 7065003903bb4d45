/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta ADS client's machine under a control plane that may say anything: composed responses, raw bytes,
 * lost streams. What it counts is what its owner took, removals name only what was taken, every answer is a
 * request that decodes. One thread.
 */
#include "fuzz.h"

#include "core/map.h"
#include "xds/client.h"

#define NAMES_MAX 12u
static const char *const urls[] = {XDS_TYPE_ADDRESS, XDS_TYPE_AUTHORIZATION, XDS_TYPE_SEGMENT, "other"};
#define TYPES 3u

struct owner {
    struct pg_map taken[TYPES]; /* name -> heap copy of it */
    struct pg_arena arena;
    unsigned fail_emit;
    size_t emitted;
};

static void keep(struct owner *o, size_t type, struct pg_str name)
{
    if (pg_map_get(&o->taken[type], name) == NULL) {
        char *copy = pg_arena_strndup(&o->arena, name.p, name.len);
        PG_BUG_ON(copy == NULL || pg_map_set(&o->taken[type], pg_str_n(copy, name.len), copy, NULL) < 0);
    }
}

static int apply(void *arg, size_t type, const struct xds_delta_resource *r, struct pg_errtext *why)
{
    PG_BUG_ON(type >= TYPES || r->name.len == 0 || !r->has_resource);
    if (r->bytes.len > 0 && r->bytes.p[0] == '!') {
        pg_err_set(why, "%.*s", (int)(r->bytes.len < 100 ? r->bytes.len : 100), r->bytes.p);
        return PG_E_PARSE;
    }
    if (r->bytes.len > 0 && r->bytes.p[0] == '~') {
        return PG_E_NOMEM;
    }
    keep(arg, type, r->name);
    return 0;
}

static void removed(void *arg, size_t type, struct pg_str name)
{
    struct owner *o = arg;
    PG_BUG_ON(type >= TYPES || pg_map_del(&o->taken[type], name) == NULL);
}

static int emit(void *arg, struct pg_str msg)
{
    struct owner *o = arg;
    struct pg_arena a;
    struct xds_delta_request q;
    if (o->fail_emit > 0 && --o->fail_emit == 0) {
        return PG_E_LIMIT;
    }
    pg_arena_init(&a, 1u << 22);
    PG_BUG_ON(xds_delta_request_decode(msg, &a, &q, NULL) < 0 || q.type_url.len > 5000);
    pg_arena_fini(&a);
    o->emitted++;
    return 0;
}

static void compose(struct pg_str *in, struct pg_sb *out)
{
    struct xds_delta_resource res[8];
    struct pg_str gone[8], aliases[1];
    struct xds_delta_response p = {.resources = res, .removed = gone};
    uint8_t shape = fuzz_u8(in);
    p.type_url = pg_str_c(urls[shape % 4]);
    p.n_resources = shape >> 2 & 7;
    p.n_removed = shape >> 5 & 7;
    p.nonce = fuzz_take(in, 1);
    for (size_t i = 0; i < p.n_resources; i++) {
        uint8_t b = fuzz_u8(in);
        res[i] = (struct xds_delta_resource){.type_url = p.type_url, .has_resource = b % 16 != 15};
        res[i].name = fuzz_take(in, b % 8 == 7 ? b / 8 : 1);
        res[i].version = fuzz_take(in, b >> 4 & 1);
        res[i].bytes = fuzz_take(in, b >> 5);
        aliases[0] = res[i].name;
        res[i].aliases = aliases;
        res[i].n_aliases = b >> 7;
    }
    for (size_t i = 0; i < p.n_removed; i++) {
        gone[i] = fuzz_take(in, 1);
    }
    PG_BUG_ON(xds_delta_response_encode(&p, out) < 0);
}

static void respond(struct adsc *m, struct owner *o, struct pg_str bytes, bool *open)
{
    struct adsc_result result;
    struct pg_errtext err = {{0}};
    size_t before = o->emitted;
    int r = adsc_response(m, bytes, apply, removed, o, emit, o, &result, &err);
    if (r == 0) {
        PG_BUG_ON(o->emitted != before + 1);
        PG_BUG_ON(result.type != SIZE_MAX && result.type >= TYPES);
    } else {
        PG_BUG_ON(o->emitted != before);
        adsc_stream_closed(m);
        *open = false;
    }
    for (size_t i = 0; i < TYPES; i++) {
        PG_BUG_ON(adsc_count(m, i) != o->taken[i].len || o->taken[i].len > NAMES_MAX);
    }
}

static void one(struct pg_str in)
{
    static const struct pg_str named[] = {{"a", 1}, {"b", 1}};
    const struct adsc_type types[TYPES] = {{urls[0], NULL, 0}, {urls[1], NULL, 0}, {urls[2], named, 2}};
    const struct xds_node node = {.id = PG_STR("ztunnel~10.0.0.1~a.b~b.svc.cluster.local")};
    struct adsc *m;
    struct owner o = {.fail_emit = 0};
    struct pg_sb sb;
    bool open = false;
    pg_arena_init(&o.arena, 1u << 24);
    pg_sb_init(&sb, 1u << 20);
    for (size_t i = 0; i < TYPES; i++) {
        pg_map_init(&o.taken[i], 1000);
    }
    PG_BUG_ON(adsc_new(types, TYPES, NAMES_MAX, &m) < 0);
    while (in.len > 0) {
        uint8_t op = fuzz_u8(&in);
        if (!open) {
            o.fail_emit = op % 16 == 15 ? op >> 6 : 0;
            open = adsc_stream_open(m, &node, op & 1 ? 1u << 20 : op >> 3, emit, &o) == 0;
            o.fail_emit = 0;
            PG_BUG_ON(adsc_is_synced(m));
            continue;
        }
        pg_sb_reset(&sb);
        o.fail_emit = op % 32 == 31;
        if (op % 8 == 0) {
            respond(m, &o, fuzz_text(&in), &open);
        } else if (op % 8 == 1) {
            adsc_stream_closed(m);
            open = false;
        } else {
            compose(&in, &sb);
            respond(m, &o, pg_sb_view(&sb), &open);
        }
    }
    adsc_free(m);
    for (size_t i = 0; i < TYPES; i++) {
        pg_map_fini(&o.taken[i]);
    }
    pg_sb_fini(&sb);
    pg_arena_fini(&o.arena);
}
FUZZ_TARGET(one, fuzz_no_init)
