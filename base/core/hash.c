/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hashes declared in core/map.h: SipHash-2-4 for tables keyed by peers, xxHash64 for content
 * versions. Written from the published algorithms and held to their test vectors. Any thread; the
 * process key is made once.
 */
#include "core/map.h"
#include "core/rng.h"

#include <pthread.h>

static uint64_t rotl(uint64_t x, int n)
{
    return (x << n) | (x >> (64 - n));
}

static uint64_t read64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

static uint64_t read32(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] = rotl(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] = rotl(v[2], 32);
    }
}

uint64_t pg_siphash(const uint8_t key[16], const void *p, size_t len)
{
    const uint8_t *in = p;
    uint64_t k0 = read64(key);
    uint64_t k1 = read64(key + 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    size_t at = 0;
    for (; len - at >= 8; at += 8) {
        uint64_t m = read64(in + at);
        v[3] ^= m;
        sip_rounds(v, 2);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)len << 56;
    for (int shift = 0; at < len; at++, shift += 8) {
        last |= (uint64_t)in[at] << shift;
    }
    v[3] ^= last;
    sip_rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint8_t process_key[16];
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void make_process_key(void)
{
    pg_random_bytes(process_key, sizeof(process_key));
}

uint64_t pg_hash(const void *p, size_t len)
{
    (void)pthread_once(&process_key_once, make_process_key);
    return pg_siphash(process_key, p, len);
}

#define XX_P1 0x9E3779B185EBCA87u
#define XX_P2 0xC2B2AE3D27D4EB4Fu
#define XX_P3 0x165667B19E3779F9u
#define XX_P4 0x85EBCA77C2B2AE63u
#define XX_P5 0x27D4EB2F165667C5u

static uint64_t xx_round(uint64_t acc, uint64_t in)
{
    return rotl(acc + in * XX_P2, 31) * XX_P1;
}

static uint64_t xx_stripes(const uint8_t *p, size_t stripes)
{
    uint64_t v[4] = {XX_P1 + XX_P2, XX_P2, 0, 0 - XX_P1};
    for (size_t i = 0; i < stripes; i++) {
        for (int lane = 0; lane < 4; lane++, p += 8) {
            v[lane] = xx_round(v[lane], read64(p));
        }
    }
    uint64_t h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
    for (int lane = 0; lane < 4; lane++) {
        h = (h ^ xx_round(0, v[lane])) * XX_P1 + XX_P4;
    }
    return h;
}

uint64_t pg_digest64(const void *p, size_t len)
{
    const uint8_t *in = p;
    size_t at = len / 32 * 32;
    uint64_t h = (at != 0 ? xx_stripes(in, len / 32) : XX_P5) + len;
    for (; len - at >= 8; at += 8) {
        h = rotl(h ^ xx_round(0, read64(in + at)), 27) * XX_P1 + XX_P4;
    }
    if (len - at >= 4) {
        h = rotl(h ^ read32(in + at) * XX_P1, 23) * XX_P2 + XX_P3;
        at += 4;
    }
    for (; at < len; at++) {
        h = rotl(h ^ in[at] * XX_P5, 11) * XX_P1;
    }
    h = (h ^ h >> 33) * XX_P2;
    h = (h ^ h >> 29) * XX_P3;
    return h ^ h >> 32;
}
