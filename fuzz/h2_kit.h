/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For targets that feed bytes to one HTTP/2 session: the session with owners that echo what they read, and
 * the far end of its transport, by which the bytes go in. Checks the promises of net/h2.h about callbacks.
 * Virtual time. One thread.
 */
#ifndef ISTHMUS_FUZZ_H2_KIT_H
#define ISTHMUS_FUZZ_H2_KIT_H

#include "fuzz.h"

#include "net/h2.h"
#include "net/loop_sim.h"

#define KIT_STREAMS 64u

struct kit;
struct kit_stream {
    struct kit *kit;
    struct pg_h2_stream *s; /* NULL: closed by us */
    bool server, closed;
    char held[512]; /* read and not written back */
    size_t have;
    bool ended;
};
struct kit {
    struct pg_loop *loop;
    struct pg_h2 *h2;
    struct pg_transport *raw;
    struct kit_stream streams[KIT_STREAMS];
    size_t n;
    uint8_t mood; /* choices of the input about what owners do */
    bool session_closed;
};
enum {
    KIT_FREE_IN_REQUEST = 1,
    KIT_REFUSE = 2,
    KIT_NO_CREDIT = 4,
    KIT_TRAILERS = 8,
    KIT_DRAIN = 16,
    KIT_LAZY = 32
};

static inline void kit_close(struct kit_stream *x, uint32_t code)
{
    pg_h2_stream_close(x->s, code);
    x->s = NULL;
}

static inline void kit_end(struct kit_stream *x)
{
    const struct pg_h2_field f = {PG_STR("grpc-status"), PG_STR("0"), false};
    const struct pg_h2_head head = {&f, 1};
    if (!x->ended) {
        x->ended = true;
        int r = x->kit->mood & KIT_TRAILERS && x->server ? pg_h2_trailers(x->s, &head) : pg_h2_end(x->s);
        if (r < 0) {
            kit_close(x, PG_H2_CANCEL);
        }
    }
}

/* Reads and writes back until one of the two pushes back. */
static inline void kit_pump(struct kit_stream *x)
{
    while (x->s != NULL) {
        if (x->have == 0) {
            ssize_t n = pg_h2_read(x->s, x->held, sizeof(x->held));
            if (n <= 0) {
                if (n == 0) {
                    kit_end(x);
                } else if (n != PG_E_AGAIN) {
                    kit_close(x, PG_H2_CANCEL);
                }
                return;
            }
            x->have = (size_t)n;
            if (!(x->kit->mood & KIT_NO_CREDIT)) {
                pg_h2_consumed(x->s, x->have);
            }
        }
        struct iovec iov = {x->held, x->have};
        ssize_t n = x->ended || !x->server ? (ssize_t)x->have : pg_h2_writev(x->s, &iov, 1);
        if (n == PG_E_AGAIN) {
            return;
        }
        if (n <= 0) {
            PG_BUG_ON(n == 0);
            kit_close(x, PG_H2_CANCEL);
            return;
        }
        x->have -= (size_t)n;
        memmove(x->held, x->held + n, x->have);
    }
}

static inline void kit_on_response(struct pg_h2_stream *s, const struct pg_h2_head *head, bool end, void *arg)
{
    struct kit_stream *x = arg;
    PG_BUG_ON(x->s != s || x->closed || pg_h2_head_get(head, ":status").len != 3);
    (void)end;
}
static inline void kit_on_io(struct pg_h2_stream *s, void *arg)
{
    struct kit_stream *x = arg;
    PG_BUG_ON(x->s != s);
    if (!(x->kit->mood & KIT_LAZY)) {
        kit_pump(x);
    }
}
static inline void kit_on_trailers(struct pg_h2_stream *s, const struct pg_h2_head *head, void *arg)
{
    struct kit_stream *x = arg;
    PG_BUG_ON(x->s != s || x->closed);
    for (size_t i = 0; i < head->n; i++) {
        PG_BUG_ON(head->fields[i].name.len > 0 && head->fields[i].name.p[0] == ':');
    }
}
static inline void kit_on_stream_closed(struct pg_h2_stream *s, uint32_t code, int err, void *arg)
{
    struct kit_stream *x = arg;
    PG_BUG_ON(x->s != s || x->closed || x->kit->session_closed);
    (void)code;
    (void)err;
    x->closed = true;
    if (!(x->kit->mood & KIT_LAZY)) {
        kit_pump(x);
        kit_close(x, PG_H2_NO_ERROR);
    }
}
static const struct pg_h2_stream_callbacks kit_stream_cb = {kit_on_response, kit_on_io, kit_on_io,
                                                            kit_on_trailers, kit_on_stream_closed};

