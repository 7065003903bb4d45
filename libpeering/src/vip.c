/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual addresses of global hosts: the place in the range is a digest of the hostname, the next free
 * one on collision. Every control plane that allocates the same names in the same order arrives at the same
 * addresses, and the saved text settles it for restarts. When the IPv4 range is full, names that the last
 * merge did not ask for give theirs back. Control thread.
 */
#include "merge.h"
#include "vip.h"

#include "core/map.h"

#include <stdlib.h>

#define VIP4_COUNT 65534u /* 240.240.0.1 to 240.240.255.254 */
#define VIP_HOST_MAX 512u

struct vip_entry {
    struct pg_str host; /* points behind the struct */
    uint16_t v4;        /* 1..VIP4_COUNT */
    uint64_t v6;        /* last 64 bits; never 0 */
    uint64_t round;     /* of the last merge that asked */
};
struct vip_pool {
    struct pg_map by_host;
    uint64_t used4[1024]; /* bit per IPv4 offset */
    struct pg_map by_v6;  /* key: the 8 bytes in the entry */
    uint64_t round;
    bool dirty;
};

int vip_pool_new(struct vip_pool **out)
{
    struct vip_pool *p = pg_calloc(1, sizeof(*p));
    if (p == NULL) {
        return PG_E_NOMEM;
    }
    pg_map_init(&p->by_host, VIP4_COUNT);
    pg_map_init(&p->by_v6, VIP4_COUNT);
    *out = p;
    return 0;
}

void vip_pool_free(struct vip_pool *p)
{
    if (p == NULL) {
        return;
    }
    size_t it = 0;
    struct pg_str key;
    void *e;
    while (pg_map_next(&p->by_host, &it, &key, &e)) {
        pg_free(e);
    }
    pg_map_fini(&p->by_host);
    pg_map_fini(&p->by_v6);
    pg_free(p);
}

static bool is_used4(const struct vip_pool *p, uint32_t v4)
{
    return (p->used4[v4 / 64] >> (v4 % 64)) & 1u;
}

static void mark4(struct vip_pool *p, uint32_t v4, bool used)
{
    uint64_t bit = (uint64_t)1 << (v4 % 64);
    p->used4[v4 / 64] = used ? p->used4[v4 / 64] | bit : p->used4[v4 / 64] & ~bit;
}

static struct pg_str key6(const struct vip_entry *e)
{
    return pg_str_n((const char *)&e->v6, sizeof(e->v6));
}

/* Puts an entry with both addresses chosen; the addresses must be free. */
static int insert(struct vip_pool *p, struct pg_str host, uint16_t v4, uint64_t v6, struct vip_entry **out)
{
    struct vip_entry *e = pg_malloc(sizeof(*e) + host.len);
    if (e == NULL) {
        return PG_E_NOMEM;
    }
    memcpy((char *)(e + 1), host.p, host.len);
    *e = (struct vip_entry){.host = pg_str_n((char *)(e + 1), host.len), .v4 = v4, .v6 = v6};
    int r = pg_map_set(&p->by_v6, key6(e), e, NULL);
    if (r < 0) {
        pg_free(e);
        return r;
    }
    r = pg_map_set(&p->by_host, e->host, e, NULL);
    if (r < 0) {
        (void)pg_map_del(&p->by_v6, key6(e));
        pg_free(e);
        return r;
    }
    mark4(p, v4, true);
    *out = e;
    return 0;
}

static void to_ips(const struct vip_entry *e, struct pg_ip *v4, struct pg_ip *v6)
{
    *v4 = (struct pg_ip){.len = 4, .b = {240, 240, (uint8_t)(e->v4 >> 8), (uint8_t)e->v4}};
    *v6 = (struct pg_ip){.len = 16, .b = {0x20, 0x01, 0x00, 0x02}};
    for (size_t i = 0; i < 8; i++) {
        v6->b[8 + i] = (uint8_t)(e->v6 >> (56 - 8 * i));
    }
}

void vip_pool_begin_round(struct vip_pool *p)
{
    p->round++;
}

void vip_pool_touch(struct vip_pool *p, struct pg_str hostname)
{
    struct vip_entry *e = pg_map_get(&p->by_host, hostname);
    if (e != NULL) {
        e->round = p->round;
    }
}

static void evict(struct vip_pool *p)
{
    size_t it = 0;
    struct pg_str key;
    void *v;
    while (pg_map_next(&p->by_host, &it, &key, &v)) {
        struct vip_entry *e = v;
        if (e->round != p->round) {
            (void)pg_map_del(&p->by_host, e->host);
            (void)pg_map_del(&p->by_v6, key6(e));
            mark4(p, e->v4, false);
            p->dirty = true;
            pg_free(e);
        }
    }
}

/* Fit for a line of the saved text: nothing in it that would end a word, a line or a string there. */
static bool is_host(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f) {
            return false;
        }
    }
    return s.len > 0 && s.len <= VIP_HOST_MAX;
}

