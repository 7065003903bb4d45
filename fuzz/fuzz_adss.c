/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delta ADS server's machine under a client that may say anything, while its view changes. Every response
 * decodes, carries what the view holds now, and waits for its answer before the next of its type. One thread.
 */
#include "fuzz.h"

#include "xds/server.h"

static const char *const urls[] = {XDS_TYPE_ADDRESS, XDS_TYPE_AUTHORIZATION, XDS_TYPE_WORKLOAD, "other"};

struct world {
    struct xds_view *view;
    struct adss *m;
    char nonce[4][40]; /* of the response in flight, by type */
    bool over;
};

/* Who asked by an alias gets the resource under that name, so only the content tells. */
struct lookup {
    struct pg_str bytes, version;
    bool found;
};
static void look(void *arg, struct pg_str name, struct pg_str version, struct pg_str bytes)
{
    struct lookup *l = arg;
    (void)name;
    l->found = l->found || (pg_str_eq(version, l->version) && pg_str_eq(bytes, l->bytes));
}

static size_t type_of(struct pg_str url)
{
    for (size_t i = 0; i < PG_ARRAY_LEN(urls); i++) {
        if (pg_str_eq_c(url, urls[i])) {
            return i;
        }
    }
    return PG_ARRAY_LEN(urls);
}

static void check_response(struct world *w, struct pg_str bytes, bool committed)
{
    struct pg_arena a;
    struct xds_delta_response p;
    pg_arena_init(&a, 1u << 24);
    PG_BUG_ON(xds_delta_response_decode(bytes, &a, &p, NULL) < 0);
    size_t t = type_of(p.type_url);
    PG_BUG_ON(p.nonce.len == 0 || p.nonce.len >= sizeof(w->nonce[0]));
    if (t < PG_ARRAY_LEN(urls)) {
        PG_BUG_ON(w->nonce[t][0] != '\0');
        memcpy(w->nonce[t], p.nonce.p, p.nonce.len);
        w->nonce[t][p.nonce.len] = '\0';
    }
    for (size_t i = 0; committed && t < PG_ARRAY_LEN(urls) && i < p.n_resources; i++) {
        struct lookup l = {.bytes = p.resources[i].bytes, .version = p.resources[i].version};
        PG_BUG_ON(xds_view_each(w->view, urls[t], look, &l) < 0 || !l.found);
    }
    pg_arena_fini(&a);
}

static void push(struct world *w, bool committed)
{
    struct pg_sb sb;
    pg_sb_init(&sb, XDS_RESPONSE_MAX);
    for (unsigned i = 0; !w->over; i++) {
        PG_BUG_ON(i > 8);
        pg_sb_reset(&sb);
        int r = adss_next_response(w->m, &sb);
        PG_BUG_ON(r < 0);
        if (r == 0) {
            break;
        }
        check_response(w, pg_sb_view(&sb), committed);
    }
    pg_sb_fini(&sb);
}

static void request(struct world *w, struct pg_str bytes)
{
    struct adss_event ev = {0};
    struct pg_errtext err = {{0}};
    int code = 0;
    int r = adss_request(w->m, bytes, &ev, &code, &err);
    PG_BUG_ON(r < 0 && (code == 0 || err.text[0] == '\0'));
    PG_BUG_ON(r >= 0 && ev.acked && ev.nacked);
    if (r >= 0 && (ev.acked || ev.nacked)) {
        size_t t = type_of(ev.type_url);
        if (t < PG_ARRAY_LEN(urls)) {
            PG_BUG_ON(w->nonce[t][0] == '\0');
            w->nonce[t][0] = '\0';
        }
    }
    w->over = w->over || r < 0;
}

static void compose(struct world *w, struct pg_str *in, struct pg_sb *out)
{
    struct pg_str sub[4], unsub[4];
    struct xds_kv known[4];
    uint8_t shape = fuzz_u8(in), more = fuzz_u8(in);
    size_t t = shape % 4;
    struct xds_delta_request q = {.type_url = pg_str_c(urls[t]), .subscribe = sub, .unsubscribe = unsub};
    q.has_node = more & 1;
    q.node.id = PG_STR("ztunnel~10.0.0.1~a.b~b.svc.cluster.local");
    q.initial_versions = known;
    q.n_subscribe = shape >> 2 & 3;
    q.n_unsubscribe = shape >> 4 & 3;
    q.n_initial_versions = shape >> 6;
    q.has_error = more >> 1 & 1;
    q.error_message = fuzz_take(in, more >> 5);
    q.response_nonce = more & 4 ? pg_str_c(w->nonce[t]) : fuzz_take(in, more >> 3 & 3);
    for (size_t i = 0; i < 4; i++) {
        struct pg_str name = fuzz_take(in, 1);
        sub[i] = name.len > 0 && name.p[0] == 'w' ? PG_STR("*") : name;
        unsub[i] = sub[i];
        known[i] = (struct xds_kv){name, pg_str_n("0123456789abcdef", name.len > 0 ? name.p[0] & 15 : 0)};
    }
    PG_BUG_ON(xds_delta_request_encode(&q, out) < 0);
}

static void change(struct world *w, struct pg_str *in)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz/*0123456789";
    uint8_t b = fuzz_u8(in);
    struct pg_str name = pg_str_n(&letters[fuzz_u8(in) % (sizeof(letters) - 1)], 1);
    struct pg_str alias = pg_str_n(&letters[fuzz_u8(in) % (sizeof(letters) - 1)], b >> 2 & 1);
    int r = b & 128 ? xds_view_del(w->view, urls[b % 4], name)
                    : xds_view_set(w->view, urls[b % 4], name, fuzz_take(in, b >> 4 & 7), &alias, alias.len);
    PG_BUG_ON(r < 0 && r != PG_E_LIMIT);
}

static void one(struct pg_str in)
{
    struct world w = {0};
    struct pg_sb sb;
    bool dirty = false;
    struct adss_type_status status[16];
    pg_sb_init(&sb, 1u << 20);
    PG_BUG_ON(xds_view_new(20, &w.view) < 0 || adss_new(w.view, &w.m) < 0);
    while (in.len > 0 && !w.over) {
        uint8_t op = fuzz_u8(&in);
        pg_sb_reset(&sb);
        switch (op % 8) {
        case 0:
            request(&w, fuzz_text(&in));
            break;
        case 1:
        case 2:
        case 3:
            compose(&w, &in, &sb);
            request(&w, pg_sb_view(&sb));
            break;
        case 4:
        case 5:
            change(&w, &in);
            dirty = true;
            break;
        case 6:
            xds_view_commit(w.view);
            dirty = false;
            break;
        default:
            push(&w, !dirty);
        }
    }
    PG_BUG_ON(adss_status(w.m, status, PG_ARRAY_LEN(status)) > PG_ARRAY_LEN(status));
    (void)adss_node(w.m);
    adss_free(w.m);
    xds_view_free(w.view);
    pg_sb_fini(&sb);
}
FUZZ_TARGET(one, fuzz_no_init)
