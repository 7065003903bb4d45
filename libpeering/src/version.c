/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version and error texts of the library. Static storage; any thread.
 */
#include "convert.h"

const char *peering_version(void)
{
    return ISTHMUS_VERSION;
}

const char *peering_strerror(int err)
{
    return pg_err_str(err);
}
