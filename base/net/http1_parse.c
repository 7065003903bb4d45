/* SPDX-License-Identifier: Apache-2.0 */
/* See the header. Every length here was checked before it is used; nothing is read past `in`. Any thread. */
#include "net/http1_parse.h"

#include "net/http1.h"

#define EXTRA_MAX 4096u /* chunk extensions and trailers, which we skip */

static bool is_token(char c)
{
    unsigned char u = (unsigned char)c;
    return u > 0x20 && u < 0x7f && memchr("\"(),/:;<=>?@[\\]{}", c, 17) == NULL;
}

static bool is_token_str(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token(s.p[i])) {
            return false;
        }
    }
    return s.len > 0;
}

static bool is_text(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char u = (unsigned char)s.p[i];
        if ((u < 0x20 && u != '\t') || u == 0x7f) {
            return false;
        }
    }
    return true;
}

/* The next line without its CRLF; PG_E_AGAIN when it is not complete, PG_E_PARSE for a bare CR or LF. */
static int next_line(struct pg_str *in, struct pg_str *line)
{
    const char *lf = in->len > 0 ? memchr(in->p, '\n', in->len) : NULL;
    if (lf == NULL) {
        return PG_E_AGAIN;
    }
    size_t len = (size_t)(lf - in->p);
    if (len == 0 || lf[-1] != '\r') {
        return PG_E_PARSE;
    }
    *line = pg_str_n(in->p, len - 1);
    *in = pg_str_sub(*in, len + 1);
    return 0;
}

static int take_length(struct pg_http1_head *h, struct pg_str value)
{
    uint64_t n;
    int r = pg_str_u64(value, UINT64_MAX / 2, &n);
    if (r < 0 || (h->has_length && h->length != n)) {
        return PG_E_PARSE;
    }
    h->has_length = true;
    h->length = n;
    return 0;
}

static int take_field(struct pg_http1_head *h, struct pg_str line)
{
    ptrdiff_t colon = pg_str_chr(line, ':');
    if (colon <= 0) {
        return PG_E_PARSE;
    }
    struct pg_str name = pg_str_n(line.p, (size_t)colon);
    struct pg_str value = pg_str_trim(pg_str_sub(line, (size_t)colon + 1));
    if (!is_token_str(name) || !is_text(value)) {
        return PG_E_PARSE;
    }
    if (pg_str_eq_nocase(name, PG_STR("content-length"))) {
        return take_length(h, value);
    }
    if (pg_str_eq_nocase(name, PG_STR("transfer-encoding"))) {
        if (h->chunked || !pg_str_eq_nocase(value, PG_STR("chunked"))) {
            return PG_E_PARSE;
        }
        h->chunked = true;
    } else if (pg_str_eq_nocase(name, PG_STR("accept"))) {
        h->accept = value;
    } else if (pg_str_eq_nocase(name, PG_STR("expect"))) {
        h->expect_continue = pg_str_eq_nocase(value, PG_STR("100-continue"));
    }
    return 0;
}

/* First line (unsplit) and fields. */
static int parse_head(struct pg_str in, struct pg_http1_head *h, struct pg_str *first)
{
    struct pg_str rest = in;
    struct pg_str line;
    int r = next_line(&rest, first);
    if (r < 0) {
        return r;
    }
    if (!is_text(*first)) {
        return PG_E_PARSE;
    }
    for (unsigned n = 0; n <= PG_HTTP1_FIELDS_MAX; n++) {
        r = next_line(&rest, &line);
        if (r < 0) {
            return r;
        }
        if (line.len == 0) {
            h->size = in.len - rest.len;
            return h->chunked && h->has_length ? PG_E_PARSE : 0;
        }
        r = take_field(h, line);
        if (r < 0) {
            return r;
        }
    }
    return PG_E_PARSE;
}

static bool is_version(struct pg_str s)
{
    return pg_str_eq_c(s, "HTTP/1.1") || pg_str_eq_c(s, "HTTP/1.0");
}

int pg_http1_request_head(struct pg_str in, struct pg_http1_head *out)
{
    struct pg_http1_head h = {.size = 0};
    struct pg_str first;
    int r = parse_head(in, &h, &first);
    if (r < 0) {
        return r;
    }
    if (!pg_str_cut(&first, ' ', &h.first[0]) || !pg_str_cut(&first, ' ', &h.first[1])) {
        return PG_E_PARSE;
    }
    h.first[2] = first;
    if (!is_token_str(h.first[0]) || !pg_str_has_prefix(h.first[1], PG_STR("/")) || !is_version(first)) {
        return PG_E_PARSE;
    }
    *out = h;
    return 0;
}

