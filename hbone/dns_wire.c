/* SPDX-License-Identifier: Apache-2.0 */
/* See dns_wire.h. Invariant: no read past `len`, no write past `cap`; every loop is bounded by the message's
 * length. */
#include "hbone/dns_wire.h"

#define HEADER 12u
#define OPT_LEN 11u
#define FLAG_QR 0x8000u
#define FLAG_AA 0x0400u
#define FLAG_TC 0x0200u
#define FLAG_RD 0x0100u
#define FLAG_RA 0x0080u

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

/* Steps over a name that may end in a compression pointer; pointers must point backwards. 0 when malformed.
 */
static size_t skip_name(const uint8_t *p, size_t len, size_t at)
{
    size_t total = 0;
    while (at < len) {
        uint8_t n = p[at];
        if (n == 0) {
            return at + 1;
        }
        if ((n & 0xc0) == 0xc0) {
            size_t target = at + 1 < len ? (size_t)((n & 0x3f) << 8 | p[at + 1]) : len;
            return target >= HEADER && target < at ? at + 2 : 0;
        }
        total += n + 1u;
        if (n > 63 || total >= HB_DNS_NAME_MAX) {
            return 0;
        }
        at += n + 1u;
    }
    return 0;
}

/* Name of a question: no compression. Fills text; returns the position after it, 0 when malformed. */
static size_t read_name(const uint8_t *p, size_t len, size_t at, struct hb_dns_question *q)
{
    size_t out = 0;
    size_t begin = at;
    q->has_text = true;
    while (at < len && p[at] != 0) {
        uint8_t n = p[at++];
        if (n > 63 || at + n > len || at + n - begin >= HB_DNS_NAME_MAX) {
            return 0;
        }
        if (out > 0) {
            q->name[out++] = '.';
        }
        for (uint8_t i = 0; i < n; i++) {
            uint8_t c = p[at + i];
            c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
            bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*';
            q->has_text = q->has_text && fine;
            q->name[out++] = (char)c;
        }
        at += n;
    }
    q->name[out] = '\0';
    return at < len ? at + 1 : 0;
}

/* Steps over one record; position after it, 0 when malformed. */
static size_t skip_record(const uint8_t *p, size_t len, size_t at)
{
    at = skip_name(p, len, at);
    if (at == 0 || at + 10 > len) {
        return 0;
    }
    at += 10u + get16(p + at + 8);
    return at <= len ? at : 0;
}

static int read_opt(const uint8_t *p, size_t at, struct hb_dns_question *q)
{
    if (p[at] != 0 || get16(p + at + 1) != HB_DNS_OPT) {
        return 0;
    }
    if (q->edns) {
        return HB_DNS_FORMERR; /* only one is allowed */
    }
    q->edns = true;
    q->edns_size = get16(p + at + 3);
    q->edns_do = (p[at + 7] & 0x80) != 0;
    return p[at + 6] != 0 ? HB_DNS_BADVERS : 0;
}

int hb_dns_parse_query(const uint8_t *p, size_t len, struct hb_dns_question *q)
{
    *q = (struct hb_dns_question){0};
    if (len < HEADER || (get16(p + 2) & FLAG_QR) != 0) {
        return PG_E_PARSE;
    }
    q->id = get16(p);
    q->rd = (get16(p + 2) & FLAG_RD) != 0;
    q->opcode = (uint8_t)(p[2] >> 3 & 0x0f);
    if (q->opcode != 0) {
        return HB_DNS_NOTIMP;
    }
    unsigned extra = get16(p + 10);
    if (get16(p + 4) != 1 || get16(p + 6) != 0 || get16(p + 8) != 0 || extra > HB_DNS_RECORDS_MAX) {
        return HB_DNS_FORMERR;
    }
    size_t at = read_name(p, len, HEADER, q);
    if (at == 0 || at + 4 > len) {
        return HB_DNS_FORMERR;
    }
    q->type = get16(p + at);
    q->class = get16(p + at + 2);
    at += 4;
    q->section_len = at - HEADER;
    memcpy(q->section, p + HEADER, q->section_len);
    int rcode = 0;
    for (unsigned i = 0; i < extra; i++) {
        size_t next = skip_record(p, len, at);
        if (next == 0) {
            return HB_DNS_FORMERR;
        }
        int r = read_opt(p, at, q);
        rcode = rcode != 0 ? rcode : r;
        at = next;
    }
    return at != len ? HB_DNS_FORMERR : rcode;
}

size_t hb_dns_udp_cap(const struct hb_dns_question *q)
{
    size_t cap = q->edns && q->edns_size > 512 ? q->edns_size : 512;
    return cap < HB_DNS_UDP_MAX ? cap : HB_DNS_UDP_MAX;
}

static size_t write_opt(const struct hb_dns_question *q, int rcode, uint8_t *p)
{
    memset(p, 0, OPT_LEN);
    put16(p + 1, HB_DNS_OPT);
    put16(p + 3, HB_DNS_UDP_MAX);
    p[5] = (uint8_t)(rcode >> 4);
    p[7] = q->edns_do ? 0x80 : 0;
    return OPT_LEN;
}