static inline void kit_on_request(struct pg_h2 *h, struct pg_h2_stream *s, const struct pg_h2_head *head,
                                  bool end, void *arg)
{
    struct kit *k = arg;
    const struct pg_h2_field status = {PG_STR(":status"), PG_STR("200"), false};
    const struct pg_h2_head answer = {&status, 1};
    PG_BUG_ON(h != k->h2 || pg_h2_head_get(head, ":method").len == 0);
    if (k->mood & KIT_FREE_IN_REQUEST && k->n == 1) {
        k->h2 = NULL;
        pg_h2_free(h);
        pg_h2_stream_close(s, PG_H2_CANCEL);
        return;
    }
    if (k->n == KIT_STREAMS || (k->mood & KIT_REFUSE && k->n % 2 == 1)) {
        k->n += k->n < KIT_STREAMS;
        pg_h2_stream_close(s, PG_H2_REFUSED_STREAM);
        return;
    }
    struct kit_stream *x = &k->streams[k->n++];
    *x = (struct kit_stream){.kit = k, .s = s, .server = true};
    pg_h2_stream_set_owner(s, &kit_stream_cb, x);
    if (pg_h2_respond(s, &answer, false) < 0) {
        kit_close(x, PG_H2_INTERNAL_ERROR);
    } else if (end) {
        kit_end(x);
    }
    if (k->mood & KIT_DRAIN && k->n == 2) {
        pg_h2_drain(h);
    }
}
static inline void kit_on_goaway(struct pg_h2 *h, uint32_t code, void *arg)
{
    PG_BUG_ON(h != ((struct kit *)arg)->h2);
    (void)code;
}
static inline void kit_on_settings(struct pg_h2 *h, void *arg)
{
    PG_BUG_ON(h != ((struct kit *)arg)->h2);
}
static inline void kit_on_closed(struct pg_h2 *h, int err, const char *text, void *arg)
{
    struct kit *k = arg;
    PG_BUG_ON(h != k->h2 || text == NULL || k->session_closed);
    (void)err;
    for (size_t i = 0; i < k->n; i++) {
        PG_BUG_ON(k->streams[i].s != NULL && !k->streams[i].closed);
    }
    k->session_closed = true;
    k->h2 = NULL;
    pg_h2_free(h);
}
static const struct pg_h2_callbacks kit_cb = {kit_on_request, kit_on_goaway, kit_on_closed, kit_on_settings};

/* Hears what the session says and forgets it. */
static inline void kit_hear(struct kit *k)
{
    char buf[4096];
    for (int i = 0; i < 64 && pg_transport_read(k->raw, buf, sizeof(buf)) > 0; i++) {
    }
}

/* Says `s` in pieces of `split` bytes (0: as large as they go); false when nobody listens. */
static inline bool kit_say(struct kit *k, struct pg_str s, size_t split, bool deaf)
{
    for (unsigned idle = 0; s.len > 0 && idle < 50;) {
        size_t n = split != 0 && split < s.len ? split : s.len;
        ssize_t r = pg_transport_write(k->raw, s.p, n);
        if (r < 0 && r != PG_E_AGAIN) {
            return false;
        }
        idle = r > 0 ? 0 : idle + 1;
        s = r > 0 ? pg_str_sub(s, (size_t)r) : s;
        pg_loop_turn(k->loop, false);
        if (!deaf) {
            kit_hear(k);
        }
    }
    return s.len == 0;
}

/* Frames as the input describes them: type, flags, stream, length, payload; so that a fuzzer need not guess
 * lengths. Stream 255 means a large id. */
static inline void kit_say_frames(struct kit *k, struct pg_str in, size_t split, bool deaf)
{
    while (in.len > 0) {
        uint8_t type = fuzz_u8(&in), flags = fuzz_u8(&in), id = fuzz_u8(&in), n = fuzz_u8(&in);
        uint8_t frame[9 + 1020] = {0};
        size_t repeat = type >> 6 == 3 ? 4 : 1; /* longer payloads by repetition */
        struct pg_str payload = fuzz_take(&in, n);
        size_t len = payload.len * repeat;
        for (size_t i = 0; i < repeat && payload.len > 0; i++) {
            memcpy(frame + 9 + i * payload.len, payload.p, payload.len);
        }
        frame[1] = (uint8_t)(len >> 8);
        frame[2] = (uint8_t)len;
        frame[3] = type & 15;
        frame[4] = flags;
        frame[5] = id == 255 ? 0x7f : 0;
        frame[8] = id;
        if (!kit_say(k, pg_str_n((const char *)frame, 9 + len), split, deaf)) {
            return;
        }
    }
}

/* Ends everything as an owner would: handles first, then the session, then the loop. */
static inline void kit_fini(struct kit *k)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->streams[i].s != NULL) {
            kit_pump(&k->streams[i]);
        }
        kit_close(&k->streams[i], PG_H2_CANCEL);
    }
    (void)pg_loop_sim_settle(k->loop, 200);
    pg_h2_free(k->h2);
    pg_transport_close(k->raw);
    (void)pg_loop_sim_settle(k->loop, 200);
    pg_loop_free(k->loop);
}

#endif
