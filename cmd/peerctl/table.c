/* SPDX-License-Identifier: Apache-2.0 */
/* Columns for people: padded to the widest cell, three blanks apart, the last one as it is. One thread. */
#include "ctl.h"

#define CELLS_MAX (16u * 1024 * 1024)
#define COLUMNS_MAX 16u
#define GAP 3u

void table_cell(struct table *t, const char *text)
{
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 64 : t->cap * 2;
        const char **bigger = ctl_alloc(t->ctl, cap, sizeof(*bigger));
        if (cap > CELLS_MAX) {
            ctl_oom();
        }
        if (t->n > 0) {
            memcpy(bigger, t->cells, t->n * sizeof(*bigger));
        }
        t->cells = bigger;
        t->cap = cap;
    }
    t->cells[t->n++] = text != NULL ? text : "";
}

void table_begin(struct table *t, struct ctl *c, size_t columns, const char *const *heads)
{
    PG_BUG_ON(columns == 0 || columns > COLUMNS_MAX);
    *t = (struct table){.ctl = c, .columns = columns};
    for (size_t i = 0; i < columns; i++) {
        table_cell(t, heads[i]);
    }
}

/* In code points: names are ASCII, a wrong width would only misalign. */
static size_t width(const char *z)
{
    size_t n = 0;
    for (; *z != '\0'; z++) {
        n += ((unsigned char)*z & 0xc0u) != 0x80u ? 1 : 0;
    }
    return n;
}

/* What comes from a control plane must not steer the terminal. */
static void put_clean(struct pg_sb *out, const char *z)
{
    for (; *z != '\0'; z++) {
        unsigned char b = (unsigned char)*z;
        pg_sb_ch(out, b < 0x20 || b == 0x7f ? ' ' : (char)b);
    }
}

void table_print(const struct table *t, const char *indent, struct pg_sb *out)
{
    size_t widths[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->n; i++) {
        size_t w = width(t->cells[i]);
        size_t *have = &widths[i % t->columns];
        *have = w > *have ? w : *have;
    }
    for (size_t i = 0; i < t->n; i++) {
        size_t column = i % t->columns;
        if (column == 0) {
            pg_sb_c(out, indent);
        }
        put_clean(out, t->cells[i]);
        if (column + 1 == t->columns) {
            while (out->len > 0 && out->p[out->len - 1] == ' ') {
                out->p[--out->len] = '\0';
            }
            pg_sb_ch(out, '\n');
            continue;
        }
        for (size_t pad = width(t->cells[i]); pad < widths[column] + GAP; pad++) {
            pg_sb_ch(out, ' ');
        }
    }
}

const char *ctl_age(struct ctl *c, uint64_t s)
{
    unsigned long long n = s;
    if (n < 120) {
        return ctl_fmt(c, "%llus", n);
    }
    if (n < 600) {
        return n % 60 == 0 ? ctl_fmt(c, "%llum", n / 60) : ctl_fmt(c, "%llum%llus", n / 60, n % 60);
    }
    if (n < 10800) {
        return ctl_fmt(c, "%llum", n / 60);
    }
    if (n < 172800) {
        return ctl_fmt(c, "%lluh", n / 3600);
    }
    return ctl_fmt(c, "%llud", n / 86400);
}
