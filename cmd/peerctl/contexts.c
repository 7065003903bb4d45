/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of the contexts file. Invariant: a context in the set has a name and an admin address that can be
 * dialled. One thread.
 */
#include "contexts.h"

#include "certs/file.h"
#include "core/addr.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_MAX (16u * 1024 * 1024)

void contexts_init(struct contexts *c)
{
    *c = (struct contexts){.items = NULL};
    pg_arena_init(&c->arena, ARENA_MAX);
}

void contexts_fini(struct contexts *c)
{
    pg_free(c->items);
    pg_arena_fini(&c->arena);
    *c = (struct contexts){.items = NULL};
}

struct reader {
    struct contexts *c;
    const char *file;
    struct pg_str dir; /* of the file, with the slash; empty for the current one */
    unsigned line;
    size_t from; /* items of this file start here */
    bool skip;   /* section known from an earlier file */
    bool in_section;
    struct pg_errtext *err;
};

static int fail(struct reader *r, unsigned line, const char *what, struct pg_str s)
{
    pg_err_set(r->err, "%s:%u: %s%s%.*s%s", r->file, line, what, s.len > 0 ? " \"" : "",
               (int)(s.len < 60 ? s.len : 60), s.len > 0 ? s.p : "", s.len > 0 ? "\"" : "");
    return PG_E_CONFIG;
}

static bool is_name(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '_' || c == '.' || c == '@' || c == '/')) {
            return false;
        }
    }
    return s.len > 0 && s.len <= 253;
}

/* The last section of this file must be complete. */
static int close_section(struct reader *r)
{
    if (!r->in_section || r->skip) {
        return 0;
    }
    const struct context *last = &r->c->items[r->c->n - 1];
    if (last->admin[0] == '\0') {
        return fail(r, last->line, "no \"admin = unix:/path\" or \"admin = ip:port\" in section",
                    pg_str_c(last->name));
    }
    return 0;
}

static int open_section(struct reader *r, struct pg_str line)
{
    struct contexts *c = r->c;
    if (line.p[line.len - 1] != ']') {
        return fail(r, r->line, "a section looks like [name], not", line);
    }
    struct pg_str name = pg_str_trim(pg_str_n(line.p + 1, line.len - 2));
    if (!is_name(name)) {
        return fail(r, r->line, "a name has letters, digits and - _ . @ /, not", name);
    }
    int e = close_section(r);
    if (e != 0) {
        return e;
    }
    r->in_section = true;
    r->skip = false;
    for (size_t i = 0; i < c->n; i++) {
        if (pg_str_eq_c(name, c->items[i].name)) {
            r->skip = true;
            return i < r->from ? 0 : fail(r, r->line, "section a second time:", name);
        }
    }
    e = pg_vec_grow(&c->items, &c->cap, c->n + 1, sizeof(*c->items), CONTEXTS_MAX);
    char *copy = pg_arena_strndup(&c->arena, name.p, name.len);
    if (e == PG_E_LIMIT) {
        pg_err_set(r->err, "%s:%u: more than %u contexts", r->file, r->line, CONTEXTS_MAX);
        return e;
    }
    if (e != 0 || copy == NULL) {
        return PG_E_NOMEM;
    }
    c->items[c->n++] =
        (struct context){.name = copy, .manifests = "", .admin = "", .file = r->file, .line = r->line};
    return 0;
}

/* "<prefix><dir of the file>/<path>" when the path is relative. */
static const char *place(struct reader *r, const char *prefix, struct pg_str path)
{
    struct pg_str dir = path.len > 0 && path.p[0] == '/' ? PG_STR_NONE : r->dir;
    size_t head = strlen(prefix);
    size_t len = head + dir.len + path.len;
    char *out = pg_arena_alloc(&r->c->arena, len + 1);
    if (out != NULL) {
        memcpy(out, prefix, head);
        if (dir.len > 0) {
            memcpy(out + head, dir.p, dir.len);
        }
        memcpy(out + head + dir.len, path.p, path.len);
        out[len] = '\0';
    }
    return out;
}

