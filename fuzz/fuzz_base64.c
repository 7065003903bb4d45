/* SPDX-License-Identifier: Apache-2.0 */
/* base64 both ways: what is encoded decodes to the same, what decodes encodes to something equal. One thread.
 */
#include "fuzz.h"

static void there_and_back(struct pg_str in, bool url)
{
    struct pg_sb text, back;
    pg_sb_init(&text, 1u << 22);
    pg_sb_init(&back, 1u << 22);
    pg_base64_encode(in, url, &text);
    PG_BUG_ON(text.err != 0 || pg_base64_decode(pg_sb_view(&text), &back) < 0);
    PG_BUG_ON(!pg_str_eq(pg_sb_view(&back), in));
    pg_sb_fini(&text);
    pg_sb_fini(&back);
}

static void one(struct pg_str in)
{
    struct pg_sb bytes;
    there_and_back(in, false);
    there_and_back(in, true);
    pg_sb_init(&bytes, 1u << 22);
    if (pg_base64_decode(in, &bytes) == 0) {
        PG_BUG_ON(bytes.len > in.len / 4 * 3 + 3);
        there_and_back(pg_sb_view(&bytes), false);
    }
    pg_sb_fini(&bytes);
}
FUZZ_TARGET(one, fuzz_no_init)
