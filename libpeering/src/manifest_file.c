/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one manifest file. All or nothing: a file with any problem does not count, its last good version
 * does; so a half-written or mistyped file never takes services away. Control thread.
 */
#include "manifest_file.h"

#include "core/clock.h"
#include "core/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define RACY_US 2000000 /* coarser than any file system's time stamps */
#define FILE_ARENA_MAX (256u * 1024 * 1024)

struct manifest_file *file_ref(struct manifest_file *f)
{
    f->refs++;
    return f;
}

void file_unref(struct manifest_file *f)
{
    if (f == NULL || --f->refs > 0) {
        return;
    }
    file_unref(f->fallback);
    pg_arena_fini(&f->arena);
    pg_free(f->problems);
    pg_free(f->name);
    pg_free(f);
}

struct manifest_file *file_in_force(struct manifest_file *f)
{
    return f->n_problems == 0 ? f : f->fallback;
}

static int add_problem(struct manifest_file *f, unsigned line, const char *text)
{
    if (f->n_problems == FILE_PROBLEMS_MAX) {
        return 0;
    }
    if (f->problems == NULL) {
        f->problems = pg_calloc(FILE_PROBLEMS_MAX, sizeof(*f->problems));
        if (f->problems == NULL) {
            return PG_E_NOMEM;
        }
    }
    struct file_problem *p = &f->problems[f->n_problems++];
    p->line = line;
    (void)snprintf(p->text, sizeof(p->text), "%s", text);
    return 0;
}

static int new_file(const char *name, struct manifest_file **out)
{
    struct manifest_file *f = pg_calloc(1, sizeof(*f));
    if (f == NULL) {
        return PG_E_NOMEM;
    }
    f->refs = 1;
    pg_arena_init(&f->arena, FILE_ARENA_MAX);
    f->name = pg_strdup(name);
    if (f->name == NULL) {
        file_unref(f);
        return PG_E_NOMEM;
    }
    *out = f;
    return 0;
}

static void set_identity(struct manifest_file *f, const struct stat *st)
{
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    f->size = st->st_size;
    f->mtime = st->st_mtim;
    f->ctime = st->st_ctim;
    int64_t changed = (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
    f->racy = pg_clock_wall_us() < changed + RACY_US;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_unchanged(const struct manifest_file *f, const struct stat *st)
{
    return !f->racy && f->dev == st->st_dev && f->ino == st->st_ino && f->size == st->st_size &&
           same_time(&f->mtime, &st->st_mtim) && same_time(&f->ctime, &st->st_ctim);
}

/* All bytes of an open regular file; they may have grown since the stat. */
static int read_all(int fd, size_t expected, struct pg_sb *out)
{
    char chunk[16384];
    pg_sb_init(out, (size_t)MANIFEST_FILE_MAX + 1);
    size_t left = expected + 1;
    while (left > 0) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return pg_err_from_errno(errno);
        }
        if (n == 0) {
            break;
        }
        pg_sb_add(out, chunk, (size_t)n);
        if (out->err != 0) {
            return out->err;
        }
        left = (size_t)n < left ? left - (size_t)n : 1;
    }
    return 0;
}

/* The same (kind, ns, name) twice in one file is one of its problems. */
static int find_repeats(struct manifest_file *f)
{
    struct pg_map seen;
    struct pg_arena keys;
    pg_arena_init(&keys, FILE_ARENA_MAX);
    pg_map_init(&seen, MANIFEST_OBJECTS_MAX);
    int r = 0;
    for (struct object *o = f->objects; o != NULL && r == 0; o = o->next) {
        size_t len = 1 + o->ns.len + 1 + o->name.len;
        char *key = pg_arena_alloc(&keys, len);
        if (key == NULL) {
            r = PG_E_NOMEM;
            break;
        }
        key[0] = (char)o->kind;
        if (o->ns.len > 0) {
            memcpy(key + 1, o->ns.p, o->ns.len);
        }
        key[1 + o->ns.len] = '/';
        memcpy(key + 2 + o->ns.len, o->name.p, o->name.len);
        const struct object *first = pg_map_get(&seen, pg_str_n(key, len));
        if (first != NULL) {
            struct pg_errtext t;
            pg_err_set(&t, "%s %.*s%s%.*s already stands at line %u", object_kind_name(o->kind),
                       PG_STR_ARG(o->ns), o->ns.len ? "/" : "", PG_STR_ARG(o->name), first->line);
            r = add_problem(f, o->line, t.text);
        } else {
            r = pg_map_set(&seen, pg_str_n(key, len), o, NULL);
        }
    }
    pg_map_fini(&seen);
    pg_arena_fini(&keys);
    return r;
}

