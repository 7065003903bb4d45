/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check command: asks every cluster, has the findings made, prints them. A cluster that cannot be asked
 * is a finding of its own and does not keep the others from being checked. One thread.
 */
#include "check.h"

#define FINDINGS_MAX 4096u

struct finding *check_add(struct check *k, struct findings *f, const char *id, const char *name,
                          enum check_level level, const char *text)
{
    if (f->n == f->cap) {
        size_t cap = f->cap == 0 ? 16 : f->cap * 2;
        struct finding *bigger = ctl_alloc(k->c, cap, sizeof(*bigger));
        if (cap > FINDINGS_MAX) {
            ctl_oom();
        }
        if (f->n > 0) {
            memcpy(bigger, f->items, f->n * sizeof(*bigger));
        }
        f->items = bigger;
        f->cap = cap;
    }
    f->items[f->n] = (struct finding){.id = id, .name = name, .level = level, .text = text};
    return &f->items[f->n++];
}

void check_line(struct check *k, struct finding *f, const char *text)
{
    ctl_add(k->c, &f->lines, &f->n_lines, text);
}

void check_detail(struct check *k, struct finding *f, const char *text)
{
    ctl_add(k->c, &f->details, &f->n_details, text);
}

void check_table(struct check *k, struct finding *f, const struct table *t)
{
    struct pg_sb sb;
    struct pg_str line;
    pg_sb_init(&sb, CTL_MEMORY_MAX);
    table_print(t, "", &sb);
    if (sb.err != 0) {
        ctl_oom();
    }
    struct pg_str left = pg_sb_view(&sb);
    while (pg_str_cut(&left, '\n', &line)) {
        check_detail(k, f, ctl_copy(k->c, line));
    }
    pg_sb_fini(&sb);
}

const char *check_mark(const struct ctl *c, enum check_level level)
{
    static const char *const emoji[] = {"✅", "ℹ️", "⚠", "❌"};
    static const char *const plain[] = {"[OK]", "[INFO]", "[WARN]", "[FAIL]"};
    return c->emoji ? emoji[level] : plain[level];
}

/* --- text */

static void put_line(struct pg_sb *out, const char *indent, const char *text)
{
    pg_sb_c(out, indent);
    for (; *text != '\0'; text++) {
        unsigned char b = (unsigned char)*text;
        pg_sb_ch(out, b < 0x20 || b == 0x7f ? ' ' : (char)b);
    }
    pg_sb_ch(out, '\n');
}

static void print_findings(const struct check *k, const struct findings *all, bool verbose, struct pg_sb *out)
{
    for (size_t i = 0; i < all->n; i++) {
        const struct finding *f = &all->items[i];
        if (verbose) {
            pg_sb_fmt(out, "\n--- %s ---\n", f->name);
        }
        put_line(out, "", ctl_fmt(k->c, "%s %s: %s", check_mark(k->c, f->level), f->name, f->text));
        for (size_t n = 0; n < f->n_lines; n++) {
            put_line(out, "     ", f->lines[n]);
        }
        for (size_t n = 0; verbose && n < f->n_details; n++) {
            put_line(out, "     ", f->details[n]);
        }
        if (f->fix != NULL && f->level >= CHECK_WARN) {
            put_line(out, "     ", ctl_fmt(k->c, "To do: %s", f->fix));
        }
    }
}

void check_print_text(const struct check *k, bool verbose, struct pg_sb *out)
{
    for (size_t i = 0; i < k->n; i++) {
        const struct check_cluster *cl = &k->clusters[i];
        pg_sb_fmt(out, "=== Cluster: %s ===\n", cl->name);
        if (cl->unreachable != NULL) {
            put_line(
                out, "",
                ctl_fmt(k->c, "%s could not be checked: %s", check_mark(k->c, CHECK_FAIL), cl->unreachable));
        }
        print_findings(k, &cl->findings, verbose, out);
        pg_sb_fmt(out, "%s======\n\n", verbose ? "\n" : "");
    }
    print_findings(k, &k->cross, verbose, out);
}

/* --- JSON */

static void texts_json(struct pg_json *j, const char *key, const char *const *list, size_t n)
{
    pg_json_key(j, key);
    pg_json_arr(j);
    for (size_t i = 0; i < n; i++) {
        pg_json_c(j, list[i]);
    }
    pg_json_arr_end(j);
}

static void findings_json(const struct findings *all, struct pg_json *j)
{
    static const char *const levels[] = {"pass", "info", "warn", "fail"};
    pg_json_key(j, "checks");
    pg_json_arr(j);
    for (size_t i = 0; i < all->n; i++) {
        const struct finding *f = &all->items[i];
        pg_json_obj(j);
        pg_json_kc(j, "id", f->id);
        pg_json_kc(j, "name", f->name);
        pg_json_kc(j, "status", levels[f->level]);
        pg_json_kc(j, "text", f->text);
        texts_json(j, "lines", f->lines, f->n_lines);
        texts_json(j, "details", f->details, f->n_details);
        pg_json_kc(j, "toDo", f->level >= CHECK_WARN && f->fix != NULL ? f->fix : "");
        pg_json_obj_end(j);
    }
    pg_json_arr_end(j);
}

