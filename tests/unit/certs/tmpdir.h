/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary directory of a test, removed with all that is in it, and running a program without a shell. */
#ifndef ISTHMUS_TEST_TMPDIR_H
#define ISTHMUS_TEST_TMPDIR_H

#include "core/str.h"

#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* argv is not const for historical reasons */
#define ARG(s) ((char *)(uintptr_t)(s))

static inline void tmpdir_make(char out[64])
{
    (void)snprintf(out, 64, "/tmp/isthmus-certs-XXXXXX");
    PG_BUG_ON(mkdtemp(out) == NULL);
}

static inline int tmpdir_visit(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static inline void tmpdir_remove(const char *dir)
{
    (void)nftw(dir, tmpdir_visit, 16, FTW_DEPTH | FTW_PHYS);
}

/* Runs argv[0] (by PATH), standard output and error into `out`; returns the exit status or -1. */
static inline int run_program(char *const argv[], struct pg_sb *out)
{
    int fd[2];
    pid_t pid = 0;
    int status = 0;
    posix_spawn_file_actions_t fa;
    if (pipe2(fd, O_CLOEXEC) < 0) {
        return -1;
    }
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, fd[1], 1);
    posix_spawn_file_actions_adddup2(&fa, fd[1], 2);
    int r = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    (void)close(fd[1]);
    char buf[4096];
    ssize_t n;
    while (r == 0 && (n = read(fd[0], buf, sizeof(buf))) > 0) {
        pg_sb_add(out, buf, (size_t)n);
    }
    (void)close(fd[0]);
    if (r != 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

static inline void tmpdir_write(const char *dir, const char *name, struct pg_str data)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    PG_BUG_ON(f == NULL || fwrite(data.p, 1, data.len, f) != data.len || fclose(f) != 0);
}

static inline void tmpdir_read(const char *dir, const char *name, struct pg_sb *out)
{
    char path[256];
    char buf[4096];
    size_t n;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    PG_BUG_ON(f == NULL);
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0) {
        pg_sb_add(out, buf, n);
    }
    (void)fclose(f);
}

#endif
