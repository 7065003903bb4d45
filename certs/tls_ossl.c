/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 by libssl over any transport, the reference back end. A BIO joins libssl to the transport below:
 * ciphertext is read in large pieces into one scratch area per thread, and what a call leaves over is carried
 * by the connection; sealed records gather in a bounded queue which is written once when the writer has
 * finished. Invariant: status() is 1, and the first byte is given out, only after the peer's chain and
 * identity were accepted. Loop thread.
 */
#include "certs/ossl_int.h"
#include "core/addr.h"
#include "core/buf.h"
#include "core/clock.h"

#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>

#define RECORD_MAX 16384u               /* plaintext of one record */
#define RECORD_COST (RECORD_MAX + 256u) /* the most it becomes when sealed */
#define OUT_MAX (512u * 1024u)          /* sealed bytes waiting before writes push back */
#define OUT_LOW (256u * 1024u)          /* below this the owner hears of room */
#define OUT_BIG (128u * 1024u)          /* do not wait for the end of the turn with more than this */
#define OUT_SLACK (128u * 1024u)        /* for handshake and alerts beyond OUT_MAX */
#define SCRATCH 65536u                  /* ciphertext taken from below at once */
#define FILLS_MAX 4u                    /* reads below in one call, so that no peer holds the thread */
#define DIRECT_MAX 256u                 /* the same when the scratch area is taken and reads are small */
#define REKEY_RECORDS (1u << 23) /* AES-GCM's limit is 2^24.5 full records for one key (RFC 8446 5.5) */
#define USELESS_MAX 32u          /* messages after the handshake in a row without data */
#define FLUSH_IOV 32

struct carry { /* ciphertext read but not yet used */
    uint8_t *p;
    size_t off, len;
};
struct tls {
    struct pg_transport t;
    struct pg_loop *loop;
    struct pg_transport *lower;
    struct cert_creds *creds;
    struct cert_expectation expect;
    SSL *ssl;
    struct pg_buf out;
    struct carry carry;
    struct pg_defer turn;
    struct pg_defer dead;
    unsigned want, lower_want;
    int err;       /* final */
    int lower_err; /* the layer below failed on read */
    bool lower_eof;
    bool lower_dry;   /* its last read in this call came back short: it says itself when there is more */
    bool nomem;       /* the BIO could not keep bytes */
    bool refused;     /* by us; the reason is in `text` */
    bool accepted;    /* a peer certificate passed all rules */
    bool done;        /* handshake over, peer accepted */
    bool eof;         /* close_notify came */
    bool more;        /* bytes may be read without the layer below becoming ready */
    bool shut;        /* shutdown was asked for */
    bool notified;    /* close_notify is sealed */
    bool lower_shut;  /* and the layer below was told */
    bool told;        /* the owner was called outside the deferred phase of this turn */
    bool lower_ready; /* the layer below became readable while `turn` was scheduled */
    bool heard;       /* the peer spoke after the handshake; a server needs no such proof */
    bool write_waits; /* libssl wants to read before it can write */
    bool closing;
    size_t fill_size;
    unsigned fills;
    unsigned useless; /* KeyUpdates and tickets since the last data: each costs us far more than its sender */
    uint32_t sealed;  /* records under the present key */
    int64_t peer_not_after;
    char peer_id[CERT_SPIFFE_MAX + 1];
    struct pg_errtext text;
};

/* One per thread: the ciphertext of the call in progress, and plaintext pieces being put together. */
static _Thread_local struct {
    struct tls *owner; /* NULL: free. Calls nest when TLS runs over TLS */
    size_t off, len;
    uint8_t in[SCRATCH];
    uint8_t plain[RECORD_MAX];
} scratch;

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;
static const struct pg_transport_ops tls_ops;

static struct tls *tls_of(struct pg_transport *t)
{
    PG_BUG_ON(t->ops != &tls_ops);
    return PG_CONTAINER_OF(t, struct tls, t);
}

/* ---- failure ---- */

static void fail(struct tls *t, int err, const char *fmt, ...) PG_PRINTF(3, 4);
static void fail(struct tls *t, int err, const char *fmt, ...)
{
    if (t->err != 0) {
        return;
    }
    t->err = err;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(t->text.text, sizeof(t->text.text), fmt, ap);
    va_end(ap);
}