/* Labels of a text name; 0 when it does not fit or is no name. */
static size_t write_name(const char *name, uint8_t *out, size_t cap)
{
    struct pg_str rest = pg_str_c(name);
    struct pg_str label;
    size_t at = 0;
    while (pg_str_cut(&rest, '.', &label)) {
        if (label.len == 0 || label.len > 63 || at + label.len + 2 > cap ||
            at + label.len + 2 > HB_DNS_NAME_MAX) {
            return 0;
        }
        out[at++] = (uint8_t)label.len;
        memcpy(out + at, label.p, label.len);
        at += label.len;
    }
    if (at == 0) {
        return 0;
    }
    out[at++] = 0;
    return at;
}

static void record_head(uint8_t *p, unsigned name_at, unsigned type, uint32_t ttl, unsigned rdlen)
{
    put16(p, 0xc000u | name_at);
    put16(p + 2, type);
    put16(p + 4, 1);
    put32(p + 6, ttl);
    put16(p + 10, rdlen);
}

size_t hb_dns_write_reply(const struct hb_dns_question *q, const struct hb_dns_reply *r, uint8_t *out,
                          size_t cap)
{
    unsigned flags = FLAG_QR | FLAG_RA | (q->rd ? FLAG_RD : 0) | (r->aa ? FLAG_AA : 0) |
                     (unsigned)(r->rcode & 0x0f) | (unsigned)q->opcode << 11;
    size_t at = HEADER;
    size_t room = cap - (q->edns ? OPT_LEN : 0);
    unsigned name_at = HEADER;
    unsigned answers = 0;
    memset(out, 0, HEADER);
    memcpy(out + at, q->section, q->section_len);
    at += q->section_len;
    if (r->cname != NULL && q->section_len > 0) {
        uint8_t name[HB_DNS_NAME_MAX];
        size_t n = write_name(r->cname, name, sizeof(name));
        if (n > 0 && at + 12 + n <= room) {
            record_head(out + at, HEADER, HB_DNS_CNAME, r->ttl, (unsigned)n);
            memcpy(out + at + 12, name, n);
            name_at = (unsigned)at + 12;
            at += 12 + n;
            answers++;
        }
    }
    for (size_t i = 0; i < r->n; i++) {
        unsigned len = r->ips[i].len;
        if (at + 12 + len > room) {
            flags |= FLAG_TC;
            break;
        }
        record_head(out + at, name_at, len == 4 ? HB_DNS_A : HB_DNS_AAAA, r->ttl, len);
        memcpy(out + at + 12, r->ips[i].b, len);
        at += 12u + len;
        answers++;
    }
    if (q->edns) {
        at += write_opt(q, r->rcode, out + at);
    }
    put16(out, q->id);
    put16(out + 2, flags);
    put16(out + 4, q->section_len > 0 ? 1 : 0);
    put16(out + 6, answers);
    put16(out + 10, q->edns ? 1 : 0);
    return at;
}

size_t hb_dns_write_query(const struct hb_dns_question *q, uint16_t id, uint8_t *out)
{
    size_t at = HEADER;
    memset(out, 0, HEADER);
    put16(out, id);
    put16(out + 2, q->rd ? FLAG_RD : 0);
    put16(out + 4, 1);
    memcpy(out + at, q->section, q->section_len);
    at += q->section_len;
    if (q->edns) {
        put16(out + 10, 1);
        at += write_opt(q, 0, out + at);
    }
    return at;
}

int hb_dns_check_answer(const struct hb_dns_question *q, uint16_t id, const uint8_t *p, size_t len)
{
    if (len < HEADER + q->section_len || get16(p) != id || (get16(p + 2) & FLAG_QR) == 0 ||
        get16(p + 4) != 1 || memcmp(p + HEADER, q->section, q->section_len) != 0) {
        return PG_E_PARSE;
    }
    unsigned records = (unsigned)get16(p + 6) + get16(p + 8) + get16(p + 10);
    size_t at = HEADER + q->section_len;
    if (records > HB_DNS_RECORDS_MAX * 3) {
        return PG_E_PARSE;
    }
    for (unsigned i = 0; i < records; i++) {
        at = skip_record(p, len, at);
        if (at == 0) {
            /* A truncated answer may end anywhere; it is asked for again over TCP. */
            return (get16(p + 2) & FLAG_TC) != 0 ? 0 : PG_E_PARSE;
        }
    }
    return at == len ? 0 : PG_E_PARSE;
}

bool hb_dns_is_truncated(const uint8_t *p, size_t len)
{
    return len >= HEADER && (get16(p + 2) & FLAG_TC) != 0;
}

size_t hb_dns_relay_answer(const struct hb_dns_question *q, uint8_t *p, size_t len, size_t cap)
{
    unsigned flags = get16(p + 2) & ~(unsigned)FLAG_AA;
    flags |= FLAG_RA;
    put16(p, q->id);
    if (len > cap) {
        flags |= FLAG_TC;
        put16(p + 6, 0);
        put16(p + 8, 0);
        put16(p + 10, 0);
        len = HEADER + q->section_len;
    }
    put16(p + 2, flags);
    return len;
}
