/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses, ip:port and prefixes; strict parsers, no resolver. IPv4-mapped IPv6 is always stored as IPv4.
 */
#ifndef ISTHMUS_CORE_ADDR_H
#define ISTHMUS_CORE_ADDR_H

#include "core/str.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct pg_ip {
    uint8_t len; /* 4, 16, or 0 = none */
    uint8_t b[16];
};
struct pg_addr {
    struct pg_ip ip;
    uint16_t port;
};
struct pg_prefix {
    struct pg_ip ip; /* host bits are zero */
    uint8_t bits;
};
#define PG_IP_TEXT 46
#define PG_ADDR_TEXT 54 /* "[...]:65535" */

/* 4 or 16 bytes; IPv4-mapped becomes IPv4. 0 or PG_E_PARSE. */
int pg_ip_from_bytes(const void *p, size_t len, struct pg_ip *out) PG_MUST_CHECK;
/* Plain IPv4 or IPv6 text, no brackets, no zone. 0 or PG_E_PARSE. */
int pg_ip_parse(struct pg_str s, struct pg_ip *out) PG_MUST_CHECK;
bool pg_ip_eq(const struct pg_ip *a, const struct pg_ip *b);
bool pg_ip_is_loopback(const struct pg_ip *ip);
const char *pg_ip_fmt(const struct pg_ip *ip, char out[PG_IP_TEXT]); /* "" for none; returns out */
/* "1.2.3.4:80" or "[::1]:80"; the port is mandatory. 0 or PG_E_PARSE. */
int pg_addr_parse(struct pg_str s, struct pg_addr *out) PG_MUST_CHECK;
bool pg_addr_eq(const struct pg_addr *a, const struct pg_addr *b);
const char *pg_addr_fmt(const struct pg_addr *a, char out[PG_ADDR_TEXT]);
/* "10.0.0.0/8" or a bare address (full length). 0 or PG_E_PARSE. */
int pg_prefix_parse(struct pg_str s, struct pg_prefix *out) PG_MUST_CHECK;
int pg_prefix_make(const struct pg_ip *ip, uint32_t bits, struct pg_prefix *out) PG_MUST_CHECK;
bool pg_prefix_has(const struct pg_prefix *p, const struct pg_ip *ip);
/* Conversion to and from the kernel's form. to: returns the length; from: PG_E_UNSUPPORTED for other
 * families. */
socklen_t pg_addr_to_sockaddr(const struct pg_addr *a, struct sockaddr_storage *out);
int pg_addr_from_sockaddr(const struct sockaddr *sa, struct pg_addr *out) PG_MUST_CHECK;

/* "host:port" as CONNECT authorities carry it: an IP (IPv6 in brackets) or a DNS name, and a port 1..65535.
 * Refuses user info, escapes, zones, empty labels, anything not a letter, digit, '-', '_', '.' or '*' first
 * label. `host` points into `s` (without brackets); `ip.len` is 0 for a name. 0 or PG_E_PARSE. */
struct pg_hostport {
    struct pg_str host;
    struct pg_ip ip;
    uint16_t port;
};
int pg_hostport_parse(struct pg_str s, struct pg_hostport *out) PG_MUST_CHECK;

#endif
