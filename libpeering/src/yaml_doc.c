/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libyaml's events to a tree of yaml_node; the only file that knows libyaml. Iterative: the stack of open
 * maps and lists is an array, so no text can exhaust ours. Control thread.
 */
#include "yaml_doc.h"

#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    struct pg_arena *arena;
    struct pg_errtext *err;
    unsigned line;
    struct yaml_node *stack[YAML_DEPTH_MAX]; /* open collections, outermost first */
    size_t depth;
    struct yaml_node *roots, *last_root;
    struct pg_str key; /* key read, value pending */
    bool has_key;
    size_t nodes;
};

static int refuse(struct builder *b, const yaml_mark_t *at, int code, const char *why)
{
    b->line = (unsigned)(at->line + 1);
    pg_err_set(b->err, "%s", why);
    return code;
}

static int syntax_error(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return PG_E_NOMEM;
    }
    /* Reader errors have an offset only; the mark is where scanning had got to. */
    bool has_mark = p->error == YAML_SCANNER_ERROR || p->error == YAML_PARSER_ERROR;
    b->line = (unsigned)((has_mark ? p->problem_mark.line : p->mark.line) + 1);
    pg_err_set(b->err, "not valid YAML: %s%s%s", p->problem ? p->problem : "unreadable",
               p->context ? ", " : "", p->context ? p->context : "");
    return PG_E_PARSE;
}

static bool has_key(const struct yaml_node *map, struct pg_str key)
{
    for (const struct yaml_node *c = map->first; c != NULL; c = c->next) {
        if (pg_str_eq(c->key, key)) {
            return true;
        }
    }
    return false;
}

/* The scalar of a mapping key. */
static int take_key(struct builder *b, const yaml_event_t *e)
{
    struct yaml_node *map = b->stack[b->depth - 1];
    struct pg_str k = pg_str_n((const char *)e->data.scalar.value, e->data.scalar.length);
    if (map->n >= YAML_KEYS_MAX) {
        return refuse(b, &e->start_mark, PG_E_LIMIT, "more than 1024 keys in one map");
    }
    if (has_key(map, k)) {
        b->line = (unsigned)(e->start_mark.line + 1);
        pg_err_set(b->err, "key \"%.*s\" stands twice in one map", (int)(k.len > 80 ? 80 : k.len), k.p);
        return PG_E_PARSE;
    }
    const char *copy = pg_arena_strndup(b->arena, k.p, k.len);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    b->key = pg_str_n(copy, k.len);
    b->has_key = true;
    return 0;
}

static void attach(struct builder *b, struct yaml_node *n)
{
    if (b->depth == 0) {
        if (b->last_root != NULL) {
            b->last_root->next = n;
        } else {
            b->roots = n;
        }
        b->last_root = n;
        return;
    }
    struct yaml_node *parent = b->stack[b->depth - 1];
    n->key = b->has_key ? b->key : PG_STR_NONE;
    b->has_key = false;
    if (parent->last != NULL) {
        parent->last->next = n;
    } else {
        parent->first = n;
    }
    parent->last = n;
    parent->n++;
}

static int new_node(struct builder *b, const yaml_event_t *e, enum yaml_kind kind, struct yaml_node **out)
{
    if (b->nodes >= YAML_NODES_MAX) {
        return refuse(b, &e->start_mark, PG_E_LIMIT, "too many YAML nodes in one file");
    }
    struct yaml_node *n = pg_arena_calloc(b->arena, 1, sizeof(*n));
    if (n == NULL) {
        return PG_E_NOMEM;
    }
    b->nodes++;
    n->kind = kind;
    n->line = (unsigned)(e->start_mark.line + 1);
    *out = n;
    return 0;
}

static int take_scalar(struct builder *b, const yaml_event_t *e)
{
    if (e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL) {
        return refuse(b, &e->start_mark, PG_E_PARSE, "YAML anchors and tags are not accepted");
    }
    if (e->data.scalar.length > YAML_SCALAR_MAX) {
        return refuse(b, &e->start_mark, PG_E_LIMIT, "a text longer than 1 MiB");
    }
    struct pg_str v = pg_str_n((const char *)e->data.scalar.value, e->data.scalar.length);
    if (v.len > 0 && memchr(v.p, 0, v.len) != NULL) {
        return refuse(b, &e->start_mark, PG_E_PARSE, "a text contains a NUL byte");
    }
    if (b->depth > 0 && b->stack[b->depth - 1]->kind == YAML_MAP && !b->has_key) {
        return take_key(b, e);
    }
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (b->depth == 0 && !quoted && v.len == 0) {
        return 0; /* a document with nothing in it */
    }
    struct yaml_node *n;
    int r = new_node(b, e, YAML_SCALAR, &n);
    if (r < 0) {
        return r;
    }
    const char *copy = pg_arena_strndup(b->arena, v.p ? v.p : "", v.len);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    n->value = pg_str_n(copy, v.len);
    n->quoted = quoted;
    attach(b, n);
    return 0;
}

