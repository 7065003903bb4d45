/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: which files there are, inotify, and the index over all objects in force. A scan builds the
 * next state beside the present one and swaps at the end, so a failure changes nothing. Control thread.
 */
#include "manifest.h"

#include "manifest_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define INDEX_ARENA_MAX (256u * 1024 * 1024)

struct manifest_state {
    struct manifest_file **files; /* sorted by name, one reference each */
    size_t n_files, cap_files;
    struct pg_arena arena; /* owns what follows */
    const struct object **objects;
    struct object_index index;
    struct manifest_problem *problems;
    size_t n_problems;
    size_t counts[OBJ_KINDS]; /* [OBJ_NONE]: objects of kinds without a meaning here */
};
struct manifest {
    char *dir;
    char *parent; /* watched too: a link to the directory may be swapped, the directory itself replaced */
    int inotify_fd;
    int dir_wd;
    struct manifest_state state;
};

static void state_fini(struct manifest_state *s)
{
    for (size_t i = 0; i < s->n_files; i++) {
        file_unref(s->files[i]);
    }
    pg_free(s->files);
    pg_arena_fini(&s->arena);
}

static int parent_of(const char *dir, char **out)
{
    struct pg_str s = pg_str_c(dir);
    while (s.len > 1 && s.p[s.len - 1] == '/') {
        s.len--;
    }
    ptrdiff_t slash = pg_str_rchr(s, '/');
    struct pg_str p = slash < 0 ? PG_STR(".") : slash == 0 ? PG_STR("/") : pg_str_n(s.p, (size_t)slash);
    *out = pg_strndup(p.p, p.len);
    return *out != NULL ? 0 : PG_E_NOMEM;
}

/* Follows the name to the directory it means now; the same directory keeps its watch. */
static void rearm(struct manifest *m)
{
    int wd = inotify_add_watch(m->inotify_fd, m->dir,
                               IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
    if (wd != m->dir_wd && m->dir_wd >= 0) {
        (void)inotify_rm_watch(m->inotify_fd, m->dir_wd);
    }
    m->dir_wd = wd;
    struct stat st;
    if (wd < 0 || (lstat(m->dir, &st) == 0 && S_ISLNK(st.st_mode))) {
        /* Only then: a busy parent would wake us for nothing. The events add to those of a directory watched
         * already. */
        (void)inotify_add_watch(m->inotify_fd, m->parent, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR | IN_MASK_ADD);
    }
}

int manifest_new(const char *dir, struct manifest **out, struct pg_errtext *err)
{
    struct manifest *m = pg_calloc(1, sizeof(*m));
    if (m == NULL) {
        return PG_E_NOMEM;
    }
    m->dir_wd = -1;
    m->inotify_fd = -1;
    pg_arena_init(&m->state.arena, INDEX_ARENA_MAX);
    m->dir = pg_strdup(dir);
    int r = m->dir != NULL ? parent_of(dir, &m->parent) : PG_E_NOMEM;
    if (r == 0) {
        m->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (m->inotify_fd < 0) {
            r = pg_err_from_errno(errno);
            pg_err_set(err, "inotify: %s", pg_err_str(r));
        }
    }
    if (r < 0) {
        manifest_free(m);
        return r;
    }
    rearm(m);
    *out = m;
    return 0;
}

void manifest_free(struct manifest *m)
{
    if (m == NULL) {
        return;
    }
    if (m->inotify_fd >= 0) {
        (void)close(m->inotify_fd);
    }
    state_fini(&m->state);
    pg_free(m->parent);
    pg_free(m->dir);
    pg_free(m);
}

int manifest_fd(const struct manifest *m)
{
    return m->inotify_fd;
}

void manifest_drain(struct manifest *m)
{
    char events[4096];
    while (read(m->inotify_fd, events, sizeof(events)) > 0) {
    }
}

/* --- one scan --- */

static bool is_manifest_name(const char *name)
{
    struct pg_str s = pg_str_c(name);
    return s.p[0] != '.' && (pg_str_has_suffix(s, PG_STR(".yaml")) || pg_str_has_suffix(s, PG_STR(".yml")));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct name_list {
    char **names;
    size_t n, cap;
};

static void names_fini(struct name_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        pg_free(l->names[i]);
    }
    pg_free(l->names);
}

static int list_names(DIR *d, struct name_list *l, struct pg_errtext *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL) {
            if (errno != 0) {
                pg_err_set(err, "cannot list the directory");
                return PG_E_IO;
            }
            break;
        }
        if (!is_manifest_name(e->d_name)) {
            continue;
        }
        int r = pg_vec_grow(&l->names, &l->cap, l->n + 1, sizeof(*l->names), MANIFEST_FILES_MAX);
        if (r == PG_E_LIMIT) {
            pg_err_set(err, "more than %u manifest files", MANIFEST_FILES_MAX);
        }
        if (r < 0) {
            return r;
        }
        l->names[l->n] = pg_strdup(e->d_name);
        if (l->names[l->n] == NULL) {
            return PG_E_NOMEM;
        }
        l->n++;
    }
    if (l->n > 1) {
        qsort(l->names, l->n, sizeof(*l->names), by_name);
    }
    return 0;
}

