/* SPDX-License-Identifier: Apache-2.0 */
/* Small files read and written whole; writing goes by a temporary name and rename, so a reader never sees
 * half. Control thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control_internal.h"

int file_read(const char *path, size_t max, struct pg_sb *out, struct pg_errtext *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int code = pg_err_from_errno(errno);
        pg_err_set(err, "%s: %s", path, strerror(errno));
        return code;
    }
    char buf[16384];
    int r = 0;
    for (;;) {
        ssize_t n = read(fd, buf, sizeof(buf));
        if (n < 0) {
            r = pg_err_from_errno(errno);
            pg_err_set(err, "%s: %s", path, strerror(errno));
        }
        if (n <= 0) {
            break;
        }
        if (out->len + (size_t)n > max) {
            r = PG_E_LIMIT;
            pg_err_set(err, "%s: larger than %zu bytes", path, max);
            break;
        }
        pg_sb_add(out, buf, (size_t)n);
    }
    (void)close(fd);
    return r != 0 ? r : out->err;
}

static int write_all(int fd, struct pg_str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.p, text.len);
        if (n < 0 && errno != EINTR) {
            return pg_err_from_errno(errno);
        }
        text = pg_str_sub(text, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

int state_write(const struct peering_control *c, const char *name, struct pg_str text, struct pg_errtext *err)
{
    const char *dir = option_text(c->options, OPT_STATE);
    if (dir[0] == '\0') {
        return 0;
    }
    char path[4400];
    char temp[4400];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)snprintf(temp, sizeof(temp), "%s/.%s.tmp", dir, name);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        pg_err_set(err, "%s: %s", temp, strerror(errno));
        return pg_err_from_errno(errno);
    }
    int r = write_all(fd, text);
    if (close(fd) != 0 && r == 0) {
        r = pg_err_from_errno(errno);
    }
    if (r == 0 && rename(temp, path) != 0) {
        r = pg_err_from_errno(errno);
    }
    if (r != 0) {
        pg_err_set(err, "%s: %s", path, strerror(errno));
        (void)unlink(temp);
    }
    return r;
}