static void fail_lower(struct tls *t, int err)
{
    const char *text = pg_transport_error_text(t->lower);
    fail(t, err, "%s", text[0] != '\0' ? text : pg_err_str(err));
}

/* After a call into libssl failed for good: the most telling cause wins. Empties OpenSSL's queue. */
static void fail_ssl(struct tls *t)
{
    unsigned long code = ERR_peek_last_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    const char *words = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (t->refused) {
        t->err = PG_E_UNTRUSTED; /* text is there */
    } else if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
        fail(t, PG_E_TLS, "remote error: tls: %s", cert_ossl_alert_text(reason - SSL_AD_REASON_OFFSET));
    } else if (t->useless > USELESS_MAX) {
        fail(t, PG_E_TLS, "tls: too many ignored records");
    } else if (t->nomem) {
        fail(t, PG_E_NOMEM, "out of memory");
    } else if (t->lower_err != 0) {
        fail_lower(t, t->lower_err);
    } else if (t->lower_eof) {
        fail(t, PG_E_RESET, "unexpected EOF");
    } else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        fail(t, PG_E_UNTRUSTED, "tls: client didn't provide a certificate");
    } else {
        fail(t, PG_E_TLS, "tls: %s", words != NULL ? words : "protocol failure");
    }
    ERR_clear_error();
}

static void refuse(struct tls *t, const struct pg_errtext *why)
{
    if (!t->refused && t->err == 0) {
        t->refused = true;
        t->text = *why;
    }
}

/* ---- the BIO ---- */

static void use_scratch(struct tls *t, size_t wanted)
{
    t->fills = 0;
    t->lower_dry = false;
    t->fill_size = wanted + RECORD_COST < SCRATCH ? wanted + RECORD_COST : SCRATCH;
    if (scratch.owner == NULL) {
        scratch.owner = t;
        scratch.off = 0;
        scratch.len = 0;
    }
}

/* Keeps what the call did not use. */
static void leave_scratch(struct tls *t)
{
    if (scratch.owner != t) {
        return;
    }
    scratch.owner = NULL;
    size_t left = scratch.len - scratch.off;
    if (left == 0) {
        return;
    }
    /* the scratch area is filled only when nothing is carried */
    t->carry.p = pg_memdup(scratch.in + scratch.off, left);
    if (t->carry.p == NULL) {
        t->nomem = true;
        fail(t, PG_E_NOMEM, "out of memory");
        return;
    }
    t->carry.off = 0;
    t->carry.len = left;
}

/* Bytes that libssl can get without asking the layer below. */
static bool has_ciphertext(const struct tls *t)
{
    return t->carry.len > 0 || (scratch.owner == t && scratch.off < scratch.len);
}

static ssize_t read_lower(struct tls *t, void *p, size_t cap)
{
    if (t->lower_err != 0) {
        return t->lower_err;
    }
    if (t->lower_eof) {
        return 0;
    }
    if (t->lower_dry || t->fills >= (scratch.owner == t ? FILLS_MAX : DIRECT_MAX)) {
        return PG_E_AGAIN; /* what the layer below still has, it tells of in the next turn */
    }
    t->fills++;
    ssize_t n = pg_transport_read(t->lower, p, cap);
    t->lower_dry = n != 0 && n < (ssize_t)cap;
    if (n > 0) {
        pg_transport_consumed(t->lower, (size_t)n);
    } else if (n == 0) {
        t->lower_eof = true;
    } else if (n != PG_E_AGAIN) {
        t->lower_err = (int)n;
    }
    return n;
}