static struct manifest_file *find_file(const struct manifest_state *s, const char *name)
{
    size_t lo = 0, hi = s->n_files;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, s->files[mid]->name);
        if (c == 0) {
            return s->files[mid];
        }
        if (c > 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

static int load_files(int dir_fd, const struct name_list *l, const struct manifest_state *old,
                      struct manifest_state *next, bool *changed)
{
    for (size_t i = 0; i < l->n; i++) {
        struct manifest_file *before = find_file(old, l->names[i]);
        int r = pg_vec_grow(&next->files, &next->cap_files, next->n_files + 1, sizeof(struct manifest_file *),
                            MANIFEST_FILES_MAX);
        if (r < 0) {
            return r;
        }
        struct manifest_file *f;
        r = file_load(dir_fd, l->names[i], before, &f);
        if (r == PG_E_NOTFOUND) {
            continue; /* gone since it was listed */
        }
        if (r < 0) {
            return r;
        }
        next->files[next->n_files++] = f;
        *changed = *changed || f != before;
    }
    *changed = *changed || next->n_files != old->n_files;
    return 0;
}

static void add_problem(struct manifest_state *s, const char *file, unsigned line, const char *reason)
{
    s->problems[s->n_problems++] = (struct manifest_problem){.file = file, .line = line, .reason = reason};
}

struct ordered { /* an object with its place among all, so that sorting keeps file order among equals */
    const struct object *o;
    size_t seq;
};

static int by_key(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    int c = object_key_cmp(x->o->kind, x->o->ns, x->o->name, y->o);
    return c != 0 ? c : (x->seq < y->seq ? -1 : 1);
}

static const char *repeat_text(struct pg_arena *a, const struct object *o, const struct object *first)
{
    struct pg_errtext t;
    pg_err_set(&t, "%s %.*s%s%.*s is already defined in %s:%u; this one is not used",
               object_kind_name(o->kind), PG_STR_ARG(o->ns), o->ns.len ? "/" : "", PG_STR_ARG(o->name),
               first->file, first->line);
    return pg_arena_strndup(a, t.text, strlen(t.text));
}

/* Keeps the first of each key; `sorted` has n entries. */
static int index_objects(struct manifest_state *s, const struct ordered *sorted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct object *o = sorted[i].o;
        const struct object *last = s->index.n > 0 ? s->objects[s->index.n - 1] : NULL;
        if (last != NULL && object_key_cmp(o->kind, o->ns, o->name, last) == 0) {
            const char *text = repeat_text(&s->arena, o, last);
            if (text == NULL) {
                return PG_E_NOMEM;
            }
            add_problem(s, o->file, o->line, text);
            continue;
        }
        s->objects[s->index.n++] = o;
        s->counts[o->kind]++;
    }
    return 0;
}

