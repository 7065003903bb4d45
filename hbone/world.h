/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker sees of the mesh: one immutable table and the certificate of each pod. Made by the control
 * thread, delivered by slot, referenced by connections only while they are being set up. Any thread.
 */
#ifndef ISTHMUS_HBONE_WORLD_H
#define ISTHMUS_HBONE_WORLD_H

#include "certs/tls.h"
#include "core/mailbox.h"

#include <peering/table.h>

struct hb_world {
    struct pg_snap snap;
    peering_snapshot *table; /* own reference, or NULL before the first sync */
    struct cert_creds
        *creds;         /* of the pod; NULL: none yet, or expired. One per process in the modes that exist */
    uint64_t creds_gen; /* counts certificates, from 1 */
    bool open;          /* the control plane's first answers are in: connections may be served */
    char why_no_creds[160]; /* shown in identity errors */
};
/* Takes references of its own. PG_E_NOMEM. */
int hb_world_new(peering_snapshot *table, struct cert_creds *creds, uint64_t creds_gen, bool open,
                 const char *why_no_creds, struct hb_world **out) PG_MUST_CHECK;
struct hb_world *hb_world_ref(struct hb_world *w);
void hb_world_unref(struct hb_world *w); /* NULL is fine */

#endif
