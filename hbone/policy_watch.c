/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open connections under a new table: each is asked again whether it may exist, against the workload and
 * policies as they are now. Denied ones are cut; a policy that is merely missing leaves live ones alone until
 * it is known. Done in batches, so that a policy push never stops a worker. Worker thread.
 */
#include "hbone/worker.h"

#include "core/log.h"

void hb_policy_recheck_start(struct hb_worker *w)
{
    if (w->n_conns[HB_INBOUND] > 0) {
        pg_timer_start(w->recheck, 0);
    }
}

static void check(struct hb_worker *w, struct hb_conn *c)
{
    peering_text why;
    c->checked_gen = w->world_gen;
    if (!c->checked || w->pod.local == NULL || c->cut_fail.err != 0) {
        return;
    }
    if (peering_policy_check(w->world->table, w->pod.local, &c->policy, w->cfg->policy_lenient, &why) !=
        PEERING_DENY) {
        return;
    }
    w->metrics.n.policy_cuts++;
    PG_LOG(PG_LOG_INFO, "policy", "connection closed due to policy change", PG_F_ADDR("src.addr", &c->src),
           PG_F_ADDR("dst.addr", &c->dst), PG_F_C("reason", why.text));
    hb_conn_cut(c, PG_E_DENIED, HB_FLAG_DENY, "connection closed due to policy change");
}

/* Checked records go to the back of the list, so the front always holds what is left. */
void hb_policy_recheck(struct hb_worker *w)
{
    size_t left = w->n_conns[HB_INBOUND] + w->n_conns[HB_OUTBOUND];
    for (size_t i = 0; i < HB_RECHECK_BATCH && left > 0 && !pg_list_is_empty(&w->conns); i++, left--) {
        struct pg_list *n = w->conns.next;
        struct hb_conn *c = PG_CONTAINER_OF(n, struct hb_conn, node);
        if (c->checked_gen == w->world_gen) {
            return;
        }
        pg_list_remove(n);
        pg_list_push_back(&w->conns, n);
        check(w, c);
    }
    if (!pg_list_is_empty(&w->conns)) {
        pg_timer_start(w->recheck, 0);
    }
}
