/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of a view, for the stream machine: resources of a type in the order of their last change, so that a
 * subscriber that knows up to which generation it is current walks only what changed. A removed resource
 * leaves a tombstone; when too many pile up the oldest go, and a subscriber further behind than that must
 * start over. Control thread.
 */
#ifndef ISTHMUS_XDS_VIEW_INT_H
#define ISTHMUS_XDS_VIEW_INT_H

#include "core/list.h"
#include "core/map.h"
#include "xds/server.h"

#define XDS_VERSION_LEN 16u        /* hex digits of the content digest */
#define XDS_VIEW_TYPES_MAX 16u     /* types in a view, and per stream */
#define XDS_VIEW_TOMBSTONES 65536u /* removed names remembered per view */
#define XDS_ALIASES_MAX 4096u      /* of one resource */

struct xds_entry {
    struct pg_list change; /* in the type's changes, oldest first */
    struct pg_list grave;  /* in the view's tombstones when not live */
    struct xds_view_type *type;
    struct pg_str name; /* owned */
    struct pg_str bytes;
    struct pg_str *aliases; /* array and texts in one block */
    size_t n_aliases;
    uint64_t generation; /* of the last change */
    uint64_t digest;     /* share of the view's digest */
    char version[XDS_VERSION_LEN + 1];
    bool live;
};
struct xds_alias { /* which resources a key other than a name stands for */
    struct pg_str key;
    struct xds_entry **entries;
    size_t n;
    size_t cap;
};
struct xds_view_type {
    char *url;
    struct pg_map entries; /* by name, tombstones included */
    struct pg_map aliases; /* struct xds_alias by key */
    struct pg_list changes;
    size_t live;
    uint64_t generation; /* of the last change of this type */
};
struct xds_view {
    struct xds_view_type types[XDS_VIEW_TYPES_MAX];
    size_t n_types;
    size_t max;
    size_t live;
    size_t n_tombstones;
    struct pg_list tombstones; /* oldest first */
    uint64_t generation;
    uint64_t forgotten; /* generation of the newest tombstone that was dropped */
    uint64_t digest;
    bool dirty;
    struct pg_list watches;
};
struct xds_view_type *xds_view_find_type(const struct xds_view *v,
                                         struct pg_str url); /* NULL: nothing of it yet */

struct xds_view_watch {
    struct pg_list node;
    void (*changed)(struct xds_view_watch *w); /* from xds_view_commit; may only defer */
};
void xds_view_watch_add(struct xds_view *v, struct xds_view_watch *w);
void xds_view_watch_remove(struct xds_view_watch *w); /* fine when not added */

#endif
