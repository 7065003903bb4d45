/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File access of the certificate code. Invariant: a private key never exists on disk, not even for a moment,
 * with a mode wider than the caller's, and never half-written under its final name. Blocking; control thread
 * or tools.
 */
#include "certs/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_path(char out[PATH_MAX], const char *dir, const char *name, const char *suffix,
                     struct pg_errtext *err)
{
    size_t len = strlen(dir);
    bool ends = len > 0 && dir[len - 1] == '/';
    int n = snprintf(out, PATH_MAX, "%s%s%s%s", dir, ends ? "" : "/", name, suffix);
    if (n < 0 || n >= PATH_MAX) {
        pg_err_set(err, "path too long");
        return PG_E_CONFIG;
    }
    return 0;
}

static int fail_errno(struct pg_errtext *err, const char *what, const char *path)
{
    int e = errno;
    pg_err_set(err, "%s %s: %s", what, path, strerrordesc_np(e) ? strerrordesc_np(e) : "unknown error");
    return e == ENOENT ? PG_E_NOTFOUND : pg_err_from_errno(e);
}

int cert_file_read(const char *dir, const char *name, size_t max, struct pg_sb *out, struct pg_errtext *err)
{
    char path[PATH_MAX];
    int r = make_path(path, dir, name, "", err);
    if (r < 0) {
        return r;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(err, "cannot read", path);
    }
    char chunk[4096];
    size_t total = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            r = fail_errno(err, "cannot read", path);
            break;
        }
        if (n == 0) {
            break;
        }
        total += (size_t)n;
        if (total > max) {
            pg_err_set(err, "%s: larger than %zu bytes", path, max);
            r = PG_E_LIMIT;
            break;
        }
        pg_sb_add(out, chunk, (size_t)n);
    }
    pg_wipe(chunk, sizeof(chunk));
    (void)close(fd);
    if (r == 0 && out->err != 0) {
        pg_err_set(err, "%s: %s", path, pg_err_str(out->err));
        r = out->err;
    }
    return r;
}

static int write_all(int fd, struct pg_str data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.p, data.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        data = pg_str_sub(data, (size_t)n);
    }
    return fsync(fd);
}

int cert_file_write(const char *dir, const char *name, struct pg_str data, mode_t mode,
                    struct pg_errtext *err)
{
    char path[PATH_MAX];
    char temp[PATH_MAX];
    int r = make_path(path, dir, name, "", err);
    if (r == 0) {
        r = make_path(temp, dir, name, ".XXXXXX", err);
    }
    if (r < 0) {
        return r;
    }
    int fd = mkostemp(temp, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        return fail_errno(err, "cannot write", path);
    }
    if (write_all(fd, data) < 0 || fchmod(fd, mode) < 0) {
        r = fail_errno(err, "cannot write", path);
        (void)close(fd);
        (void)unlink(temp);
        return r;
    }
    if (close(fd) < 0 || rename(temp, path) < 0) {
        r = fail_errno(err, "cannot write", path);
        (void)unlink(temp);
        return r;
    }
    return 0;
}

int cert_dir_make(const char *dir, struct pg_errtext *err)
{
    char path[PATH_MAX];
    size_t len = strlen(dir);
    if (len == 0 || len >= sizeof(path)) {
        pg_err_set(err, "bad directory name");
        return PG_E_CONFIG;
    }
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST) {
            return fail_errno(err, "cannot create", path);
        }
        path[i] = kept;
    }
    return 0;
}

bool cert_file_exists(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return make_path(path, dir, name, "", NULL) == 0 && access(path, F_OK) == 0;
}
