/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the socket files of this module: options, and transports over descriptors. Loop thread. */
#ifndef ISTHMUS_NET_SOCK_TYPES_H
#define ISTHMUS_NET_SOCK_TYPES_H

#include "net/sock.h"

/* An int option; 0 or the translated errno. */
int pg_sock_set(int fd, int level, int name, int value);
/* Keepalive, user time-out, mark, congestion control; TCP_NODELAY for streams. Only a refused mark is an
 * error, because without it traffic would loop back into our own capture. `o` may be NULL. */
int pg_sock_apply(int fd, const struct pg_sock_options *o, bool stream, struct pg_errtext *err) PG_MUST_CHECK;
/* IP_TRANSPARENT of the address family, and IP_FREEBIND. Best effort. */
void pg_sock_set_transparent(int fd, bool v6);
/* A new non-blocking, close-on-exec socket; -1 with errno. */
int pg_sock_open(int family, int type);
/* `connecting`: connect(2) is under way. Owns `fd` on success. */
int pg_sock_wrap(struct pg_loop *l, int fd, bool is_unix, bool connecting,
                 struct pg_transport **out) PG_MUST_CHECK;
/* Fills a sockaddr_un. PG_E_LIMIT when the path is too long or empty. */
struct sockaddr_un;
int pg_sock_unix_addr(const char *path, struct sockaddr_un *out) PG_MUST_CHECK;

#endif