static int open_collection(struct builder *b, const yaml_event_t *e, enum yaml_kind kind, bool decorated)
{
    if (decorated) {
        return refuse(b, &e->start_mark, PG_E_PARSE, "YAML anchors and tags are not accepted");
    }
    if (b->depth > 0 && b->stack[b->depth - 1]->kind == YAML_MAP && !b->has_key) {
        return refuse(b, &e->start_mark, PG_E_PARSE, "a map key must be a plain text");
    }
    if (b->depth == YAML_DEPTH_MAX) {
        return refuse(b, &e->start_mark, PG_E_LIMIT, "nested deeper than 32 levels");
    }
    struct yaml_node *n;
    int r = new_node(b, e, kind, &n);
    if (r < 0) {
        return r;
    }
    attach(b, n);
    b->stack[b->depth++] = n;
    return 0;
}

/* 1: the stream is over. */
static int take_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_STREAM_END_EVENT:
        return 1;
    case YAML_ALIAS_EVENT:
        return refuse(b, &e->start_mark, PG_E_PARSE, "YAML aliases are not accepted");
    case YAML_SCALAR_EVENT:
        return take_scalar(b, e);
    case YAML_MAPPING_START_EVENT:
        return open_collection(b, e, YAML_MAP,
                               e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(b, e, YAML_SEQ,
                               e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end) {
            return refuse(b, &e->start_mark, PG_E_PARSE, "YAML tag directives are not accepted");
        }
        return 0;
    default:
        return 0;
    }
}

int yaml_parse(struct pg_str text, struct pg_arena *arena, const struct yaml_node **out, unsigned *line,
               struct pg_errtext *err)
{
    struct builder b = {.arena = arena, .err = err};
    if (!yaml_parser_initialize(&b.parser)) {
        return PG_E_NOMEM;
    }
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)(text.p ? text.p : ""), text.len);
    int r = 0;
    while (r == 0) {
        yaml_event_t e;
        if (!yaml_parser_parse(&b.parser, &e)) {
            r = syntax_error(&b);
            break;
        }
        r = take_event(&b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&b.parser);
    if (r < 0) {
        *line = b.line;
        return r;
    }
    *out = b.roots;
    return 0;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
    if (map == NULL || map->kind != YAML_MAP) {
        return NULL;
    }
    for (const struct yaml_node *c = map->first; c != NULL; c = c->next) {
        if (pg_str_eq_c(c->key, key)) {
            return c;
        }
    }
    return NULL;
}

static bool is_word(const struct yaml_node *n, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (pg_str_eq_c(n->value, words[i])) {
            return true;
        }
    }
    return false;
}

bool yaml_is_null(const struct yaml_node *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    return n->kind == YAML_SCALAR && !n->quoted && is_word(n, words, PG_ARRAY_LEN(words));
}

bool yaml_is_bool(const struct yaml_node *n, bool *value)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
    if (n->kind != YAML_SCALAR || n->quoted) {
        return false;
    }
    bool is_yes = is_word(n, yes, PG_ARRAY_LEN(yes));
    if (!is_yes && !is_word(n, no, PG_ARRAY_LEN(no))) {
        return false;
    }
    if (value != NULL) {
        *value = is_yes;
    }
    return true;
}

/* [+-] digits [. digits] [e [+-] digits]; `s` has no sign. */
static bool is_decimal(struct pg_str s)
{
    size_t i = 0, digits = 0;
    for (int part = 0; part < 2; part++) {
        while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9') {
            i++;
            digits++;
        }
        if (part == 0 && i < s.len && s.p[i] == '.') {
            i++;
        } else {
            break;
        }
    }
    if (digits == 0) {
        return false;
    }
    if (i < s.len && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.len && (s.p[i] == '+' || s.p[i] == '-')) {
            i++;
        }
        size_t from = i;
        while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9') {
            i++;
        }
        if (i == from) {
            return false;
        }
    }
    return i == s.len;
}

bool yaml_is_number(const struct yaml_node *n)
{
    if (n->kind != YAML_SCALAR || n->quoted || n->value.len == 0) {
        return false;
    }
    struct pg_str s = n->value;
    if (s.p[0] == '+' || s.p[0] == '-') {
        s = pg_str_sub(s, 1);
    }
    if (s.len > 2 && s.p[0] == '0' && (s.p[1] == 'x' || s.p[1] == 'o' || s.p[1] == 'b')) {
        for (size_t i = 2; i < s.len; i++) {
            char c = s.p[i];
            bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
            if (!hex) {
                return false;
            }
        }
        return true;
    }
    return is_decimal(s);
}

bool yaml_is_string(const struct yaml_node *n)
{
    return n->kind == YAML_SCALAR &&
           (n->quoted || (!yaml_is_null(n) && !yaml_is_bool(n, NULL) && !yaml_is_number(n)));
}
