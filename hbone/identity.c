/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See identity.h. Invariants: at most one request is under way; a valid certificate stays in force while the
 * CA is away; an ended one never does; private keys stay in this process and are wiped. Control thread.
 */
#include "hbone/identity.h"

#include "certs/ca.h"
#include "certs/rotate.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/rng.h"
#include "hbone/glue.h"

#include <stdio.h>

#define WAIT_MAX_S 3600 /* wall clocks jump: look again at least this often */

struct hb_identity {
    struct pg_loop *loop;
    const struct hb_config *cfg;
    peering_node *node;
    void (*on_change)(void *arg);
    void *arg;
    struct pg_timer *timer;
    struct pg_rng rng;
    struct cert_rotate rotate;
    struct cert_key *key; /* of the request under way */
    peering_csr_call *call;
    struct cert_creds *creds;
    uint64_t generation;
    char id[CERT_SPIFFE_MAX + 1];
    char why[160];
};

static void step(struct hb_identity *i);

static void failed(struct hb_identity *i, const char *text)
{
    int64_t now = pg_clock_wall_s();
    cert_key_free(i->key);
    i->key = NULL;
    cert_rotate_failed(&i->rotate, now, &i->rng);
    (void)snprintf(i->why, sizeof(i->why), "%s", text);
    PG_LOG(i->creds != NULL ? PG_LOG_WARN : PG_LOG_ERROR, "certs", "certificate request failed",
           PG_F_C("identity", i->id), PG_F_C("error", text),
           PG_F_I64("retry_s", cert_rotate_wait_s(&i->rotate, now)),
           PG_F_BOOL("still_valid", i->creds != NULL));
    i->on_change(i->arg);
}

/* Leaf and intermediates are the chain, the last element the roots. */
static int install(struct hb_identity *i, const peering_str *chain, size_t n, struct pg_errtext *err)
{
    struct pg_sb pem;
    struct pg_sb key;
    struct cert_creds *creds = NULL;
    pg_sb_init(&pem, CERT_PEM_MAX);
    pg_sb_init(&key, CERT_PEM_MAX);
    int r = PG_E_PROTO;
    if (n < 2) {
        pg_err_set(err, "no root certificate present");
        goto done;
    }
    for (size_t k = 0; k + 1 < n; k++) {
        pg_sb_str(&pem, hb_str(chain[k]));
        pg_sb_ch(&pem, '\n');
    }
    r = pem.err != 0 ? pem.err : cert_key_pem(i->key, &key);
    if (r < 0) {
        pg_err_set(err, "%s", pg_err_str(r));
        goto done;
    }
    struct pg_str domains[HB_TRUST_DOMAINS_MAX + 1];
    struct cert_spiffe own;
    size_t n_domains = 0;
    if (!i->cfg->skip_validate_trust_domain && cert_spiffe_parse(pg_str_c(i->id), &own, NULL) == 0) {
        domains[n_domains++] = own.trust_domain;
    }
    for (size_t k = 0; k < i->cfg->n_trust_domains; k++) {
        domains[n_domains++] = i->cfg->trust_domains[k];
    }
    struct cert_creds_options o = {.chain_pem = pg_sb_view(&pem),
                                   .key_pem = pg_sb_view(&key),
                                   .roots_pem = hb_str(chain[n - 1]),
                                   .trust_domains = domains,
                                   .n_trust_domains = n_domains};
    r = cert_creds_new(&o, &creds, err);
    if (r == 0 && !pg_str_eq(cert_creds_identity(creds), pg_str_c(i->id))) {
        /* The CA decides who we are; in these modes it knows us by our token alone. */
        PG_LOG(PG_LOG_WARN, "certs", "the authority issued another identity than asked for",
               PG_F_C("asked", i->id), PG_F_STR("got", cert_creds_identity(creds)));
    }
    if (r == 0) {
        cert_creds_unref(i->creds);
        i->creds = creds;
        i->generation++;
    }
done:
    if (key.p != NULL) {
        pg_wipe(key.p, key.len);
    }
    pg_sb_fini(&key);
    pg_sb_fini(&pem);
    return r;
}

static void on_signed(void *arg, int err, const peering_str *chain, size_t n, const char *text)
{
    struct hb_identity *i = arg;
    struct pg_errtext why = {.text = ""};
    i->call = NULL;
    if (err == 0) {
        err = install(i, chain, n, &why);
        text = why.text;
    }
    if (err < 0) {
        failed(i, text != NULL && text[0] != '\0' ? text : pg_err_str(err));
    } else {
        cert_key_free(i->key);
        i->key = NULL;
        i->why[0] = '\0';
        cert_rotate_fetched(&i->rotate, cert_creds_not_before(i->creds), cert_creds_not_after(i->creds),
                            pg_clock_wall_s(), &i->rng);
        PG_LOG(PG_LOG_INFO, "certs", "certificate installed", PG_F_C("identity", i->id),
               PG_F_U64("generation", i->generation),
               PG_F_I64("ends_in_s", cert_creds_not_after(i->creds) - pg_clock_wall_s()));
        i->on_change(i->arg);
    }
    step(i);
}

