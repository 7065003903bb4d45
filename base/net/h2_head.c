/* SPDX-License-Identifier: Apache-2.0 */
/* Header lists and the two sets of options. Pure but for the copy's memory. Any thread. */
#include "net/h2_int.h"

struct pg_str pg_h2_head_get(const struct pg_h2_head *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++) {
        if (pg_str_eq_c(h->fields[i].name, name)) {
            return h->fields[i].value;
        }
    }
    return PG_STR_NONE;
}

static struct pg_str copy_str(char **at, struct pg_str s)
{
    struct pg_str copy = {*at, s.len};
    if (s.len > 0) {
        memcpy(*at, s.p, s.len);
    }
    *at += s.len;
    return copy;
}

struct pg_h2_block *pg_h2_block_new(const struct pg_h2_head *head)
{
    size_t bytes = 0;
    for (size_t i = 0; i < head->n; i++) {
        bytes += head->fields[i].name.len + head->fields[i].value.len;
    }
    struct pg_h2_block *b = pg_malloc(sizeof(*b) + head->n * sizeof(b->fields[0]) + bytes);
    if (b == NULL) {
        return NULL;
    }
    char *at = (char *)(b->fields + head->n);
    b->n = head->n;
    for (size_t i = 0; i < head->n; i++) {
        b->fields[i].name = copy_str(&at, head->fields[i].name);
        b->fields[i].value = copy_str(&at, head->fields[i].value);
        b->fields[i].secret = head->fields[i].secret;
    }
    return b;
}

void pg_h2_options_hbone(struct pg_h2_options *o, bool server)
{
    *o = (struct pg_h2_options){
        .stream_window = 4u << 20,
        .connection_window = 16u << 20,
        .max_frame_size = 1u << 20,
        .max_concurrent_streams = server ? 200 : 1000,
        .max_header_list = 16384,
        .max_header_fields = 100,
        .send_buffer = 256u << 10,
        .ping_interval_ms = 10000,
        .ping_timeout_ms = 20000,
        .ping_without_streams = true,
        .handshake_ms = 10000,
        .resets_per_s = 1000,
    };
}

void pg_h2_options_grpc(struct pg_h2_options *o, bool server)
{
    *o = (struct pg_h2_options){
        .stream_window = 1u << 20,
        .connection_window = 4u << 20,
        .max_frame_size = 16384,
        .max_concurrent_streams = server ? 100 : 1000,
        .max_header_list = 32768,
        .max_header_fields = 128,
        .send_buffer = 256u << 10,
        .ping_interval_ms = 30000,
        .ping_timeout_ms = 10000,
        .ping_without_streams = false,
        .handshake_ms = 10000,
        .resets_per_s = 1000,
    };
}