/* Problems of parsing and reading stay in `f`; PG_E_NOMEM. */
static int parse(struct manifest_file *f, struct pg_str text)
{
    struct pg_arena tree;
    pg_arena_init(&tree, FILE_ARENA_MAX * 4u);
    const struct yaml_node *doc = NULL;
    struct pg_errtext err = {{0}};
    unsigned line = 0;
    int r = yaml_parse(text, &tree, &doc, &line, &err);
    if (r < 0) {
        r = r == PG_E_NOMEM ? r : add_problem(f, line, err.text);
        goto done;
    }
    struct object **tail = &f->objects;
    for (; doc != NULL && r == 0; doc = doc->next) {
        struct reader rd = {.arena = &f->arena, .err = &err, .line = doc->line};
        r = objects_read(&rd, doc, f->name, &tail, &f->n_objects, &f->ignored);
        if (r < 0 && r != PG_E_NOMEM) {
            r = add_problem(f, rd.line, err.text);
        }
    }
    if (r == 0) {
        r = find_repeats(f);
    }
done:
    pg_arena_fini(&tree);
    return r;
}

int file_parse(const char *name, struct pg_str text, struct manifest_file **out)
{
    struct manifest_file *f;
    int r = new_file(name, &f);
    if (r < 0) {
        return r;
    }
    f->digest = pg_digest64(text.p ? text.p : "", text.len);
    r = parse(f, text);
    if (r < 0) {
        file_unref(f);
        return r;
    }
    *out = f;
    return 0;
}

/* A version that only says what is wrong. */
static int load_bad(const char *name, const struct stat *st, const char *why, struct manifest_file *old,
                    struct manifest_file **out)
{
    if (old != NULL && old->n_problems == 1 && old->problems[0].line == 0 &&
        strcmp(old->problems[0].text, why) == 0) {
        *out = file_ref(old);
        return 0;
    }
    struct manifest_file *f;
    int r = new_file(name, &f);
    if (r < 0) {
        return r;
    }
    if (st != NULL) {
        set_identity(f, st);
    }
    r = add_problem(f, 0, why);
    if (r < 0) {
        file_unref(f);
        return r;
    }
    *out = f;
    return 0;
}

static int load_good(const char *name, int fd, const struct stat *st, struct manifest_file *old,
                     struct manifest_file **out)
{
    struct pg_sb text;
    int r = read_all(fd, (size_t)st->st_size, &text);
    struct manifest_file *f = NULL;
    if (r == PG_E_NOMEM) {
        goto done;
    }
    if (r < 0 || text.len > MANIFEST_FILE_MAX) {
        r = load_bad(name, st, r < 0 && r != PG_E_LIMIT ? "cannot be read" : "larger than 16 MiB", old, out);
        goto done;
    }
    uint64_t digest = pg_digest64(text.p ? text.p : "", text.len);
    if (old != NULL && old->digest == digest && !(old->n_problems > 0 && old->problems[0].line == 0)) {
        set_identity(old, st);
        *out = file_ref(old);
        goto done;
    }
    r = file_parse(name, pg_sb_view(&text), &f);
    if (r == 0) {
        set_identity(f, st);
        *out = f;
    }
done:
    pg_sb_fini(&text);
    return r;
}

/* With problems, what was in force before stays in force. */
static void set_fallback(struct manifest_file *f, struct manifest_file *old)
{
    if (f == old || f->n_problems == 0 || old == NULL) {
        return;
    }
    struct manifest_file *good = file_in_force(old);
    f->fallback = good != NULL ? file_ref(good) : NULL;
}

int file_load(int dir_fd, const char *name, struct manifest_file *old, struct manifest_file **out)
{
    struct stat st;
    struct manifest_file *f = NULL;
    int r;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT && faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        return PG_E_NOTFOUND;
    }
    if (fd < 0) {
        r = load_bad(name, NULL, errno == ENOENT ? "a link to nothing" : "cannot be opened", old, &f);
    } else if (fstat(fd, &st) != 0) {
        r = load_bad(name, NULL, "cannot be read", old, &f);
    } else if (!S_ISREG(st.st_mode)) {
        r = load_bad(name, &st, "not a regular file", old, &f);
    } else if (st.st_size > (off_t)MANIFEST_FILE_MAX) {
        r = load_bad(name, &st, "larger than 16 MiB", old, &f);
    } else if (old != NULL && is_unchanged(old, &st)) {
        f = file_ref(old);
        r = 0;
    } else {
        r = load_good(name, fd, &st, old, &f);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (r < 0) {
        return r;
    }
    set_fallback(f, old);
    *out = f;
    return 0;
}
