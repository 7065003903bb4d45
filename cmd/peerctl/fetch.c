/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a control plane's admin endpoint. A complaint says what was asked, where (context and
 * address), why it failed and what to do. One thread; the loop runs for the one request.
 */
#include "ctl.h"

#include "net/http1.h"

struct waiting {
    struct pg_loop *loop;
    struct pg_sb body;
    struct pg_errtext text;
    int err;
    int status;
    bool done;
};

static void on_answer(int err, int status, struct pg_str body, const char *text, void *arg)
{
    struct waiting *w = arg;
    w->done = true;
    w->err = err;
    w->status = status;
    if (err == 0) {
        pg_sb_str(&w->body, body);
        w->err = w->body.err;
    } else {
        pg_err_set(&w->text, "%s", text);
    }
    pg_loop_stop(w->loop);
}

/* The reason without the address, which the complaint names itself. */
static const char *reason(const struct context *x, const struct waiting *w)
{
    size_t n = strlen(x->admin);
    if (w->err == PG_E_NOTFOUND) {
        return "no such socket";
    }
    if (strncmp(w->text.text, x->admin, n) == 0 && strncmp(w->text.text + n, ": ", 2) == 0) {
        return w->text.text + n + 2;
    }
    if (w->err == PG_E_CONFIG) {
        return "the request cannot be written as a URL";
    }
    return w->text.text[0] != '\0' ? w->text.text : pg_err_str(w->err);
}

static const char *advice(int err)
{
    switch (err) {
    case PG_E_TIMEDOUT:
        return "it hangs or is overloaded: look at its log, or give more time with --request-timeout";
    case PG_E_DENIED:
        return "run as the user of peeringd, or give yourself access to the socket";
    case PG_E_NOTFOUND:
    case PG_E_REFUSED:
    case PG_E_UNREACHABLE:
        return "is peeringd running there (options --admin, --admin-socket)?";
    default:
        return "is this the admin address of a peeringd?";
    }
}

static const char *failed(struct ctl *c, const struct context *x, const char *path, const char *why,
                          const char *what_to_do)
{
    const char *query = strchr(path, '?');
    int len = query != NULL ? (int)(query - path) : (int)strlen(path);
    return ctl_fmt(c, "context %s (%s): %.*s: %s; %s", x->name, x->admin, len, path, why, what_to_do);
}

static bool keep(struct ctl *c, struct json_node *doc)
{
    if (pg_vec_grow(&c->docs, &c->cap_docs, c->n_docs + 1, sizeof(struct json_node *), CTL_DOCS_MAX) != 0) {
        json_in_free(doc);
        return false;
    }
    c->docs[c->n_docs++] = doc;
    return true;
}

static const char *parse(struct ctl *c, const struct context *x, const char *path, const char *schema,
                         const struct waiting *w, const struct json_node **out)
{
    struct pg_errtext err = {""};
    struct json_node *doc;
    static const char other[] = "is this the admin address of a peeringd of this version?";
    if (w->status != 200) {
        struct pg_str said = pg_str_trim(pg_sb_view(&w->body));
        return failed(c, x, path,
                      ctl_fmt(c, "answered %d: %.*s", w->status, (int)(said.len < 200 ? said.len : 200),
                              said.len > 0 ? said.p : ""),
                      other);
    }
    if (json_in_parse(pg_sb_view(&w->body), &doc, &err) != 0) {
        return failed(c, x, path, ctl_fmt(c, "malformed JSON: %s", err.text), other);
    }
    if (!keep(c, doc)) {
        ctl_oom();
    }
    if (strcmp(json_in_text(doc, "schema"), schema) != 0) {
        return failed(c, x, path,
                      ctl_fmt(c, "the answer's schema is \"%.60s\", wanted \"%s\"",
                              json_in_text(doc, "schema"), schema),
                      other);
    }
    *out = doc;
    return NULL;
}

bool ctl_fetch(struct ctl *c, const struct context *x, const char *path, const char *schema,
               struct answer *out)
{
    struct waiting w = {.loop = c->loop};
    struct answer a = {.status = 0};
    pg_sb_init(&w.body, CTL_ANSWER_MAX);
    int r = pg_http1_fetch(c->loop, x->admin, "GET", path, PG_STR_NONE, CTL_ANSWER_MAX,
                           ctl_duration(c, ARG_REQUEST_TIMEOUT, CTL_REQUEST_TIMEOUT_MS), on_answer, &w);
    if (r == 0) {
        pg_loop_run(c->loop);
        r = w.done ? w.err : PG_E_IO;
    } else {
        w.err = r;
    }
    if (r == PG_E_NOMEM) {
        ctl_oom();
    }
    if (r != 0) {
        a.why = failed(c, x, path, reason(x, &w), advice(r));
    } else {
        a.status = w.status;
        a.why = schema != NULL ? parse(c, x, path, schema, &w, &a.doc) : NULL;
    }
    pg_sb_fini(&w.body);
    *out = a;
    return a.why == NULL;
}

const struct json_node *ctl_ask(struct ctl *c, const struct context *x, const char *path, const char *schema)
{
    struct answer a;
    if (!ctl_fetch(c, x, path, schema, &a)) {
        (void)ctl_complain(0, "%s", a.why);
    }
    return a.doc;
}
