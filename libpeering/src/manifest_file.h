/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One version of one manifest file: what it held and what was wrong with it. Immutable but for its identity
 * on disk, shared by reference between the old and the new state of a scan. Control thread.
 */
#ifndef ISTHMUS_PEERING_MANIFEST_FILE_H
#define ISTHMUS_PEERING_MANIFEST_FILE_H

#include "manifest_objects.h"

#include <sys/stat.h>

#define FILE_PROBLEMS_MAX 16u /* reported per file */

struct file_problem {
    unsigned line;
    char text[256];
};
struct manifest_file {
    size_t refs;
    char *name;
    /* Identity on disk when it was read. */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
    bool racy;       /* read so soon after its change that a second one could carry the same time stamp */
    uint64_t digest; /* of the bytes */
    /* Content. */
    struct pg_arena arena;
    struct object *objects;
    size_t n_objects;
    size_t ignored; /* objects of kinds without a meaning here */
    struct file_problem *problems;
    size_t n_problems;
    struct manifest_file *fallback; /* with problems: the last good version, or NULL */
};

struct manifest_file *file_ref(struct manifest_file *f);
void file_unref(struct manifest_file *f); /* NULL is fine */
/* The version whose objects are in force: itself, its fallback, or NULL. */
struct manifest_file *file_in_force(struct manifest_file *f);
/* Reads `name` below the directory `dir_fd`, given what was known of it (`old`, may be NULL): *out is a new
 * reference, to `old` itself when nothing changed. What is wrong with the file becomes a problem in it, never
 * an error: PG_E_NOMEM only. PG_E_NOTFOUND: gone. */
int file_load(int dir_fd, const char *name, struct manifest_file *old,
              struct manifest_file **out) PG_MUST_CHECK;
/* The same from memory: a version of `name` whose text is `text`. PG_E_NOMEM only. */
int file_parse(const char *name, struct pg_str text, struct manifest_file **out) PG_MUST_CHECK;

#endif