void check_print_json(const struct check *k, struct pg_sb *out)
{
    static const char *const results[] = {"pass", "fail", "incomplete"};
    struct pg_json j;
    pg_json_init(&j, out, true);
    pg_json_obj(&j);
    pg_json_kc(&j, "schema", "isthmus.check/v1");
    pg_json_kc(&j, "result", results[check_result(k)]);
    pg_json_kbool(&j, "precheck", k->precheck);
    pg_json_key(&j, "clusters");
    pg_json_arr(&j);
    for (size_t i = 0; i < k->n; i++) {
        const struct check_cluster *cl = &k->clusters[i];
        pg_json_obj(&j);
        pg_json_kc(&j, "cluster", cl->name);
        pg_json_kc(&j, "context", cl->context->name);
        pg_json_kc(&j, "unreachable", cl->unreachable != NULL ? cl->unreachable : "");
        findings_json(&cl->findings, &j);
        pg_json_obj_end(&j);
    }
    pg_json_arr_end(&j);
    findings_json(&k->cross, &j);
    pg_json_obj_end(&j);
    pg_sb_ch(out, '\n');
}

/* --- the command */

static bool any_failed(const struct findings *all)
{
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].level == CHECK_FAIL) {
            return true;
        }
    }
    return false;
}

int check_result(const struct check *k)
{
    bool failed = any_failed(&k->cross);
    for (size_t i = 0; i < k->n; i++) {
        if (k->clusters[i].unreachable != NULL) {
            return 2;
        }
        failed = failed || any_failed(&k->clusters[i].findings);
    }
    return failed ? 1 : 0;
}

static void ask(struct check *k, struct check_cluster *cl)
{
    struct answer a;
    const struct {
        const char *path, *schema;
        const struct json_node **into;
        bool also_in_precheck;
    } questions[] = {{"/status", STATE_STATUS_SCHEMA, &cl->status, true},
                     {"/connections", STATE_CONNECTIONS_SCHEMA, &cl->connections, true},
                     {"/services", STATE_SERVICES_SCHEMA, &cl->services, false},
                     {"/workloads", STATE_WORKLOADS_SCHEMA, &cl->workloads, false}};
    for (size_t i = 0; i < PG_ARRAY_LEN(questions) && cl->unreachable == NULL; i++) {
        if (k->precheck && !questions[i].also_in_precheck) {
            continue;
        }
        (void)ctl_fetch(k->c, cl->context, questions[i].path, questions[i].schema, &a);
        *questions[i].into = a.doc;
        cl->unreachable = a.why;
    }
    if (cl->unreachable == NULL && ctl_fetch(k->c, cl->context, "/healthz/ready", NULL, &a)) {
        const char *pending = json_in_text(cl->status, "pending");
        cl->ready = a.status == 200;
        cl->ready_text = pending[0] != '\0' ? ctl_fmt(k->c, "waits for %s", pending)
                                            : ctl_fmt(k->c, "its readiness answer is %d", a.status);
    } else if (cl->unreachable == NULL) {
        cl->unreachable = a.why;
    }
}

int cmd_check(struct ctl *c)
{
    const struct context **list;
    struct check k = {.c = c, .precheck = args_on(&c->args, ARG_PRECHECK)};
    struct pg_sb out;
    k.n = ctl_contexts(c, &list);
    if (k.n == 0) {
        return CTL_USAGE;
    }
    if (k.n > CHECK_CLUSTERS_MAX) {
        return ctl_complain(CTL_USAGE, "at most %u clusters at once; choose some with --contexts",
                            CHECK_CLUSTERS_MAX);
    }
    k.clusters = ctl_alloc(c, k.n, sizeof(*k.clusters));
    for (size_t i = 0; i < k.n; i++) {
        struct check_cluster *cl = &k.clusters[i];
        cl->context = list[i];
        cl->name = list[i]->name;
        ask(&k, cl);
        if (cl->unreachable == NULL) {
            cl->name = json_in_text(cl->status, "cluster");
            check_one(&k, cl);
        }
    }
    check_cross(&k);
    pg_sb_init(&out, CTL_MEMORY_MAX);
    if (c->json) {
        check_print_json(&k, &out);
    } else {
        check_print_text(&k, args_on(&c->args, ARG_VERBOSE), &out);
    }
    ctl_print(&out);
    pg_sb_fini(&out);
    return check_result(&k);
}
