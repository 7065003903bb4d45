/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame scanner and token buckets. The invariant: every frame header is looked at exactly once, wherever the
 * reads cut the stream. Limits are far above what honest peers were seen to do (a WINDOW_UPDATE per DATA
 * frame, a PING per round trip under load) and far below what costs us. Loop thread.
 */
#include "net/h2_guard.h"

#include <string.h>

enum {
    F_DATA,
    F_HEADERS,
    F_PRIORITY,
    F_RST_STREAM,
    F_SETTINGS,
    F_PUSH_PROMISE,
    F_PING,
    F_GOAWAY,
    F_WINDOW_UPDATE,
    F_CONTINUATION,
    F_PRIORITY_UPDATE = 0x10
};
enum { PROTOCOL_ERROR = 1, STREAM_CLOSED = 5 };
enum { FLAG_ACK = 0x1, FLAG_END_STREAM = 0x1, FLAG_PADDED = 0x8, FLAG_PRIORITY = 0x20 };

#define EARNED_WINDOW_PER_HEADERS 4
#define EARNED_PRIORITY_PER_HEADERS 4

static const struct {
    const char *name;
    uint32_t per_s;
    uint32_t burst;
} defaults[PG_H2_B_COUNT] = {
    [PG_H2_B_PING] = {"ping", 500, 5000},
    [PG_H2_B_SETTINGS] = {"settings", 20, 200},
    [PG_H2_B_PRIORITY] = {"priority", 200, 2000},
    [PG_H2_B_WINDOW] = {"window-update", 2000, 20000},
    [PG_H2_B_UNKNOWN] = {"unknown-frame", 200, 2000},
    [PG_H2_B_EMPTY] = {"empty-data", 50, 500},
    [PG_H2_B_RESET] = {"rapid-reset", 0, 0},
    [PG_H2_B_PROVOKED] = {"made-resets", 20, 200},
};

void pg_h2_guard_init(struct pg_h2_guard *g, bool server, uint32_t resets_per_s, uint32_t max_fields,
                      uint32_t max_block, uint64_t now_ms)
{
    memset(g, 0, sizeof(*g));
    for (int i = 0; i < PG_H2_B_COUNT; i++) {
        g->budget[i].per_s = defaults[i].per_s;
        g->budget[i].burst = defaults[i].burst;
    }
    g->budget[PG_H2_B_RESET].per_s = resets_per_s;
    g->budget[PG_H2_B_RESET].burst = resets_per_s > UINT32_MAX / 10 ? UINT32_MAX : resets_per_s * 10;
    for (int i = 0; i < PG_H2_B_COUNT; i++) {
        g->budget[i].milli = (uint64_t)g->budget[i].burst * 1000;
    }
    g->last_ms = now_ms;
    g->max_fields = max_fields;
    g->max_block = max_block;
    g->skip = server ? PG_H2_PREFACE_LEN : 0;
    g->server = server;
}

static void refill(struct pg_h2_guard *g, uint64_t now_ms)
{
    uint64_t passed = now_ms > g->last_ms ? now_ms - g->last_ms : 0;
    if (passed == 0) {
        return;
    }
    g->last_ms = now_ms;
    passed = passed > 60000 ? 60000 : passed; /* every bucket is full by then */
    for (int i = 0; i < PG_H2_B_COUNT; i++) {
        struct pg_h2_bucket *b = &g->budget[i];
        uint64_t full = (uint64_t)b->burst * 1000;
        b->milli += passed * b->per_s;
        b->milli = b->milli > full ? full : b->milli;
    }
}

const char *pg_h2_guard_take(struct pg_h2_guard *g, enum pg_h2_budget b, uint64_t now_ms)
{
    refill(g, now_ms);
    if (g->budget[b].milli < 1000) {
        return defaults[b].name;
    }
    g->budget[b].milli -= 1000;
    return NULL;
}

void pg_h2_guard_credit(struct pg_h2_guard *g, enum pg_h2_budget b, uint32_t n)
{
    struct pg_h2_bucket *k = &g->budget[b];
    uint64_t full = (uint64_t)k->burst * 1000;
    k->milli += (uint64_t)n * 1000;
    k->milli = k->milli > full ? full : k->milli;
}