static int bio_read(BIO *b, char *buf, size_t len, size_t *got)
{
    struct tls *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (t->useless > USELESS_MAX) {
        return -1; /* libssl has no other place to stop at */
    }
    if (t->carry.len > 0) {
        size_t n = len < t->carry.len ? len : t->carry.len;
        memcpy(buf, t->carry.p + t->carry.off, n);
        t->carry.off += n;
        t->carry.len -= n;
        if (t->carry.len == 0) {
            pg_free(t->carry.p);
            t->carry = (struct carry){0};
        }
        *got = n;
        return 1;
    }
    bool mine = scratch.owner == t;
    if (!mine || scratch.off == scratch.len) {
        ssize_t n = mine ? read_lower(t, scratch.in, t->fill_size) : read_lower(t, buf, len);
        if (n <= 0) {
            if (n == PG_E_AGAIN) {
                BIO_set_retry_read(b);
            }
            return -1;
        }
        if (!mine) {
            *got = (size_t)n;
            return 1;
        }
        scratch.off = 0;
        scratch.len = (size_t)n;
    }
    size_t n = len < scratch.len - scratch.off ? len : scratch.len - scratch.off;
    memcpy(buf, scratch.in + scratch.off, n);
    scratch.off += n;
    *got = n;
    return 1;
}

static int bio_write(BIO *b, const char *p, size_t len, size_t *put)
{
    struct tls *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (pg_buf_add(&t->out, p, len) < 0) {
        t->nomem = true;
        return -1;
    }
    *put = len;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static void make_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pg_transport");
    if (m != NULL && BIO_meth_set_read_ex(m, bio_read) == 1 && BIO_meth_set_write_ex(m, bio_write) == 1 &&
        BIO_meth_set_ctrl(m, bio_ctrl) == 1) {
        bio_method = m;
    } else {
        BIO_meth_free(m);
    }
}

/* ---- what libssl asks during the handshake ---- */

static bool is_h2(SSL *ssl)
{
    const unsigned char *p = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(ssl, &p, &len);
    return len == 2 && memcmp(p, "h2", 2) == 0;
}

/* Chain, then identity. A refusal becomes the alert that belongs to the error left in `ctx`. */
static int on_verify(X509_STORE_CTX *ctx, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *t = SSL_get_app_data(ssl);
    struct pg_errtext why = {.text = ""};
    int64_t now = pg_clock_wall_s();
    if (!is_h2(ssl)) { /* known before the certificate on both sides */
        pg_err_set(&why, "tls: peer did not agree on the application protocol h2");
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
        refuse(t, &why);
        return 0;
    }
    if (!cert_ossl_verify(ctx, &t->creds->roots, SSL_is_server(ssl) ? "ssl_client" : "ssl_server", now,
                          &why)) {
        refuse(t, &why);
        return 0;
    }
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    if (cert_ossl_accept(t->creds, &t->expect, leaf, t->peer_id, &why) < 0 ||
        cert_ossl_time(X509_get0_notAfter(leaf), &t->peer_not_after) < 0) {
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
        refuse(t, &why);
        return 0;
    }
    t->accepted = true;
    return 1;
}

/* Server: a client without any ALPN never reaches on_alpn. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    (void)arg;
    const unsigned char *p = NULL;
    size_t len = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p, &len) == 1) {
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    struct pg_errtext why;
    pg_err_set(&why, "tls: client did not offer the application protocol h2");
    refuse(SSL_get_app_data(ssl), &why);
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < in_len; i += 1u + in[i]) {
        if (in[i] == 2 && in_len - i >= 3 && memcmp(in + i + 1, "h2", 2) == 0) {
            *out = in + i + 1;
            *out_len = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    struct pg_errtext why;
    pg_err_set(&why, "tls: client requested unsupported application protocols");
    refuse(SSL_get_app_data(ssl), &why);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void on_message(int sent, int version, int type, const void *p, size_t len, SSL *ssl, void *arg)
{
    (void)version;
    (void)p;
    (void)len;
    (void)arg;
    struct tls *t = SSL_get_app_data(ssl);
    if (sent == 0 && type == SSL3_RT_HANDSHAKE && t->done) {
        t->useless++;
    }
}

void cert_tls_setup(SSL_CTX *client, SSL_CTX *server)
{
    SSL_CTX_set_cert_verify_callback(client, on_verify, NULL);
    SSL_CTX_set_msg_callback(client, on_message);
    if (server != NULL) {
        SSL_CTX_set_msg_callback(server, on_message);
        SSL_CTX_set_cert_verify_callback(server, on_verify, NULL);
        SSL_CTX_set_client_hello_cb(server, on_client_hello, NULL);
        SSL_CTX_set_alpn_select_cb(server, on_alpn, NULL);
    }
}

/* ---- readiness ---- */

