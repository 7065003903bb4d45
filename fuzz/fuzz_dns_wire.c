/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages from clients and from nameservers. What parses as a question must survive being sent on and
 * answered; the answer we write must pass our own check; nothing is read or written past its end. One thread.
 */
#include "fuzz.h"

#include "core/addr.h"
#include "hbone/dns_wire.h"

static void question(const uint8_t *p, size_t len, uint16_t cap)
{
    struct hb_dns_question q, again;
    static uint8_t out[HB_DNS_MESSAGE_MAX];
    static struct pg_ip ips[64];
    int r = hb_dns_parse_query(p, len, &q);
    if (r < 0) {
        return;
    }
    for (size_t i = 0; i < PG_ARRAY_LEN(ips); i++) {
        ips[i] = (struct pg_ip){.len = (i & 1) != 0 ? 4 : 16, .b = {(uint8_t)i}};
    }
    struct hb_dns_reply reply = {
        .rcode = r, .ips = ips, .n = r == 0 ? PG_ARRAY_LEN(ips) : 0, .ttl = 30, .cname = q.name};
    size_t room = cap < 512 ? 512 : cap;
    size_t n = hb_dns_write_reply(&q, &reply, out, room);
    PG_BUG_ON(n > room);
    if (r == 0) {
        PG_BUG_ON(hb_dns_check_answer(&q, q.id, out, n) < 0);
        n = hb_dns_relay_answer(&q, out, n, 512);
        PG_BUG_ON(n > 512);
        n = hb_dns_write_query(&q, 1, out);
        PG_BUG_ON(n > 512);
        PG_BUG_ON(hb_dns_parse_query(out, n, &again) != 0 || strcmp(again.name, q.name) != 0 ||
                  again.type != q.type);
    }
}

static void answer(uint8_t *p, size_t len)
{
    struct hb_dns_question q = {.section = {3, 'w', 'w', 'w', 0, 0, 1, 0, 1}, .section_len = 9};
    if (len >= 12 + q.section_len) {
        memcpy(p + 12, q.section, q.section_len); /* else hardly anything gets past the first check */
        p[2] |= 0x80;
        p[4] = 0;
        p[5] = 1;
    }
    uint16_t id = 0;
    if (len >= 2) {
        id = (uint16_t)(p[0] << 8 | p[1]);
    }
    if (hb_dns_check_answer(&q, id, p, len) == 0) {
        (void)hb_dns_is_truncated(p, len);
        PG_BUG_ON(hb_dns_relay_answer(&q, p, len, 40) > 40);
    }
}

static void one(struct pg_str in)
{
    uint16_t cap = fuzz_u16(&in);
    if (in.len == 0) {
        return;
    }
    uint8_t *copy = pg_memdup(in.p, in.len); /* exact size, so that the sanitizer sees over-reads */
    PG_BUG_ON(copy == NULL);
    question(copy, in.len, cap);
    answer(copy, in.len);
    pg_free(copy);
}
FUZZ_TARGET(one, fuzz_no_init)
