/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages of pods and of upstream servers. Byte 0: length of the question, byte 1: how the answer is
 * made (bit 0: header and question of ours in front of the rest), byte 2: addresses in our own reply. What we
 * write must read back. One thread.
 */
#include "fuzz.h"

#include "hbone/dns_wire.h"

static void reply(const struct hb_dns_question *q, int rcode, uint8_t n, struct pg_str cname)
{
    struct pg_ip ips[256];
    uint8_t out[HB_DNS_UDP_MAX];
    char *name = fuzz_z(cname);
    for (size_t i = 0; i < n; i++) {
        ips[i] = (struct pg_ip){.len = q->type == HB_DNS_AAAA ? 16 : 4, .b = {10, 0, (uint8_t)i}};
    }
    const struct hb_dns_reply r = {
        .rcode = rcode, .aa = true, .cname = n & 1 ? name : NULL, .ips = ips, .n = n, .ttl = 30};
    size_t cap = hb_dns_udp_cap(q);
    PG_BUG_ON(cap < 512 || cap > sizeof(out));
    size_t len = hb_dns_write_reply(q, &r, out, cap);
    PG_BUG_ON(len < 12 || len > cap);
    if (q->section_len > 0) {
        PG_BUG_ON(hb_dns_check_answer(q, q->id, out, len) < 0);
        PG_BUG_ON(hb_dns_check_answer(q, q->id ^ 1, out, len) == 0);
    }
    pg_free(name);
}

static void forward(const struct hb_dns_question *q)
{
    uint8_t out[512];
    struct hb_dns_question again;
    size_t len = hb_dns_write_query(q, 4711, out);
    PG_BUG_ON(len > sizeof(out) || hb_dns_parse_query(out, len, &again) != 0);
    PG_BUG_ON(again.id != 4711 || again.type != q->type || again.class != q->class || again.edns != q->edns);
    PG_BUG_ON(strcmp(again.name, q->name) != 0 || again.has_text != q->has_text);
}

static void answer(const struct hb_dns_question *q, struct pg_str in, bool dressed)
{
    uint8_t buf[4096];
    size_t len = 0;
    if (dressed) {
        uint8_t head[12] = {0x12, 0x34, 0x80, 0, 0, 1};
        head[2] |= fuzz_u8(&in) & 2;
        head[7] = fuzz_u8(&in);
        head[11] = fuzz_u8(&in) & 3;
        memcpy(buf, head, sizeof(head));
        memcpy(buf + 12, q->section, q->section_len);
        len = 12 + q->section_len;
    }
    struct pg_str rest = fuzz_take(&in, sizeof(buf) - len);
    if (rest.len > 0) {
        memcpy(buf + len, rest.p, rest.len);
    }
    len += rest.len;
    uint8_t *exact = pg_memdup(buf, len > 0 ? len : 1);
    PG_BUG_ON(exact == NULL);
    if (hb_dns_check_answer(q, 0x1234, exact, len) == 0) {
        (void)hb_dns_is_truncated(exact, len);
        size_t cap = hb_dns_udp_cap(q);
        size_t n = hb_dns_relay_answer(q, exact, len, cap);
        PG_BUG_ON(n > len || n > cap || n < 12);
        PG_BUG_ON(hb_dns_check_answer(q, q->id, exact, n) < 0);
    }
    pg_free(exact);
}

static void one(struct pg_str in)
{
    struct hb_dns_question q;
    size_t n = fuzz_u8(&in);
    uint8_t how = fuzz_u8(&in), ips = fuzz_u8(&in);
    struct pg_str query = fuzz_take(&in, n);
    uint8_t *exact = pg_memdup(query.len > 0 ? query.p : "", query.len > 0 ? query.len : 1);
    PG_BUG_ON(exact == NULL);
    int r = hb_dns_parse_query(exact, query.len, &q);
    pg_free(exact);
    if (r < 0) {
        return;
    }
    PG_BUG_ON(strlen(q.name) > HB_DNS_NAME_MAX || q.section_len > sizeof(q.section));
    reply(&q, r, r == 0 ? ips : 0, pg_str_n(in.p, in.len < 300 ? in.len : 300));
    if (r == 0) {
        forward(&q);
        answer(&q, in, how & 1);
    }
}
FUZZ_TARGET(one, fuzz_no_init)