static bool is_writable(const struct tls *t)
{
    return t->done && !t->shut && !t->write_waits && t->out.len < OUT_LOW;
}

/* What the owner may hear of without the layer below. */
static unsigned condition(const struct tls *t)
{
    unsigned rw = 0;
    if (t->err != 0) {
        return t->want != 0 ? PG_READ | PG_WRITE : 0;
    }
    if (t->done && (t->more || t->eof)) {
        rw |= PG_READ;
    }
    if (is_writable(t)) {
        rw |= PG_WRITE;
    }
    return rw & t->want;
}

static void update(struct tls *t)
{
    unsigned w = t->out.len > 0 ? PG_WRITE : 0;
    bool over = t->err != 0 || t->eof || t->lower_eof || t->lower_err != 0;
    if (!over && (!t->done || (t->want & PG_READ) != 0 || t->write_waits)) {
        w |= PG_READ;
    }
    if (w != t->lower_want) {
        t->lower_want = w;
        pg_transport_want(t->lower, w);
    }
    if (condition(t) != 0) {
        pg_loop_defer(t->loop, &t->turn);
    }
}

static void deliver(struct tls *t, unsigned rw)
{
    if (rw != 0 && t->t.on_ready != NULL) {
        t->t.on_ready(&t->t, rw, t->t.arg);
    }
}

/* ---- output ---- */

static void write_failed(struct tls *t, int err)
{
    pg_buf_drop(&t->out, t->out.len);
    fail_lower(t, err);
}

/* A client's own handshake is over before the server has judged its certificate. Until the server was heard,
 * its alert is looked for before anything is written: a write to a server that said no and left would leave
 * "reset" as the only reason. */
static void listen_first(struct tls *t)
{
    uint8_t byte;
    size_t n = 0;
    if (!t->done || t->heard || t->err != 0 || t->eof) {
        return;
    }
    use_scratch(t, RECORD_MAX);
    ERR_clear_error();
    if (SSL_peek_ex(t->ssl, &byte, 1, &n) == 1) {
        t->heard = true;
        t->more = true;
    } else {
        int e = SSL_get_error(t->ssl, 0);
        if (e == SSL_ERROR_ZERO_RETURN) {
            t->more = true; /* the reader will find it */
        } else if (e != SSL_ERROR_WANT_READ) {
            fail_ssl(t);
        }
    }
    leave_scratch(t);
}

/* Seals close_notify as soon as libssl can, after everything written. */
static void try_notify(struct tls *t)
{
    if (!t->shut || t->notified || !t->done || t->err != 0 || SSL_in_init(t->ssl)) {
        return;
    }
    ERR_clear_error();
    if (SSL_shutdown(t->ssl) < 0) {
        fail_ssl(t);
        return;
    }
    t->notified = true;
}

static void flush(struct tls *t)
{
    struct iovec iov[FLUSH_IOV];
    try_notify(t);
    if (t->out.len > 0) {
        listen_first(t);
    }
    while (t->out.len > 0) {
        int k = pg_buf_peek(&t->out, iov, FLUSH_IOV);
        ssize_t n = pg_transport_writev(t->lower, iov, k);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n < 0) {
            write_failed(t, (int)n);
            return;
        }
        pg_buf_drop(&t->out, (size_t)n);
    }
    if (t->notified && !t->lower_shut) {
        t->lower_shut = true;
        int r = pg_transport_shutdown(t->lower);
        if (r < 0) {
            write_failed(t, r);
        }
    }
}

/* ---- handshake ---- */

static void handshake_done(struct tls *t)
{
    bool anonymous = t->expect.kind == CERT_EXPECT_OPTIONAL && SSL_get0_peer_certificate(t->ssl) == NULL;
    if ((!t->accepted && !anonymous) || !is_h2(t->ssl)) {
        fail(t, PG_E_UNTRUSTED, "tls: peer was not verified");
        return;
    }
    t->done = true;
    t->more = has_ciphertext(t);
}

