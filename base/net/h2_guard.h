/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an HTTP/2 peer may do per second. The guard reads the raw bytes before the HTTP/2 library does, so
 * that it also sees the frames the library drops without a word, and counts them against token buckets; of
 * header blocks it counts the fields by their encoding alone, so that a block the library will decode and
 * throw away is bounded too. Pure: time is an argument, nothing allocates, no verdict is ever taken back.
 * Loop thread.
 */
#ifndef ISTHMUS_NET_H2_GUARD_H
#define ISTHMUS_NET_H2_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pg_h2_budget {
    PG_H2_B_PING,     /* PING without ACK */
    PG_H2_B_SETTINGS, /* SETTINGS without ACK, GOAWAY */
    PG_H2_B_PRIORITY, /* PRIORITY and PRIORITY_UPDATE */
    PG_H2_B_WINDOW,   /* WINDOW_UPDATE */
    PG_H2_B_UNKNOWN,  /* frame types nobody asked for */
    PG_H2_B_EMPTY,    /* DATA without a byte and without END_STREAM */
    PG_H2_B_RESET,    /* RST_STREAM from the peer */
    PG_H2_B_PROVOKED, /* RST_STREAM the peer made us send */
    PG_H2_B_COUNT,
};
struct pg_h2_bucket {
    uint32_t per_s;
    uint32_t burst;
    uint64_t milli; /* thousandths of a token */
};
/* Where in the encoding of a header block the skimmer stands. */
enum pg_h2_skim {
    SKIM_FIELD,
    SKIM_INDEX,
    SKIM_NAME_INDEX,
    SKIM_NAME_LEN,
    SKIM_NAME_MORE,
    SKIM_NAME,
    SKIM_VALUE_LEN,
    SKIM_VALUE_MORE,
    SKIM_VALUE
};
#define PG_H2_ENDED_KEPT 16
struct pg_h2_guard {
    /* The library forgets a stream the moment it is closed: the last ones the peer itself ended, and the last
     * ids it skipped, are kept here. */
    uint32_t ended[PG_H2_ENDED_KEPT];
    uint32_t ended_next;
    uint32_t last_id; /* server: the highest the client opened */
    uint32_t skipped_from;
    uint32_t skipped_to;
    uint32_t violation;  /* HTTP/2 error code once the peer broke a rule, 0 before */
    uint32_t first_word; /* of the payload of a PRIORITY frame */
    bool server;
    struct pg_h2_bucket budget[PG_H2_B_COUNT];
    uint64_t last_ms;
    uint32_t max_fields;
    uint32_t max_block; /* encoded bytes of a header block */
    uint32_t skip;      /* bytes of the client preface still to come */
    uint8_t head[9];    /* frame header being gathered */
    uint8_t have;
    uint8_t pad;
    uint8_t lead; /* bytes before the header block fragment in this frame */
    enum pg_h2_skim skim;
    uint32_t pos; /* in the payload */
    uint32_t fields;
    uint32_t block;   /* encoded bytes so far */
    uint32_t str_len; /* of the string being skipped */
    uint32_t str_shift;
};
#define PG_H2_PREFACE_LEN 24u

/* `resets_per_s` of the options; a server skips the client's preface. */
void pg_h2_guard_init(struct pg_h2_guard *g, bool server, uint32_t resets_per_s, uint32_t max_fields,
                      uint32_t max_block, uint64_t now_ms);
/* Looks at the next bytes from the peer. NULL, or the static name of the budget that is spent: the connection
 * must end, the bytes must not be used. */
const char *pg_h2_guard_scan(struct pg_h2_guard *g, const uint8_t *p, size_t n, uint64_t now_ms);
/* Takes one token; NULL, or the name of the budget when none is left. */
const char *pg_h2_guard_take(struct pg_h2_guard *g, enum pg_h2_budget b, uint64_t now_ms);
/* Grants tokens that the peer's honest work earned, e.g. WINDOW_UPDATEs for data it got. */
void pg_h2_guard_credit(struct pg_h2_guard *g, enum pg_h2_budget b, uint32_t n);

#endif
