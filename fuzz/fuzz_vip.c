/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of virtual addresses: what loads saves and loads again without loss; no two names share an
 * address. One thread.
 */
#include "fuzz.h"

#include "merge.h"

static void one(struct pg_str in)
{
    struct vip_pool *a, *b;
    struct pg_sb first, second;
    struct pg_ip v4, v6, w4, w6;
    pg_sb_init(&first, 1u << 22);
    pg_sb_init(&second, 1u << 22);
    PG_BUG_ON(vip_pool_new(&a) < 0 || vip_pool_new(&b) < 0);
    (void)vip_pool_load(a, in);
    PG_BUG_ON(vip_pool_is_dirty(a));
    PG_BUG_ON(vip_pool_get(a, PG_STR("app.demo.mesh.internal"), &v4, &v6) < 0);
    PG_BUG_ON(vip_pool_get(a, PG_STR("b.demo.mesh.internal"), &w4, &w6) < 0);
    PG_BUG_ON(!vip_is_auto(&v4) || !vip_is_auto(&v6) || pg_ip_eq(&v4, &w4) || pg_ip_eq(&v6, &w6));
    PG_BUG_ON(vip_pool_save(a, &first) < 0);
    PG_BUG_ON(vip_pool_load(b, pg_sb_view(&first)) != 0 || vip_pool_save(b, &second) < 0);
    PG_BUG_ON(!pg_str_eq(pg_sb_view(&first), pg_sb_view(&second)));
    PG_BUG_ON(vip_pool_get(b, PG_STR("app.demo.mesh.internal"), &w4, &w6) < 0);
    PG_BUG_ON(!pg_ip_eq(&v4, &w4) || !pg_ip_eq(&v6, &w6));
    vip_pool_free(a);
    vip_pool_free(b);
    pg_sb_fini(&first);
    pg_sb_fini(&second);
}
FUZZ_TARGET(one, fuzz_no_init)
