/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of a control plane. A value is checked when it is set, so that everything after start can
 * rely on it. Environment names are istiod's where istiod has the setting.
 */
#include "options.h"

#include <stdio.h>

#include "core/addr.h"

enum option_kind { KIND_TEXT, KIND_NAME, KIND_BOOL, KIND_DURATION, KIND_LISTEN, KIND_FORMAT };

struct option_def {
    const char *name;
    const char *env;
    const char *fallback;
    enum option_kind kind;
    const char *help;
};

static const struct option_def defs[OPT_COUNT] = {
    [OPT_CLUSTER] = {"cluster", "CLUSTER_ID", "Kubernetes", KIND_NAME,
                     "name of this cluster, unique in the mesh"},
    [OPT_NETWORK] =
        {"network", "NETWORK", "", KIND_TEXT,
         "network of the workloads (label topology.istio.io/network of the system namespace wins)"},
    [OPT_TRUST_DOMAIN] = {"trust-domain", "TRUST_DOMAIN", "cluster.local", KIND_NAME,
                          "trust domain of this cluster"},
    [OPT_DOMAIN] = {"domain", "DOMAIN_SUFFIX", "cluster.local", KIND_NAME, "DNS suffix of Services"},
    [OPT_SYSTEM_NAMESPACE] = {"system-namespace", "SYSTEM_NAMESPACE", "istio-system", KIND_NAME,
                              "namespace of the control plane"},
    [OPT_REGION] = {"region", NULL, "", KIND_TEXT, "region of this cluster"},
    [OPT_ZONE] = {"zone", NULL, "", KIND_TEXT, "zone of this cluster"},
    [OPT_MANIFESTS] = {"manifests", NULL, "", KIND_TEXT, "directory of Kubernetes-style YAML to watch"},
    [OPT_CACERTS] =
        {"cacerts", "ROOT_CA_DIR", "", KIND_TEXT,
         "directory with ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem (empty: self-signed root)"},
    [OPT_STATE] = {"state", NULL, "", KIND_TEXT, "directory for what must survive a restart"},
    [OPT_LISTEN] = {"listen", NULL, "0.0.0.0:15012", KIND_LISTEN, "address of xDS and CA over TLS"},
    [OPT_ADMIN] = {"admin", NULL, "127.0.0.1:15014", KIND_LISTEN,
                   "address of readiness, metrics and status (empty: none)"},
    [OPT_ADMIN_SOCKET] = {"admin-socket", NULL, "", KIND_TEXT,
                          "Unix socket with the same answers, for peerctl"},
    [OPT_JWKS] = {"jwks", NULL, "", KIND_TEXT, "file of public keys that sign service-account tokens"},
    [OPT_TOKEN_AUDIENCE] = {"token-audience", "TOKEN_AUDIENCES", "istio-ca", KIND_NAME,
                            "audience tokens must have"},
    [OPT_TRUSTED_NODE_ACCOUNTS] = {"trusted-node-accounts", "CA_TRUSTED_NODE_ACCOUNTS", "", KIND_TEXT,
                                   "<ns>/<sa>,... that may ask for certificates of pods on their node"},
    [OPT_TRUST_DOMAINS] =
        {"trust-domains", NULL, "", KIND_TEXT,
         "further trust domains to accept, comma-separated (those of linked peers are added)"},
    [OPT_SKIP_VALIDATE_TRUST_DOMAIN] = {"skip-validate-trust-domain", "PILOT_SKIP_VALIDATE_TRUST_DOMAIN",
                                        "false", KIND_BOOL, "accept any trust domain under our roots"},
    [OPT_CUSTOM_HOST] = {"custom-host", "ISTIOD_CUSTOM_HOST", "", KIND_TEXT,
                         "further DNS names of the serving certificate, comma-separated"},
    [OPT_PEERING] = {"peering", "ENABLE_PEERING_DISCOVERY", "true", KIND_BOOL,
                     "link to istio-remote Gateways"},
    [OPT_FLAT] = {"flat-networks", "PEERING_ENABLE_FLAT_NETWORKS", "true", KIND_BOOL,
                  "import pods of peers in the same network"},
    [OPT_SELECT_WORKLOAD_ENTRIES] = {"select-workload-entries", "K8S_SELECT_WORKLOAD_ENTRIES", "true",
                                     KIND_BOOL, "Services select WorkloadEntries too"},
    [OPT_CERT_TTL] = {"cert-ttl", "DEFAULT_WORKLOAD_CERT_TTL", "24h", KIND_DURATION,
                      "life time of certificates when the request names none"},
    [OPT_START_DEADLINE] = {"start-deadline", NULL, "10s", KIND_DURATION,
                            "how long readiness waits for peers that do not answer"},
    [OPT_LOG_LEVEL] = {"log-level", "RUST_LOG", "info", KIND_TEXT,
                       "error, warn, info, debug, or target=level,..."},
    [OPT_LOG_FORMAT] = {"log-format", "LOG_FORMAT", "plain", KIND_FORMAT, "plain or json"},
};

