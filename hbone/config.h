/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All settings of the proxy. They come from environment variables whose names, defaults and grammar are
 * ztunnel's; a malformed value stops the process with the variable, the value and the cause. Read once at
 * start, immutable after, shared by all threads.
 */
#ifndef ISTHMUS_HBONE_CONFIG_H
#define ISTHMUS_HBONE_CONFIG_H

#include "core/addr.h"
#include "core/json.h"

#define HB_PORT_OUTBOUND 15001u
#define HB_PORT_PLAIN 15006u
#define HB_PORT_INBOUND 15008u
#define HB_PORT_DNS 15053u
#define HB_PORT_ADMIN 15000u
#define HB_PORT_STATS 15020u
#define HB_PORT_READY 15021u
#define HB_PORT_XDS 15012u
#define HB_WORKERS_MAX 256u
#define HB_META_MAX 128u         /* ISTIO_META_* entries */
#define HB_TRUST_DOMAINS_MAX 64u /* entries of TRUST_DOMAINS */
#define HB_DNS_SERVERS_MAX 4u    /* nameservers used of resolv.conf */
#define HB_DNS_SEARCH_MAX 16u    /* search domains used of resolv.conf */

enum hb_mode {
    HB_MODE_DEDICATED, /* one workload, in the network namespace we run in */
    HB_MODE_GATEWAY,   /* east-west gateway */
};
enum hb_tristate { HB_UNSET, HB_FALSE, HB_TRUE };

/* A captured workload, by name as the control plane knows it. Immutable. */
struct hb_pod_spec {
    char *ns;
    char *name;
    char *sa;
    int netns_fd; /* -1: the namespace we run in */
};
struct hb_meta {
    char *key;
    char *value;
};

/* Only tests set these; there is no variable for them. */
struct hb_test_hooks {
    bool on;
    struct pg_ip bind;                               /* instead of the wildcard and loopback */
    uint16_t outbound, plain, inbound, dns, forward; /* listening ports, 0: any */
    uint16_t admin, stats, ready;
    uint16_t hbone_port; /* dialled where a route says 15008; 0: as it is */
    /* Stands for SO_ORIGINAL_DST; NULL: ask the socket. */
    struct pg_addr original_dst;
    uint16_t dns_upstream; /* port of the nameservers */
};

struct hb_config {
    enum hb_mode mode;
    struct hb_pod_spec pod;
    struct hb_meta *meta; /* ISTIO_META_* without the prefix */
    size_t n_meta;
    struct pg_str trust_domains[HB_TRUST_DOMAINS_MAX]; /* slices into the two strings below */
    size_t n_trust_domains;
    bool dns;
    struct pg_addr dns_addr; /* port 0: 127.0.0.1 and ::1, port 15053 */
    uint64_t drain_ms;
    struct pg_ip dns_servers[HB_DNS_SERVERS_MAX];
    size_t n_dns_servers;
    char *dns_search[HB_DNS_SEARCH_MAX];
    size_t n_dns_search;
    struct pg_hostport forward; /* CONTROL_PLANE_FORWARD, parsed; port 0: none */
    bool policy_lenient;
    struct hb_test_hooks test;

    /* One field per variable, same order as the table in config.c. */
    char *proxy_mode, *workload_info, *network, *node_name, *cluster_id, *cluster_domain, *trust_domain;
    char *more_trust_domains;
    char *pod_namespace, *service_account, *pod_name, *instance_ip;
    char *xds_address, *ca_address, *xds_root_ca, *ca_root_ca, *alt_xds_hostname, *alt_ca_hostname,
        *auth_token;
    char *preferred_namespace, *control_plane_forward, *policy_unknown, *tcp_congestion;
    char *grace_period, *worker_threads, *cpu_limit, *resource_cpu_limit, *resource_cpu_request;
    char *log_filter, *log_format, *authz_info, *istio_version;
    char *u_local_xds_path, *u_local_xds, *u_compliance, *u_crl_path, *u_proxy_config, *inpod_uds;
    bool enable_proxy, skip_validate_trust_domain, keepalive, user_timeout, ipv6, response_baggage,
        localhost_app_tunnel;
    bool inpod_port_reuse, u_on_demand, u_fake_ca, u_tls12, u_socks5;
    enum hb_tristate orig_src;
    uint64_t secret_ttl_ms, keepalive_time_ms, keepalive_interval_ms, pool_idle_ms, termination_deadline_ms;
    uint32_t keepalive_retries, pool_max_streams, stream_window, connection_window, frame_size, packet_mark;
};

/* Reads `environ`-style text ("NAME=value", NULL-terminated). `warn` (may be NULL) gets one line per doubtful
 * variable. 0, or PG_E_CONFIG with `err` naming variable, value and cause, or PG_E_NOMEM. On failure nothing
 * needs hb_config_fini. */
int hb_config_load(struct hb_config *c, char *const *env, void (*warn)(void *arg, const char *line),
                   void *arg, struct pg_errtext *err) PG_MUST_CHECK;
void hb_config_fini(struct hb_config *c);
/* Nameservers and search list of resolv.conf's text. Unusable lines are skipped. */
void hb_config_resolv(struct hb_config *c, struct pg_str text);
/* "NAME=value" lines of everything in force; secrets are left out. */
void hb_config_print(const struct hb_config *c, struct pg_sb *out);
/* The same as one JSON object with camelCase keys, for the admin dump. */
void hb_config_json(const struct hb_config *c, struct pg_json *j);
/* The variables with default and meaning. */
void hb_config_help(struct pg_sb *out);
/* Number of worker threads for a machine with `cpus` processors. 0 or PG_E_CONFIG. */
int hb_config_workers(const struct hb_config *c, unsigned cpus, unsigned *out,
                      struct pg_errtext *err) PG_MUST_CHECK;

#endif
