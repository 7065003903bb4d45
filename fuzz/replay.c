/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over every file of the paths given, then over deterministic mutations of each, so that a
 * machine without libFuzzer still runs every target. What kills the target is written to ./crash-replay and
 * its seed and number are named; the same seed gives the same inputs. One thread.
 *
 *   replay_x [-n MUTATIONS] [-s SEED] PATH...
 */
#include "fuzz.h"

#include "core/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_MAX 65536u
#define FILES_MAX 4096u
#define HANG_S 60u /* one input must not take longer */
#define CRASH_FILE "crash-replay"

/* A sanitizer report becomes SIGABRT, which saves the input below. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1:handle_abort=0";
}

struct input {
    char *name;
    struct pg_str bytes;
};
static struct {
    const char *file;
    unsigned long long seed, number;
    const uint8_t *data;
    size_t size;
} now;

static void say(const char *text)
{
    ssize_t n = write(2, text, strlen(text));
    (void)n;
}

static void save(int sig)
{
    char line[256];
    (void)snprintf(line, sizeof(line),
                   "replay: signal %d at %s, seed %llu, mutation %llu; input in ./" CRASH_FILE "\n", sig,
                   now.file, now.seed, now.number);
    say(line);
    int fd = open(CRASH_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        ssize_t n = write(fd, now.data, now.size);
        (void)n;
        (void)close(fd);
    }
    _exit(70);
}

/* Runs on a copy of exactly that size, so that reading past the end is seen. */
static void run(struct pg_str bytes)
{
    uint8_t *copy = pg_malloc(bytes.len != 0 ? bytes.len : 1);
    PG_BUG_ON(copy == NULL);
    if (bytes.len != 0) {
        memcpy(copy, bytes.p, bytes.len);
    }
    now.data = copy;
    now.size = bytes.len;
    (void)alarm(HANG_S);
    (void)LLVMFuzzerTestOneInput(copy, bytes.len);
    (void)alarm(0);
    pg_free(copy);
}

static size_t below(struct pg_rng *r, size_t n)
{
    return (size_t)pg_rng_below(r, n);
}

/* Moves the tail so that [at, at + from) becomes `to` bytes; returns the new length. */
static size_t resize(uint8_t *b, size_t len, size_t at, size_t from, size_t to)
{
    if (len - from + to > INPUT_MAX) {
        return len;
    }
    memmove(b + at + to, b + at + from, len - at - from);
    return len - from + to;
}

static size_t mutate_once(struct pg_rng *r, uint8_t *b, size_t len, struct pg_str other)
{
    static const uint8_t odd[] = {0,   1,   2,   0x7f, 0x80, 0xff, 0xfe, '/',
                                  ':', '.', '"', '\n', ' ',  '0',  '9',  '%'};
    size_t at = len > 0 ? below(r, len) : 0;
    size_t room = len - at, n = room > 0 ? 1 + below(r, room < 16 ? room : 16) : 0;
    size_t before = len;
    switch (len == 0 ? 3 : below(r, 8)) {
    case 0:
        b[at] ^= (uint8_t)(1u << below(r, 8));
        return len;
    case 1:
        b[at] = odd[below(r, sizeof(odd))];
        return len;
    case 2:
        b[at] = (uint8_t)below(r, 256);
        return len;
    case 3: /* insert */
        n = 1 + below(r, 8);
        len = resize(b, len, at, 0, n);
        for (size_t i = 0; len != before && i < n; i++) {
            b[at + i] = below(r, 2) ? odd[below(r, sizeof(odd))] : (uint8_t)below(r, 256);
        }
        return len;
    case 4: /* delete */
        return resize(b, len, at, n, 0);
    case 5: /* repeat */
        len = resize(b, len, at + n, 0, n);
        if (len != before) {
            memcpy(b + at + n, b + at, n);
        }
        return len;
    case 6: /* cut */
        return at;
    default: /* overwrite from another seed */
        if (other.len > 0) {
            size_t from = below(r, other.len);
            n = n < other.len - from ? n : other.len - from;
            memcpy(b + at, other.p + from, n);
        }
        return len;
    }
}

