/* SPDX-License-Identifier: Apache-2.0 */
/* VIPs: inside the ranges, distinct, the same after a restart and in a replica, damaged state, exhaustion,
 * failing allocations. */
#include "merge.h"
#include "vip.h"

#include "testlib.h"

static struct pg_str host(unsigned i, char out[64])
{
    (void)snprintf(out, 64, "svc-%u.ns.mesh.internal", i);
    return pg_str_c(out);
}

static struct vip_pool *pool(void)
{
    struct vip_pool *p = NULL;
    CU_ASSERT_EQUAL_FATAL(vip_pool_new(&p), 0);
    return p;
}

static void test_ranges(void)
{
    struct vip_pool *p = pool();
    bool seen[65536] = {false};
    for (unsigned i = 0; i < 20000; i++) {
        char text[64];
        struct pg_ip v4, v6, again4, again6;
        CU_ASSERT_EQUAL_FATAL(vip_pool_get(p, host(i, text), &v4, &v6), 0);
        CU_ASSERT_TRUE(v4.len == 4 && v4.b[0] == 240 && v4.b[1] == 240);
        CU_ASSERT_TRUE(v6.len == 16 && v6.b[0] == 0x20 && v6.b[1] == 1 && v6.b[2] == 0 && v6.b[3] == 2);
        CU_ASSERT_TRUE(vip_is_auto(&v4) && vip_is_auto(&v6));
        unsigned low = (unsigned)(v4.b[2] << 8 | v4.b[3]);
        CU_ASSERT_TRUE(low != 0 && low != 65535 && !seen[low]);
        seen[low] = true;
        CU_ASSERT_EQUAL(vip_pool_get(p, host(i, text), &again4, &again6), 0);
        CU_ASSERT_TRUE(pg_ip_eq(&v4, &again4) && pg_ip_eq(&v6, &again6));
    }
    struct pg_ip other;
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("240.241.0.1"), &other), 0);
    CU_ASSERT_FALSE(vip_is_auto(&other));
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("2001:2:0:1::1"), &other), 0);
    CU_ASSERT_TRUE(vip_is_auto(&other));
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("2001:2:1::1"), &other), 0);
    CU_ASSERT_FALSE(vip_is_auto(&other));
    vip_pool_free(p);
}

/* Two replicas that merge the same names in the same order, and a restart from the saved text with another
 * order. */
static void test_stable(void)
{
    struct vip_pool *a = pool(), *b = pool(), *c = pool();
    struct pg_sb text, text2;
    pg_sb_init(&text, 16u << 20);
    pg_sb_init(&text2, 16u << 20);
    char name[64];
    struct pg_ip v4, v6, w4, w6;
    CU_ASSERT_FALSE(vip_pool_is_dirty(a));
    for (unsigned i = 0; i < 5000; i++) {
        CU_ASSERT_EQUAL(vip_pool_get(a, host(i, name), &v4, &v6), 0);
        CU_ASSERT_EQUAL(vip_pool_get(b, host(i, name), &w4, &w6), 0);
        CU_ASSERT_TRUE(pg_ip_eq(&v4, &w4) && pg_ip_eq(&v6, &w6));
    }
    CU_ASSERT_TRUE(vip_pool_is_dirty(a));
    CU_ASSERT_EQUAL(vip_pool_save(a, &text), 0);
    CU_ASSERT_FALSE(vip_pool_is_dirty(a));
    CU_ASSERT_EQUAL(vip_pool_load(c, pg_sb_view(&text)), 0);
    CU_ASSERT_FALSE(vip_pool_is_dirty(c));
    for (unsigned i = 5000; i > 0; i--) {
        CU_ASSERT_EQUAL(vip_pool_get(a, host(i - 1, name), &v4, &v6), 0);
        CU_ASSERT_EQUAL(vip_pool_get(c, host(i - 1, name), &w4, &w6), 0);
        CU_ASSERT_TRUE(pg_ip_eq(&v4, &w4) && pg_ip_eq(&v6, &w6));
    }
    CU_ASSERT_FALSE(vip_pool_is_dirty(c));
    CU_ASSERT_EQUAL(vip_pool_save(c, &text2), 0);
    CU_ASSERT_TRUE(pg_str_eq(pg_sb_view(&text), pg_sb_view(&text2)));
    pg_sb_fini(&text);
    pg_sb_fini(&text2);
    vip_pool_free(a);
    vip_pool_free(b);
    vip_pool_free(c);
}

