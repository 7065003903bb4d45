/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target starts from. A target is one function over bytes that must return for any input: no
 * crash, no sanitizer report, no broken promise (PG_BUG_ON), no block left behind. The same object runs under
 * libFuzzer (fuzz_x) and as a replay over a seed corpus (replay_x, see replay.c). One thread.
 */
#ifndef ISTHMUS_FUZZ_FUZZ_H
#define ISTHMUS_FUZZ_FUZZ_H

#include "core/log.h"
#include "core/mem.h"
#include "core/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FUZZ_TARGET(one, init): `init` runs once and may keep what it makes; what `one` makes must be gone after.
 */
#define FUZZ_TARGET(one, init)                                                                               \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                                             \
    {                                                                                                        \
        static bool ready_;                                                                                  \
        if (!ready_) {                                                                                       \
            PG_BUG_ON(pg_log_set_filter("off", NULL) < 0); /* a peer can cause lines at will */              \
            (init)();                                                                                        \
            ready_ = true;                                                                                   \
        }                                                                                                    \
        size_t blocks_ = pg_mem_live_blocks();                                                               \
        (one)((struct pg_str){(const char *)data, size});                                                    \
        PG_BUG_ON(pg_mem_live_blocks() != blocks_);                                                          \
        return 0;                                                                                            \
    }
static inline void fuzz_no_init(void)
{
}

/* Structured inputs take their choices from the front of the bytes; past the end everything reads as zero. */
static inline uint8_t fuzz_u8(struct pg_str *in)
{
    if (in->len == 0) {
        return 0;
    }
    uint8_t b = (uint8_t)in->p[0];
    *in = pg_str_sub(*in, 1);
    return b;
}
static inline uint16_t fuzz_u16(struct pg_str *in)
{
    unsigned hi = fuzz_u8(in);
    return (uint16_t)(hi << 8 | fuzz_u8(in));
}
/* At most `n` bytes. */
static inline struct pg_str fuzz_take(struct pg_str *in, size_t n)
{
    struct pg_str s = pg_str_n(in->p, n < in->len ? n : in->len);
    *in = pg_str_sub(*in, s.len);
    return s;
}
/* One length byte, then that many. */
static inline struct pg_str fuzz_text(struct pg_str *in)
{
    return fuzz_take(in, fuzz_u8(in));
}
/* NUL-terminated heap copy; pg_free. Ends at the first NUL of `s`, as any C string would. */
static inline char *fuzz_z(struct pg_str s)
{
    char *z = pg_strndup(s.p != NULL ? s.p : "", s.len);
    PG_BUG_ON(z == NULL);
    return z;
}

#endif
