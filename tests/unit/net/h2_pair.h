/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client and a server session over a pair of transports, with owners that record what they are told.
 * Everything is plain data so that a test can look at it. Loop thread.
 */
#ifndef ISTHMUS_TESTS_H2_PAIR_H
#define ISTHMUS_TESTS_H2_PAIR_H

#include "net/h2.h"

#include "testlib.h"

#define PAIR_STREAMS 256

struct pair;
/* One side's view of a stream. */
struct side {
    struct pair *pair;
    struct pg_h2_stream *s; /* NULL after close_side */
    bool server;
    bool headed;
    bool head_end;
    char method[16];
    char authority[64];
    char status[8];
    char trailer[64]; /* value of "grpc-status" in the trailers */
    bool trailers;
    unsigned readable;
    unsigned writable;
    bool closed;
    uint32_t code;
    int err;
    uint64_t got;   /* bytes read */
    uint64_t sum;   /* checksum of them */
    int read_end;   /* 1 clean end, negative error, 0 not yet */
    bool auto_read; /* reads and gives credit at once */
    bool close_on_closed;
};
struct pair {
    struct pg_loop *loop;
    struct pg_h2 *client;
    struct pg_h2 *server;
    struct pg_transport *raw; /* the end a test speaks by hand, when one side is missing */
    struct side c[PAIR_STREAMS];
    struct side s[PAIR_STREAMS];
    size_t nc;
    size_t ns;
    bool auto_respond; /* server answers 200 on arrival and reads */
    bool free_in_request;
    bool client_closed;
    bool server_closed;
    int client_err;
    int server_err;
    char server_text[128];
    char client_text[128];
    unsigned client_goaways;
    unsigned settings;
    struct pg_h2_stats server_stats; /* at its end */
    struct pg_h2_stats client_stats;
};

/* Sessions over the two transports (taken over). Options may be NULL for hbone. 0 or an error. */
int pair_start(struct pair *p, struct pg_loop *l, struct pg_transport *ct, struct pg_transport *st,
               const struct pg_h2_options *co, const struct pg_h2_options *so);
/* The same over a fresh memory pair of `cap` bytes. */
int pair_mem(struct pair *p, struct pg_loop *l, size_t cap);
/* Only a server (or only a client); the test speaks raw bytes through p->raw. */
int pair_raw_server(struct pair *p, struct pg_loop *l, const struct pg_h2_options *o, size_t cap);
int pair_raw_client(struct pair *p, struct pg_loop *l, const struct pg_h2_options *o, size_t cap);
void pair_free(struct pair *p);
/* Runs turns until nothing is queued. */
void pair_settle(struct pair *p);

/* CONNECT or GET from the client. */
int pair_request(struct pair *p, const char *method, bool end, struct side **out);
int side_respond(struct side *x, const char *status, bool end);
int side_trailers(struct side *x, const char *grpc_status);
/* Writes byte i = suite_byte(seed, i) of [*at, total) as far as it goes. PG_E_AGAIN, 0 when done, or an
 * error. */
int side_write(struct side *x, uint64_t seed, uint64_t *at, uint64_t total);
/* Reads all there is; credit is returned. */
void side_read(struct side *x);
void side_close(struct side *x, uint32_t code);
uint64_t pattern_sum(uint64_t seed, uint64_t total);

#endif
