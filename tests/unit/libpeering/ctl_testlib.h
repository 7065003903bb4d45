/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of the control side: a manifest directory in a temporary place. */
#ifndef ISTHMUS_CTL_TESTLIB_H
#define ISTHMUS_CTL_TESTLIB_H

#include "libpeering/src/manifest.h"
#include "testlib.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct test_dir {
    char path[64];
};

static inline void test_dir_make(struct test_dir *d)
{
    (void)snprintf(d->path, sizeof(d->path), "/tmp/isthmus-ctl-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(d->path));
}
static inline const char *test_path(const struct test_dir *d, const char *name, char out[256])
{
    (void)snprintf(out, 256, "%s/%s", d->path, name);
    return out;
}
static inline void test_write_n(const struct test_dir *d, const char *name, const char *text, size_t len)
{
    char path[256];
    int fd = open(test_path(d, name, path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, len), (ssize_t)len);
    (void)close(fd);
}
static inline void test_write(const struct test_dir *d, const char *name, const char *text)
{
    test_write_n(d, name, text, strlen(text));
}
static inline void test_remove(const struct test_dir *d, const char *name)
{
    char path[256];
    CU_ASSERT_EQUAL(unlink(test_path(d, name, path)), 0);
}
static inline void test_dir_remove(const struct test_dir *d)
{
    CU_ASSERT_EQUAL(rmdir(d->path), 0);
}
static inline bool test_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}
/* A manifest of one text, scanned; no problem may be found. */
static inline struct manifest *test_manifest(const struct test_dir *d, const char *text)
{
    struct manifest *m = NULL;
    struct pg_errtext err;
    const struct manifest_problem *p;
    test_write(d, "all.yaml", text);
    CU_ASSERT_EQUAL_FATAL(manifest_new(d->path, &m, &err), 0);
    CU_ASSERT_EQUAL_FATAL(manifest_scan(m, &err), 1);
    if (manifest_problems(m, &p) != 0) {
        CU_FAIL("unexpected problem");
        (void)fprintf(stderr, "%s:%u: %s\n", p[0].file, p[0].line, p[0].reason);
    }
    return m;
}

#endif
