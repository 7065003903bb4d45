/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contexts file names the clusters one works with: where their manifests lie and where their control
 * plane answers. INI form:
 *
 *     # comment
 *     [cluster1]
 *     manifests = /etc/isthmus/manifests
 *     admin = unix:/run/isthmus/admin.sock      (or 127.0.0.1:15014)
 *
 * Relative paths count from the file's own directory. Complaints name file and line. One thread.
 */
#ifndef ISTHMUS_PEERCTL_CONTEXTS_H
#define ISTHMUS_PEERCTL_CONTEXTS_H

#include "core/str.h"

#define CONTEXTS_MAX 256u
#define CONTEXTS_FILE_MAX (1024u * 1024)
#define CONTEXTS_FILES_MAX 16u /* joined with ':' */

struct context { /* strings live in the arena of the set */
    const char *name;
    const char *manifests; /* "" when not said */
    const char *admin;
    const char *file;
    unsigned line; /* of the section */
};
struct contexts {
    struct pg_arena arena;
    struct context *items; /* in file order */
    size_t n, cap;
    const char *path; /* as asked for */
};

void contexts_init(struct contexts *c);
void contexts_fini(struct contexts *c);
/* Adds the sections of one text; a name known from an earlier file is skipped (the first file wins), a name
 * met twice in one file is an error. 0, PG_E_CONFIG, PG_E_NOMEM, PG_E_LIMIT. */
int contexts_parse(struct contexts *c, const char *file, struct pg_str text,
                   struct pg_errtext *err) PG_MUST_CHECK;
/* Reads `asked` (--contexts-file), else the environment's PEERCTL_CONTEXTS, else ~/.config/isthmus/contexts;
 * a list of files joined with ':' is read in order. PG_E_NOTFOUND and so on, with the text. */
int contexts_load(struct contexts *c, const char *asked, struct pg_errtext *err) PG_MUST_CHECK;
/* The named one; the only one when `name` is NULL. NULL with the text, which lists what exists. */
const struct context *contexts_pick(const struct contexts *c, const char *name, struct pg_errtext *err);
/* "a,b,c" into out[0..*n), each once. PG_E_CONFIG with the text. */
int contexts_list(const struct contexts *c, const char *names, const struct context **out, size_t max,
                  size_t *n, struct pg_errtext *err) PG_MUST_CHECK;

#endif
