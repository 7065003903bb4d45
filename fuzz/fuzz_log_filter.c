/* SPDX-License-Identifier: Apache-2.0 */
/* The log filter text (RUST_LOG, POST /logging): a filter in force reads back as one that sets the same. One
 * thread. */
#include "fuzz.h"

#include "core/log.h"

static void one(struct pg_str in)
{
    struct pg_errtext err = {{0}};
    char a[4096], b[4096];
    char *z = fuzz_z(in);
    int r = pg_log_set_filter(z, &err);
    PG_BUG_ON(r != 0 && err.text[0] == '\0');
    if (r == 0) {
        pg_log_get_filter(a, sizeof(a));
        PG_BUG_ON(pg_log_set_filter(a, &err) != 0);
        pg_log_get_filter(b, sizeof(b));
        PG_BUG_ON(strcmp(a, b) != 0);
    }
    (void)pg_log_enabled(PG_LOG_DEBUG, z);
    (void)pg_log_enabled(PG_LOG_TRACE, "xds:client");
    pg_free(z);
}
FUZZ_TARGET(one, fuzz_no_init)
