/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes Gateways as YAML. Invariant: whatever a name holds, the document reads back as the same strings,
 * because everything that is not plainly a word is quoted. One thread.
 */
#include "gateway_yaml.h"

#include "core/addr.h"
#include "core/json.h"

/* Words that YAML 1.1 reads as something other than a string. */
static bool is_special(struct pg_str s)
{
    static const char *const words[] = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"};
    for (size_t i = 0; i < PG_ARRAY_LEN(words); i++) {
        if (pg_str_eq_nocase(s, pg_str_c(words[i]))) {
            return true;
        }
    }
    return false;
}

static bool is_plain(struct pg_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';
        if (!letter && (i == 0 || !other)) {
            return false;
        }
    }
    return s.len > 0 && !is_special(s);
}

static void scalar(struct pg_sb *out, const char *z)
{
    struct pg_str s = pg_str_c(z);
    struct pg_ip ip;
    if (is_plain(s) || (pg_ip_parse(s, &ip) == 0 && ip.len == 4)) {
        pg_sb_str(out, s);
        return;
    }
    pg_sb_ch(out, '"');
    pg_json_escape(out, s);
    pg_sb_ch(out, '"');
}

static bool given(const char *z)
{
    return z != NULL && z[0] != '\0';
}

/* "<indent><key>: <value>", nothing when there is no value. `head` is written once before the first of a map.
 */
static void entry(struct pg_sb *out, const char **head, const char *key, const char *value)
{
    if (!given(value)) {
        return;
    }
    if (*head != NULL) {
        pg_sb_fmt(out, "  %s:\n", *head);
        *head = NULL;
    }
    pg_sb_fmt(out, "    %s: ", key);
    scalar(out, value);
    pg_sb_ch(out, '\n');
}

static void addresses(const struct gateway_yaml *g, struct pg_sb *out)
{
    struct pg_ip ip;
    if (g->n_addresses > 0) {
        pg_sb_c(out, "  addresses:\n");
    }
    for (size_t i = 0; i < g->n_addresses; i++) {
        bool is_ip = pg_ip_parse(pg_str_c(g->addresses[i]), &ip) == 0;
        pg_sb_fmt(out, "  - type: %s\n    value: ", is_ip ? "IPAddress" : "Hostname");
        scalar(out, g->addresses[i]);
        pg_sb_ch(out, '\n');
    }
}

static void listener(struct pg_sb *out, const char *name, unsigned port, const char *protocol)
{
    pg_sb_fmt(out, "  - name: %s\n    port: %u\n    protocol: %s\n    tls:\n      mode: Passthrough\n", name,
              port, protocol);
}

void gateway_yaml_write(const struct gateway_yaml *g, struct pg_sb *out)
{
    const char *head = "annotations";
    pg_sb_c(out, "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n");
    entry(out, &head, "gateway.istio.io/service-account", g->service_account);
    entry(out, &head, "gateway.istio.io/trust-domain", g->trust_domain);
    head = "labels";
    entry(out, &head, "istio.io/expose-istiod", g->expose_istiod);
    entry(out, &head, "topology.istio.io/cluster", g->cluster);
    entry(out, &head, "topology.istio.io/network", g->network);
    entry(out, &head, "topology.kubernetes.io/region", g->region);
    entry(out, &head, "topology.kubernetes.io/zone", g->zone);
    pg_sb_c(out, "  name: ");
    scalar(out, g->name);
    pg_sb_c(out, "\n  namespace: ");
    scalar(out, g->ns);
    pg_sb_c(out, "\nspec:\n");
    addresses(g, out);
    pg_sb_c(out, "  gatewayClassName: ");
    scalar(out, g->gateway_class);
    pg_sb_c(out, "\n  listeners:\n");
    listener(out, "cross-network", g->hbone_port, "HBONE");
    listener(out, "xds-tls", g->xds_port, "TLS");
}
