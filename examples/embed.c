/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Smallest use of libpeering: a table filled from resources as they come over xDS, a snapshot, and the
 * question every data path asks: where does this connection go? Only the public headers are used; build it
 * with `cc embed.c $(pkg-config --cflags --libs libpeering)`.
 */
#include <peering/dns.h>
#include <peering/route.h>

#include <stdio.h>
#include <string.h>

/* The two resources, as an xDS server would send them (protobuf, istio.workload.Address): a pod and a service
 * that it is an endpoint of. */
/* clang-format off */
static const char pod[] = "\x0a\x47"                           /* workload */
                          "\x0a\x05" "web-1"                   /* name */
                          "\x12\x04" "shop"                    /* namespace */
                          "\x1a\x04\x0a\x00\x00\x05"           /* address 10.0.0.5 */
                          "\x28\x01"                           /* speaks HBONE */
                          "\xa2\x01\x12" "c1//Pod/shop/web-1"  /* uid */
                          "\xb2\x01\x1a"                       /* endpoint of */
                          "\x0a\x10" "shop/web.example"        /* this service */
                          "\x12\x06\x0a\x04\x08\x50\x10\x50";  /* with port 80 at 80 */
static const char service[] = "\x12\x26"                         /* service */
                              "\x0a\x03" "web"                   /* name */
                              "\x12\x04" "shop"                  /* namespace */
                              "\x1a\x0b" "web.example"           /* hostname */
                              "\x22\x06\x12\x04\x0a\x60\x00\x01" /* address 10.96.0.1 */
                              "\x2a\x04\x08\x50\x10\x50";        /* port 80 at 80 */
/* clang-format on */

static peering_str str(const char *s)
{
    peering_str out = {s, strlen(s)};
    return out;
}

static void print_line(void *arg, const char *line)
{
    (void)arg;
    printf("  %s\n", line);
}

static int put(peering_table *t, const char *name, const char *bytes, size_t len)
{
    peering_text why = {""};
    int r = peering_table_put(t, PEERING_KIND_ADDRESS, str(name), bytes, len, &why);
    if (r < 0) {
        fprintf(stderr, "%s: %s: %s\n", name, peering_strerror(r), why.text);
    }
    return r;
}

static int ask(const peering_snapshot *s)
{
    peering_route route;
    peering_route_query q = {0};
    q.source = peering_find_workload(s, str("c1//Pod/shop/web-1"));
    q.client_ip.len = 4;
    memcpy(q.client_ip.bytes, "\x0a\x00\x00\x05", 4);
    q.dst_ip.len = 4;
    memcpy(q.dst_ip.bytes, "\x0a\x60\x00\x01", 4);
    q.dst_port = 80;
    q.trace = print_line;
    int r = peering_route_decide(s, &q, &route);
    if (r == 0) {
        printf("kind %d, authority %s %s\n", (int)route.kind, route.authority, route.error);
        r = route.kind == PEERING_ROUTE_HBONE ? 0 : 1;
    }
    peering_route_fini(&route);
    return r;
}

int main(void)
{
    peering_table *table = NULL;
    peering_snapshot *snapshot = NULL;
    printf("libpeering %s\n", peering_version());
    int r = peering_table_new(&table);
    if (r == 0) {
        r = put(table, "c1//Pod/shop/web-1", pod, sizeof(pod) - 1);
    }
    if (r == 0) {
        r = put(table, "shop/web.example", service, sizeof(service) - 1);
    }
    if (r == 0) {
        r = peering_table_snapshot(table, &snapshot);
    }
    if (r == 0) {
        r = ask(snapshot);
    }
    peering_snapshot_unref(snapshot);
    peering_table_free(table);
    return r == 0 ? 0 : 1;
}
