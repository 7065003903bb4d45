/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict address parsing and printing. Invariants: an IPv4-mapped IPv6 address never leaves this file as
 * IPv6; a prefix has no host bits; refused text leaves the output alone. Any thread.
 */
#include "core/addr.h"

#include <arpa/inet.h>

#define NAME_MAX_BYTES 253
#define LABEL_MAX_BYTES 63

int pg_ip_from_bytes(const void *p, size_t len, struct pg_ip *out)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (len != 4 && len != 16) {
        return PG_E_PARSE;
    }
    const uint8_t *from = p;
    if (len == 16 && memcmp(from, mapped, sizeof(mapped)) == 0) {
        from += sizeof(mapped);
        len = 4;
    }
    struct pg_ip ip = {.len = (uint8_t)len};
    memcpy(ip.b, from, len);
    *out = ip;
    return 0;
}

int pg_ip_parse(struct pg_str s, struct pg_ip *out)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    if (s.len == 0 || s.len >= sizeof(text) || pg_str_chr(s, '\0') >= 0) {
        return PG_E_PARSE;
    }
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    bool v6 = pg_str_chr(s, ':') >= 0;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, text, bytes) != 1) {
        return PG_E_PARSE;
    }
    return pg_ip_from_bytes(bytes, v6 ? 16 : 4, out);
}

