/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane's own keys: the workload CA from a cacerts directory (or a self-signed root kept in the
 * state directory), the serving certificate, which is also what peers see, and the public keys that sign
 * tokens. A new certificate is in force for new connections; live ones go on. Control thread.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "control_internal.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"

#define SERVING_TTL_S (24 * 3600)
#define CA_RETRY_S 30
#define CUSTOM_HOSTS_MAX 16u
#define TRUST_DOMAINS_MAX 300u

/* A change of a file shows in mtime, size or inode (Kubernetes swaps symlinks). */
static uint64_t mix_file(uint64_t mix, const char *path)
{
    struct stat st = {0};
    if (stat(path, &st) != 0) {
        return mix;
    }
    uint64_t facts[4] = {mix, (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
                         (uint64_t)st.st_size, (uint64_t)st.st_ino};
    return pg_digest64(facts, sizeof(facts));
}

static void print_stamp(uint64_t mix, char out[STAMP_LEN])
{
    (void)snprintf(out, STAMP_LEN, "%016llx", (unsigned long long)mix);
}

static void stamp_of(const char *dir, char out[STAMP_LEN])
{
    static const char *const names[] = {"ca-cert.pem", "cert-chain.pem", "root-cert.pem", "ca-key.pem",
                                        "tls.crt",     "tls.key",        "ca.crt"};
    uint64_t mix = 0;
    for (size_t i = 0; i < PG_ARRAY_LEN(names); i++) {
        char path[4400];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        mix = mix_file(mix, path);
    }
    print_stamp(mix, out);
}

static int make_self_signed(struct peering_control *c, char dir[4400], struct pg_errtext *err)
{
    const char *state = option_text(c->options, OPT_STATE);
    if (state[0] == '\0') {
        pg_err_set(err,
                   "no --cacerts directory and no --state directory to keep a self-signed root in; "
                   "make one with: peerctl certs root && peerctl certs cacerts %s",
                   option_text(c->options, OPT_CLUSTER));
        return PG_E_CONFIG;
    }
    char root[4300];
    (void)snprintf(root, sizeof(root), "%s/ca", state);
    (void)snprintf(dir, 4400, "%s/%s", root, option_text(c->options, OPT_CLUSTER));
    int r = cert_make_root(root, false, err);
    if (r == 0 || r == PG_E_EXISTS) {
        r = cert_make_cacerts(root, option_text(c->options, OPT_CLUSTER), false, err);
    }
    return r == PG_E_EXISTS ? 0 : r;
}

static int load_ca(struct peering_control *c, struct pg_errtext *err)
{
    struct keys *k = &c->keys;
    char dir[4400];
    (void)snprintf(dir, sizeof(dir), "%s", option_text(c->options, OPT_CACERTS));
    k->self_signed = dir[0] == '\0';
    int r = k->self_signed ? make_self_signed(c, dir, err) : 0;
    if (r != 0) {
        return r;
    }
    stamp_of(dir, k->stamp);
    r = cert_ca_load(dir, &k->ca, err);
    if (r != 0) {
        pg_err_wrap(err, "cacerts");
        return r;
    }
    k->ca_dir = pg_strdup(dir);
    if (k->self_signed) {
        PG_LOG(PG_LOG_WARN, "ca", "using a self-signed root; peering needs a root shared by all clusters",
               PG_F_C("directory", dir));
    }
    return k->ca_dir == NULL ? PG_E_NOMEM : 0;
}

static int load_jwks(struct peering_control *c, struct pg_errtext *err)
{
    const char *path = option_text(c->options, OPT_JWKS);
    if (path[0] == '\0') {
        PG_LOG(PG_LOG_WARN, "ca", "no --jwks: tokens are refused, so no proxy can get its first certificate");
        return 0;
    }
    struct pg_sb text;
    struct cert_jwks *fresh = NULL;
    pg_sb_init(&text, CERT_PEM_MAX);
    print_stamp(mix_file(0, path), c->keys.jwks_stamp);
    int r = file_read(path, CERT_PEM_MAX, &text, err);
    if (r == 0) {
        r = cert_jwks_parse(pg_sb_view(&text), &fresh, err);
        if (r != 0) {
            pg_err_wrap(err, "%s", path);
        }
    }
    if (r != 0) {
        pg_err_wrap(err, "jwks");
    } else {
        cert_jwks_free(c->keys.jwks);
        c->keys.jwks = fresh;
    }
    pg_sb_fini(&text);
    return r;
}

/* The keys that sign tokens are rotated as well. What cannot be used is told once and the old keys stay. */
static void reload_jwks(struct peering_control *c)
{
    const char *path = option_text(c->options, OPT_JWKS);
    char stamp[STAMP_LEN];
    struct pg_errtext err = {""};
    print_stamp(mix_file(0, path), stamp);
    if (path[0] == '\0' || strcmp(stamp, c->keys.jwks_stamp) == 0 || strcmp(stamp, c->keys.jwks_bad) == 0) {
        return;
    }
    char before[STAMP_LEN];
    memcpy(before, c->keys.jwks_stamp, sizeof(before));
    if (load_jwks(c, &err) == 0) {
        c->keys.jwks_bad[0] = '\0';
        PG_LOG(PG_LOG_INFO, "ca", "keys of tokens reloaded", PG_F_C("file", path));
        return;
    }
    memcpy(c->keys.jwks_stamp, before, sizeof(before));
    memcpy(c->keys.jwks_bad, stamp, sizeof(stamp));
    PG_LOG(PG_LOG_ERROR, "ca", "changed keys of tokens not usable, the old ones stay",
           PG_F_C("error", err.text));
}

static size_t dns_names(const struct peering_control *c, char names[][300], size_t cap, struct pg_str *out)
{
    const char *ns = option_text(c->options, OPT_SYSTEM_NAMESPACE);
    static const char *const stems[] = {"istiod", "istiod-remote", "istio-pilot"};
    size_t n = 0;
    for (size_t i = 0; i < PG_ARRAY_LEN(stems); i++) {
        (void)snprintf(names[n], 300, "%s.%s.svc", stems[i], ns);
        out[n] = pg_str_c(names[n]);
        n++;
    }
    struct pg_str rest = option_str(c->options, OPT_CUSTOM_HOST);
    struct pg_str one;
    while (n < cap && pg_str_cut(&rest, ',', &one)) {
        one = pg_str_trim(one);
        if (one.len > 0 && one.len < 300) {
            out[n++] = one;
        }
    }
    return n;
}

/* Own domain, those the user named, and those of linked peers. */
static size_t trust_domains(const struct peering_control *c, struct pg_str *out, size_t cap)
{
    size_t n = 0;
    if (option_bool(c->options, OPT_SKIP_VALIDATE_TRUST_DOMAIN)) {
        out[n++] = PG_STR("*");
        return n;
    }
    out[n++] = option_str(c->options, OPT_TRUST_DOMAIN);
    struct pg_str rest = option_str(c->options, OPT_TRUST_DOMAINS);
    struct pg_str one;
    while (n < cap && pg_str_cut(&rest, ',', &one)) {
        one = pg_str_trim(one);
        if (one.len > 0) {
            out[n++] = one;
        }
    }
    size_t peers = c->peers == NULL ? 0 : peers_contributions(c->peers, c->contributions);
    for (size_t i = 0; i < peers && n < cap; i++) {
        struct pg_str td = pg_str_c(c->contributions[i].config->trust_domain);
        bool known = false;
        for (size_t k = 0; k < n; k++) {
            known = known || pg_str_eq(out[k], td);
        }
        if (!known) {
            out[n++] = td;
        }
    }
    return n;
}

static uint64_t digest_of(const struct pg_str *domains, size_t n)
{
    uint64_t mix = n;
    for (size_t i = 0; i < n; i++) {
        uint64_t both[2] = {mix, pg_digest64(domains[i].p, domains[i].len)};
        mix = pg_digest64(both, sizeof(both));
    }
    return mix;
}

static int reissue(struct peering_control *c, struct pg_errtext *err)
{
    char names[3 + CUSTOM_HOSTS_MAX][300];
    struct pg_str dns[3 + CUSTOM_HOSTS_MAX];
    struct pg_str domains[TRUST_DOMAINS_MAX];
    size_t n_domains = trust_domains(c, domains, PG_ARRAY_LEN(domains));
    size_t n_dns = dns_names(c, names, PG_ARRAY_LEN(dns), dns);
    struct pg_sb id;
    struct pg_sb chain;
    struct pg_sb key;
    pg_sb_init(&id, CERT_SPIFFE_MAX);
    pg_sb_init(&chain, CERT_PEM_MAX);
    pg_sb_init(&key, CERT_PEM_MAX);
    cert_spiffe_format(option_str(c->options, OPT_TRUST_DOMAIN), option_str(c->options, OPT_SYSTEM_NAMESPACE),
                       PG_STR("istiod"), &id);
    int64_t now = pg_clock_wall_s();
    struct cert_creds *fresh = NULL;
    int r = id.err;
    if (r == 0) {
        r = cert_ca_issue_server(c->keys.ca, pg_sb_view(&id), dns, n_dns, SERVING_TTL_S, now, &chain, &key,
                                 err);
    }
    if (r == 0) {
        struct cert_creds_options o = {.chain_pem = pg_sb_view(&chain),
                                       .key_pem = pg_sb_view(&key),
                                       .roots_pem = cert_ca_root_pem(c->keys.ca),
                                       .trust_domains = domains,
                                       .n_trust_domains = n_domains};
        r = cert_creds_new(&o, &fresh, err);
    }
    if (r == 0) {
        cert_creds_unref(c->keys.creds);
        c->keys.creds = fresh;
        int64_t end = cert_creds_not_after(fresh);
        c->keys.renew_at_s = now + (end - now) / 2;
        c->keys.domains = digest_of(domains, n_domains);
    }
    if (key.p != NULL) {
        pg_wipe(key.p, key.cap);
    }
    pg_sb_fini(&key);
    pg_sb_fini(&chain);
    pg_sb_fini(&id);
    return r;
}

int keys_load(struct peering_control *c, struct pg_errtext *err)
{
    int r = load_ca(c, err);
    if (r == 0) {
        r = load_jwks(c, err);
    }
    return r == 0 ? reissue(c, err) : r;
}

int keys_follow_peers(struct peering_control *c, struct pg_errtext *err)
{
    struct pg_str domains[TRUST_DOMAINS_MAX];
    size_t n = trust_domains(c, domains, PG_ARRAY_LEN(domains));
    return digest_of(domains, n) == c->keys.domains ? 0 : reissue(c, err);
}

void keys_fini(struct keys *k)
{
    cert_creds_unref(k->creds);
    cert_jwks_free(k->jwks);
    cert_ca_free(k->ca);
    pg_free(k->ca_dir);
    *k = (struct keys){0};
}

static void reload_ca(struct peering_control *c)
{
    char stamp[STAMP_LEN];
    int64_t now = pg_clock_wall_s();
    stamp_of(c->keys.ca_dir, stamp);
    bool changed = strcmp(stamp, c->keys.stamp) != 0;
    if (!changed && (c->keys.ca_retry_at_s == 0 || now < c->keys.ca_retry_at_s)) {
        return;
    }
    memcpy(c->keys.stamp, stamp, sizeof(stamp));
    struct cert_ca *fresh = NULL;
    struct pg_errtext err = {""};
    int r = cert_ca_load(c->keys.ca_dir, &fresh, &err);
    c->keys.ca_retry_at_s = r == 0 ? 0 : now + CA_RETRY_S;
    if (r != 0) {
        PG_LOG(PG_LOG_ERROR, "ca", "changed cacerts not usable, the old ones stay; next try in 30s",
               PG_F_C("directory", c->keys.ca_dir), PG_F_C("error", err.text));
        return;
    }
    cert_ca_free(c->keys.ca);
    c->keys.ca = fresh;
    c->keys.renew_at_s = 0;
    PG_LOG(PG_LOG_INFO, "ca", "cacerts reloaded", PG_F_C("directory", c->keys.ca_dir));
}

void keys_tick(struct peering_control *c)
{
    reload_ca(c);
    reload_jwks(c);
    int64_t now = pg_clock_wall_s();
    if (now < c->keys.renew_at_s) {
        return;
    }
    struct pg_errtext err = {""};
    int r = reissue(c, &err);
    if (r != 0) {
        c->keys.renew_at_s = now + 30;
        PG_LOG(PG_LOG_ERROR, "ca", "own certificate not renewed, next try in 30s", PG_F_C("error", err.text));
        return;
    }
    PG_LOG(PG_LOG_INFO, "ca", "own certificate renewed",
           PG_F_U64("valid_s", (uint64_t)(cert_creds_not_after(c->keys.creds) - now)));
    peers_renew(c->peers);
}
