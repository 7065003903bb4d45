/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds protobuf bytes for fixtures, with code of its own so that an error in xds/wire.c cannot hide: field
 * numbers in the tests come from the published tables, not from the codecs. Also the malformed-input sweep
 * all decoders go through.
 */
#ifndef ISTHMUS_TEST_WIREBYTES_H
#define ISTHMUS_TEST_WIREBYTES_H

#include "core/str.h"
#include "testlib.h"

struct wb {
    struct pg_sb sb;
};
static inline void wb_init(struct wb *w)
{
    pg_sb_init(&w->sb, 64u << 20);
}
static inline void wb_fini(struct wb *w)
{
    pg_sb_fini(&w->sb);
}
static inline struct pg_str wb_view(const struct wb *w)
{
    return pg_sb_view(&w->sb);
}
static inline void wb_varint(struct wb *w, uint64_t v)
{
    do {
        pg_sb_ch(&w->sb, (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0)));
        v >>= 7;
    } while (v != 0);
}
static inline void wb_uint(struct wb *w, uint32_t number, uint64_t v)
{
    wb_varint(w, (uint64_t)number * 8);
    wb_varint(w, v);
}
static inline void wb_bytes(struct wb *w, uint32_t number, struct pg_str s)
{
    wb_varint(w, (uint64_t)number * 8 + 2);
    wb_varint(w, s.len);
    pg_sb_str(&w->sb, s);
}
static inline void wb_c(struct wb *w, uint32_t number, const char *z)
{
    wb_bytes(w, number, pg_str_c(z));
}
/* Moves `inner` into field `number` of `w`; `inner` is empty and usable after. */
static inline void wb_msg(struct wb *w, uint32_t number, struct wb *inner)
{
    wb_bytes(w, number, wb_view(inner));
    pg_sb_reset(&inner->sb);
}

/* Calls `decode` with every truncation and with every byte changed to a few values: it must not crash, leak
 * or read past the end (each input is an exact heap block, so that ASan sees). */
static inline void wb_sweep(struct pg_str good, int (*decode)(struct pg_str bytes))
{
    size_t live = pg_mem_live_blocks();
    for (size_t len = 0; len <= good.len; len++) {
        char *copy = pg_memdup(good.p, len);
        (void)decode(pg_str_n(copy, len));
        pg_free(copy);
    }
    static const unsigned char flips[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x12};
    char *copy = pg_memdup(good.p, good.len);
    for (size_t i = 0; i < good.len; i++) {
        char was = copy[i];
        for (size_t k = 0; k < sizeof(flips); k++) {
            copy[i] = (char)flips[k];
            (void)decode(pg_str_n(copy, good.len));
        }
        copy[i] = was;
    }
    pg_free(copy);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), live);
}

#endif
