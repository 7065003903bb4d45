/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is accepted. OpenSSL proves the chain; the X509-SVID rules it does not know (exactly one URI SAN, no
 * NUL, no CA rights) and the binding of trust domains are proved here, fail closed. Also the words operators
 * know for each refusal. Pure; any thread.
 */
#include "certs/ossl_int.h"
#include "core/addr.h"
#include "core/clock.h"

#include <openssl/err.h>
#include <openssl/ssl3.h>
#include <stdio.h>

bool cert_ossl_has_uri(X509 *leaf)
{
    bool found = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
        found = sk_GENERAL_NAME_value(names, i)->type == GEN_URI;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return found;
}

/* The only URI among the names, or NULL with the reason. */
static const ASN1_STRING *only_uri(const GENERAL_NAMES *names, struct pg_errtext *err)
{
    const ASN1_STRING *uri = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = 0;
        const ASN1_STRING *v = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type != GEN_URI) {
            continue;
        }
        if (uri != NULL) {
            pg_err_set(err, "certificate has more than one URI SAN");
            return NULL;
        }
        uri = v;
    }
    if (uri == NULL) {
        pg_err_set(err, "certificate has no URI SAN");
    }
    return uri;
}

static int check_leaf_rights(X509 *leaf, struct pg_errtext *err)
{
    uint32_t flags = X509_get_extension_flags(leaf);
    const char *why = NULL;
    if ((flags & EXFLAG_INVALID) != 0) {
        why = "certificate has malformed extensions";
    } else if ((flags & EXFLAG_CA) != 0) {
        why = "certificate is a CA, not a workload";
    } else if ((flags & EXFLAG_KUSAGE) != 0 &&
               (X509_get_key_usage(leaf) & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0) {
        why = "workload certificate may sign certificates or CRLs";
    }
    if (why == NULL) {
        return 0;
    }
    pg_err_set(err, "%s", why);
    return PG_E_UNTRUSTED;
}

int cert_ossl_svid(X509 *leaf, char id[CERT_SPIFFE_MAX + 1], struct pg_errtext *err)
{
    struct cert_spiffe parsed;
    if (check_leaf_rights(leaf, err) < 0) {
        return PG_E_UNTRUSTED;
    }
    int r = PG_E_UNTRUSTED;
    /* NULL also for a second subjectAltName extension or one that does not decode */
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    if (names == NULL) {
        pg_err_set(err, "certificate has no usable SAN extension");
        goto done;
    }
    const ASN1_STRING *uri = only_uri(names, err);
    if (uri == NULL) {
        goto done;
    }
    struct pg_str s = pg_str_n((const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
    if (cert_spiffe_parse(s, &parsed, err) < 0) {
        goto done;
    }
    memcpy(id, s.p, s.len); /* at most CERT_SPIFFE_MAX, the parser said */
    id[s.len] = '\0';
    r = 0;
done:
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return r;
}

static void join(const struct pg_str *names, size_t n, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        int k = snprintf(out + at, cap - at, "%s%.*s", i == 0 ? "" : ", ", PG_STR_ARG(names[i]));
        if (k < 0 || (size_t)k >= cap - at) {
            return;
        }
        at += (size_t)k;
    }
}

static int accept_domain(const struct cert_creds *creds, const char *id, struct pg_errtext *err)
{
    struct cert_spiffe s;
    char want[128];
    if (cert_spiffe_parse(pg_str_c(id), &s, err) < 0) {
        return PG_E_UNTRUSTED;
    }
    if (creds->any_domain) {
        return 0;
    }
    for (size_t i = 0; i < creds->n_domains; i++) {
        if (pg_str_eq(creds->domain[i], s.trust_domain)) {
            return 0;
        }
    }
    join(creds->domain, creds->n_domains, want, sizeof(want));
    pg_err_set(err, "identity verification error: peer did not present the expected trustdomain (%s), got %s",
               want, id);
    return PG_E_UNTRUSTED;
}

static int accept_name(const struct cert_expectation *e, const char *id, struct pg_errtext *err)
{
    char want[192];
    for (size_t i = 0; i < e->n_names; i++) {
        if (pg_str_eq_c(e->names[i], id)) {
            return 0;
        }
    }
    join(e->names, e->n_names, want, sizeof(want));
    pg_err_set(err, "identity verification error: peer did not present the expected SAN (%s), got %s", want,
               id);
    return PG_E_UNTRUSTED;
}

static int accept_dns(const struct cert_expectation *e, X509 *leaf, struct pg_errtext *err)
{
    char want[160];
    char subject[64];
    struct pg_ip ip;
    const unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    for (size_t i = 0; i < e->n_names; i++) {
        struct pg_str n = e->names[i];
        int ok = pg_ip_parse(n, &ip) == 0 ? X509_check_ip(leaf, ip.b, ip.len, 0)
                                          : X509_check_host(leaf, n.p, n.len, flags, NULL);
        ERR_clear_error();
        if (ok == 1) {
            return 0;
        }
    }
    join(e->names, e->n_names, want, sizeof(want));
    cert_ossl_name(X509_get_subject_name(leaf), subject, sizeof(subject));
    pg_err_set(err, "tls: failed to verify certificate: x509: certificate of \"%s\" is not valid for %s",
               subject, want);
    return PG_E_UNTRUSTED;
}

int cert_ossl_accept(const struct cert_creds *creds, const struct cert_expectation *e, X509 *leaf,
                     char id[CERT_SPIFFE_MAX + 1], struct pg_errtext *err)
{
    id[0] = '\0';
    if (e->kind == CERT_EXPECT_DNS) {
        return accept_dns(e, leaf, err);
    }
    int r = cert_ossl_svid(leaf, id, err);
    if (r < 0) {
        pg_err_wrap(err, "identity verification error");
        return r;
    }
    if (e->kind == CERT_EXPECT_SPIFFE) {
        r = accept_name(e, id, err);
    }
    if (r == 0) {
        r = accept_domain(creds, id, err);
    }
    if (r < 0) {
        id[0] = '\0';
    }
    return r;
}

/* What to call the certificate in a message: its SPIFFE id when it has one, else its subject. */
static void describe(X509 *c, char *out, size_t cap)
{
    char id[CERT_SPIFFE_MAX + 1];
    if (cert_ossl_svid(c, id, NULL) == 0) {
        (void)snprintf(out, cap, "%.*s", (int)cap - 1, id);
    } else {
        cert_ossl_name(X509_get_subject_name(c), out, cap);
    }
}

static void time_text(const ASN1_TIME *t, char out[PG_RFC3339_LEN])
{
    int64_t s = 0;
    if (cert_ossl_time(t, &s) < 0) {
        (void)snprintf(out, PG_RFC3339_LEN, "?");
        return;
    }
    pg_clock_rfc3339(s * 1000000, out);
    out[19] = 'Z'; /* whole seconds */
    out[20] = '\0';
}

static void validity_text(X509 *c, bool expired, int64_t now_s, const char *who, struct pg_errtext *err)
{
    char now[PG_RFC3339_LEN];
    char limit[PG_RFC3339_LEN];
    pg_clock_rfc3339(now_s * 1000000, now);
    now[19] = 'Z';
    now[20] = '\0';
    time_text(expired ? X509_get0_notAfter(c) : X509_get0_notBefore(c), limit);
    pg_err_set(err,
               "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: "
               "current time %s is %s "
               "%s (\"%s\")",
               now, expired ? "after" : "before", limit, who);
}

static bool is_unknown_authority(int e)
{
    return e == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || e == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           e == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE || e == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
           e == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
}

/* The words for a failed chain verification. */
static void verify_text(X509_STORE_CTX *ctx, int64_t now_s, struct pg_errtext *err)
{
    char who[96] = "";
    int code = X509_STORE_CTX_get_error(ctx);
    X509 *c = X509_STORE_CTX_get_current_cert(ctx);
    if (c == NULL) {
        c = X509_STORE_CTX_get0_cert(ctx);
    }
    if (c != NULL) {
        describe(c, who, sizeof(who));
    }
    const char *what = NULL;
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        if (c != NULL) {
            validity_text(c, code == X509_V_ERR_CERT_HAS_EXPIRED, now_s, who, err);
            return;
        }
        what = "certificate has expired or is not yet valid";
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        what = "certificate specifies an incompatible key usage";
        break;
    default:
        what = is_unknown_authority(code) ? "certificate signed by unknown authority"
                                          : X509_verify_cert_error_string(code);
        break;
    }
    pg_err_set(err, "tls: failed to verify certificate: x509: %s (\"%s\")", what, who);
}

int cert_ossl_roots(STACK_OF(X509) * certs, struct cert_roots *out)
{
    struct cert_roots r = {.n = 0};
    for (int i = 0; i < sk_X509_num(certs); i++) {
        X509 *c = sk_X509_value(certs, i);
        size_t k = 0;
        bool again = false;
        for (int j = 0; j < i; j++) {
            X509 *before = sk_X509_value(certs, j);
            again = again || X509_cmp(c, before) == 0;
            k += X509_NAME_cmp(X509_get_subject_name(c), X509_get_subject_name(before)) == 0;
        }
        if (again) {
            continue;
        }
        if (k >= r.n) { /* k <= n: one more store at most */
            k = r.n;
            r.store[k] = X509_STORE_new();
            if (r.store[k] == NULL) {
                goto fail;
            }
            r.n++;
            (void)X509_STORE_set_flags(r.store[k], X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
        }
        if (X509_STORE_add_cert(r.store[k], c) != 1) {
            goto fail;
        }
    }
    if (r.n == 0) {
        goto fail;
    }
    *out = r;
    return 0;
fail:
    cert_ossl_roots_fini(&r);
    ERR_clear_error();
    return PG_E_NOMEM;
}

void cert_ossl_roots_fini(struct cert_roots *r)
{
    for (size_t i = 0; i < r->n; i++) {
        X509_STORE_free(r->store[i]);
    }
    r->n = 0;
}

/* Verifies with one store. A root which has the right name and did not sign is just another authority. */
static int verify_one(X509_STORE_CTX *ctx, int64_t now_s)
{
    X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
    if (X509_verify_cert(ctx) == 1) {
        return X509_V_OK;
    }
    int e = X509_STORE_CTX_get_error(ctx);
    if (e == X509_V_ERR_CERT_SIGNATURE_FAILURE || e == X509_V_OK) {
        e = e == X509_V_OK ? X509_V_ERR_UNSPECIFIED : X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
        X509_STORE_CTX_set_error(ctx, e);
    }
    return e;
}

/* The same question to another store. X509_V_OK, or the error with its words. */
static int verify_again(X509_STORE_CTX *first, X509_STORE *store, const char *purpose, int64_t now_s,
                        struct pg_errtext *why)
{
    int e = X509_V_ERR_OUT_OF_MEM;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509 *leaf = X509_STORE_CTX_get0_cert(first);
    if (ctx != NULL && X509_STORE_CTX_init(ctx, store, leaf, X509_STORE_CTX_get0_untrusted(first)) == 1 &&
        (purpose == NULL || X509_STORE_CTX_set_default(ctx, purpose) == 1)) {
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(ctx), CERT_SECURITY_LEVEL);
        X509_STORE_CTX_set_depth(ctx, (int)CERT_CHAIN_MAX);
        e = verify_one(ctx, now_s);
        if (e != X509_V_OK) {
            verify_text(ctx, now_s, why);
        }
    }
    X509_STORE_CTX_free(ctx);
    return e;
}

bool cert_ossl_verify(X509_STORE_CTX *ctx, const struct cert_roots *roots, const char *purpose, int64_t now_s,
                      struct pg_errtext *why)
{
    struct pg_errtext other = {.text = ""};
    X509_STORE_CTX_set_depth(ctx, (int)CERT_CHAIN_MAX);
    int best = verify_one(ctx, now_s);
    if (best == X509_V_OK) {
        return true;
    }
    verify_text(ctx, now_s, why);
    for (size_t i = 1; i < roots->n; i++) {
        int e = verify_again(ctx, roots->store[i], purpose, now_s, &other);
        if (e == X509_V_OK || (is_unknown_authority(best) && !is_unknown_authority(e))) {
            best = e;
            if (e != X509_V_OK && why != NULL) {
                *why = other;
            }
        }
        if (e == X509_V_OK) {
            break;
        }
    }
    X509_STORE_CTX_set_error(ctx, best);
    return best == X509_V_OK;
}

const char *cert_ossl_alert_text(int alert)
{
    static const struct {
        int alert;
        const char *text;
    } words[] = {
        {SSL_AD_CLOSE_NOTIFY, "close notify"},
        {SSL_AD_UNEXPECTED_MESSAGE, "unexpected message"},
        {SSL_AD_BAD_RECORD_MAC, "bad record MAC"},
        {SSL_AD_RECORD_OVERFLOW, "record overflow"},
        {SSL_AD_HANDSHAKE_FAILURE, "handshake failure"},
        {SSL_AD_BAD_CERTIFICATE, "bad certificate"},
        {SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported certificate"},
        {SSL_AD_CERTIFICATE_REVOKED, "revoked certificate"},
        {SSL_AD_CERTIFICATE_EXPIRED, "expired certificate"},
        {SSL_AD_CERTIFICATE_UNKNOWN, "unknown certificate"},
        {SSL_AD_ILLEGAL_PARAMETER, "illegal parameter"},
        {SSL_AD_UNKNOWN_CA, "unknown certificate authority"},
        {SSL_AD_ACCESS_DENIED, "access denied"},
        {SSL_AD_DECODE_ERROR, "error decoding message"},
        {SSL_AD_DECRYPT_ERROR, "error decrypting message"},
        {SSL_AD_PROTOCOL_VERSION, "protocol version not supported"},
        {SSL_AD_INSUFFICIENT_SECURITY, "insufficient security level"},
        {SSL_AD_INTERNAL_ERROR, "internal error"},
        {SSL_AD_INAPPROPRIATE_FALLBACK, "inappropriate fallback"},
        {SSL_AD_USER_CANCELLED, "user canceled"},
        {SSL_AD_MISSING_EXTENSION, "missing extension"},
        {SSL_AD_UNSUPPORTED_EXTENSION, "unsupported extension"},
        {SSL_AD_UNRECOGNIZED_NAME, "unrecognized name"},
        {SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE, "bad certificate status response"},
        {SSL_AD_UNKNOWN_PSK_IDENTITY, "unknown PSK identity"},
        {SSL_AD_CERTIFICATE_REQUIRED, "certificate required"},
        {SSL_AD_NO_APPLICATION_PROTOCOL, "no application protocol"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (words[i].alert == alert) {
            return words[i].text;
        }
    }
    return "unknown alert";
}
