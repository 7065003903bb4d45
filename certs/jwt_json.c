/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service-account tokens: JWKS and claims by jansson, decisions here. Invariant: nothing of a token is
 * believed before its signature was verified with a key of the JWKS whose kind fits the algorithm; the token
 * itself never appears in a text. Control thread and tools.
 */
#include "certs/jwt_int.h"

#include "certs/ca.h"
#include "certs/file.h"
#include "core/json.h"

#include <jansson.h>

#define JWKS_JSON_MAX (256u * 1024u)
#define KID_MAX 256u
#define SKEW_S 60 /* a not-before this far ahead is a clock difference */
#define JWT_TTL_MAX_S (366LL * 24 * 3600)
#define PARSE_FLAGS (JSON_REJECT_DUPLICATES)

struct jwk {
    struct cert_jws_key *key;
    char *kid; /* "" when the key has none */
};
struct cert_jwks {
    struct jwk key[CERT_JWKS_KEYS_MAX];
    size_t n;
};

static struct pg_str get_str(const json_t *obj, const char *name)
{
    const json_t *v = json_object_get(obj, name);
    return json_is_string(v) ? pg_str_n(json_string_value(v), json_string_length(v)) : PG_STR_NONE;
}

/* Unpadded base64url only: one text for one value (the decoder refuses stray bits itself). */
static int decode(struct pg_str in, size_t max, struct pg_sb *out)
{
    pg_sb_init(out, max);
    for (size_t i = 0; i < in.len; i++) {
        if (in.p[i] == '+' || in.p[i] == '/' || in.p[i] == '=') {
            return PG_E_PARSE;
        }
    }
    int r = pg_base64_decode(in, out);
    if (r < 0) {
        pg_sb_fini(out);
        pg_sb_init(out, 0);
    }
    return r;
}

static enum cert_jws_alg alg_of(struct pg_str s)
{
    return pg_str_eq_c(s, "RS256")   ? CERT_JWS_RS256
           : pg_str_eq_c(s, "ES256") ? CERT_JWS_ES256
                                     : CERT_JWS_NONE;
}

/* The two numbers of a key: "n" and "e", or "x" and "y". */
static int load_pair(const json_t *o, const char *first, const char *second,
                     int (*make)(struct pg_str, struct pg_str, struct cert_jws_key **),
                     struct cert_jws_key **out)
{
    struct pg_sb a;
    struct pg_sb b;
    pg_sb_init(&b, 0);
    int r = decode(get_str(o, first), 2048, &a);
    if (r == 0) {
        r = decode(get_str(o, second), 2048, &b);
    }
    if (r == 0) {
        r = make(pg_sb_view(&a), pg_sb_view(&b), out);
    }
    pg_sb_fini(&a);
    pg_sb_fini(&b);
    return r;
}

/* 0 with a key, PG_E_UNSUPPORTED for one to skip, PG_E_NOMEM. */
static int load_key(const json_t *o, struct jwk *out)
{
    struct pg_str kty = get_str(o, "kty");
    struct pg_str kid = get_str(o, "kid");
    struct pg_str use = get_str(o, "use");
    const json_t *alg = json_object_get(o, "alg");
    bool rsa = pg_str_eq_c(kty, "RSA");
    bool p256 = pg_str_eq_c(kty, "EC") && pg_str_eq_c(get_str(o, "crv"), "P-256");
    if ((!rsa && !p256) || kid.len > KID_MAX || (use.len > 0 && !pg_str_eq_c(use, "sig"))) {
        return PG_E_UNSUPPORTED;
    }
    if (alg != NULL && alg_of(get_str(o, "alg")) != (rsa ? CERT_JWS_RS256 : CERT_JWS_ES256)) {
        return PG_E_UNSUPPORTED;
    }
    struct jwk k = {.kid = pg_strndup(kid.len > 0 ? kid.p : "", kid.len)};
    if (k.kid == NULL) {
        return PG_E_NOMEM;
    }
    int r =
        rsa ? load_pair(o, "n", "e", cert_jws_rsa, &k.key) : load_pair(o, "x", "y", cert_jws_p256, &k.key);
    if (r < 0) {
        pg_free(k.kid);
        return r == PG_E_NOMEM ? r : PG_E_UNSUPPORTED;
    }
    *out = k;
    return 0;
}