static void handshake(struct tls *t)
{
    use_scratch(t, 0);
    ERR_clear_error();
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        handshake_done(t);
    } else if (SSL_get_error(t->ssl, r) != SSL_ERROR_WANT_READ) {
        fail_ssl(t);
    }
    leave_scratch(t);
}

static void on_lower(struct pg_transport *lower, unsigned rw, void *arg)
{
    (void)lower;
    struct tls *t = arg;
    if (!t->done && t->err == 0) {
        handshake(t);
    }
    if ((rw & PG_READ) != 0) {
        t->write_waits = false;
    }
    flush(t);
    bool readable = t->done && (rw & PG_READ) != 0;
    if (pg_list_is_linked(&t->turn.node)) {
        t->lower_ready = t->lower_ready || readable; /* one call a turn: from on_turn */
        update(t);
        return;
    }
    unsigned tell = condition(t) | (readable ? t->want & PG_READ : 0);
    if (tell != 0) {
        t->told = true;
        pg_loop_defer(t->loop, &t->turn);
    }
    update(t);
    deliver(t, tell);
}

static void on_turn(struct pg_defer *d)
{
    struct tls *t = PG_CONTAINER_OF(d, struct tls, turn);
    if (!t->done && t->err == 0) {
        handshake(t);
    }
    flush(t);
    unsigned tell = t->told && !t->lower_ready ? 0 : condition(t) | (t->lower_ready ? t->want & PG_READ : 0);
    t->told = false;
    t->lower_ready = false;
    update(t); /* schedules itself again when there was something to tell: on_lower sees that this turn had
                  its call */
    deliver(t, tell);
}

/* ---- operations ---- */

static ssize_t tls_read(struct pg_transport *tp, void *buf, size_t cap)
{
    struct tls *t = tls_of(tp);
    uint8_t *p = buf;
    size_t got = 0;
    if (t->err != 0) {
        return t->err;
    }
    if (t->eof) {
        return 0;
    }
    if (!t->done || cap == 0) {
        return PG_E_AGAIN;
    }
    t->more = false;
    use_scratch(t, cap);
    ERR_clear_error();
    while (got < cap) {
        size_t n = 0;
        if (SSL_read_ex(t->ssl, p + got, cap - got, &n) == 1) {
            t->useless = 0;
            got += n;
            continue;
        }
        int e = SSL_get_error(t->ssl, 0);
        if (e == SSL_ERROR_ZERO_RETURN) {
            t->eof = true;
        } else if (e != SSL_ERROR_WANT_READ) {
            fail_ssl(t);
        }
        break;
    }
    if (got == cap) {
        t->more = SSL_pending(t->ssl) > 0 || has_ciphertext(t) || t->lower_eof || t->lower_err != 0;
    }
    leave_scratch(t);
    try_notify(t); /* may have waited for a message to be complete */
    update(t);
    if (got > 0) {
        t->heard = true;
        return (ssize_t)got;
    }
    return t->err != 0 ? t->err : t->eof ? 0 : PG_E_AGAIN;
}

/* Next piece of plaintext, at most one record: in place when the caller's block is large, else put together.
 */
static size_t next_piece(const struct iovec *iov, int n, int *at, size_t *off, const uint8_t **out)
{
    size_t len = 0;
    while (*at < n && len < RECORD_MAX) {
        const uint8_t *p = (const uint8_t *)iov[*at].iov_base + *off;
        size_t left = iov[*at].iov_len - *off;
        if (len == 0 && left >= RECORD_MAX) {
            *off += RECORD_MAX;
            *out = p;
            return RECORD_MAX;
        }
        size_t take = left < RECORD_MAX - len ? left : RECORD_MAX - len;
        if (take > 0) {
            memcpy(scratch.plain + len, p, take);
        }
        len += take;
        *off += take;
        if (*off == iov[*at].iov_len) {
            (*at)++;
            *off = 0;
        }
    }
    *out = scratch.plain;
    return len;
}