/* ---- header blocks ---- */

static uint32_t payload_len(const struct pg_h2_guard *g)
{
    return (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
}

static void skim_field(struct pg_h2_guard *g, uint8_t b)
{
    uint8_t mask = 0x0f; /* literal, not indexed or never indexed */
    g->fields++;
    if ((b & 0x80) != 0) {
        g->skim = (b & 0x7f) == 0x7f ? SKIM_INDEX : SKIM_FIELD;
        return;
    }
    if ((b & 0xc0) == 0x40) {
        mask = 0x3f;
    } else if ((b & 0xe0) == 0x20) { /* table size update: counted like a field */
        g->skim = (b & 0x1f) == 0x1f ? SKIM_INDEX : SKIM_FIELD;
        return;
    }
    if ((b & mask) == 0) {
        g->skim = SKIM_NAME_LEN;
    } else {
        g->skim = (b & mask) == mask ? SKIM_NAME_INDEX : SKIM_VALUE_LEN;
    }
}

/* `b` opens a string: its length is known, goes on, or is 0. `more`, `body` and `next` are the states for
 * these. */
static void skim_len(struct pg_h2_guard *g, uint8_t b, enum pg_h2_skim more, enum pg_h2_skim body,
                     enum pg_h2_skim next)
{
    g->str_len = b & 0x7f;
    g->str_shift = 0;
    if (g->str_len == 0x7f) {
        g->skim = more;
    } else {
        g->skim = g->str_len == 0 ? next : body;
    }
}

/* A length too big for a frame makes the library fail the block; here it only must not wrap. */
static void skim_more(struct pg_h2_guard *g, uint8_t b, enum pg_h2_skim body)
{
    if (g->str_shift <= 21) {
        g->str_len += (uint32_t)(b & 0x7f) << g->str_shift;
        g->str_shift += 7;
    }
    if ((b & 0x80) == 0) {
        g->skim = body;
    }
}

static size_t skim_step(struct pg_h2_guard *g, const uint8_t *p, size_t n)
{
    size_t used = 1;
    switch (g->skim) {
    case SKIM_FIELD:
        skim_field(g, *p);
        break;
    case SKIM_INDEX:
        g->skim = (*p & 0x80) != 0 ? SKIM_INDEX : SKIM_FIELD;
        break;
    case SKIM_NAME_INDEX:
        g->skim = (*p & 0x80) != 0 ? SKIM_NAME_INDEX : SKIM_VALUE_LEN;
        break;
    case SKIM_NAME_LEN:
        skim_len(g, *p, SKIM_NAME_MORE, SKIM_NAME, SKIM_VALUE_LEN);
        break;
    case SKIM_NAME_MORE:
        skim_more(g, *p, SKIM_NAME);
        break;
    case SKIM_VALUE_LEN:
        skim_len(g, *p, SKIM_VALUE_MORE, SKIM_VALUE, SKIM_FIELD);
        break;
    case SKIM_VALUE_MORE:
        skim_more(g, *p, SKIM_VALUE);
        break;
    case SKIM_NAME:
    case SKIM_VALUE:
        used = n < g->str_len ? n : g->str_len;
        g->str_len -= (uint32_t)used;
        if (g->str_len == 0) {
            g->skim = g->skim == SKIM_NAME ? SKIM_VALUE_LEN : SKIM_FIELD;
        }
        break;
    }
    return used;
}

static const char *skim(struct pg_h2_guard *g, const uint8_t *p, size_t n)
{
    g->block += (uint32_t)n;
    if (g->block > g->max_block) {
        return "header-bytes";
    }
    while (n > 0) {
        size_t used = skim_step(g, p, n);
        if (g->fields > g->max_fields) {
            return "header-fields";
        }
        p += used;
        n -= used;
    }
    return NULL;
}

/* ---- rules the library does not hold ---- */

static uint32_t stream_id(const struct pg_h2_guard *g)
{
    return (uint32_t)(g->head[5] & 0x7f) << 24 | (uint32_t)g->head[6] << 16 | (uint32_t)g->head[7] << 8 |
           g->head[8];
}

static const char *violates(struct pg_h2_guard *g, uint32_t code, const char *what)
{
    g->violation = code;
    return what;
}

static bool has_ended(const struct pg_h2_guard *g, uint32_t id)
{
    for (size_t i = 0; i < PG_H2_ENDED_KEPT; i++) {
        if (g->ended[i] == id) {
            return true;
        }
    }
    return false;
}

static void note_end(struct pg_h2_guard *g, uint32_t id)
{
    if (!has_ended(g, id)) {
        g->ended[g->ended_next] = id;
        g->ended_next = (g->ended_next + 1) % PG_H2_ENDED_KEPT;
    }
}

/* A client opens streams in order. */
static const char *opens(struct pg_h2_guard *g, uint32_t id)
{
    uint32_t next = g->last_id == 0 ? 1 : g->last_id + 2;
    if (id > next) {
        g->skipped_from = next;
        g->skipped_to = id - 2;
    } else if (id < next && id >= g->skipped_from && id <= g->skipped_to) {
        return violates(g, PROTOCOL_ERROR, "stream opened out of order");
    }
    g->last_id = id > g->last_id ? id : g->last_id;
    return NULL;
}

/* DATA and HEADERS: the peer may not go on after it ended the stream, however long we have been done with it.
 */
static const char *check_stream(struct pg_h2_guard *g)
{
    uint32_t id = stream_id(g);
    uint8_t type = g->head[3];
    if (id == 0 || (type != F_DATA && type != F_HEADERS && type != F_RST_STREAM)) {
        return NULL; /* the library refuses id 0 */
    }
    if (type != F_RST_STREAM && has_ended(g, id)) {
        return violates(g, STREAM_CLOSED, "frame on a stream the peer had ended");
    }
    if (type == F_RST_STREAM || (g->head[4] & FLAG_END_STREAM) != 0) {
        note_end(g, id);
    }
    return g->server && type == F_HEADERS && id % 2 == 1 ? opens(g, id) : NULL;
}

/* Priorities are switched off, yet a broken PRIORITY frame is an error. */
static const char *priority_byte(struct pg_h2_guard *g, uint8_t b, uint32_t pos)
{
    g->first_word = g->first_word << 8 | b;
    if (pos == 3 && (g->first_word & 0x7fffffff) == stream_id(g)) {
        return violates(g, PROTOCOL_ERROR, "stream depends on itself");
    }
    return NULL;
}

/* ---- frames ---- */

static const char *frame_begins(struct pg_h2_guard *g, uint64_t now_ms)
{
    uint8_t flags = g->head[4];
    g->pos = 0;
    g->pad = 0;
    g->lead = 0;
    const char *broken = check_stream(g);
    if (broken != NULL) {
        return broken;
    }
    switch (g->head[3]) {
    case F_DATA:
        if ((flags & FLAG_PADDED) != 0) {
            return NULL; /* judged when the pad length is known */
        }
        if (payload_len(g) > 0) {
            pg_h2_guard_credit(g, PG_H2_B_PING, 1);
            return NULL;
        }
        return (flags & FLAG_END_STREAM) != 0 ? NULL : pg_h2_guard_take(g, PG_H2_B_EMPTY, now_ms);
    case F_HEADERS:
        g->lead = (uint8_t)(((flags & FLAG_PADDED) != 0 ? 1 : 0) + ((flags & FLAG_PRIORITY) != 0 ? 5 : 0));
        g->fields = 0;
        g->block = 0;
        g->skim = SKIM_FIELD;
        pg_h2_guard_credit(g, PG_H2_B_WINDOW, EARNED_WINDOW_PER_HEADERS);
        pg_h2_guard_credit(g, PG_H2_B_PRIORITY, EARNED_PRIORITY_PER_HEADERS);
        return NULL;
    case F_CONTINUATION:
    case F_PUSH_PROMISE: /* the library refuses it */
        return NULL;
    case F_PRIORITY:
        if (stream_id(g) == 0) {
            return violates(g, PROTOCOL_ERROR, "PRIORITY on stream 0");
        }
        return pg_h2_guard_take(g, PG_H2_B_PRIORITY, now_ms);
    case F_PRIORITY_UPDATE:
        return pg_h2_guard_take(g, PG_H2_B_PRIORITY, now_ms);
    case F_RST_STREAM:
        return pg_h2_guard_take(g, PG_H2_B_RESET, now_ms);
    case F_SETTINGS:
        return (flags & FLAG_ACK) != 0 ? NULL : pg_h2_guard_take(g, PG_H2_B_SETTINGS, now_ms);
    case F_GOAWAY:
        return pg_h2_guard_take(g, PG_H2_B_SETTINGS, now_ms);
    case F_PING:
        return (flags & FLAG_ACK) != 0 ? NULL : pg_h2_guard_take(g, PG_H2_B_PING, now_ms);
    case F_WINDOW_UPDATE:
        return pg_h2_guard_take(g, PG_H2_B_WINDOW, now_ms);
    default:
        return pg_h2_guard_take(g, PG_H2_B_UNKNOWN, now_ms);
    }
}

/* The pad length of a padded frame is the first byte of its payload. */
static const char *padding(struct pg_h2_guard *g, uint8_t pad, uint64_t now_ms)
{
    g->pad = pad;
    if (g->head[3] != F_DATA || (g->head[4] & FLAG_END_STREAM) != 0) {
        return NULL;
    }
    if (payload_len(g) > (uint32_t)pad + 1) {
        pg_h2_guard_credit(g, PG_H2_B_PING, 1);
        return NULL;
    }
    return pg_h2_guard_take(g, PG_H2_B_EMPTY, now_ms);
}

/* The part of `n` payload bytes at `pos` that belongs to a header block. */
static const char *block_part(struct pg_h2_guard *g, const uint8_t *p, size_t n)
{
    uint32_t len = payload_len(g);
    uint32_t end = len > g->pad ? len - g->pad : 0;
    uint32_t from = g->pos > g->lead ? g->pos : g->lead;
    uint32_t to = g->pos + (uint32_t)n < end ? g->pos + (uint32_t)n : end;
    return from < to ? skim(g, p + (from - g->pos), to - from) : NULL;
}

static const char *payload(struct pg_h2_guard *g, const uint8_t *p, size_t n, uint64_t now_ms)
{
    uint8_t type = g->head[3];
    const char *bad = NULL;
    if (g->pos == 0 && (type == F_DATA || type == F_HEADERS) && (g->head[4] & FLAG_PADDED) != 0) {
        bad = padding(g, *p, now_ms);
    }
    if (bad == NULL && (type == F_HEADERS || type == F_CONTINUATION)) {
        bad = block_part(g, p, n);
    }
    for (size_t i = 0; bad == NULL && type == F_PRIORITY && i < n && g->pos + i < 4; i++) {
        bad = priority_byte(g, p[i], g->pos + (uint32_t)i);
    }
    g->pos += (uint32_t)n;
    return bad;
}

const char *pg_h2_guard_scan(struct pg_h2_guard *g, const uint8_t *p, size_t n, uint64_t now_ms)
{
    size_t skip = n < g->skip ? n : g->skip;
    const char *bad = NULL;
    g->skip -= (uint32_t)skip;
    p += skip;
    n -= skip;
    while (n > 0 && bad == NULL) {
        size_t step;
        if (g->have < sizeof(g->head)) {
            step = sizeof(g->head) - g->have < n ? sizeof(g->head) - g->have : n;
            memcpy(g->head + g->have, p, step);
            g->have = (uint8_t)(g->have + step);
            bad = g->have == sizeof(g->head) ? frame_begins(g, now_ms) : NULL;
        } else {
            step = payload_len(g) - g->pos < n ? payload_len(g) - g->pos : n;
            bad = payload(g, p, step, now_ms);
        }
        if (g->have == sizeof(g->head) && g->pos == payload_len(g)) {
            g->have = 0;
        }
        p += step;
        n -= step;
    }
    return bad;
}
