/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one question put to every codec: what decodes must encode, decode again, and encode to the same bytes,
 * because a digest of the encoding is its version. One thread.
 */
#ifndef ISTHMUS_FUZZ_CODEC_KIT_H
#define ISTHMUS_FUZZ_CODEC_KIT_H

#include "fuzz.h"

#include "xds/codec.h"

#define FUZZ_CODEC(type, decode, encode)                                                                     \
    static void one(struct pg_str in)                                                                        \
    {                                                                                                        \
        struct pg_arena a;                                                                                   \
        struct pg_sb first, second;                                                                          \
        type v = {0}, w = {0};                                                                               \
        struct pg_errtext err = {{0}};                                                                       \
        pg_arena_init(&a, XDS_RESOURCE_BUDGET);                                                              \
        pg_sb_init(&first, 1u << 24);                                                                        \
        pg_sb_init(&second, 1u << 24);                                                                       \
        int r = decode(in, &a, &v, &err);                                                                    \
        PG_BUG_ON(r == PG_E_PARSE && err.text[0] == '\0');                                                   \
        if (r == 0) {                                                                                        \
            PG_BUG_ON(encode(&v, &first) < 0);                                                               \
            PG_BUG_ON(decode(pg_sb_view(&first), &a, &w, &err) < 0 || encode(&w, &second) < 0);              \
            PG_BUG_ON(!pg_str_eq(pg_sb_view(&first), pg_sb_view(&second)));                                  \
        }                                                                                                    \
        pg_sb_fini(&first);                                                                                  \
        pg_sb_fini(&second);                                                                                 \
        pg_arena_fini(&a);                                                                                   \
    }                                                                                                        \
    FUZZ_TARGET(one, fuzz_no_init)

#endif