static struct input files[FILES_MAX];
static size_t n_files;

static void load(const char *path)
{
    static char buf[INPUT_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = -1;
    while (fd >= 0 && len < sizeof(buf) && (n = read(fd, buf + len, sizeof(buf) - len)) > 0) {
        len += (size_t)n;
    }
    if (n < 0 || n_files == FILES_MAX) {
        (void)fprintf(stderr, "replay: %s cannot be read\n", path);
        exit(2);
    }
    (void)close(fd);
    char *copy = pg_memdup(buf, len + 1 < sizeof(buf) ? len + 1 : len);
    char *name = pg_strdup(path);
    PG_BUG_ON(copy == NULL || name == NULL);
    files[n_files++] = (struct input){name, {copy, len}};
}

static int by_name(const void *a, const void *b)
{
    const struct input *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* A directory without its subdirectories, or one file. */
static void load_path(const char *path)
{
    DIR *d = opendir(path);
    if (d == NULL) {
        load(path);
        return;
    }
    const struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char name[4096];
        if (e->d_name[0] != '.') {
            (void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
            load(name);
        }
    }
    (void)closedir(d);
}

/* The name without its folder goes into the seed, so that the place of the tree does not matter. */
static uint64_t seed_of(uint64_t seed, const char *path, uint64_t number)
{
    struct pg_str s = pg_str_c(path);
    struct pg_str base = pg_str_sub(s, (size_t)(pg_str_rchr(s, '/') + 1));
    uint64_t h = 14695981039346656037ull ^ seed;
    for (size_t i = 0; i < base.len; i++) {
        h = (h ^ (uint8_t)base.p[i]) * 1099511628211ull;
    }
    return h + number * 0x9e3779b97f4a7c15ull;
}

static void replay(size_t file, uint64_t mutations)
{
    static uint8_t buf[INPUT_MAX];
    const struct input *f = &files[file];
    now.file = f->name;
    now.number = 0;
    run(f->bytes);
    for (uint64_t i = 1; i <= mutations; i++) {
        struct pg_rng r;
        pg_rng_seed(&r, seed_of(now.seed, f->name, i));
        size_t len = f->bytes.len;
        if (len > 0) {
            memcpy(buf, f->bytes.p, len);
        }
        struct pg_str other = files[below(&r, n_files)].bytes;
        for (size_t k = 1 + below(&r, 4); k > 0; k--) {
            len = mutate_once(&r, buf, len, other);
        }
        now.number = i;
        run(pg_str_n((const char *)buf, len));
    }
}

static uint64_t number(const char *z)
{
    uint64_t n;
    if (pg_str_u64(pg_str_c(z), UINT64_MAX, &n) < 0) {
        (void)fprintf(stderr, "replay: not a number: %s\n", z);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    uint64_t mutations = 2000;
    int opt;
    now.seed = 1;
    while ((opt = getopt(argc, argv, "n:s:")) != -1) {
        if (opt == 'n') {
            mutations = number(optarg);
        } else if (opt == 's') {
            now.seed = number(optarg);
        } else {
            return 2;
        }
    }
    for (int i = optind; i < argc; i++) {
        load_path(argv[i]);
    }
    if (n_files == 0) {
        (void)fprintf(stderr, "usage: replay [-n MUTATIONS] [-s SEED] PATH...\n");
        return 2;
    }
    qsort(files, n_files, sizeof(files[0]), by_name);
    (void)signal(SIGABRT, save);
    (void)signal(SIGALRM, save);
    (void)fprintf(stderr, "replay: %zu files, %llu mutations of each, seed %llu\n", n_files,
                  (unsigned long long)mutations, now.seed);
    for (size_t i = 0; i < n_files; i++) {
        replay(i, mutations);
    }
    for (size_t i = 0; i < n_files; i++) {
        pg_free(files[i].name);
        pg_free((void *)(uintptr_t)files[i].bytes.p);
    }
    return 0;
}
