/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of peerctl: what was asked, the contexts, a loop for requests, and an arena that everything made
 * for the answer lives in until the end. Out of memory ends the program with a message: there is nothing to
 * save. One thread.
 */
#ifndef ISTHMUS_PEERCTL_CTL_H
#define ISTHMUS_PEERCTL_CTL_H

#include "args.h"
#include "contexts.h"
#include "json_in.h"
#include "core/json.h"
#include "net/loop.h"

enum ctl_exit { CTL_OK, CTL_FAILED, CTL_USAGE, CTL_UNREACHABLE };

#define CTL_MEMORY_MAX (512u * 1024 * 1024) /* arena, and any text built for output */
#define CTL_ANSWER_MAX (256u * 1024 * 1024) /* an answer of a control plane */
#define CTL_DOCS_MAX 4096u                  /* answers kept during one run */
#define CTL_REQUEST_TIMEOUT_MS 5000u
#define CTL_GATEWAY_NAMESPACE "istio-eastwest" /* without --namespace */

struct ctl {
    struct args args;
    struct contexts contexts;
    struct pg_loop *loop;
    struct pg_arena arena;
    struct json_node **docs; /* answers, freed at the end */
    size_t n_docs, cap_docs;
    bool json; /* -o json */
    bool emoji;
};

/* main.c */
extern const struct args_command ctl_commands[];
extern const size_t ctl_n_commands;

/* run.c */
int ctl_begin(struct ctl *c) PG_MUST_CHECK; /* 0 or PG_E_NOMEM */
void ctl_end(struct ctl *c);
_Noreturn void ctl_oom(void);
void *ctl_alloc(struct ctl *c, size_t count, size_t size); /* zeroed, never NULL */
const char *ctl_fmt(struct ctl *c, const char *fmt, ...) PG_PRINTF(2, 3);
const char *ctl_copy(struct ctl *c, struct pg_str s);
void ctl_add(struct ctl *c, const char ***list, size_t *n, const char *text); /* grows a list in the arena */
/* "peerctl: <text>" on stderr; returns `status`. */
int ctl_complain(int status, const char *fmt, ...) PG_PRINTF(2, 3);
uint64_t ctl_duration(const struct ctl *c, enum arg_id id, uint64_t fallback_ms);
/* Reads the contexts file once; complains. */
bool ctl_load(struct ctl *c);
/* The context of --context, or the only one; complains. */
const struct context *ctl_context(struct ctl *c);
/* Those of --contexts, or the one of --context, or all; complains and gives 0. */
size_t ctl_contexts(struct ctl *c, const struct context ***out);
void ctl_print(const struct pg_sb *text); /* to stdout; out of memory ends the run */
/* Runs the loop for `ms`. */
void ctl_pause(struct ctl *c, uint64_t ms);

/* fetch.c */
struct answer {
    int status;                  /* of HTTP; 0: not reached */
    const struct json_node *doc; /* NULL when there is none */
    const char *why;             /* complaint: what, where, why, what to do; NULL when fine */
};
/* GET `path`. With `schema` the answer must be status 200 and JSON of that schema; without it any status is
 * fine. False with `why`. */
bool ctl_fetch(struct ctl *c, const struct context *x, const char *path, const char *schema,
               struct answer *out);
/* The same, complaining; the JSON or NULL. */
const struct json_node *ctl_ask(struct ctl *c, const struct context *x, const char *path, const char *schema);

/* table.c: columns as kubectl prints them */
struct table {
    struct ctl *ctl;
    size_t columns;
    const char **cells; /* rows of `columns` */
    size_t n, cap;
};
void table_begin(struct table *t, struct ctl *c, size_t columns, const char *const *heads);
void table_cell(struct table *t, const char *text); /* NULL and "" print as empty */
void table_print(const struct table *t, const char *indent, struct pg_sb *out);
/* "3d4h", "5m10s" as kubectl prints ages. */
const char *ctl_age(struct ctl *c, uint64_t seconds);

/* commands, one file each */
int cmd_certs_root(struct ctl *c);
int cmd_certs_cacerts(struct ctl *c);
int cmd_certs_issuer(struct ctl *c);
int cmd_certs_token(struct ctl *c);
int cmd_certs_show(struct ctl *c);
int cmd_expose(struct ctl *c);
int cmd_link(struct ctl *c);
int cmd_check(struct ctl *c);
int cmd_get(struct ctl *c);
int cmd_explain(struct ctl *c);
int cmd_proxy_status(struct ctl *c);
int cmd_status(struct ctl *c);
int cmd_version(struct ctl *c);
int cmd_contexts(struct ctl *c);

#endif