int vip_pool_get(struct vip_pool *p, struct pg_str hostname, struct pg_ip *v4, struct pg_ip *v6)
{
    struct vip_entry *e = pg_map_get(&p->by_host, hostname);
    if (e == NULL) {
        if (!is_host(hostname)) {
            return PG_E_LIMIT;
        }
        if (p->by_host.len >= VIP4_COUNT) {
            evict(p);
        }
        if (p->by_host.len >= VIP4_COUNT) {
            return PG_E_LIMIT;
        }
        uint64_t digest = pg_digest64(hostname.p, hostname.len);
        uint32_t at = (uint32_t)(digest % VIP4_COUNT);
        while (is_used4(p, at + 1)) {
            at = (at + 1) % VIP4_COUNT;
        }
        uint64_t low = digest;
        while (low == 0 || pg_map_get(&p->by_v6, pg_str_n((const char *)&low, sizeof(low))) != NULL) {
            low++;
        }
        int r = insert(p, hostname, (uint16_t)(at + 1), low, &e);
        if (r < 0) {
            return r;
        }
        p->dirty = true;
    }
    e->round = p->round;
    to_ips(e, v4, v6);
    return 0;
}

bool vip_pool_is_dirty(const struct vip_pool *p)
{
    return p->dirty;
}

static int by_host(const void *a, const void *b)
{
    const struct vip_entry *x = *(struct vip_entry *const *)a, *y = *(struct vip_entry *const *)b;
    return pg_str_cmp(x->host, y->host);
}

int vip_pool_save(struct vip_pool *p, struct pg_sb *out)
{
    struct vip_entry **sorted = pg_calloc(p->by_host.len + 1, sizeof(struct vip_entry *));
    if (sorted == NULL) {
        return PG_E_NOMEM;
    }
    size_t it = 0, n = 0;
    struct pg_str key;
    void *v;
    while (pg_map_next(&p->by_host, &it, &key, &v)) {
        sorted[n++] = v;
    }
    qsort(sorted, n, sizeof(struct vip_entry *), by_host);
    for (size_t i = 0; i < n; i++) {
        struct pg_ip v4, v6;
        char t4[PG_IP_TEXT], t6[PG_IP_TEXT];
        to_ips(sorted[i], &v4, &v6);
        pg_sb_fmt(out, "%.*s %s %s\n", PG_STR_ARG(sorted[i]->host), pg_ip_fmt(&v4, t4), pg_ip_fmt(&v6, t6));
    }
    pg_free(sorted);
    if (out->err != 0) {
        return out->err;
    }
    p->dirty = false;
    return 0;
}

bool vip_is_auto(const struct pg_ip *ip)
{
    static const uint8_t v6[6] = {0x20, 0x01, 0x00, 0x02, 0x00, 0x00};
    return (ip->len == 4 && ip->b[0] == 240 && ip->b[1] == 240) ||
           (ip->len == 16 && memcmp(ip->b, v6, sizeof(v6)) == 0);
}

/* False when the line is not "<hostname> <v4> <v6>" with two addresses this pool could have given. */
static bool parse_line(struct pg_str line, struct pg_str *host, uint16_t *v4, uint64_t *v6)
{
    struct pg_str t4, t6 = line;
    struct pg_ip a, b;
    if (!pg_str_cut(&t6, ' ', host) || !pg_str_cut(&t6, ' ', &t4) || !is_host(*host) ||
        pg_ip_parse(t4, &a) < 0 || pg_ip_parse(t6, &b) < 0 || a.len != 4 || b.len != 16 || !vip_is_auto(&a) ||
        !vip_is_auto(&b) || b.b[6] != 0 || b.b[7] != 0) {
        return false;
    }
    *v4 = (uint16_t)(a.b[2] << 8 | a.b[3]);
    *v6 = 0;
    for (size_t i = 0; i < 8; i++) {
        *v6 = *v6 << 8 | b.b[8 + i];
    }
    return *v4 >= 1 && *v4 <= VIP4_COUNT && *v6 != 0;
}

size_t vip_pool_load(struct vip_pool *p, struct pg_str text)
{
    size_t skipped = 0;
    struct pg_str line;
    while (pg_str_cut(&text, '\n', &line)) {
        struct pg_str host;
        uint16_t v4 = 0;
        uint64_t v6 = 0;
        struct vip_entry *e;
        line = pg_str_trim(line);
        if (line.len == 0) {
            continue;
        }
        bool fits = parse_line(line, &host, &v4, &v6) && pg_map_get(&p->by_host, host) == NULL &&
                    !is_used4(p, v4) &&
                    pg_map_get(&p->by_v6, pg_str_n((const char *)&v6, sizeof(v6))) == NULL;
        if (!fits || insert(p, host, v4, v6, &e) < 0) {
            skipped++;
        }
    }
    p->dirty = false;
    return skipped;
}