static ptrdiff_t find(const char *name)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (strcmp(defs[i].name, name) == 0) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

/* Longest common prefix of three letters or more: enough to point at "--trust-domain" for "--trustdomain".
 * NULL: nothing is near. */
static const char *nearest(const char *name)
{
    size_t best = 2;
    const char *found = NULL;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        size_t n = 0;
        while (name[n] != '\0' && name[n] == defs[i].name[n]) {
            n++;
        }
        if (n > best) {
            best = n;
            found = defs[i].name;
        }
    }
    return found;
}

static bool is_name(struct pg_str s)
{
    if (s.len == 0 || s.len > 253) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '.' || c == '_')) {
            return false;
        }
    }
    return true;
}

/* NULL when fine, else what is accepted. */
static const char *check(enum option_kind kind, const char *value)
{
    struct pg_str s = pg_str_c(value);
    struct pg_addr addr;
    uint64_t ms;
    switch (kind) {
    case KIND_TEXT:
        return s.len < 4096 ? NULL : "at most 4095 bytes";
    case KIND_NAME:
        return is_name(s) ? NULL : "letters, digits, '-', '_' and '.', 1 to 253 of them";
    case KIND_BOOL:
        return strcmp(value, "true") == 0 || strcmp(value, "false") == 0 ? NULL : "true or false";
    case KIND_DURATION:
        return pg_str_duration_ms(s, &ms) == 0 ? NULL : "a duration such as 10s, 5m or 24h";
    case KIND_LISTEN:
        return s.len == 0 || pg_addr_parse(s, &addr) == 0 ? NULL : "ip:port";
    case KIND_FORMAT:
        return strcmp(value, "plain") == 0 || strcmp(value, "json") == 0 ? NULL : "plain or json";
    }
    return "nothing";
}

static void say(peering_text *why, const char *fmt, ...) PG_PRINTF(2, 3);
static void say(peering_text *why, const char *fmt, ...)
{
    if (why == NULL) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why->text, sizeof(why->text), fmt, ap);
    va_end(ap);
}

static int store(peering_options *o, size_t i, const char *value)
{
    char *copy = pg_strdup(value);
    if (copy == NULL) {
        return PG_E_NOMEM;
    }
    pg_free(o->value[i]);
    o->value[i] = copy;
    return 0;
}

int peering_options_new(peering_options **out)
{
    peering_options *o = pg_calloc(1, sizeof(*o));
    if (o == NULL) {
        return PG_E_NOMEM;
    }
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if (store(o, i, defs[i].fallback) != 0) {
            peering_options_free(o);
            return PG_E_NOMEM;
        }
    }
    *out = o;
    return 0;
}

void peering_options_free(peering_options *o)
{
    if (o == NULL) {
        return;
    }
    for (size_t i = 0; i < OPT_COUNT; i++) {
        pg_free(o->value[i]);
    }
    pg_free(o);
}

int peering_options_set(peering_options *o, const char *name, const char *value, peering_text *why)
{
    ptrdiff_t i = find(name);
    if (i < 0) {
        const char *near = nearest(name);
        say(why, near == NULL ? "no option \"%s\"" : "no option \"%s\"; did you mean \"%s\"?", name, near);
        return PG_E_NOTFOUND;
    }
    const char *accepted = check(defs[i].kind, value);
    if (accepted != NULL) {
        say(why, "%s: \"%s\" is not accepted; give %s", name, value, accepted);
        return PG_E_CONFIG;
    }
    int r = store(o, (size_t)i, value);
    if (r == 0) {
        o->is_set[i] = true;
    }
    return r;
}

const char *peering_options_get(const peering_options *o, const char *name)
{
    ptrdiff_t i = find(name);
    return i < 0 ? NULL : o->value[i];
}

bool peering_options_describe(size_t i, peering_option_info *out)
{
    if (i >= OPT_COUNT) {
        return false;
    }
    *out = (peering_option_info){defs[i].name, defs[i].env, defs[i].fallback, defs[i].help};
    return true;
}

const char *option_text(const peering_options *o, enum option_id id)
{
    return o->value[id];
}

struct pg_str option_str(const peering_options *o, enum option_id id)
{
    return pg_str_c(o->value[id]);
}

bool option_bool(const peering_options *o, enum option_id id)
{
    return strcmp(o->value[id], "true") == 0;
}

uint64_t option_ms(const peering_options *o, enum option_id id)
{
    uint64_t ms = 0;
    int r = pg_str_duration_ms(pg_str_c(o->value[id]), &ms);
    PG_BUG_ON(r != 0);
    return ms;
}

int options_copy(const peering_options *from, peering_options **out)
{
    peering_options *o;
    int r = peering_options_new(&o);
    for (size_t i = 0; r == 0 && i < OPT_COUNT; i++) {
        r = store(o, i, from->value[i]);
        o->is_set[i] = from->is_set[i];
        if (r != 0) {
            peering_options_free(o);
        }
    }
    if (r == 0) {
        *out = o;
    }
    return r;
}