/* Seals one piece: bytes taken, 0 when libssl must read first, or the final error. */
static ssize_t seal(struct tls *t, const uint8_t *p, size_t len)
{
    size_t put = 0;
    ERR_clear_error();
    if (++t->sealed >= REKEY_RECORDS && SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) {
        t->sealed = 0;
    }
    if (SSL_write_ex(t->ssl, p, len, &put) == 1) {
        return (ssize_t)put;
    }
    if (SSL_get_error(t->ssl, 0) == SSL_ERROR_WANT_READ) {
        t->write_waits = true;
        return 0;
    }
    fail_ssl(t);
    return t->err;
}

static ssize_t tls_writev(struct pg_transport *tp, const struct iovec *iov, int n)
{
    struct tls *t = tls_of(tp);
    size_t taken = 0;
    size_t off = 0;
    int at = 0;
    if (t->err != 0) {
        return t->err;
    }
    if (t->shut) {
        return PG_E_CLOSED;
    }
    if (!t->done) {
        return PG_E_AGAIN;
    }
    while (at < n && !t->write_waits) {
        const uint8_t *p = NULL;
        if (t->out.len + RECORD_COST > OUT_MAX) {
            flush(t);
            if (t->err != 0 || t->out.len + RECORD_COST > OUT_MAX) {
                break;
            }
        }
        size_t len = next_piece(iov, n, &at, &off, &p);
        ssize_t put = len > 0 ? seal(t, p, len) : 0;
        if (put <= 0) {
            break;
        }
        taken += (size_t)put;
        if ((size_t)put < len) {
            break; /* the caller offers the rest again */
        }
    }
    /* A call of ours is due this turn: it flushes. Else the writer runs at the end of the turn already. */
    if (t->out.len >= OUT_BIG || !pg_list_is_linked(&t->turn.node)) {
        flush(t);
    }
    update(t);
    if (taken > 0) {
        return (ssize_t)taken;
    }
    return t->err != 0 ? t->err : PG_E_AGAIN;
}

static int tls_shutdown(struct pg_transport *tp)
{
    struct tls *t = tls_of(tp);
    if (t->err != 0) {
        return t->err;
    }
    t->shut = true;
    flush(t);
    update(t);
    return t->err;
}

static void tls_want(struct pg_transport *tp, unsigned rw)
{
    struct tls *t = tls_of(tp);
    t->want = rw;
    update(t);
}

static void release(struct tls *t)
{
    SSL_free(t->ssl);
    pg_buf_fini(&t->out);
    if (t->carry.p != NULL) {
        pg_free(t->carry.p);
    }
    cert_creds_unref(t->creds);
    pg_free(t->expect.names);
    pg_free(t->expect.text);
    pg_free(t);
}

static void on_dead(struct pg_defer *d)
{
    release(PG_CONTAINER_OF(d, struct tls, dead));
}

static void tls_close(struct pg_transport *tp, bool abrupt)
{
    struct tls *t = tls_of(tp);
    PG_BUG_ON(t->closing);
    t->closing = true;
    t->want = 0;
    pg_defer_cancel(&t->turn);
    if (!abrupt) {
        t->shut = true;
        flush(t); /* close_notify or the alert, when there is room for them */
        pg_transport_close(t->lower);
    } else {
        pg_transport_abort(t->lower);
    }
    t->lower = NULL;
    pg_loop_defer(t->loop, &t->dead);
}

static int tls_status(struct pg_transport *tp)
{
    const struct tls *t = tls_of(tp);
    return t->err != 0 ? t->err : t->done ? 1 : PG_E_AGAIN;
}

static const char *tls_error_text(struct pg_transport *tp)
{
    const struct tls *t = tls_of(tp);
    return t->err != 0 ? t->text.text : "";
}

static size_t tls_pending(struct pg_transport *tp)
{
    const struct tls *t = tls_of(tp);
    return t->out.len + pg_transport_pending(t->lower);
}

static const struct pg_transport_ops tls_ops = {
    .name = "tls",
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .want = tls_want,
    .close = tls_close,
    .status = tls_status,
    .error_text = tls_error_text,
    .pending = tls_pending,
};

/* ---- making one ---- */

