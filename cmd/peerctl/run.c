/* SPDX-License-Identifier: Apache-2.0 */
/* What every command of peerctl shares: memory, complaints, contexts, the loop. One thread. */
#include "ctl.h"

#include <stdlib.h>

void ctl_oom(void)
{
    (void)fputs("peerctl: out of memory\n", stderr);
    exit(CTL_UNREACHABLE);
}

int ctl_begin(struct ctl *c)
{
    pg_arena_init(&c->arena, CTL_MEMORY_MAX);
    contexts_init(&c->contexts);
    c->json = c->args.value[ARG_OUTPUT] != NULL && strcmp(c->args.value[ARG_OUTPUT], "json") == 0;
    c->emoji = !c->json && !args_on(&c->args, ARG_NO_EMOJI);
    return pg_loop_new(&c->loop);
}

void ctl_end(struct ctl *c)
{
    for (size_t i = 0; i < c->n_docs; i++) {
        json_in_free(c->docs[i]);
    }
    pg_free(c->docs);
    contexts_fini(&c->contexts);
    if (c->loop != NULL) {
        pg_loop_free(c->loop);
    }
    pg_arena_fini(&c->arena);
}

void *ctl_alloc(struct ctl *c, size_t count, size_t size)
{
    void *p = pg_arena_calloc(&c->arena, count, size);
    if (p == NULL) {
        ctl_oom();
    }
    return p;
}

const char *ctl_copy(struct ctl *c, struct pg_str s)
{
    const char *p = pg_arena_strndup(&c->arena, s.p != NULL ? s.p : "", s.len);
    if (p == NULL) {
        ctl_oom();
    }
    return p;
}

const char *ctl_fmt(struct ctl *c, const char *fmt, ...)
{
    struct pg_sb sb;
    va_list ap;
    pg_sb_init(&sb, CTL_MEMORY_MAX);
    va_start(ap, fmt);
    pg_sb_vfmt(&sb, fmt, ap);
    va_end(ap);
    if (sb.err != 0) {
        ctl_oom();
    }
    const char *out = ctl_copy(c, pg_sb_view(&sb));
    pg_sb_fini(&sb);
    return out;
}

/* Lists double, so that their capacity follows from the length. */
void ctl_add(struct ctl *c, const char ***list, size_t *n, const char *text)
{
    bool full = *n == 0 || (*n >= 8 && (*n & (*n - 1)) == 0);
    if (full) {
        const char **bigger = ctl_alloc(c, *n < 8 ? 8 : *n * 2, sizeof(*bigger));
        if (*n > 0) {
            memcpy(bigger, *list, *n * sizeof(*bigger));
        }
        *list = bigger;
    }
    (*list)[(*n)++] = text;
}

int ctl_complain(int status, const char *fmt, ...)
{
    va_list ap;
    (void)fflush(stdout);
    (void)fputs("peerctl: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return status;
}

uint64_t ctl_duration(const struct ctl *c, enum arg_id id, uint64_t fallback_ms)
{
    uint64_t ms = fallback_ms;
    if (c->args.value[id] != NULL && pg_str_duration_ms(pg_str_c(c->args.value[id]), &ms) != 0) {
        return fallback_ms;
    }
    return ms;
}

bool ctl_load(struct ctl *c)
{
    struct pg_errtext err = {""};
    if (c->contexts.path != NULL) {
        return true;
    }
    int r = contexts_load(&c->contexts, c->args.value[ARG_CONTEXTS_FILE], &err);
    if (r == PG_E_NOMEM) {
        ctl_oom();
    }
    if (r == PG_E_NOTFOUND) {
        (void)ctl_complain(0,
                           "no contexts file: %s\n  write one, for example\n    [cluster1]\n    manifests = "
                           "/etc/isthmus/manifests\n    admin = 127.0.0.1:15014\n  and name it with "
                           "--contexts-file or PEERCTL_CONTEXTS",
                           err.text);
    } else if (r != 0) {
        (void)ctl_complain(0, "contexts: %s", err.text);
    }
    return r == 0;
}

const struct context *ctl_context(struct ctl *c)
{
    struct pg_errtext err = {""};
    if (!ctl_load(c)) {
        return NULL;
    }
    const struct context *x = contexts_pick(&c->contexts, c->args.value[ARG_CONTEXT], &err);
    if (x == NULL) {
        (void)ctl_complain(0, "%s", err.text);
    }
    return x;
}

size_t ctl_contexts(struct ctl *c, const struct context ***out)
{
    struct pg_errtext err = {""};
    size_t n = 0;
    if (!ctl_load(c)) {
        return 0;
    }
    if (c->args.value[ARG_CONTEXTS] != NULL && c->args.value[ARG_CONTEXT] != NULL) {
        (void)ctl_complain(0, "give --context or --contexts, not both");
        return 0;
    }
    const struct context **list = ctl_alloc(c, CONTEXTS_MAX, sizeof(*list));
    if (c->args.value[ARG_CONTEXTS] != NULL) {
        if (contexts_list(&c->contexts, c->args.value[ARG_CONTEXTS], list, CONTEXTS_MAX, &n, &err) != 0) {
            n = 0;
        }
    } else if (c->args.value[ARG_CONTEXT] != NULL || c->contexts.n == 0) {
        list[0] = contexts_pick(&c->contexts, c->args.value[ARG_CONTEXT], &err);
        n = list[0] != NULL ? 1 : 0;
    } else {
        for (; n < c->contexts.n; n++) {
            list[n] = &c->contexts.items[n];
        }
    }
    if (n == 0) {
        (void)ctl_complain(0, "%s", err.text[0] != '\0' ? err.text : "--contexts names no context");
    }
    *out = list;
    return n;
}

void ctl_print(const struct pg_sb *text)
{
    if (text->err != 0) {
        ctl_oom();
    }
    if (text->len > 0) {
        (void)fwrite(text->p, 1, text->len, stdout);
    }
}

static void on_pause(void *arg)
{
    pg_loop_stop(arg);
}

void ctl_pause(struct ctl *c, uint64_t ms)
{
    struct pg_timer *t;
    if (pg_timer_new(c->loop, on_pause, c->loop, &t) != 0) {
        ctl_oom();
    }
    pg_timer_start(t, ms);
    pg_loop_run(c->loop);
    pg_timer_free(t);
}
