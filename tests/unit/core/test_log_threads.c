/* SPDX-License-Identifier: Apache-2.0 */
/* Logging, hashing and counting from several threads at once while the filter changes; for TSan. */
#include "core/log.h"
#include "core/map.h"
#include "testlib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { WRITERS = 4, LINES = 2000 };

static struct pg_log_limit shared_limit;
static atomic_int allowed;
static atomic_uint_fast64_t hash_of_x;

static void *write_lines(void *arg)
{
    int id = *(int *)arg;
    uint64_t h = pg_hash("x", 1);
    uint64_t none = 0;
    if (!atomic_compare_exchange_strong(&hash_of_x, &none, h)) {
        CU_ASSERT_EQUAL(none, h); /* one process key, whoever came first */
    }
    for (int i = 0; i < LINES; i++) {
        PG_LOG(PG_LOG_INFO, "threads", "line", PG_F_I64("id", id), PG_F_I64("n", i),
               PG_F_C("pad", "0123456789"));
        PG_LOG(PG_LOG_DEBUG, "other", "never seen", PG_F_I64("id", id));
        if (pg_log_allowed(&shared_limit, 10, 1, 5, NULL)) {
            atomic_fetch_add(&allowed, 1);
        }
    }
    return NULL;
}

static void *read_lines(void *arg)
{
    int fd = *(int *)arg;
    static char line[8192];
    size_t len = 0;
    size_t *lines = pg_calloc(1, sizeof(*lines));
    ssize_t n;
    while (lines != NULL && (n = read(fd, line + len, sizeof(line) - len)) > 0) {
        len += (size_t)n;
        char *end;
        while ((end = memchr(line, '\n', len)) != NULL) {
            struct pg_str s = pg_str_n(line, (size_t)(end - line));
            CU_ASSERT(pg_str_has_suffix(s, PG_STR(" pad=\"0123456789\"")));
            CU_ASSERT_EQUAL(pg_str_chr(s, 'Z'), 26);
            (*lines)++;
            len -= s.len + 1;
            memmove(line, end + 1, len);
        }
    }
    CU_ASSERT_EQUAL(len, 0);
    return lines;
}

static void lines_stay_whole(void)
{
    pthread_t writers[WRITERS];
    pthread_t reader;
    int ids[WRITERS];
    int fds[2];
    void *lines = NULL;
    CU_ASSERT_FATAL(pipe(fds) == 0);
    pg_log_set_output(fds[1], false);
    CU_ASSERT_FATAL(pthread_create(&reader, NULL, read_lines, &fds[0]) == 0);
    for (int i = 0; i < WRITERS; i++) {
        ids[i] = i;
        CU_ASSERT_FATAL(pthread_create(&writers[i], NULL, write_lines, &ids[i]) == 0);
    }
    for (int i = 0; i < 200; i++) {
        char now[64];
        CU_ASSERT_EQUAL(pg_log_set_filter(i % 2 == 0 ? "threads=debug,info" : "info", NULL), 0);
        pg_log_get_filter(now, sizeof(now));
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
    }
    pg_log_set_output(STDOUT_FILENO, false);
    close(fds[1]);
    pthread_join(reader, &lines);
    CU_ASSERT_FATAL(lines != NULL);
    CU_ASSERT_EQUAL(*(size_t *)lines + pg_log_dropped(), WRITERS * LINES);
    CU_ASSERT(*(size_t *)lines > 0);
    CU_ASSERT_EQUAL(atomic_load(&allowed), 10);
    pg_free(lines);
    close(fds[0]);
    CU_ASSERT_EQUAL(pg_mem_live_blocks(), 0);
}

TEST_MAIN("log threads", {"lines stay whole", lines_stay_whole})
