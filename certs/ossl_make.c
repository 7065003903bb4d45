/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl certs root` and `certs cacerts`: the mesh root and one intermediate per cluster, in the files,
 * names and extensions of Istio's self-signed makefile, so that a mesh may be started with either and
 * continued with the other. Blocking; tools only.
 */
#include "certs/file.h"
#include "certs/ossl_int.h"
#include "core/clock.h"

#include <openssl/err.h>
#include <openssl/rsa.h>

#define CA_RSA_BITS 4096
#define CA_VALID_S (3650LL * 24 * 3600)
#define CLUSTER_NAME_MAX 63u
#define CA_KEY_USAGE "critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign"
#define INTERMEDIATE_DNS "istiod.istio-system.svc"
#define KEY_MODE 0600
#define CERT_MODE 0644

struct pair { /* a certificate with its key, parsed */
    X509 *cert;
    EVP_PKEY *key;
};

static void pair_fini(struct pair *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
}

/* X.500 attributes in the makefile's order: O, CN, then L when given. */
static bool add_subject(X509 *c, const char *cn, const char *locality)
{
    X509_NAME *n = X509_get_subject_name(c);
    const char *const part[][2] = {{"O", "Istio"}, {"CN", cn}, {"L", locality}};
    for (size_t i = 0; i < PG_ARRAY_LEN(part); i++) {
        const unsigned char *value = (const unsigned char *)part[i][1];
        if (value != NULL &&
            X509_NAME_add_entry_by_txt(n, part[i][0], MBSTRING_UTF8, value, -1, -1, 0) != 1) {
            return false;
        }
    }
    return true;
}

/* Makes a CA certificate with a fresh key; signed by `issuer`, or by itself when that is NULL. */
static int make_ca(struct pair *out, const struct pair *issuer, const char *locality, struct pg_errtext *err)
{
    struct pair p = {0};
    bool root = issuer == NULL;
    int64_t now = pg_clock_wall_s();
    ERR_clear_error();
    p.key = EVP_RSA_gen(CA_RSA_BITS);
    p.cert = p.key != NULL ? cert_ossl_blank(now, now + CA_VALID_S, p.key) : NULL;
    if (p.cert == NULL || !add_subject(p.cert, root ? "Root CA" : "Intermediate CA", locality)) {
        goto fail;
    }
    const struct pair *signer = root ? &p : issuer;
    if (X509_set_issuer_name(p.cert, X509_get_subject_name(signer->cert)) != 1 ||
        cert_ossl_add_ext(p.cert, signer->cert, NID_subject_key_identifier, "hash") < 0 ||
        cert_ossl_add_ext(p.cert, signer->cert, NID_basic_constraints,
                          root ? "critical,CA:true" : "critical,CA:true,pathlen:0") < 0 ||
        cert_ossl_add_ext(p.cert, signer->cert, NID_key_usage, CA_KEY_USAGE) < 0) {
        goto fail;
    }
    if (!root && cert_ossl_add_ext(p.cert, signer->cert, NID_subject_alt_name, "DNS:" INTERMEDIATE_DNS) < 0) {
        goto fail;
    }
    if (X509_sign(p.cert, signer->key, cert_ossl_md(signer->key)) <= 0) {
        goto fail;
    }
    *out = p;
    return 0;
fail:
    cert_ossl_fail(err, "cannot make the CA certificate");
    pair_fini(&p);
    return PG_E_NOMEM;
}

static int write_key(const char *dir, const char *name, EVP_PKEY *key, struct pg_errtext *err)
{
    struct pg_sb pem;
    pg_sb_init(&pem, CERT_PEM_MAX);
    int r = cert_ossl_key_pem(key, &pem);
    if (r == 0) {
        r = cert_file_write(dir, name, pg_sb_view(&pem), KEY_MODE, err);
    } else {
        pg_err_set(err, "cannot encode the key");
    }
    if (pem.p != NULL) {
        pg_wipe(pem.p, pem.cap);
    }
    pg_sb_fini(&pem);
    return r;
}

static int write_cert(const char *dir, const char *name, X509 *cert, struct pg_str after,
                      struct pg_errtext *err)
{
    struct pg_sb pem;
    pg_sb_init(&pem, 2 * CERT_PEM_MAX);
    int r = cert_ossl_cert_pem(cert, &pem);
    if (r == 0) {
        pg_sb_str(&pem, after);
        r = pem.err;
    }
    if (r == 0) {
        r = cert_file_write(dir, name, pg_sb_view(&pem), CERT_MODE, err);
    } else {
        pg_err_set(err, "cannot encode the certificate");
    }
    pg_sb_fini(&pem);
    return r;
}

int cert_make_root(const char *dir, bool force, struct pg_errtext *err)
{
    struct pair root = {0};
    int r = cert_dir_make(dir, err);
    if (r < 0) {
        return r;
    }
    if (!force && cert_file_exists(dir, "root-cert.pem")) {
        pg_err_set(err, "%s/root-cert.pem exists", dir);
        return PG_E_EXISTS;
    }
    r = make_ca(&root, NULL, NULL, err);
    if (r < 0) {
        return r;
    }
    r = write_key(dir, "root-key.pem", root.key, err);
    if (r == 0) {
        r = write_cert(dir, "root-cert.pem", root.cert, PG_STR_NONE, err);
    }
    pair_fini(&root);
    return r;
}

/* The root's certificate and key, and the text of its file (which may hold several roots during a rotation;
 * first signs). */
static int load_root(const char *dir, struct pair *out, struct pg_sb *root_pem, struct pg_errtext *err)
{
    struct pg_sb key_pem;
    struct pair p = {0};
    STACK_OF(X509) *certs = NULL;
    pg_sb_init(&key_pem, CERT_PEM_MAX);
    int r = cert_file_read(dir, "root-cert.pem", CERT_PEM_MAX, root_pem, err);
    if (r == 0) {
        r = cert_file_read(dir, "root-key.pem", CERT_PEM_MAX, &key_pem, err);
    }
    if (r == 0) {
        r = cert_ossl_certs(pg_sb_view(root_pem), CERT_ROOTS_MAX, &certs, err);
    }
    if (r == 0) {
        p.cert = sk_X509_shift(certs);
        r = cert_ossl_private_key(pg_sb_view(&key_pem), &p.key, err);
    }
    if (r == 0 && X509_check_private_key(p.cert, p.key) != 1) {
        cert_ossl_fail(err, "%s: root-key.pem does not belong to root-cert.pem", dir);
        r = PG_E_CONFIG;
    }
    if (key_pem.p != NULL) {
        pg_wipe(key_pem.p, key_pem.cap);
    }
    pg_sb_fini(&key_pem);
    sk_X509_pop_free(certs, X509_free);
    if (r < 0) {
        pair_fini(&p);
        return r;
    }
    *out = p;
    return 0;
}

static bool is_cluster_name(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || len > CLUSTER_NAME_MAX || s[0] == '.' || s[0] == '-') {
        return false;
    }
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static int write_cacerts(const char *sub, const struct pair *ca, struct pg_str root_pem,
                         struct pg_errtext *err)
{
    int r = write_key(sub, "ca-key.pem", ca->key, err);
    if (r == 0) {
        r = cert_file_write(sub, "root-cert.pem", root_pem, CERT_MODE, err);
    }
    if (r == 0) {
        r = write_cert(sub, "cert-chain.pem", ca->cert, root_pem, err);
    }
    if (r == 0) {
        r = write_cert(sub, "ca-cert.pem", ca->cert, PG_STR_NONE,
                       err); /* last: its presence says "complete" */
    }
    return r;
}

int cert_make_cacerts(const char *dir, const char *cluster, bool force, struct pg_errtext *err)
{
    struct pg_sb root_pem;
    struct pg_sb sub;
    struct pair root = {0};
    struct pair ca = {0};

    if (!is_cluster_name(cluster)) {
        pg_err_set(err, "bad cluster name: letters, digits, '-', '_', '.', at most %u", CLUSTER_NAME_MAX);
        return PG_E_CONFIG;
    }
    pg_sb_init(&root_pem, CERT_PEM_MAX);
    pg_sb_init(&sub, 4096);
    pg_sb_fmt(&sub, "%s/%s", dir, cluster);
    int r = sub.err;
    if (r < 0) {
        pg_err_set(err, "%s", pg_err_str(r));
        goto done;
    }
    r = load_root(dir, &root, &root_pem, err);
    if (r < 0) {
        pg_err_wrap(err, "no usable root CA");
        goto done;
    }
    if (!force && cert_file_exists(sub.p, "ca-cert.pem")) {
        pg_err_set(err, "%s/ca-cert.pem exists", sub.p);
        r = PG_E_EXISTS;
        goto done;
    }
    r = cert_dir_make(sub.p, err);
    if (r == 0) {
        r = make_ca(&ca, &root, cluster, err);
    }
    if (r == 0) {
        r = write_cacerts(sub.p, &ca, pg_sb_view(&root_pem), err);
    }
done:
    pair_fini(&root);
    pair_fini(&ca);
    pg_sb_fini(&root_pem);
    pg_sb_fini(&sub);
    return r;
}