static void fetch(struct hb_identity *i)
{
    struct pg_errtext err = {.text = ""};
    peering_text why = {.text = ""};
    struct pg_sb csr;
    pg_sb_init(&csr, CERT_PEM_MAX);
    int r = cert_key_new_p256(&i->key, &err);
    r = r < 0 ? r : cert_csr_make(i->key, pg_str_c(i->id), &csr, &err);
    if (r == 0) {
        r = peering_node_sign(i->node, hb_pstr(pg_sb_view(&csr)), (int64_t)(i->cfg->secret_ttl_ms / 1000),
                              (peering_str){NULL, 0}, on_signed, i, &i->call, &why);
    }
    pg_sb_fini(&csr);
    if (r < 0) {
        failed(i, why.text[0] != '\0' ? why.text : err.text[0] != '\0' ? err.text : pg_err_str(r));
    }
}

static void step(struct hb_identity *i)
{
    enum cert_rotate_action a;
    while ((a = cert_rotate_step(&i->rotate, pg_clock_wall_s())) != CERT_ROTATE_NOTHING) {
        if (a == CERT_ROTATE_FETCH) {
            fetch(i);
            continue;
        }
        PG_LOG(PG_LOG_ERROR, "certs", "the certificate ended and could not be renewed",
               PG_F_C("identity", i->id));
        cert_creds_unref(i->creds);
        i->creds = NULL;
        if (i->why[0] == '\0') {
            (void)snprintf(i->why, sizeof(i->why), "the certificate expired");
        }
        i->on_change(i->arg);
    }
    int64_t wait = cert_rotate_wait_s(&i->rotate, pg_clock_wall_s());
    if (wait < 0 || wait > WAIT_MAX_S) {
        wait = WAIT_MAX_S;
    }
    pg_timer_start(i->timer, (uint64_t)wait * 1000 + 50);
}

static void on_timer(void *arg)
{
    step(arg);
}

int hb_identity_new(struct pg_loop *l, const struct hb_config *cfg, peering_node *node,
                    void (*on_change)(void *arg), void *arg, struct hb_identity **out)
{
    struct hb_identity *i = pg_calloc(1, sizeof(*i));
    if (i == NULL || pg_timer_new(l, on_timer, i, &i->timer) < 0) {
        pg_free(i);
        return PG_E_NOMEM;
    }
    i->loop = l;
    i->cfg = cfg;
    i->node = node;
    i->on_change = on_change;
    i->arg = arg;
    pg_rng_seed_random(&i->rng);
    cert_rotate_init(&i->rotate);
    (void)snprintf(i->why, sizeof(i->why), "no certificate has been issued yet");
    *out = i;
    return 0;
}

void hb_identity_free(struct hb_identity *i)
{
    if (i != NULL) {
        peering_csr_call_cancel(i->call);
        cert_key_free(i->key);
        cert_creds_unref(i->creds);
        pg_timer_free(i->timer);
        pg_free(i);
    }
}

void hb_identity_want(struct hb_identity *i, struct pg_str spiffe)
{
    if (pg_str_eq_c(spiffe, i->id) || spiffe.len >= sizeof(i->id)) {
        return;
    }
    (void)snprintf(i->id, sizeof(i->id), "%.*s", PG_STR_ARG(spiffe));
    peering_csr_call_cancel(i->call);
    cert_key_free(i->key);
    i->call = NULL;
    i->key = NULL;
    cert_rotate_init(&i->rotate);
    step(i);
}

struct cert_creds *hb_identity_creds(const struct hb_identity *i)
{
    return i->creds;
}

uint64_t hb_identity_generation(const struct hb_identity *i)
{
    return i->generation;
}

const char *hb_identity_why(const struct hb_identity *i)
{
    return i->creds != NULL ? "" : i->why;
}

const char *hb_identity_name(const struct hb_identity *i)
{
    return i->id;
}

const char *hb_identity_state(const struct hb_identity *i)
{
    static _Thread_local char text[200];
    if (i->creds != NULL) {
        return "Available";
    }
    if (i->rotate.state == CERT_ROTATE_INIT) {
        return "Initializing";
    }
    (void)snprintf(text, sizeof(text), "Unavailable: %s", i->why);
    return text;
}