static void test_damaged_state(void)
{
    struct vip_pool *p = pool();
    static const char text[] = "a.n.mesh.internal 240.240.1.2 2001:2::1\n"
                               "\n"
                               "a.n.mesh.internal 240.240.1.3 2001:2::2\n" /* name twice */
                               "b.n.mesh.internal 240.240.1.2 2001:2::3\n" /* v4 twice */
                               "c.n.mesh.internal 240.240.1.4 2001:2::1\n" /* v6 twice */
                               "d.n.mesh.internal 10.0.0.1 2001:2::5\n"
                               "e.n.mesh.internal 240.240.1.5 2001:3::5\n"
                               "f.n.mesh.internal 240.240.0.0 2001:2::6\n"
                               "g.n.mesh.internal 240.240.255.255 2001:2::7\n"
                               "h.n.mesh.internal 240.240.1.6\n"
                               "i.n.mesh.internal\n"
                               "j.n.mesh.internal 240.240.1.7 2001:2:0:1::7\n"
                               "garbage \x01\xff\n"
                               "k.n.mesh.internal 240.240.1.8 2001:2::8";
    CU_ASSERT_EQUAL(vip_pool_load(p, pg_str_c(text)), 11);
    struct pg_ip v4, v6;
    char t[PG_IP_TEXT];
    CU_ASSERT_EQUAL(vip_pool_get(p, PG_STR("a.n.mesh.internal"), &v4, &v6), 0);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&v4, t), "240.240.1.2");
    CU_ASSERT_EQUAL(vip_pool_get(p, PG_STR("k.n.mesh.internal"), &v4, &v6), 0);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&v6, t), "2001:2::8");
    for (size_t n = 0; n < sizeof(text); n++) {
        struct vip_pool *q = pool();
        (void)vip_pool_load(q, pg_str_n(text, n));
        vip_pool_free(q);
    }
    vip_pool_free(p);
}

/* Full: names of this round are never evicted, older ones are; without older ones it says so. */
static void test_full(void)
{
    struct vip_pool *p = pool();
    char name[64];
    struct pg_ip v4, v6, w4, w6;
    vip_pool_begin_round(p);
    for (unsigned i = 0; i < 65534; i++) {
        CU_ASSERT_EQUAL_FATAL(vip_pool_get(p, host(i, name), &v4, &v6), 0);
    }
    CU_ASSERT_EQUAL(vip_pool_get(p, host(70000, name), &v4, &v6), PG_E_LIMIT);
    vip_pool_begin_round(p);
    CU_ASSERT_EQUAL(vip_pool_get(p, host(7, name), &v4, &v6), 0);
    vip_pool_touch(p, host(8, name));
    CU_ASSERT_EQUAL(vip_pool_get(p, host(70000, name), &w4, &w6), 0);
    CU_ASSERT_FALSE(pg_ip_eq(&v4, &w4));
    CU_ASSERT_EQUAL(vip_pool_get(p, host(7, name), &w4, &w6), 0);
    CU_ASSERT_TRUE(pg_ip_eq(&v4, &w4) && pg_ip_eq(&v6, &w6));
    struct pg_sb text;
    pg_sb_init(&text, 16u << 20);
    CU_ASSERT_EQUAL(vip_pool_save(p, &text), 0);
    size_t lines = 0;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.p[i] == '\n' ? 1 : 0;
    }
    CU_ASSERT_EQUAL(lines, 3);
    pg_sb_fini(&text);
    vip_pool_free(p);
}

static void test_bad_names(void)
{
    struct vip_pool *p = pool();
    struct pg_ip v4, v6;
    char big[600];
    memset(big, 'a', sizeof(big));
    CU_ASSERT_EQUAL(vip_pool_get(p, PG_STR_NONE, &v4, &v6), PG_E_LIMIT);
    CU_ASSERT_EQUAL(vip_pool_get(p, pg_str_n(big, sizeof(big)), &v4, &v6), PG_E_LIMIT);
    vip_pool_free(p);
}

static int scenario(void *arg)
{
    struct vip_pool *p = NULL;
    struct pg_sb text;
    struct pg_ip v4, v6;
    char name[64];
    (void)arg;
    pg_sb_init(&text, 1u << 20);
    int r = vip_pool_new(&p);
    for (unsigned i = 0; i < 20 && r == 0; i++) {
        r = vip_pool_get(p, host(i, name), &v4, &v6);
    }
    r = r == 0 ? vip_pool_save(p, &text) : r;
    pg_sb_fini(&text);
    vip_pool_free(p);
    return r;
}

static void test_nomem(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > 20);
}

TEST_MAIN("vip", {"ranges", test_ranges}, {"stable", test_stable}, {"damaged state", test_damaged_state},
          {"full", test_full}, {"bad names", test_bad_names}, {"nomem", test_nomem})
