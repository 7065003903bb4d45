/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages, only as much as a forwarder needs. Strict: no compression in questions, one question, lengths
 * and counts must be true, nothing after the last record. Pure, no allocation, any thread.
 */
#ifndef ISTHMUS_HBONE_DNS_WIRE_H
#define ISTHMUS_HBONE_DNS_WIRE_H

#include "core/addr.h"

#define HB_DNS_NAME_MAX 255u /* on the wire */
#define HB_DNS_UDP_MAX 1232u /* longest UDP answer we send or ask for */
#define HB_DNS_MESSAGE_MAX 65535u
#define HB_DNS_RECORDS_MAX 1024u /* records in one message */

enum { HB_DNS_A = 1, HB_DNS_CNAME = 5, HB_DNS_AAAA = 28, HB_DNS_OPT = 41 };
enum {
    HB_DNS_NOERROR = 0,
    HB_DNS_FORMERR = 1,
    HB_DNS_SERVFAIL = 2,
    HB_DNS_NOTIMP = 4,
    HB_DNS_REFUSED = 5,
    HB_DNS_BADVERS = 16
};

struct hb_dns_question {
    uint16_t id;
    bool rd;
    uint8_t opcode;
    uint16_t type, class;
    uint8_t section[HB_DNS_NAME_MAX + 4]; /* question section as received, for the echo */
    size_t section_len;
    char name[HB_DNS_NAME_MAX + 1]; /* text, lower case, no final dot; "" for the root */
    bool has_text; /* false: the name has bytes that have no place in a host name; only forwarded */
    bool edns;
    uint16_t edns_size;
    bool edns_do;
};
/* 0: *out is a question. > 0: answer with this rcode (id and rd are filled, maybe no question). PG_E_PARSE:
 * no answer at all (too short, or itself an answer). */
int hb_dns_parse_query(const uint8_t *p, size_t len, struct hb_dns_question *out) PG_MUST_CHECK;

struct hb_dns_reply {
    int rcode;
    bool aa;
    const char *cname; /* NULL: none; else the records stand under this name */
    const struct pg_ip *ips;
    size_t n;
    uint32_t ttl;
};
/* Writes the reply into `out`, at most `cap` bytes (>= 512); what does not fit is left out and TC set.
 * Returns the length. */
size_t hb_dns_write_reply(const struct hb_dns_question *q, const struct hb_dns_reply *r, uint8_t *out,
                          size_t cap);
/* The question as we ask an upstream: new id, RD, EDNS when the client had it. `out` has 512 bytes. Returns
 * the length. */
size_t hb_dns_write_query(const struct hb_dns_question *q, uint16_t id, uint8_t *out);
/* Is `p` a well-formed answer to the question we sent with `id`? 0, or PG_E_PARSE (forged, malformed). */
int hb_dns_check_answer(const struct hb_dns_question *q, uint16_t id, const uint8_t *p,
                        size_t len) PG_MUST_CHECK;
bool hb_dns_is_truncated(const uint8_t *p, size_t len);
/* Turns a checked answer into ours, in place: client's id, RA, no AA; more than `cap` bytes become header and
 * question with TC. Returns the length. */
size_t hb_dns_relay_answer(const struct hb_dns_question *q, uint8_t *p, size_t len, size_t cap);
/* Longest UDP answer for this client. */
size_t hb_dns_udp_cap(const struct hb_dns_question *q);

#endif
