/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of the contribution structs; each owns what its header says. Control thread. */
#include "contrib.h"

void contrib_local_fini(struct contrib_local *l)
{
    pg_arena_fini(&l->arena);
    *l = (struct contrib_local){0};
}

static void free_addresses(char **addresses, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pg_free(addresses[i]);
    }
}

void peer_config_fini(struct peer_config *c)
{
    pg_free(c->ns);
    pg_free(c->name);
    pg_free(c->cluster);
    pg_free(c->network);
    pg_free(c->trust_domain);
    pg_free(c->service_account);
    pg_free(c->region);
    pg_free(c->zone);
    free_addresses(c->addresses, c->n_addresses);
    *c = (struct peer_config){0};
}

void eastwest_config_fini(struct eastwest_config *c)
{
    pg_free(c->ns);
    pg_free(c->name);
    pg_free(c->network);
    pg_free(c->region);
    pg_free(c->zone);
    free_addresses(c->addresses, c->n_addresses);
    *c = (struct eastwest_config){0};
}

static bool same(const char *a, const char *b)
{
    return pg_str_eq(pg_str_c(a), pg_str_c(b));
}

bool peer_config_eq(const struct peer_config *a, const struct peer_config *b)
{
    bool eq = same(a->ns, b->ns) && same(a->name, b->name) && same(a->cluster, b->cluster) &&
              same(a->network, b->network) && same(a->trust_domain, b->trust_domain) &&
              same(a->service_account, b->service_account) && same(a->region, b->region) &&
              same(a->zone, b->zone) && a->n_addresses == b->n_addresses && a->xds_port == b->xds_port &&
              a->hbone_port == b->hbone_port && a->stale_deadline_s == b->stale_deadline_s &&
              a->accepted == b->accepted && same(a->reason, b->reason);
    for (size_t i = 0; eq && i < a->n_addresses; i++) {
        eq = same(a->addresses[i], b->addresses[i]);
    }
    return eq;
}