static int build_index(struct manifest_state *s, struct pg_errtext *err)
{
    size_t n = 0, problems = 0;
    for (size_t i = 0; i < s->n_files; i++) {
        struct manifest_file *f = file_in_force(s->files[i]);
        n += f != NULL ? f->n_objects : 0;
        problems += s->files[i]->n_problems;
    }
    if (n > MANIFEST_OBJECTS_MAX) {
        pg_err_set(err, "more than %u objects", MANIFEST_OBJECTS_MAX);
        return PG_E_LIMIT;
    }
    struct ordered *sorted = pg_calloc(n + 1, sizeof(*sorted));
    s->objects = pg_arena_calloc(&s->arena, n + 1, sizeof(*s->objects));
    s->problems = pg_arena_calloc(&s->arena, problems + n + 1, sizeof(*s->problems));
    int r = sorted != NULL && s->objects != NULL && s->problems != NULL ? 0 : PG_E_NOMEM;
    size_t at = 0;
    for (size_t i = 0; i < s->n_files && r == 0; i++) {
        const struct manifest_file *file = s->files[i];
        for (size_t k = 0; k < file->n_problems; k++) {
            add_problem(s, file->name, file->problems[k].line, file->problems[k].text);
        }
        const struct manifest_file *f = file_in_force(s->files[i]);
        s->counts[OBJ_NONE] += f != NULL ? f->ignored : 0;
        for (const struct object *o = f != NULL ? f->objects : NULL; o != NULL; o = o->next, at++) {
            sorted[at] = (struct ordered){o, at};
        }
    }
    if (r == 0) {
        qsort(sorted, n, sizeof(*sorted), by_key);
        r = index_objects(s, sorted, n);
    }
    s->index.objects = s->objects;
    pg_free(sorted);
    return r;
}

int manifest_scan(struct manifest *m, struct pg_errtext *err)
{
    rearm(m);
    struct name_list names = {0};
    struct manifest_state next = {0};
    pg_arena_init(&next.arena, INDEX_ARENA_MAX);
    bool changed = false;
    int r;
    DIR *d = opendir(m->dir);
    if (d == NULL) {
        r = errno == ENOMEM ? PG_E_NOMEM : PG_E_IO;
        pg_err_set(err, "manifest directory %s: %s", m->dir, strerror(errno));
        goto done;
    }
    r = list_names(d, &names, err);
    if (r == 0) {
        r = load_files(dirfd(d), &names, &m->state, &next, &changed);
    }
    (void)closedir(d);
    if (r == 0 && changed) {
        r = build_index(&next, err);
    }
    if (r == 0 && changed) {
        struct manifest_state old = m->state;
        m->state = next;
        next = old;
        r = 1;
    }
done:
    state_fini(&next);
    names_fini(&names);
    return r;
}

int manifest_set_text(struct manifest *m, const char *name, struct pg_str text, struct pg_errtext *err)
{
    struct manifest_state next = {0};
    pg_arena_init(&next.arena, INDEX_ARENA_MAX);
    int r = pg_vec_grow(&next.files, &next.cap_files, 1, sizeof(struct manifest_file *), MANIFEST_FILES_MAX);
    if (r == 0) {
        r = file_parse(name, text, &next.files[0]);
        next.n_files = r == 0 ? 1 : 0;
    }
    if (r == 0) {
        r = build_index(&next, err);
    }
    if (r == 0) {
        struct manifest_state old = m->state;
        m->state = next;
        next = old;
    }
    state_fini(&next);
    return r;
}

size_t manifest_problems(const struct manifest *m, const struct manifest_problem **out)
{
    *out = m->state.problems;
    return m->state.n_problems;
}

const struct object_index *manifest_index(const struct manifest *m)
{
    return &m->state.index;
}

size_t manifest_count(const struct manifest *m, const char *kind)
{
    for (int k = OBJ_NONE; k < OBJ_KINDS; k++) {
        if (strcmp(kind, object_kind_name((enum obj_kind)k)) == 0) {
            return m->state.counts[k];
        }
    }
    return 0;
}

bool manifest_has_service_account(const struct manifest *m, struct pg_str ns, struct pg_str sa)
{
    const struct object_index *x = &m->state.index;
    if (index_find(x, OBJ_SERVICE_ACCOUNT, ns, sa) != NULL) {
        return true;
    }
    size_t from, n = index_range(x, OBJ_POD, &ns, &from);
    for (size_t i = from; i < from + n; i++) {
        if (pg_str_eq(x->objects[i]->u.pod.service_account, sa)) {
            return true;
        }
    }
    return false;
}
