/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short texts an operator or a peer writes: addresses, prefixes, authorities, durations, numbers. What parses
 * must format and parse again to the same. One thread.
 */
#include "fuzz.h"

#include "core/addr.h"

static void ip(struct pg_str in)
{
    struct pg_ip a, b;
    char text[PG_IP_TEXT];
    if (pg_ip_parse(in, &a) == 0) {
        PG_BUG_ON(a.len != 4 && a.len != 16);
        PG_BUG_ON(pg_ip_parse(pg_str_c(pg_ip_fmt(&a, text)), &b) < 0 || !pg_ip_eq(&a, &b));
        (void)pg_ip_is_loopback(&a);
    }
    if (pg_ip_from_bytes(in.p, in.len, &a) == 0) {
        PG_BUG_ON(pg_ip_parse(pg_str_c(pg_ip_fmt(&a, text)), &b) < 0 || !pg_ip_eq(&a, &b));
    }
}

static void addr(struct pg_str in)
{
    struct pg_addr a, b;
    struct sockaddr_storage ss;
    char text[PG_ADDR_TEXT];
    if (pg_addr_parse(in, &a) == 0) {
        PG_BUG_ON(pg_addr_parse(pg_str_c(pg_addr_fmt(&a, text)), &b) < 0 || !pg_addr_eq(&a, &b));
        (void)pg_addr_to_sockaddr(&a, &ss);
        PG_BUG_ON(pg_addr_from_sockaddr((struct sockaddr *)&ss, &b) < 0 || !pg_addr_eq(&a, &b));
    }
}

static void prefix(struct pg_str in)
{
    struct pg_prefix p, q;
    if (pg_prefix_parse(in, &p) == 0) {
        PG_BUG_ON(p.bits > p.ip.len * 8u || !pg_prefix_has(&p, &p.ip));
        PG_BUG_ON(pg_prefix_make(&p.ip, p.bits, &q) < 0 || q.bits != p.bits || !pg_ip_eq(&p.ip, &q.ip));
    }
}

static void hostport(struct pg_str in)
{
    struct pg_hostport hp;
    struct pg_addr a;
    bool is_addr = pg_addr_parse(in, &a) == 0 && a.port != 0;
    if (pg_hostport_parse(in, &hp) == 0) {
        PG_BUG_ON(hp.port == 0 || hp.host.len == 0);
        PG_BUG_ON(hp.host.p < in.p || hp.host.p + hp.host.len > in.p + in.len);
        PG_BUG_ON(is_addr && (!pg_ip_eq(&hp.ip, &a.ip) || hp.port != a.port));
        for (size_t i = 0; i < hp.host.len; i++) {
            PG_BUG_ON((unsigned char)hp.host.p[i] <= ' ' || (unsigned char)hp.host.p[i] >= 0x7f);
        }
    } else {
        PG_BUG_ON(is_addr);
    }
}

static void one(struct pg_str in)
{
    uint64_t n;
    char lower[64];
    ip(in);
    addr(in);
    prefix(in);
    hostport(in);
    if (pg_str_duration_ms(in, &n) == 0) {
        PG_BUG_ON(n > (uint64_t)INT64_MAX / 1000000u);
    }
    if (pg_str_u64(in, 65535, &n) == 0) {
        PG_BUG_ON(n > 65535);
    }
    (void)pg_str_lower(in, lower, sizeof(lower));
    (void)pg_str_is_utf8(in);
}
FUZZ_TARGET(one, fuzz_no_init)