static int load_keys(struct cert_jwks *j, const json_t *keys, struct pg_errtext *err)
{
    if (!json_is_array(keys)) {
        pg_err_set(err, "JWKS has no array \"keys\"");
        return PG_E_CONFIG;
    }
    if (json_array_size(keys) > CERT_JWKS_KEYS_MAX) {
        pg_err_set(err, "JWKS has more than %u keys", CERT_JWKS_KEYS_MAX);
        return PG_E_CONFIG;
    }
    for (size_t i = 0; i < json_array_size(keys); i++) {
        int r = load_key(json_array_get(keys, i), &j->key[j->n]);
        if (r == PG_E_NOMEM) {
            pg_err_set(err, "out of memory");
            return r;
        }
        j->n += r == 0;
    }
    if (j->n == 0) {
        pg_err_set(err, "JWKS has no usable key (RS256 or ES256)");
        return PG_E_CONFIG;
    }
    return 0;
}

int cert_jwks_parse(struct pg_str json, struct cert_jwks **out, struct pg_errtext *err)
{
    json_error_t where;
    if (json.len > JWKS_JSON_MAX) {
        pg_err_set(err, "JWKS larger than %u bytes", JWKS_JSON_MAX);
        return PG_E_CONFIG;
    }
    json_t *root = json_loadb(json.len > 0 ? json.p : "", json.len, PARSE_FLAGS, &where);
    if (root == NULL) {
        pg_err_set(err, "JWKS: line %d: %s", where.line, where.text);
        return PG_E_CONFIG;
    }
    struct cert_jwks *j = pg_calloc(1, sizeof(*j));
    int r = j != NULL ? load_keys(j, json_object_get(root, "keys"), err) : PG_E_NOMEM;
    json_decref(root);
    if (r < 0) {
        cert_jwks_free(j);
        return r;
    }
    *out = j;
    return 0;
}

void cert_jwks_free(struct cert_jwks *j)
{
    if (j == NULL) {
        return;
    }
    for (size_t i = 0; i < j->n; i++) {
        cert_jws_key_free(j->key[i].key);
        pg_free(j->key[i].kid);
    }
    pg_free(j);
}

static int denied(struct pg_errtext *err, const char *why)
{
    pg_err_set(err, "token: %s", why);
    return PG_E_DENIED;
}