static int set_admin(struct reader *r, struct context *x, struct pg_str value)
{
    struct pg_addr addr;
    if (pg_str_has_prefix(value, PG_STR("unix:")) && value.len > 5) {
        x->admin = place(r, "unix:", pg_str_sub(value, 5));
    } else if (pg_addr_parse(value, &addr) == 0 && addr.port != 0) {
        x->admin = pg_arena_strndup(&r->c->arena, value.p, value.len);
    } else {
        return fail(r, r->line, "admin is unix:/path or ip:port, not", value);
    }
    return x->admin == NULL ? PG_E_NOMEM : 0;
}

static int set_key(struct reader *r, struct pg_str line)
{
    struct pg_str value = line;
    struct pg_str key;
    if (pg_str_chr(line, '=') < 0) {
        return fail(r, r->line, "neither [section], key = value nor comment:", line);
    }
    (void)pg_str_cut(&value, '=', &key);
    key = pg_str_trim(key);
    value = pg_str_trim(value);
    if (!r->in_section) {
        return fail(r, r->line, "stands before the first [section]:", line);
    }
    bool is_admin = pg_str_eq_c(key, "admin");
    if (!is_admin && !pg_str_eq_c(key, "manifests")) {
        return fail(r, r->line, "known keys are manifests and admin, not", key);
    }
    if (value.len == 0) {
        return fail(r, r->line, "no value for", key);
    }
    if (r->skip) {
        return 0;
    }
    struct context *x = &r->c->items[r->c->n - 1];
    if ((is_admin ? x->admin : x->manifests)[0] != '\0') {
        return fail(r, r->line, "a second time in this section:", key);
    }
    if (is_admin) {
        return set_admin(r, x, value);
    }
    const char *path = place(r, "", value);
    if (path == NULL) {
        return PG_E_NOMEM;
    }
    x->manifests = path;
    return 0;
}

static struct pg_str directory_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash == NULL ? PG_STR_NONE : pg_str_n(file, (size_t)(slash - file) + 1);
}

int contexts_parse(struct contexts *c, const char *file, struct pg_str text, struct pg_errtext *err)
{
    struct reader r = {.c = c, .from = c->n, .err = err};
    r.file = pg_arena_strndup(&c->arena, file, strlen(file));
    if (r.file == NULL) {
        return PG_E_NOMEM;
    }
    r.dir = directory_of(r.file);
    if (memchr(text.len > 0 ? text.p : "", '\0', text.len) != NULL) {
        pg_err_set(err, "%s: not a text file", file);
        return PG_E_CONFIG;
    }
    struct pg_str line;
    int e = 0;
    while (e == 0 && pg_str_cut(&text, '\n', &line)) {
        r.line++;
        line = pg_str_trim(line);
        if (line.len == 0 || line.p[0] == '#' || line.p[0] == ';') {
            continue;
        }
        e = line.p[0] == '[' ? open_section(&r, line) : set_key(&r, line);
    }
    return e != 0 ? e : close_section(&r);
}

static int read_one(struct contexts *c, struct pg_str file, struct pg_errtext *err)
{
    struct pg_sb text;
    char *path = pg_arena_strndup(&c->arena, file.p, file.len);
    if (path == NULL) {
        return PG_E_NOMEM;
    }
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? NULL : pg_arena_strndup(&c->arena, path, (size_t)(slash - path) + 1);
    if (slash != NULL && dir == NULL) {
        return PG_E_NOMEM;
    }
    pg_sb_init(&text, CONTEXTS_FILE_MAX);
    int r = cert_file_read(dir != NULL ? dir : ".", slash != NULL ? slash + 1 : path, CONTEXTS_FILE_MAX,
                           &text, err);
    r = r != 0 ? r : contexts_parse(c, path, pg_sb_view(&text), err);
    pg_sb_fini(&text);
    return r;
}

