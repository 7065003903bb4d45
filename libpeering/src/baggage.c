/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `baggage` header of a workload. Empty members are left out; bytes that may not stand in a value are
 * percent-coded, so that no name from a control plane can add members of its own. Pure; any thread.
 */
#include <peering/route.h>

#include "convert.h"

struct writer {
    char *out;
    size_t cap;
    size_t len; /* > cap: did not fit */
};

static void put(struct writer *w, const char *p, size_t n)
{
    if (w->len > w->cap || n > w->cap - w->len) {
        w->len = w->cap + 1;
        return;
    }
    memcpy(w->out + w->len, p, n);
    w->len += n;
}

/* baggage-octet of W3C, without '%' and '=' */
static bool is_plain(unsigned char c)
{
    return c > 0x20 && c < 0x7f && c != '"' && c != ',' && c != ';' && c != '\\' && c != '%' && c != '=';
}

static void put_value(struct writer *w, peering_str s)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        const char coded[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (is_plain(c)) {
            put(w, &s.ptr[i], 1);
        } else {
            put(w, coded, sizeof(coded));
        }
    }
}

static void member(struct writer *w, const char *key, peering_str value)
{
    if (value.len == 0) {
        return;
    }
    if (w->len != 0) {
        put(w, ",", 1);
    }
    put(w, key, strlen(key));
    put(w, "=", 1);
    put_value(w, value);
}

size_t peering_baggage(const peering_workload *w, char *out, size_t cap)
{
    static const char *const keys[] = {"k8s.deployment.name", "k8s.cronjob.name", "k8s.pod.name",
                                       "k8s.job.name"};
    struct writer x = {.out = out, .cap = cap};
    peering_str type = peering_workload_type(w);
    const char *type_key = keys[0];
    for (size_t i = 0; i < PG_ARRAY_LEN(keys); i++) {
        if (pg_str_has_prefix(pg_str_sub(pg_str_c(keys[i]), 4), str_in(type))) {
            type_key = keys[i];
        }
    }
    member(&x, "k8s.cluster.name", peering_workload_cluster(w));
    member(&x, "k8s.namespace.name", peering_workload_namespace(w));
    member(&x, type_key, peering_workload_workload_name(w));
    member(&x, "service.name", peering_workload_canonical_name(w));
    member(&x, "service.version", peering_workload_canonical_revision(w));
    member(&x, "cloud.region", peering_workload_region(w));
    member(&x, "cloud.availability_zone", peering_workload_zone(w));
    return x.len > cap ? 0 : x.len;
}
