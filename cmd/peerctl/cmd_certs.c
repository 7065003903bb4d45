/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl certs`: the root, one intermediate per cluster, the issuer of tokens. Keys are written, never
 * printed; a token is printed because that is what was asked for. One thread.
 */
#include "ctl.h"

#include "certs/ca.h"
#include "certs/file.h"
#include "certs/jwt.h"
#include "core/clock.h"

#define TOKEN_TTL_MS (UINT64_C(24) * 3600 * 1000)

static const char *dir_of(const struct ctl *c)
{
    return c->args.value[ARG_DIR] != NULL ? c->args.value[ARG_DIR] : ".";
}

static int answer_files(struct ctl *c, const char *schema, const char *what, const char *dir,
                        const char *const *files, size_t n)
{
    if (!c->json) {
        printf("%s: %s/", what, dir);
        for (size_t i = 0; i < n; i++) {
            printf("%s%s%s",
                   i == 0 && n > 1 ? "{"
                   : i > 0         ? ","
                                   : "",
                   files[i], i + 1 == n && n > 1 ? "}" : "");
        }
        printf("\n");
        return CTL_OK;
    }
    struct pg_sb out;
    struct pg_json j;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_json_init(&j, &out, true);
    pg_json_obj(&j);
    pg_json_kc(&j, "schema", schema);
    pg_json_kc(&j, "directory", dir);
    pg_json_key(&j, "files");
    pg_json_arr(&j);
    for (size_t i = 0; i < n; i++) {
        pg_json_c(&j, files[i]);
    }
    pg_json_arr_end(&j);
    pg_json_obj_end(&j);
    pg_sb_ch(&out, '\n');
    ctl_print(&out);
    pg_sb_fini(&out);
    return CTL_OK;
}

static int refuse(int r, const struct pg_errtext *err, const char *hint)
{
    return ctl_complain(CTL_FAILED, "%s%s%s", err->text[0] != '\0' ? err->text : pg_err_str(r),
                        r == PG_E_EXISTS ? "; " : "", r == PG_E_EXISTS ? hint : "");
}

int cmd_certs_root(struct ctl *c)
{
    static const char *const files[] = {"root-cert.pem", "root-key.pem"};
    struct pg_errtext err = {""};
    int r = cert_make_root(dir_of(c), args_on(&c->args, ARG_FORCE), &err);
    if (r != 0) {
        return refuse(r, &err, "--force makes a new root, which no certificate of the old one will trust");
    }
    return answer_files(c, "isthmus.certs-root/v1", "root certificate", dir_of(c), files,
                        PG_ARRAY_LEN(files));
}

int cmd_certs_cacerts(struct ctl *c)
{
    static const char *const files[] = {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"};
    const char *cluster = c->args.operands[0];
    struct pg_errtext err = {""};
    if (!cert_file_exists(dir_of(c), "root-cert.pem") || !cert_file_exists(dir_of(c), "root-key.pem")) {
        return ctl_complain(CTL_FAILED,
                            "%s holds no root-cert.pem and root-key.pem; make them with: peerctl certs root "
                            "--dir %s",
                            dir_of(c), dir_of(c));
    }
    int r = cert_make_cacerts(dir_of(c), cluster, args_on(&c->args, ARG_FORCE), &err);
    if (r != 0) {
        return refuse(r, &err, "--force makes a new one");
    }
    return answer_files(c, "isthmus.certs-cacerts/v1", ctl_fmt(c, "intermediate of %s", cluster),
                        ctl_fmt(c, "%s/%s", dir_of(c), cluster), files, PG_ARRAY_LEN(files));
}

int cmd_certs_issuer(struct ctl *c)
{
    static const char *const files[] = {"issuer-key.pem", "jwks.json"};
    struct pg_errtext err = {""};
    int r = cert_dir_make(dir_of(c), &err);
    r = r == 0 ? cert_issuer_make(dir_of(c), &err) : r;
    if (r != 0) {
        return refuse(r, &err, "remove it first: tokens it signed are refused afterwards");
    }
    return answer_files(c, "isthmus.certs-issuer/v1", "token issuer", dir_of(c), files, PG_ARRAY_LEN(files));
}

int cmd_certs_token(struct ctl *c)
{
    const struct args *a = &c->args;
    struct pg_errtext err = {""};
    struct pg_sb token;
    const char *audience = a->value[ARG_AUDIENCE] != NULL ? a->value[ARG_AUDIENCE] : "istio-ca";
    uint64_t ttl_s = ctl_duration(c, ARG_TTL, TOKEN_TTL_MS) / 1000;
    if (ttl_s == 0) {
        return ctl_complain(CTL_USAGE, "--ttl: at least 1s");
    }
    if (!cert_file_exists(dir_of(c), "issuer-key.pem")) {
        return ctl_complain(CTL_FAILED,
                            "%s holds no issuer-key.pem; make it with: peerctl certs issuer --dir %s",
                            dir_of(c), dir_of(c));
    }
    pg_sb_init(&token, CERT_JWT_MAX);
    int64_t now_s = pg_clock_wall_s();
    int r = cert_issuer_token(dir_of(c), a->value[ARG_NAMESPACE], a->value[ARG_SERVICE_ACCOUNT],
                              a->value[ARG_POD], audience, now_s, (int64_t)ttl_s, &token, &err);
    if (r == 0 && c->json) {
        struct pg_sb out;
        struct pg_json j;
        char when[PG_RFC3339_LEN];
        pg_clock_rfc3339((now_s + (int64_t)ttl_s) * 1000000, when);
        pg_sb_init(&out, CTL_MEMORY_MAX);
        pg_json_init(&j, &out, true);
        pg_json_obj(&j);
        pg_json_kc(&j, "schema", "isthmus.certs-token/v1");
        pg_json_kstr(&j, "token", pg_sb_view(&token));
        pg_json_kc(&j, "expires", when);
        pg_json_obj_end(&j);
        pg_sb_ch(&out, '\n');
        ctl_print(&out);
        pg_sb_fini(&out);
    } else if (r == 0) {
        printf("%.*s\n", PG_STR_ARG(pg_sb_view(&token)));
    }
    if (token.p != NULL) {
        pg_wipe(token.p, token.cap);
    }
    pg_sb_fini(&token);
    return r == 0 ? CTL_OK : refuse(r, &err, "");
}

/* --- certs show */

static void facts_text(size_t i, const struct cert_facts *f, int64_t now_s)
{
    char from[PG_RFC3339_LEN];
    char to[PG_RFC3339_LEN];
    pg_clock_rfc3339(f->not_before * 1000000, from);
    pg_clock_rfc3339(f->not_after * 1000000, to);
    const char *state = now_s > f->not_after    ? "expired"
                        : now_s < f->not_before ? "not valid before its time"
                                                : "valid";
    printf("%sCertificate %zu\n  Subject:     %s\n  Issuer:      %s\n", i > 0 ? "\n" : "", i + 1, f->subject,
           f->issuer);
    if (f->uri_san[0] != '\0') {
        printf("  URI:         %s\n", f->uri_san);
    }
    printf("  Serial:      %s\n  Kind:        %s\n  Not before:  %s\n  Not after:   %s (%s)\n  SHA-256:     "
           "%s\n",
           f->serial, f->is_ca ? "CA" : "leaf", from, to, state, f->sha256);
}

static void facts_json(const struct cert_facts *f, int64_t now_s, struct pg_json *j)
{
    char from[PG_RFC3339_LEN];
    char to[PG_RFC3339_LEN];
    pg_clock_rfc3339(f->not_before * 1000000, from);
    pg_clock_rfc3339(f->not_after * 1000000, to);
    pg_json_obj(j);
    pg_json_kc(j, "subject", f->subject);
    pg_json_kc(j, "issuer", f->issuer);
    pg_json_kc(j, "uri", f->uri_san);
    pg_json_kc(j, "serial", f->serial);
    pg_json_kbool(j, "ca", f->is_ca);
    pg_json_kc(j, "notBefore", from);
    pg_json_kc(j, "notAfter", to);
    pg_json_kbool(j, "valid", now_s >= f->not_before && now_s <= f->not_after);
    pg_json_kc(j, "sha256", f->sha256);
    pg_json_obj_end(j);
}

static int show(struct ctl *c, const char *file, struct pg_str pem)
{
    struct cert_facts f;
    struct pg_sb out;
    struct pg_json j;
    int64_t now_s = pg_clock_wall_s();
    size_t n = 0;
    int r;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    pg_json_init(&j, &out, true);
    pg_json_obj(&j);
    pg_json_kc(&j, "schema", "isthmus.certs-show/v1");
    pg_json_key(&j, "certificates");
    pg_json_arr(&j);
    while ((r = cert_facts_of(pem, n, &f)) == 0) {
        if (c->json) {
            facts_json(&f, now_s, &j);
        } else {
            facts_text(n, &f, now_s);
        }
        n++;
    }
    pg_json_arr_end(&j);
    pg_json_obj_end(&j);
    pg_sb_ch(&out, '\n');
    if (c->json && n > 0 && r == PG_E_NOTFOUND) {
        ctl_print(&out);
    }
    pg_sb_fini(&out);
    if (n == 0 || r != PG_E_NOTFOUND) {
        return ctl_complain(CTL_FAILED, "%s: no certificate in PEM form%s%s", file,
                            r != PG_E_NOTFOUND ? ": " : "", r != PG_E_NOTFOUND ? pg_err_str(r) : "");
    }
    return CTL_OK;
}

int cmd_certs_show(struct ctl *c)
{
    const char *file = c->args.operands[0];
    const char *slash = strrchr(file, '/');
    const char *dir = slash == NULL   ? "."
                      : slash == file ? "/"
                                      : ctl_copy(c, pg_str_n(file, (size_t)(slash - file)));
    struct pg_errtext err = {""};
    struct pg_sb pem;
    pg_sb_init(&pem, CERT_PEM_MAX);
    int r = cert_file_read(dir, slash == NULL ? file : slash + 1, CERT_PEM_MAX, &pem, &err);
    int status = r == 0 ? show(c, file, pg_sb_view(&pem)) : ctl_complain(CTL_FAILED, "%s", err.text);
    if (pem.p != NULL) {
        pg_wipe(pem.p, pem.cap); /* the file may hold a key too */
    }
    pg_sb_fini(&pem);
    return status;
}