bool pg_ip_eq(const struct pg_ip *a, const struct pg_ip *b)
{
    return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

bool pg_ip_is_loopback(const struct pg_ip *ip)
{
    static const struct pg_ip one = {16, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    return ip->len == 4 ? ip->b[0] == 127 : pg_ip_eq(ip, &one);
}

const char *pg_ip_fmt(const struct pg_ip *ip, char out[PG_IP_TEXT])
{
    out[0] = '\0';
    if (ip->len != 0) {
        int family = ip->len == 4 ? AF_INET : AF_INET6;
        PG_BUG_ON(inet_ntop(family, ip->b, out, PG_IP_TEXT) == NULL);
    }
    return out;
}

/* Decimal without leading zeros, least..65535. */
static int parse_port(struct pg_str s, uint64_t least, uint16_t *out)
{
    uint64_t n;
    if (s.len == 0 || (s.len > 1 && s.p[0] == '0') || pg_str_u64(s, UINT16_MAX, &n) < 0 || n < least) {
        return PG_E_PARSE;
    }
    *out = (uint16_t)n;
    return 0;
}

/* Splits "host:port"; *bracketed tells that the host stood in [], which are taken off. */
static int split(struct pg_str s, struct pg_str *host, struct pg_str *port, bool *bracketed)
{
    ptrdiff_t colon = pg_str_rchr(s, ':');
    if (colon <= 0) {
        return PG_E_PARSE;
    }
    struct pg_str h = pg_str_n(s.p, (size_t)colon);
    *bracketed = h.p[0] == '[';
    if (*bracketed) {
        if (h.len < 2 || h.p[h.len - 1] != ']') {
            return PG_E_PARSE;
        }
        h = pg_str_n(h.p + 1, h.len - 2);
    }
    /* Brackets are for IPv6 and IPv6 needs them. */
    if (*bracketed != (pg_str_chr(h, ':') >= 0)) {
        return PG_E_PARSE;
    }
    *host = h;
    *port = pg_str_sub(s, (size_t)colon + 1);
    return 0;
}

int pg_addr_parse(struct pg_str s, struct pg_addr *out)
{
    struct pg_str host;
    struct pg_str port;
    bool bracketed;
    struct pg_addr a = {0};
    if (split(s, &host, &port, &bracketed) < 0 || pg_ip_parse(host, &a.ip) < 0 ||
        parse_port(port, 0, &a.port) < 0) {
        return PG_E_PARSE;
    }
    *out = a;
    return 0;
}

bool pg_addr_eq(const struct pg_addr *a, const struct pg_addr *b)
{
    return a->port == b->port && pg_ip_eq(&a->ip, &b->ip);
}

const char *pg_addr_fmt(const struct pg_addr *a, char out[PG_ADDR_TEXT])
{
    char ip[PG_IP_TEXT];
    size_t n = strlen(pg_ip_fmt(&a->ip, ip));
    bool v6 = a->ip.len == 16;
    char *at = out;
    if (v6) {
        *at++ = '[';
    }
    memcpy(at, ip, n);
    at += n;
    if (v6) {
        *at++ = ']';
    }
    *at++ = ':';
    uint32_t div = 10000;
    while (div > 1 && a->port < div) {
        div /= 10;
    }
    for (; div != 0; div /= 10) {
        *at++ = (char)('0' + a->port / div % 10);
    }
    *at = '\0';
    return out;
}

int pg_prefix_make(const struct pg_ip *ip, uint32_t bits, struct pg_prefix *out)
{
    if (ip->len == 0 || bits > ip->len * 8u) {
        return PG_E_PARSE;
    }
    struct pg_prefix p = {.ip = *ip, .bits = (uint8_t)bits};
    for (uint32_t i = 0; i < ip->len; i++) {
        uint32_t keep = bits > i * 8 ? bits - i * 8 : 0;
        if (keep < 8) {
            p.ip.b[i] = (uint8_t)(p.ip.b[i] & (0xff00u >> keep));
        }
    }
    *out = p;
    return 0;
}

int pg_prefix_parse(struct pg_str s, struct pg_prefix *out)
{
    struct pg_ip ip;
    uint64_t bits;
    ptrdiff_t slash = pg_str_chr(s, '/');
    struct pg_str host = slash >= 0 ? pg_str_n(s.p, (size_t)slash) : s;
    if (pg_ip_parse(host, &ip) < 0) {
        return PG_E_PARSE;
    }
    if (slash < 0) {
        return pg_prefix_make(&ip, ip.len * 8u, out);
    }
    struct pg_str len = pg_str_sub(s, (size_t)slash + 1);
    if (len.len > 3 || (len.len > 1 && len.p[0] == '0') || pg_str_u64(len, 128, &bits) < 0) {
        return PG_E_PARSE;
    }
    if (ip.len == 4 && pg_str_chr(host, ':') >= 0) {
        /* IPv4-mapped: the length counts the 96 mapping bits as well. */
        if (bits < 96) {
            return PG_E_PARSE;
        }
        bits -= 96;
    }
    return pg_prefix_make(&ip, (uint32_t)bits, out);
}

bool pg_prefix_has(const struct pg_prefix *p, const struct pg_ip *ip)
{
    if (p->ip.len == 0 || p->ip.len != ip->len) {
        return false;
    }
    size_t whole = p->bits / 8;
    if (memcmp(p->ip.b, ip->b, whole) != 0) {
        return false;
    }
    unsigned rest = p->bits % 8u;
    return rest == 0 || ((p->ip.b[whole] ^ ip->b[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

socklen_t pg_addr_to_sockaddr(const struct pg_addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (a->ip.len == 4) {
        struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&sin.sin_addr, a->ip.b, 4);
        memcpy(out, &sin, sizeof(sin));
        return sizeof(sin);
    }
    PG_BUG_ON(a->ip.len != 16);
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
    memcpy(&sin6.sin6_addr, a->ip.b, 16);
    memcpy(out, &sin6, sizeof(sin6));
    return sizeof(sin6);
}

int pg_addr_from_sockaddr(const struct sockaddr *sa, struct pg_addr *out)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in sin;
        memcpy(&sin, sa, sizeof(sin));
        out->port = ntohs(sin.sin_port);
        return pg_ip_from_bytes(&sin.sin_addr, 4, &out->ip);
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 sin6;
        memcpy(&sin6, sa, sizeof(sin6));
        out->port = ntohs(sin6.sin6_port);
        return pg_ip_from_bytes(&sin6.sin6_addr, 16, &out->ip);
    }
    return PG_E_UNSUPPORTED;
}

static bool is_label(struct pg_str s)
{
    if (s.len == 0 || s.len > LABEL_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                  c == '_';
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool is_dns_name(struct pg_str s)
{
    uint64_t number;
    if (s.len > NAME_MAX_BYTES) {
        return false;
    }
    if (pg_str_has_prefix(s, PG_STR("*."))) {
        s = pg_str_sub(s, 2);
    }
    for (;;) {
        ptrdiff_t dot = pg_str_chr(s, '.');
        if (!is_label(dot >= 0 ? pg_str_n(s.p, (size_t)dot) : s)) {
            return false;
        }
        if (dot < 0) {
            /* "1.2.3" or "256.1.1.1": a name to us, an address to some other parser. */
            return pg_str_u64(s, UINT64_MAX, &number) < 0;
        }
        s = pg_str_sub(s, (size_t)dot + 1);
    }
}

int pg_hostport_parse(struct pg_str s, struct pg_hostport *out)
{
    struct pg_hostport hp = {0};
    struct pg_str port;
    bool bracketed;
    if (split(s, &hp.host, &port, &bracketed) < 0 || parse_port(port, 1, &hp.port) < 0) {
        return PG_E_PARSE;
    }
    if (pg_ip_parse(hp.host, &hp.ip) < 0 && (bracketed || !is_dns_name(hp.host))) {
        return PG_E_PARSE;
    }
    *out = hp;
    return 0;
}