static int copy_expect(struct cert_expectation *out, const struct cert_expect *e)
{
    size_t bytes = 0;
    if (e->n_names > CERT_EXPECT_NAMES_MAX) {
        return PG_E_LIMIT;
    }
    for (size_t i = 0; i < e->n_names; i++) {
        bytes += e->names[i].len + 1;
    }
    out->kind = e->kind;
    if (e->n_names == 0) {
        return 0;
    }
    out->names = pg_calloc(e->n_names, sizeof(*out->names));
    out->text = pg_malloc(bytes);
    if (out->names == NULL || out->text == NULL) {
        return PG_E_NOMEM;
    }
    char *at = out->text;
    for (size_t i = 0; i < e->n_names; i++) {
        memcpy(at, e->names[i].p, e->names[i].len);
        at[e->names[i].len] = '\0'; /* for SNI */
        out->names[out->n_names++] = pg_str_n(at, e->names[i].len);
        at += e->names[i].len + 1;
    }
    return 0;
}

static bool set_role(struct tls *t, bool server)
{
    if (server) {
        int mode = SSL_VERIFY_PEER;
        mode |= t->expect.kind == CERT_EXPECT_OPTIONAL ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        SSL_set_verify(t->ssl, mode, NULL);
        SSL_set_accept_state(t->ssl);
        return true;
    }
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_connect_state(t->ssl);
    struct pg_ip ip;
    if (t->expect.kind == CERT_EXPECT_DNS && t->expect.n_names > 0 &&
        pg_ip_parse(t->expect.names[0], &ip) < 0) {
        return SSL_set_tlsext_host_name(t->ssl, t->expect.text) == 1; /* begins with the first name */
    }
    return true;
}

static bool set_bio(struct tls *t)
{
    (void)pthread_once(&bio_once, make_bio_method);
    BIO *b = bio_method != NULL ? BIO_new(bio_method) : NULL;
    if (b == NULL) {
        return false;
    }
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    SSL_set_bio(t->ssl, b, b);
    return true;
}

static int tls_new(struct pg_loop *l, struct pg_transport *lower, struct cert_creds *creds,
                   const struct cert_expect *expect, bool server, struct pg_transport **out)
{
    SSL_CTX *ctx = server ? creds->server : creds->client;
    if (ctx == NULL) {
        return PG_E_CONFIG; /* a server needs a certificate */
    }
    struct tls *t = pg_calloc(1, sizeof(*t));
    if (t == NULL) {
        return PG_E_NOMEM;
    }
    t->t.ops = &tls_ops;
    t->loop = l;
    t->creds = cert_creds_ref(creds);
    t->turn.cb = on_turn;
    t->dead.cb = on_dead;
    pg_buf_init(&t->out, OUT_MAX + OUT_SLACK);
    int r = copy_expect(&t->expect, expect);
    if (r < 0) {
        goto fail;
    }
    ERR_clear_error();
    t->ssl = SSL_new(ctx);
    if (t->ssl == NULL || SSL_set_app_data(t->ssl, t) != 1 || !set_bio(t) || !set_role(t, server)) {
        ERR_clear_error();
        r = PG_E_NOMEM;
        goto fail;
    }
    t->heard = server;
    t->lower = lower;
    pg_transport_set_owner(lower, on_lower, t);
    pg_loop_defer(l, &t->turn); /* the handshake begins from the loop */
    *out = &t->t;
    return 0;
fail:
    release(t);
    return r;
}

int cert_tls_client(struct pg_loop *l, struct pg_transport *lower, struct cert_creds *creds,
                    const struct cert_expect *expect, struct pg_transport **out)
{
    return tls_new(l, lower, creds, expect, false, out);
}

int cert_tls_server(struct pg_loop *l, struct pg_transport *lower, struct cert_creds *creds,
                    const struct cert_expect *expect, struct pg_transport **out)
{
    return tls_new(l, lower, creds, expect, true, out);
}

struct pg_str cert_tls_peer_id(struct pg_transport *tls)
{
    return pg_str_c(tls_of(tls)->peer_id);
}

int64_t cert_tls_peer_not_after(struct pg_transport *tls)
{
    return tls_of(tls)->peer_not_after;
}

struct pg_transport *cert_tls_lower(struct pg_transport *tls)
{
    return tls_of(tls)->lower;
}
