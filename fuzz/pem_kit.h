/* SPDX-License-Identifier: Apache-2.0 */
/* For targets about certificates: DER dressed as PEM, and files of a CA made once at start. One thread. */
#ifndef ISTHMUS_FUZZ_PEM_KIT_H
#define ISTHMUS_FUZZ_PEM_KIT_H

#include "fuzz.h"

#include "certs/ca.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Appends `der` as a PEM block of that kind. */
static inline void pem_wrap(struct pg_str der, const char *kind, struct pg_sb *out)
{
    struct pg_sb text;
    pg_sb_init(&text, 1u << 20);
    pg_base64_encode(der, false, &text);
    pg_sb_fmt(out, "-----BEGIN %s-----\n", kind);
    for (struct pg_str rest = pg_sb_view(&text); rest.len > 0;) {
        pg_sb_str(out, fuzz_take(&rest, 64));
        pg_sb_ch(out, '\n');
    }
    pg_sb_fmt(out, "-----END %s-----\n", kind);
    pg_sb_fini(&text);
}
/* Byte 0 even: the rest is PEM text; odd: DER. pg_sb_fini(out). */
static inline struct pg_str pem_input(struct pg_str in, const char *kind, struct pg_sb *out)
{
    uint8_t how = fuzz_u8(&in);
    pg_sb_init(out, 1u << 20);
    if (how & 1) {
        pem_wrap(in, kind, out);
    } else {
        pg_sb_str(out, in);
    }
    return pg_sb_view(out);
}

static inline void pem_dir_make(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/isthmus-fuzz-XXXXXX");
    PG_BUG_ON(mkdtemp(dir) == NULL);
}
/* One level of files and folders is all a CA makes. */
static inline void pem_dir_remove(const char *dir, unsigned depth)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        struct pg_sb path;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        pg_sb_init(&path, 4096);
        pg_sb_fmt(&path, "%s/%s", dir, e->d_name);
        PG_BUG_ON(path.err != 0);
        if (unlink(path.p) != 0 && depth > 0) {
            pem_dir_remove(path.p, depth - 1);
        }
        pg_sb_fini(&path);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(dir);
}

#endif