/* A base64url part as a JSON object; NULL when it is none. The caller decrefs. */
static json_t *part_json(struct pg_str part)
{
    struct pg_sb text;
    if (decode(part, CERT_JWT_MAX, &text) < 0) {
        return NULL;
    }
    json_t *o = json_loadb(text.p != NULL ? text.p : "", text.len, PARSE_FLAGS, NULL);
    pg_sb_fini(&text);
    if (o != NULL && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

/* The key a token's header names. A token that names none is fine only when there is no choice. */
static const struct jwk *find_key(const struct cert_jwks *j, const json_t *header)
{
    const json_t *kid = json_object_get(header, "kid");
    if (kid == NULL) {
        return j->n == 1 ? &j->key[0] : NULL;
    }
    struct pg_str want = get_str(header, "kid");
    for (size_t i = 0; want.len > 0 && i < j->n; i++) {
        if (pg_str_eq_c(want, j->key[i].kid)) {
            return &j->key[i];
        }
    }
    return NULL;
}

static int check_signature(const struct cert_jwks *j, struct pg_str head, struct pg_str signed_part,
                           struct pg_str sig, struct pg_errtext *err)
{
    struct pg_sb raw;
    json_t *header = part_json(head);
    if (header == NULL) {
        return denied(err, "malformed header");
    }
    int r = 0;
    enum cert_jws_alg alg = alg_of(get_str(header, "alg"));
    const struct jwk *k = find_key(j, header);
    if (alg == CERT_JWS_NONE) {
        r = denied(err, "algorithm not accepted");
    } else if (json_object_get(header, "crit") != NULL) {
        r = denied(err, "critical header extensions are not supported");
    } else if (k == NULL) {
        r = denied(err, "unknown key id");
    } else if (decode(sig, CERT_JWT_MAX, &raw) < 0) {
        r = denied(err, "malformed signature");
    } else {
        if (cert_jws_verify(k->key, alg, signed_part, pg_sb_view(&raw)) != 1) {
            r = denied(err, "signature does not verify");
        }
        pg_sb_fini(&raw);
    }
    json_decref(header);
    return r;
}

static bool has_audience(const json_t *claims, struct pg_str audience)
{
    const json_t *aud = json_object_get(claims, "aud");
    if (json_is_string(aud)) {
        return pg_str_eq(get_str(claims, "aud"), audience);
    }
    for (size_t i = 0; i < json_array_size(aud); i++) {
        const json_t *v = json_array_get(aud, i);
        if (json_is_string(v) && pg_str_eq(pg_str_n(json_string_value(v), json_string_length(v)), audience)) {
            return true;
        }
    }
    return false;
}

/* NumericDate; fractions are allowed by the format and are cut. */
static bool get_time(const json_t *claims, const char *name, int64_t *out)
{
    const json_t *v = json_object_get(claims, name);
    if (json_is_integer(v)) {
        *out = (int64_t)json_integer_value(v);
        return true;
    }
    double d = json_is_real(v) ? json_real_value(v) : -1;
    if (!(d >= 0 && d < 253402300800.0)) {
        return false;
    }
    *out = (int64_t)d;
    return true;
}

static int check_times(const json_t *claims, int64_t now_s, int64_t *expires_at, struct pg_errtext *err)
{
    int64_t nbf = 0;
    if (!get_time(claims, "exp", expires_at)) {
        return denied(err, "no expiry");
    }
    if (now_s >= *expires_at) {
        return denied(err, "expired");
    }
    if (json_object_get(claims, "nbf") == NULL) {
        return 0;
    }
    if (!get_time(claims, "nbf", &nbf)) {
        return denied(err, "malformed not-before");
    }
    return nbf > now_s && nbf - now_s > SKEW_S ? denied(err, "not valid yet") : 0;
}

/* A Kubernetes object name: [a-z0-9.-], alphanumeric at both ends. */
static bool is_name(struct pg_str s, size_t cap)
{
    if (s.len == 0 || s.len >= cap) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        bool alnum = (s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9');
        bool edge = i == 0 || i == s.len - 1;
        if (!alnum && (edge || (s.p[i] != '-' && s.p[i] != '.'))) {
            return false;
        }
    }
    return true;
}

static bool copy_name(struct pg_str s, char *out, size_t cap)
{
    if (!is_name(s, cap)) {
        return false;
    }
    memcpy(out, s.p, s.len);
    out[s.len] = '\0';
    return true;
}

/* The claims of a bound token must say the same as its subject. */
static int read_binding(const json_t *claims, struct cert_jwt_claims *c, struct pg_errtext *err)
{
    const json_t *k8s = json_object_get(claims, "kubernetes.io");
    if (k8s == NULL) {
        return 0;
    }
    const json_t *pod = json_object_get(k8s, "pod");
    if (!pg_str_eq_c(get_str(k8s, "namespace"), c->ns) ||
        !pg_str_eq_c(get_str(json_object_get(k8s, "serviceaccount"), "name"), c->sa)) {
        return denied(err, "subject and binding disagree");
    }
    if (pod == NULL) {
        return 0;
    }
    if (!copy_name(get_str(pod, "name"), c->pod_name, sizeof(c->pod_name)) ||
        (json_object_get(pod, "uid") != NULL &&
         !copy_name(get_str(pod, "uid"), c->pod_uid, sizeof(c->pod_uid)))) {
        return denied(err, "malformed pod binding");
    }
    return 0;
}

static int read_claims(const json_t *claims, struct pg_str audience, int64_t now_s,
                       struct cert_jwt_claims *out, struct pg_errtext *err)
{
    struct cert_jwt_claims c = {0};
    int r = check_times(claims, now_s, &c.expires_at, err);
    if (r < 0) {
        return r;
    }
    if (audience.len == 0 || !has_audience(claims, audience)) {
        return denied(err, "wrong audience");
    }
    struct pg_str sub = get_str(claims, "sub");
    const struct pg_str prefix = PG_STR("system:serviceaccount:");
    struct pg_str ns = PG_STR_NONE;
    if (!pg_str_has_prefix(sub, prefix)) {
        return denied(err, "subject is not a service account");
    }
    sub = pg_str_sub(sub, prefix.len);
    if (!pg_str_cut(&sub, ':', &ns) || !copy_name(ns, c.ns, sizeof(c.ns)) ||
        !copy_name(sub, c.sa, sizeof(c.sa))) {
        return denied(err, "subject is not a service account");
    }
    r = read_binding(claims, &c, err);
    if (r == 0) {
        *out = c;
    }
    return r;
}

int cert_jwt_verify(const struct cert_jwks *j, struct pg_str token, struct pg_str audience, int64_t now_s,
                    struct cert_jwt_claims *out, struct pg_errtext *err)
{
    ptrdiff_t dot1 = pg_str_chr(token, '.');
    ptrdiff_t dot2 = pg_str_rchr(token, '.');
    if (token.len == 0 || token.len > CERT_JWT_MAX || dot1 < 0 || dot2 == dot1) {
        return denied(err, "malformed");
    }
    struct pg_str head = pg_str_n(token.p, (size_t)dot1);
    struct pg_str body = pg_str_n(token.p + dot1 + 1, (size_t)(dot2 - dot1 - 1));
    struct pg_str sig = pg_str_sub(token, (size_t)dot2 + 1);
    if (pg_str_chr(body, '.') >= 0) {
        return denied(err, "malformed");
    }
    int r = check_signature(j, head, pg_str_n(token.p, (size_t)dot2), sig, err);
    if (r < 0) {
        return r;
    }
    json_t *claims = part_json(body);
    if (claims == NULL) {
        return denied(err, "malformed claims");
    }
    r = read_claims(claims, audience, now_s, out, err);
    json_decref(claims);
    return r;
}

/* ---- issuing ---- */

/* Key id: the first 16 hex digits of the SHA-256 of the public point. */
static void make_kid(const uint8_t point[64], char out[17])
{
    char hex[65];
    cert_sha256_hex(point, 64, hex);
    memcpy(out, hex, 16);
    out[16] = '\0';
}

static int write_jwks(const char *dir, const struct cert_jws_key *k, struct pg_errtext *err)
{
    uint8_t point[64];
    char kid[17];
    struct pg_sb text;
    struct pg_sb x;
    struct pg_sb y;
    struct pg_json j;
    int r = cert_jws_point(k, point, point + 32);
    if (r < 0) {
        pg_err_set(err, "%s", pg_err_str(r));
        return r;
    }
    make_kid(point, kid);
    pg_sb_init(&text, 4096);
    pg_sb_init(&x, 64);
    pg_sb_init(&y, 64);
    pg_base64_encode(pg_str_n((const char *)point, 32), true, &x);
    pg_base64_encode(pg_str_n((const char *)point + 32, 32), true, &y);
    pg_json_init(&j, &text, true);
    pg_json_obj(&j);
    pg_json_key(&j, "keys");
    pg_json_arr(&j);
    pg_json_obj(&j);
    pg_json_kc(&j, "kty", "EC");
    pg_json_kc(&j, "crv", "P-256");
    pg_json_kc(&j, "alg", "ES256");
    pg_json_kc(&j, "use", "sig");
    pg_json_kc(&j, "kid", kid);
    pg_json_kstr(&j, "x", pg_sb_view(&x));
    pg_json_kstr(&j, "y", pg_sb_view(&y));
    pg_json_obj_end(&j);
    pg_json_arr_end(&j);
    pg_json_obj_end(&j);
    pg_sb_ch(&text, '\n');
    r = x.err != 0 ? x.err : y.err != 0 ? y.err : text.err;
    if (r == 0) {
        r = cert_file_write(dir, "jwks.json", pg_sb_view(&text), 0644, err);
    } else {
        pg_err_set(err, "%s", pg_err_str(r));
    }
    pg_sb_fini(&text);
    pg_sb_fini(&x);
    pg_sb_fini(&y);
    return r;
}

int cert_issuer_make(const char *dir, struct pg_errtext *err)
{
    struct cert_jws_key *k = NULL;
    struct pg_sb pem;
    int r = cert_dir_make(dir, err);
    if (r < 0) {
        return r;
    }
    if (cert_file_exists(dir, "issuer-key.pem")) {
        pg_err_set(err, "%s/issuer-key.pem exists", dir);
        return PG_E_EXISTS;
    }
    r = cert_jws_new(&k, err);
    if (r < 0) {
        return r;
    }
    pg_sb_init(&pem, CERT_PEM_MAX);
    r = write_jwks(dir, k, err);
    if (r == 0) {
        r = cert_jws_pem(k, &pem);
        if (r < 0) {
            pg_err_set(err, "%s", pg_err_str(r));
        }
    }
    if (r == 0) { /* last: its presence says "complete" */
        r = cert_file_write(dir, "issuer-key.pem", pg_sb_view(&pem), 0600, err);
    }
    if (pem.p != NULL) {
        pg_wipe(pem.p, pem.cap);
    }
    pg_sb_fini(&pem);
    cert_jws_key_free(k);
    return r;
}

static void add_part(struct pg_sb *out, const struct pg_sb *json)
{
    if (json->err != 0) {
        out->err = json->err;
        return;
    }
    pg_base64_encode(pg_sb_view(json), true, out);
}

static void write_claims(struct pg_sb *out, const char *ns, const char *sa, const char *pod,
                         const char *audience, int64_t now_s, int64_t ttl_s)
{
    struct pg_json j;
    struct pg_sb sub;
    pg_sb_init(&sub, 1024);
    pg_sb_fmt(&sub, "system:serviceaccount:%s:%s", ns, sa);
    pg_json_init(&j, out, false);
    pg_json_obj(&j);
    pg_json_kc(&j, "iss", "isthmus");
    pg_json_kstr(&j, "sub", pg_sb_view(&sub));
    pg_json_key(&j, "aud");
    pg_json_arr(&j);
    pg_json_c(&j, audience);
    pg_json_arr_end(&j);
    pg_json_ki64(&j, "iat", now_s);
    pg_json_ki64(&j, "nbf", now_s);
    pg_json_ki64(&j, "exp", now_s + ttl_s);
    pg_json_key(&j, "kubernetes.io");
    pg_json_obj(&j);
    pg_json_kc(&j, "namespace", ns);
    pg_json_key(&j, "serviceaccount");
    pg_json_obj(&j);
    pg_json_kc(&j, "name", sa);
    pg_json_obj_end(&j);
    if (pod != NULL) {
        pg_json_key(&j, "pod");
        pg_json_obj(&j);
        pg_json_kc(&j, "name", pod);
        pg_json_obj_end(&j);
    }
    pg_json_obj_end(&j);
    pg_json_obj_end(&j);
    if (sub.err != 0) {
        out->err = sub.err;
    }
    pg_sb_fini(&sub);
}

static int sign_token(const struct cert_jws_key *k, const struct pg_sb *claims, struct pg_sb *token)
{
    uint8_t point[64];
    uint8_t sig[64];
    char kid[17];
    struct pg_sb head;
    int r = cert_jws_point(k, point, point + 32);
    if (r < 0) {
        return r;
    }
    make_kid(point, kid);
    pg_sb_init(&head, 256);
    pg_sb_fmt(&head, "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}", kid);
    add_part(token, &head);
    pg_sb_ch(token, '.');
    add_part(token, claims);
    pg_sb_fini(&head);
    r = token->err;
    if (r == 0) {
        r = cert_jws_sign(k, pg_sb_view(token), sig);
    }
    if (r == 0) {
        pg_sb_ch(token, '.');
        pg_base64_encode(pg_str_n((const char *)sig, sizeof(sig)), true, token);
        r = token->err;
    }
    return r;
}

int cert_issuer_token(const char *dir, const char *ns, const char *sa, const char *pod, const char *audience,
                      int64_t now_s, int64_t ttl_s, struct pg_sb *out, struct pg_errtext *err)
{
    struct cert_jws_key *k = NULL;
    struct pg_sb pem;
    struct pg_sb claims;
    struct pg_sb token;
    const size_t cap = sizeof(((struct cert_jwt_claims *)NULL)->ns);

    if (!is_name(pg_str_c(ns), cap) || !is_name(pg_str_c(sa), cap) ||
        (pod != NULL && !is_name(pg_str_c(pod), cap)) || audience[0] == '\0' || strlen(audience) > 1024 ||
        ttl_s <= 0 || ttl_s > JWT_TTL_MAX_S) {
        pg_err_set(err, "bad namespace, service account, pod, audience or lifetime");
        return PG_E_CONFIG;
    }
    pg_sb_init(&pem, CERT_PEM_MAX);
    pg_sb_init(&claims, CERT_JWT_MAX / 2);
    pg_sb_init(&token, CERT_JWT_MAX);
    int r = cert_file_read(dir, "issuer-key.pem", CERT_PEM_MAX, &pem, err);
    if (r == 0) {
        r = cert_jws_load(pg_sb_view(&pem), &k, err);
    }
    if (r == 0) {
        write_claims(&claims, ns, sa, pod, audience, now_s, ttl_s);
        r = sign_token(k, &claims, &token);
        if (r == 0) {
            pg_sb_str(out, pg_sb_view(&token));
            r = out->err;
        }
        if (r < 0) {
            pg_err_set(err, "%s", pg_err_str(r));
        }
    }
    if (pem.p != NULL) {
        pg_wipe(pem.p, pem.cap);
    }
    pg_sb_fini(&pem);
    pg_sb_fini(&claims);
    pg_sb_fini(&token);
    cert_jws_key_free(k);
    return r;
}
