/* SPDX-License-Identifier: Apache-2.0 */
/* Lifetime of worlds: the last reference frees table and certificate references with it. Any thread. */
#include "hbone/world.h"

#include <stdio.h>

static void destroy(struct pg_snap *s)
{
    struct hb_world *w = PG_CONTAINER_OF(s, struct hb_world, snap);
    peering_snapshot_unref(w->table);
    cert_creds_unref(w->creds);
    pg_free(w);
}

int hb_world_new(peering_snapshot *table, struct cert_creds *creds, uint64_t creds_gen, bool open,
                 const char *why_no_creds, struct hb_world **out)
{
    struct hb_world *w = pg_calloc(1, sizeof(*w));
    if (w == NULL) {
        return PG_E_NOMEM;
    }
    pg_snap_init(&w->snap, destroy);
    w->table = table != NULL ? peering_snapshot_ref(table) : NULL;
    w->creds = creds != NULL ? cert_creds_ref(creds) : NULL;
    w->creds_gen = creds_gen;
    w->open = open;
    (void)snprintf(w->why_no_creds, sizeof(w->why_no_creds), "%s", why_no_creds != NULL ? why_no_creds : "");
    *out = w;
    return 0;
}

struct hb_world *hb_world_ref(struct hb_world *w)
{
    (void)pg_snap_ref(&w->snap);
    return w;
}

void hb_world_unref(struct hb_world *w)
{
    if (w != NULL) {
        pg_snap_unref(&w->snap);
    }
}
