/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small mesh in one process for tests: one CA, workers on one loop with loopback addresses of their own,
 * tables made from encoded resources, an echo application, and clients that check every byte. One thread.
 */
#ifndef ISTHMUS_TEST_MESH_H
#define ISTHMUS_TEST_MESH_H

#include "certs/ca.h"
#include "hbone/worker.h"
#include "testlib.h"
#include "xds/codec.h"

struct mesh_node {
    struct hb_config cfg;
    struct hb_worker *worker;
    struct cert_creds *creds;
    uint64_t creds_gen;
    peering_table *table;
};
/* Once per process. */
int mesh_setup(void);
void mesh_teardown(void);
extern struct pg_loop *mesh_loop;
const struct cert_ca *mesh_ca(void);
/* File with the root certificate. */
void mesh_root_path(char *out, size_t cap);

/* "PROXY_MODE=..." and so on, besides what every test wants. `ip` is 127.0.0.<last>; inbound port 0 picks
 * one. */
void mesh_node_start(struct mesh_node *n, const char *mode, const char *workload, const char *network,
                     unsigned last, uint16_t inbound_port);
void mesh_node_stop(struct mesh_node *n);
/* A certificate for spiffe://cluster.local/ns/<ns>/sa/<sa>, then a new world. */
void mesh_creds(struct mesh_node *n, const char *ns, const char *sa); /* the certificate alone */
void mesh_node_cert(struct mesh_node *n, const char *ns, const char *sa);
/* Delivers the table as it is now; returns after the worker took it. */
void mesh_node_publish(struct mesh_node *n);
uint16_t mesh_inbound_port(const struct mesh_node *n);
struct pg_addr mesh_outbound(const struct mesh_node *n);

struct mesh_workload {
    const char *ns, *name, *sa, *network;
    unsigned last; /* address 127.0.0.<last>, 0: none */
    bool hbone;
    unsigned gateway;    /* network gateway 127.0.0.<gateway> of the same network, 0: none */
    const char *service; /* "ns/host" it is an endpoint of, or NULL */
    uint16_t port, target;
    const char *policy; /* selector policy it references, or NULL */
};
void mesh_put_workload(struct mesh_node *n, const struct mesh_workload *w);
void mesh_remove_workload(struct mesh_node *n, const char *name);
/* Service `host` in namespace demo with VIP 10.9.9.<vip> and one port; SAN sa "server". */
void mesh_put_service(struct mesh_node *n, const char *host, const char *network, unsigned vip, uint16_t port,
                      uint16_t target, bool with_sans);
/* DENY in namespace demo for destination port `port`; removing by name "deny". */
void mesh_put_deny(struct mesh_node *n, uint16_t port);

/* An application that sends back what it gets, half-close by half-close. */
struct mesh_echo;
struct mesh_echo *mesh_echo_start(unsigned last, uint16_t port);
uint16_t mesh_echo_port(const struct mesh_echo *e);
unsigned mesh_echo_accepted(const struct mesh_echo *e);
void mesh_echo_stop(struct mesh_echo *e);
/* While stalled, nothing is read. */
void mesh_echo_stall(struct mesh_echo *e, bool on);

/* A client that sends `total` bytes of a pattern, ends its side (or stays open), and checks what comes back.
 */
struct mesh_client {
    struct pg_transport *t;
    uint64_t total, sent, got;
    uint32_t seed;
    bool keep_open;
    bool wrong; /* a byte differed */
    bool eof;
    int err;
    struct pg_list node;
};
void mesh_client_start(struct mesh_client *c, const struct pg_addr *to, uint64_t total, uint32_t seed,
                       bool keep_open);
void mesh_client_more(struct mesh_client *c, uint64_t bytes, bool keep_open);
void mesh_client_stop(struct mesh_client *c);
/* All bytes back, and the end when it was asked for. */
bool mesh_client_done(const struct mesh_client *c);

/* Turns the loop until `done` or `ms` passed; true when done. */
bool mesh_run_until(bool (*done)(void *arg), void *arg, uint64_t ms);
/* The same with allocations failing while the loop turns. */
bool mesh_run_until_failing(bool (*done)(void *arg), void *arg, uint64_t ms, struct pg_fault *fault);
void mesh_settle(void);

#endif
