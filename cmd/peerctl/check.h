/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl multicluster check`: findings about each cluster, then about all of them together. Findings are
 * made from the admin answers alone (no I/O), so that they can be tested; printing is separate. One thread.
 */
#ifndef ISTHMUS_PEERCTL_CHECK_H
#define ISTHMUS_PEERCTL_CHECK_H

#include "state.h"

#define CHECK_CLUSTERS_MAX 64u

enum check_level { CHECK_PASS, CHECK_INFO, CHECK_WARN, CHECK_FAIL };
struct finding {
    const char *id;   /* stable, for programs: "peers" */
    const char *name; /* "Peers Check" */
    const char *text;
    enum check_level level;
    const char **lines; /* below the line, always */
    size_t n_lines;
    const char **details; /* below it, with --verbose */
    size_t n_details;
    const char *fix; /* what to do; NULL when nothing is */
};
struct findings {
    struct finding *items;
    size_t n, cap;
};
struct check_cluster {
    const struct context *context;
    const char *name;        /* of the cluster; of the context while it is not known */
    const char *unreachable; /* the complaint, or NULL */
    bool ready;
    const char *ready_text; /* body of the readiness answer */
    const struct json_node *status, *connections, *services, *workloads;
    struct findings findings;
};
struct check {
    struct ctl *c;
    bool precheck;
    struct check_cluster *clusters;
    size_t n;
    struct findings cross;
};

/* Appends a finding; the pointer is good until the next one is added to the same list. */
struct finding *check_add(struct check *k, struct findings *f, const char *id, const char *name,
                          enum check_level level, const char *text);
void check_line(struct check *k, struct finding *f, const char *text);
void check_detail(struct check *k, struct finding *f, const char *text);
/* A table as details. */
void check_table(struct check *k, struct finding *f, const struct table *t);
const char *check_mark(const struct ctl *c, enum check_level level);

void check_one(struct check *k, struct check_cluster *cl); /* check.c: one cluster alone */
void check_cross(struct check *k);                         /* check_cross.c: between clusters */
int check_result(const struct check *k);                   /* exit status: 0, 1, 2 */
void check_print_text(const struct check *k, bool verbose, struct pg_sb *out);
void check_print_json(const struct check *k, struct pg_sb *out);

#endif