int pg_http1_response_head(struct pg_str in, struct pg_http1_head *out, int *status)
{
    struct pg_http1_head h = {.size = 0};
    struct pg_str first;
    uint64_t code;
    int r = parse_head(in, &h, &first);
    if (r < 0) {
        return r;
    }
    if (!pg_str_cut(&first, ' ', &h.first[0]) || !pg_str_cut(&first, ' ', &h.first[1])) {
        return PG_E_PARSE;
    }
    h.first[2] = first;
    if (!is_version(h.first[0]) || h.first[1].len != 3 || pg_str_u64(h.first[1], 999, &code) < 0 ||
        code < 100) {
        return PG_E_PARSE;
    }
    *out = h;
    *status = (int)code;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum {
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    END_LF
};

static int size_char(struct pg_http1_chunks *c, char ch)
{
    int d = hex_digit(ch);
    if (d >= 0) {
        if (c->left >> 56 != 0) {
            return PG_E_PARSE;
        }
        c->left = c->left << 4 | (unsigned)d;
        c->digits = true;
        return 0;
    }
    if (!c->digits || (ch != '\r' && ch != ';' && ch != ' ')) {
        return PG_E_PARSE;
    }
    c->state = ch == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
    return 0;
}

/* One byte outside of chunk data. */
static int frame_char(struct pg_http1_chunks *c, char ch)
{
    bool lf = ch == '\n';
    bool cr = ch == '\r';
    switch (c->state) {
    case CHUNK_SIZE:
        return size_char(c, ch);
    case CHUNK_EXT:
    case TRAILER:
        if (cr) {
            c->state = c->state == TRAILER ? TRAILER_LF : CHUNK_SIZE_LF;
        }
        return lf || ++c->extra > EXTRA_MAX ? PG_E_PARSE : 0;
    case CHUNK_SIZE_LF:
        c->state = c->left == 0 ? TRAILER_START : CHUNK_DATA;
        return lf ? 0 : PG_E_PARSE;
    case CHUNK_DATA_CR:
        c->state = CHUNK_DATA_LF;
        return cr ? 0 : PG_E_PARSE;
    case CHUNK_DATA_LF:
        c->state = CHUNK_SIZE;
        c->digits = false;
        return lf ? 0 : PG_E_PARSE;
    case TRAILER_START:
        c->state = cr ? END_LF : TRAILER;
        return lf ? PG_E_PARSE : 0;
    case TRAILER_LF:
        c->state = TRAILER_START;
        return lf ? 0 : PG_E_PARSE;
    default:
        c->done = lf;
        return lf ? 0 : PG_E_PARSE;
    }
}

ptrdiff_t pg_http1_chunks_feed(struct pg_http1_chunks *c, struct pg_str in, struct pg_sb *out)
{
    size_t i = 0;
    while (i < in.len && !c->done) {
        if (c->state != CHUNK_DATA) {
            int r = frame_char(c, in.p[i++]);
            if (r < 0) {
                return r;
            }
            continue;
        }
        size_t n = in.len - i < c->left ? in.len - i : (size_t)c->left;
        pg_sb_add(out, in.p + i, n);
        if (out->err < 0) {
            return out->err;
        }
        i += n;
        c->left -= n;
        if (c->left == 0) {
            c->state = CHUNK_DATA_CR;
        }
    }
    return (ptrdiff_t)i;
}

/* Decodes into buf; the length, or -1 when it does not fit or an escape is broken. */
static ptrdiff_t percent_decode(struct pg_str s, char *buf, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int hi = i + 2 < s.len ? hex_digit(s.p[i + 1]) : -1;
            int lo = hi >= 0 ? hex_digit(s.p[i + 2]) : -1;
            if (lo < 0) {
                return -1;
            }
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        if (n == cap) {
            return -1;
        }
        buf[n++] = c;
    }
    return (ptrdiff_t)n;
}

bool pg_http1_query(struct pg_str query, const char *name, char *buf, size_t cap, struct pg_str *out)
{
    struct pg_str item;
    while (pg_str_cut(&query, '&', &item)) {
        struct pg_str key = item;
        struct pg_str value = PG_STR_NONE;
        ptrdiff_t eq = pg_str_chr(item, '=');
        if (eq >= 0) {
            key = pg_str_n(item.p, (size_t)eq);
            value = pg_str_sub(item, (size_t)eq + 1);
        }
        if (!pg_str_eq_c(key, name)) {
            continue;
        }
        ptrdiff_t n = percent_decode(value, buf, cap);
        if (n >= 0) {
            *out = pg_str_n(buf, (size_t)n);
        }
        return n >= 0;
    }
    return false;
}
