/* SPDX-License-Identifier: Apache-2.0 */
/* TCP and UDP sockets: transports, listeners, options. Loop thread. All descriptors are close-on-exec,
 * non-blocking. */
#ifndef ISTHMUS_NET_SOCK_H
#define ISTHMUS_NET_SOCK_H

#include "net/transport.h"

struct pg_sock_options {
    bool keepalive;
    uint32_t keepalive_time_s;
    uint32_t keepalive_interval_s;
    uint32_t keepalive_retries;
    uint32_t user_timeout_ms; /* 0: kernel default */
    uint32_t mark;            /* SO_MARK; 0: the process's default */
    const char *congestion;   /* TCP congestion control name; NULL: system default */
    /* connect only: bind this source address first (ip.len 0: none), with IP_TRANSPARENT|IP_FREEBIND when
     * `transparent`; when that fails the connect goes on unbound. */
    struct pg_ip source;
    bool transparent;
};

/* Starts a connect (TCP_NODELAY always). Established or failed shows through status/on_ready; no time limit
 * of its own. 0 and *out, or an error when it cannot even start. */
int pg_tcp_connect(struct pg_loop *l, const struct pg_addr *to, const struct pg_sock_options *o,
                   struct pg_transport **out, struct pg_errtext *err) PG_MUST_CHECK;
int pg_unix_connect(struct pg_loop *l, const char *path, struct pg_transport **out,
                    struct pg_errtext *err) PG_MUST_CHECK;
/* Wraps a connected stream descriptor, which the transport owns on success. */
int pg_fd_transport(struct pg_loop *l, int fd, struct pg_transport **out) PG_MUST_CHECK;
/* Of a tcp transport; PG_E_UNSUPPORTED for other kinds. original_dst asks SO_ORIGINAL_DST (v4, then v6) and
 * falls back to the local address when the connection was not redirected. */
int pg_tcp_local(struct pg_transport *t, struct pg_addr *out) PG_MUST_CHECK;
int pg_tcp_remote(struct pg_transport *t, struct pg_addr *out) PG_MUST_CHECK;
int pg_tcp_original_dst(struct pg_transport *t, struct pg_addr *out) PG_MUST_CHECK;

struct pg_listener;
/* Listens and accepts; `on_accept` owns the transport it gets (TCP_NODELAY set, `o` applied). On
 * EMFILE/ENFILE it backs off 100 ms instead of spinning. Port 0 picks one. `err` says which address and why.
 * `reuse_port` sets SO_REUSEPORT; `transparent` sets IP_TRANSPARENT on the listener, best effort. */
struct pg_listen_options {
    struct pg_sock_options sock;
    bool reuse_port;
    bool transparent;
    int backlog; /* 0: 1024 */
};
int pg_tcp_listen(struct pg_loop *l, const struct pg_addr *at, const struct pg_listen_options *o,
                  void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg), void *arg,
                  struct pg_listener **out, struct pg_errtext *err) PG_MUST_CHECK;
/* A stale socket file (nobody listening) is replaced; mode 0600. The file is removed on free. */
int pg_unix_listen(struct pg_loop *l, const char *path,
                   void (*on_accept)(struct pg_transport *t, const struct pg_addr *from, void *arg),
                   void *arg, struct pg_listener **out, struct pg_errtext *err) PG_MUST_CHECK;
struct pg_addr pg_listener_addr(const struct pg_listener *l); /* with the real port */
void pg_listener_free(struct pg_listener *l);                 /* stops accepting; NULL is fine */

/* UDP: bound or connected datagram socket. `on_packet` gets each packet; `from` is its sender. */
struct pg_udp;
int pg_udp_open(struct pg_loop *l, const struct pg_addr *bind_to, const struct pg_sock_options *o,
                void (*on_packet)(const void *p, size_t len, const struct pg_addr *from, void *arg),
                void *arg, struct pg_udp **out, struct pg_errtext *err) PG_MUST_CHECK;
int pg_udp_send(struct pg_udp *u, const void *p, size_t len, const struct pg_addr *to) PG_MUST_CHECK;
/* From now on only packets from `to` come in, and `on_error` (with the socket's argument) hears when the
 * network says that a packet did not reach it, such as a refused port. The socket may be freed in it. */
int pg_udp_connect(struct pg_udp *u, const struct pg_addr *to,
                   void (*on_error)(int err, void *arg)) PG_MUST_CHECK;
struct pg_addr pg_udp_addr(const struct pg_udp *u);
void pg_udp_free(struct pg_udp *u);

/* SO_MARK of every socket made from now on whose own options name none, resolver's included: a proxy must
 * recognise all of its own traffic, or redirection would catch its way to the control plane. 0: none.
 * Process-wide; set before threads start. */
void pg_sock_set_default_mark(uint32_t mark);
/* The same for a socket some library made; PG_E_IO and friends when the kernel refuses. */
int pg_sock_apply_default_mark(int fd) PG_MUST_CHECK;

/* Raises RLIMIT_NOFILE's soft limit to the hard one; returns the value in force. */
uint64_t pg_raise_fd_limit(void);

#endif
