/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Federation: exported services and segments between our own control planes. Invariants: an entry we do not
 * understand (unknown scope or distribution, bad port) is refused as a whole; equal structs, equal bytes. Any
 * thread.
 */
#include "xds/codec_mem.h"
#include "xds/wire.h"

#include "federation.pb-c.h"

#define SERVICE_STRING(pb, ours, text)                                                                       \
    {                                                                                                        \
        offsetof(Isthmus__Federation__V1__FederatedService, pb), offsetof(struct xds_fed_service, ours),     \
            text                                                                                             \
    }
static const struct xds_string_field service_strings[] = {
    SERVICE_STRING(name, name, "name"),
    SERVICE_STRING(namespace_, ns, "namespace"),
    SERVICE_STRING(hostname, hostname, "hostname"),
    SERVICE_STRING(segment, segment, "segment"),
};

static int copy_ports(struct pg_arena *arena, const Isthmus__Federation__V1__FederatedService *in,
                      struct xds_fed_service *out, struct pg_errtext *err)
{
    if (in->n_ports == 0) {
        return 0;
    }
    out->ports = xds_copy_array(arena, in->n_ports, sizeof(*out->ports), err);
    if (out->ports == NULL) {
        return PG_E_NOMEM;
    }
    out->n_ports = in->n_ports;
    for (size_t i = 0; i < in->n_ports; i++) {
        const Isthmus__Federation__V1__ServicePort *p = in->ports[i];
        int r = xds_copy_port(p->service_port, "service port", &out->ports[i].service_port, err);
        if (r == 0) {
            r = xds_copy_port(p->target_port, "target port", &out->ports[i].target_port, err);
        }
        if (r < 0) {
            return r;
        }
        out->ports[i].app_protocol =
            p->app_protocol <= XDS_APP_TLS ? (uint8_t)p->app_protocol : XDS_APP_UNKNOWN;
    }
    return 0;
}

static int copy_capacity(struct pg_arena *arena, const Isthmus__Federation__V1__FederatedService *in,
                         struct xds_fed_service *out, struct pg_errtext *err)
{
    if (in->n_capacity == 0) {
        return 0;
    }
    out->capacity = xds_copy_array(arena, in->n_capacity, sizeof(*out->capacity), err);
    if (out->capacity == NULL) {
        return PG_E_NOMEM;
    }
    out->n_capacity = in->n_capacity;
    for (size_t i = 0; i < in->n_capacity; i++) {
        const Isthmus__Federation__V1__Capacity *p = in->capacity[i];
        int r = xds_copy_str(arena, &p->network, "network", &out->capacity[i].network, err);
        if (r < 0) {
            return r;
        }
        out->capacity[i].healthy = p->healthy;
        out->capacity[i].total = p->total;
    }
    return 0;
}

static int copy_service(struct pg_arena *arena, const Isthmus__Federation__V1__FederatedService *in,
                        struct xds_fed_service *out, struct pg_errtext *err)
{
    struct xds_fed_service s = {0};
    int scope = (int)in->scope;
    int distribution = (int)in->distribution;
    if (scope < 0 || scope > XDS_FED_SEGMENT || distribution < 0 || distribution > XDS_DIST_ANY) {
        pg_err_set(err, "unknown scope %d or distribution %d", scope, distribution);
        return PG_E_PARSE;
    }
    s.scope = (enum xds_fed_scope)scope;
    s.distribution = (enum xds_fed_distribution)distribution;
    int r = xds_copy_table(arena, service_strings, PG_ARRAY_LEN(service_strings), in, &s, err);
    if (r == 0) {
        r = copy_ports(arena, in, &s, err);
    }
    if (r == 0) {
        r = xds_copy_strs(arena, in->subject_alt_names, in->n_subject_alt_names, "subject alt name", &s.sans,
                          &s.n_sans, err);
    }
    if (r == 0) {
        r = copy_capacity(arena, in, &s, err);
    }
    if (r == 0) {
        *out = s;
    }
    return r;
}

int xds_fed_service_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_fed_service *out,
                           struct pg_errtext *err)
{
    struct xds_scratch scratch;
    int r = 0;
    const Isthmus__Federation__V1__FederatedService *m =
        xds_scratch_unpack(&scratch, &isthmus__federation__v1__federated_service__descriptor, bytes, &r, err);
    if (m != NULL) {
        r = copy_service(arena, m, out, err);
    }
    xds_scratch_fini(&scratch);
    return r;
}

int xds_fed_service_encode(const struct xds_fed_service *s, struct pg_sb *out)
{
    xds_put_bytes(out, 1, s->name);
    xds_put_bytes(out, 2, s->ns);
    xds_put_bytes(out, 3, s->hostname);
    xds_put_uint(out, 4, s->scope);
    xds_put_bytes(out, 5, s->segment);
    xds_put_uint(out, 6, s->distribution);
    for (size_t i = 0; i < s->n_ports; i++) {
        size_t at = xds_put_open(out, 7);
        xds_put_uint(out, 1, s->ports[i].service_port);
        xds_put_uint(out, 2, s->ports[i].target_port);
        xds_put_uint(out, 3, s->ports[i].app_protocol);
        xds_put_close(out, at);
    }
    for (size_t i = 0; i < s->n_sans; i++) {
        xds_put_entry(out, 8, s->sans[i]);
    }
    for (size_t i = 0; i < s->n_capacity; i++) {
        size_t at = xds_put_open(out, 9);
        xds_put_bytes(out, 1, s->capacity[i].network);
        xds_put_uint(out, 2, s->capacity[i].healthy);
        xds_put_uint(out, 3, s->capacity[i].total);
        xds_put_close(out, at);
    }
    return out->err;
}

int xds_segment_decode(struct pg_str bytes, struct pg_arena *arena, struct xds_segment *out,
                       struct pg_errtext *err)
{
    struct xds_scratch scratch;
    int r = 0;
    struct xds_segment s = {0};
    const Isthmus__Federation__V1__Segment *m =
        xds_scratch_unpack(&scratch, &isthmus__federation__v1__segment__descriptor, bytes, &r, err);
    if (m != NULL) {
        r = xds_copy_str(arena, &m->name, "name", &s.name, err);
        if (r == 0) {
            r = xds_copy_str(arena, &m->domain, "domain", &s.domain, err);
        }
        if (r == 0) {
            *out = s;
        }
    }
    xds_scratch_fini(&scratch);
    return r;
}

int xds_segment_encode(const struct xds_segment *s, struct pg_sb *out)
{
    xds_put_bytes(out, 1, s->name);
    xds_put_bytes(out, 2, s->domain);
    return out->err;
}