int contexts_load(struct contexts *c, const char *asked, struct pg_errtext *err)
{
    struct pg_sb path;
    const char *env = getenv("PEERCTL_CONTEXTS");
    const char *home = getenv("HOME");
    pg_sb_init(&path, 65536);
    pg_sb_c(&path, asked != NULL ? asked : env != NULL && env[0] != '\0' ? env : "");
    if (path.len == 0) {
        pg_sb_fmt(&path, "%s/.config/isthmus/contexts", home != NULL ? home : "");
    }
    char *copy = path.err == 0 ? pg_arena_strndup(&c->arena, path.p, path.len) : NULL;
    pg_sb_fini(&path);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    c->path = copy;
    struct pg_str left = pg_str_c(copy);
    struct pg_str file;
    unsigned n = 0;
    int r = 0;
    while (r == 0 && pg_str_cut(&left, ':', &file)) {
        if (file.len == 0) {
            continue;
        }
        if (++n > CONTEXTS_FILES_MAX) {
            pg_err_set(err, "more than %u contexts files", CONTEXTS_FILES_MAX);
            return PG_E_LIMIT;
        }
        r = read_one(c, file, err);
    }
    return r;
}

static void list_names(const struct contexts *c, struct pg_sb *out)
{
    for (size_t i = 0; i < c->n; i++) {
        pg_sb_fmt(out, "%s%s", i > 0 ? ", " : "", c->items[i].name);
    }
}

static const struct context *find(const struct contexts *c, struct pg_str name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (pg_str_eq_c(name, c->items[i].name)) {
            return &c->items[i];
        }
    }
    return NULL;
}

static void refuse(const struct contexts *c, struct pg_str name, struct pg_errtext *err)
{
    struct pg_sb names;
    pg_sb_init(&names, 4096);
    list_names(c, &names);
    if (c->n == 0) {
        pg_err_set(err, "%s names no context", c->path != NULL ? c->path : "the contexts file");
    } else if (name.len > 0) {
        pg_err_set(err, "no context \"%.60s\"; there are: %s", name.p, names.len > 0 ? names.p : "");
    } else {
        pg_err_set(err, "several contexts; choose one with --context: %s", names.len > 0 ? names.p : "");
    }
    pg_sb_fini(&names);
}

const struct context *contexts_pick(const struct contexts *c, const char *name, struct pg_errtext *err)
{
    const struct context *found = name != NULL ? find(c, pg_str_c(name)) : c->n == 1 ? &c->items[0] : NULL;
    if (found == NULL) {
        refuse(c, pg_str_c(name), err);
    }
    return found;
}

int contexts_list(const struct contexts *c, const char *names, const struct context **out, size_t max,
                  size_t *n, struct pg_errtext *err)
{
    struct pg_str left = pg_str_c(names);
    struct pg_str name;
    size_t count = 0;
    while (pg_str_cut(&left, ',', &name)) {
        name = pg_str_trim(name);
        const struct context *x = name.len == 0 ? NULL : find(c, name);
        if (name.len == 0) {
            pg_err_set(err, "--contexts: an empty name in \"%.100s\"", names);
            return PG_E_CONFIG;
        }
        if (x == NULL) {
            char text[256];
            (void)snprintf(text, sizeof(text), "%.*s", PG_STR_ARG(name));
            refuse(c, pg_str_c(text), err);
            return PG_E_CONFIG;
        }
        for (size_t i = 0; i < count; i++) {
            if (out[i] == x) {
                pg_err_set(err, "--contexts: \"%s\" is named twice", x->name);
                return PG_E_CONFIG;
            }
        }
        if (count == max) {
            pg_err_set(err, "--contexts: more than %zu contexts", max);
            return PG_E_CONFIG;
        }
        out[count++] = x;
    }
    *n = count;
    return 0;
}
