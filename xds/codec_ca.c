/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate call of istio.v1.auth. Invariant: the identity asked for by impersonation is either read
 * whole or the request is refused; of two entries with one key the last counts, as in every protobuf map. Any
 * thread.
 */
#include "xds/codec_disc.h"
#include "xds/codec_mem.h"
#include "xds/wire.h"

#include "citadel.pb-c.h"

static int copy_csr_request(const Istio__V1__Auth__IstioCertificateRequest *m, struct pg_arena *arena,
                            struct xds_csr_request *out, struct pg_errtext *err)
{
    struct xds_csr_request q = {.validity_s = m->validity_duration};
    struct xds_kv *kv = NULL;
    size_t n = 0;
    int r = xds_copy_str(arena, &m->csr, "csr", &q.csr, err);
    if (r == 0 && m->metadata.len != 0) {
        /* The scratch dies before `out`: the values are sliced out of a copy. */
        char *copy = pg_arena_memdup(arena, m->metadata.data, m->metadata.len);
        r = copy != NULL ? xds_struct_decode(pg_str_n(copy, m->metadata.len), arena, &kv, &n, err)
                         : PG_E_NOMEM;
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n; i++) {
        if (pg_str_eq_c(kv[i].key, "ImpersonatedIdentity")) {
            q.impersonated = kv[i].value;
        } else if (pg_str_eq_c(kv[i].key, "CertSigner")) {
            q.cert_signer = kv[i].value;
        }
    }
    *out = q;
    return 0;
}

int xds_csr_request_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_csr_request *out,
                           struct pg_errtext *err)
{
    struct xds_scratch scratch;
    int r = 0;
    const Istio__V1__Auth__IstioCertificateRequest *m =
        xds_scratch_unpack(&scratch, &istio__v1__auth__istio_certificate_request__descriptor, bytes, &r, err);
    if (m != NULL) {
        r = copy_csr_request(m, arena, out, err);
    }
    xds_scratch_fini(&scratch);
    return r;
}

int xds_csr_request_encode(const struct xds_csr_request *r, struct pg_sb *out)
{
    struct xds_kv kv[2];
    size_t n = 0;
    if (r->impersonated.len != 0) {
        kv[n++] = (struct xds_kv){PG_STR("ImpersonatedIdentity"), r->impersonated};
    }
    if (r->cert_signer.len != 0) {
        kv[n++] = (struct xds_kv){PG_STR("CertSigner"), r->cert_signer};
    }
    xds_put_bytes(out, 1, r->csr);
    xds_put_uint(out, 3, (uint64_t)r->validity_s);
    if (n != 0) {
        size_t at = xds_put_open(out, 4);
        xds_struct_put(out, kv, n);
        xds_put_close(out, at);
    }
    return out->err;
}

int xds_csr_response_decode(struct pg_str bytes, struct pg_arena *arena, struct pg_str *chain, size_t *n,
                            struct pg_errtext *err)
{
    struct xds_scratch scratch;
    int r = 0;
    struct pg_str got[XDS_CERT_CHAIN_MAX];
    const Istio__V1__Auth__IstioCertificateResponse *m = xds_scratch_unpack(
        &scratch, &istio__v1__auth__istio_certificate_response__descriptor, bytes, &r, err);
    if (m != NULL && m->n_cert_chain > XDS_CERT_CHAIN_MAX) {
        pg_err_set(err, "%zu certificates in the chain, more than %u", m->n_cert_chain, XDS_CERT_CHAIN_MAX);
        r = PG_E_LIMIT;
    }
    for (size_t i = 0; r == 0 && m != NULL && i < m->n_cert_chain; i++) {
        r = xds_copy_str(arena, &m->cert_chain[i], "certificate", &got[i], err);
    }
    if (r == 0 && m != NULL) {
        memcpy(chain, got, m->n_cert_chain * sizeof(got[0]));
        *n = m->n_cert_chain;
    }
    xds_scratch_fini(&scratch);
    return r;
}

int xds_csr_response_encode(const struct pg_str *chain, size_t n, struct pg_sb *out)
{
    for (size_t i = 0; i < n; i++) {
        xds_put_entry(out, 1, chain[i]);
    }
    return out->err;
}
