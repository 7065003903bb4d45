/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 and xxHash64 against their published vectors. */
#include "core/map.h"
#include "testlib.h"

static void siphash_vectors(void)
{
    /* Key 00..0f, message 00..(n-1): the reference implementation's table. */
    static const uint64_t want[] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d, 0xcf2794e0277187b7,
        0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462, 0x9e0082df0ba9e4b0,
        0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7, 0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee,
        0xa129ca6149be45e5, 0x3f2acc7f57c29bdb, 0x699ae9f52cbe4794,
    };
    uint8_t in[64];
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)i;
    }
    for (size_t n = 0; n < PG_ARRAY_LEN(want); n++) {
        CU_ASSERT_EQUAL(pg_siphash(in, in, n), want[n]);
    }
}

static void xxhash_vectors(void)
{
    struct pg_str spam = PG_STR("Nobody inspects the spammish repetition");
    CU_ASSERT_EQUAL(pg_digest64(NULL, 0), 0xef46db3751d8e999);
    CU_ASSERT_EQUAL(pg_digest64("a", 1), 0xd24ec4f1a98c6e5b);
    CU_ASSERT_EQUAL(pg_digest64("abc", 3), 0x44bc2cf5ad770999);
    CU_ASSERT_EQUAL(pg_digest64(spam.p, spam.len), 0xfbcea83c8a378bf1);
    /* The reference implementation's sanity buffer. */
    uint8_t buf[222];
    uint64_t gen = 2654435761u;
    for (size_t i = 0; i < sizeof(buf); i++) {
        buf[i] = (uint8_t)(gen >> 56);
        gen *= 11400714785074694797u;
    }
    CU_ASSERT_EQUAL(pg_digest64(buf, 1), 0xe934a84adb052768);
    CU_ASSERT_EQUAL(pg_digest64(buf, 4), 0x9136a0dca57457ee);
    CU_ASSERT_EQUAL(pg_digest64(buf, 14), 0x8282dcc4994e35c8);
    CU_ASSERT_EQUAL(pg_digest64(buf, 222), 0xb641ae8cb691c174);
}

static void unaligned(void)
{
    char a[80];
    for (size_t i = 0; i < sizeof(a); i++) {
        a[i] = (char)i;
    }
    char shifted[81];
    memcpy(shifted + 1, a, 80);
    for (size_t n = 0; n <= 80; n++) {
        CU_ASSERT_EQUAL(pg_digest64(a, n), pg_digest64(shifted + 1, n));
        CU_ASSERT_EQUAL(pg_hash(a, n), pg_hash(shifted + 1, n));
    }
}

static void process_key_is_kept(void)
{
    uint64_t h = pg_hash("x", 1);
    CU_ASSERT_EQUAL(pg_hash("x", 1), h);
    CU_ASSERT_NOT_EQUAL(pg_hash("y", 1), h);
    CU_ASSERT_NOT_EQUAL(pg_siphash((uint8_t[16]){0}, "x", 1), h); /* the key is not zero */
}

TEST_MAIN("hash", {"siphash vectors", siphash_vectors}, {"xxhash vectors", xxhash_vectors},
          {"unaligned", unaligned}, {"process key", process_key_is_kept})
