/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of keys and certificates: bounded reads, atomic writes. Internal to certs. Blocking, control
 * thread or tools. */
#ifndef ISTHMUS_CERTS_FILE_H
#define ISTHMUS_CERTS_FILE_H

#include "core/str.h"

#include <sys/types.h>

/* Appends the whole file to `out`. PG_E_NOTFOUND, PG_E_LIMIT (more than `max` bytes), PG_E_IO, PG_E_NOMEM. */
int cert_file_read(const char *dir, const char *name, size_t max, struct pg_sb *out,
                   struct pg_errtext *err) PG_MUST_CHECK;
/* Writes through a temporary file and rename, so that a reader sees the old or the new file and a crash loses
 * neither. */
int cert_file_write(const char *dir, const char *name, struct pg_str data, mode_t mode,
                    struct pg_errtext *err) PG_MUST_CHECK;
/* Creates `dir` and its missing parents, 0700. An existing directory is fine. */
int cert_dir_make(const char *dir, struct pg_errtext *err) PG_MUST_CHECK;
bool cert_file_exists(const char *dir, const char *name);

#endif
