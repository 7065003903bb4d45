/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be said about one cluster from the answers of its control plane. Invariant: no line is printed as
 * fine without a fact behind it; what is not known is said to be not known. One thread.
 */
#include "check.h"

#define UNKNOWN "-" /* restarts are counted by the supervisor, which nobody asks here */

static bool is_peer(const struct json_node *connection)
{
    return json_in_true(connection, "peer");
}

/* --- settings */

static void check_env(struct check *k, struct check_cluster *cl)
{
    static const struct {
        const char *env;
        bool unset_is_empty; /* shown as an unset variable when the user did not set it */
    } wanted[] = {{"K8S_SELECT_WORKLOAD_ENTRIES", true}, {"ENABLE_PEERING_DISCOVERY", false}};
    struct finding *f = check_add(k, &cl->findings, "environment", "Incompatible Environment Variable Check",
                                  CHECK_PASS, "all relevant environment variables are valid");
    for (size_t i = 0; i < PG_ARRAY_LEN(wanted); i++) {
        const struct json_node *s = state_setting(cl->status, wanted[i].env);
        const char *value = json_in_text(s, "value");
        bool fine = strcmp(value, "true") == 0;
        const char *shown = fine && wanted[i].unset_is_empty && !json_in_true(s, "set") ? "" : value;
        const char *text =
            ctl_fmt(k->c, "%s is %s (\"%s\")", wanted[i].env, fine ? "valid" : "invalid", shown);
        if (!fine) {
            f->level = CHECK_FAIL;
            f->text = "some environment variables are not valid for multicluster";
            f->fix = ctl_fmt(k->c, "set %s=true for peeringd and start it again", wanted[i].env);
            check_line(k, f, text);
        } else {
            check_detail(k, f, text);
        }
    }
}

static void check_dns(struct check *k, struct check_cluster *cl)
{
    const struct json_node *all = json_in_get(cl->connections, "connections");
    struct finding *f = check_add(k, &cl->findings, "dns-capture", "CNI DNS Capture Check", CHECK_PASS,
                                  "AMBIENT_DNS_CAPTURE is enabled");
    size_t proxies = 0;
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *o = json_in_at(all, i);
        if (is_peer(o) || state_gateway_of(cl->status, o) != NULL) {
            continue;
        }
        bool off = strcmp(json_in_text(o, "dnsCapture"), "false") == 0;
        proxies++;
        check_detail(k, f, ctl_fmt(k->c, "%s: DNS capture %s", json_in_text(o, "name"), off ? "off" : "on"));
        if (off) {
            f->level = CHECK_FAIL;
            f->text = "AMBIENT_DNS_CAPTURE is disabled, so mesh.internal names do not resolve";
            f->fix = "start the data plane with DNS_CAPTURE=true and redirect port 53 to it "
                     "(ambient.dnsCapture of the CNI)";
            check_line(k, f, ctl_fmt(k->c, "%s has DNS capture off", json_in_text(o, "name")));
        }
    }
    if (proxies == 0) {
        f->level = CHECK_INFO;
        f->text = "not known, no ztunnel is connected";
    }
}

/* --- processes */

static void check_istiod(struct check *k, struct check_cluster *cl)
{
    static const char *const heads[] = {"NAME", "READY", "STATUS", "RESTARTS", "AGE", "VERSION"};
    struct finding *f =
        check_add(k, &cl->findings, "pod-istiod", "Pod Check (istiod)", CHECK_PASS, "all pods healthy");
    struct table t;
    if (!cl->ready) {
        f->level = CHECK_FAIL;
        f->text = ctl_fmt(k->c, "the control plane is not ready: %s", cl->ready_text);
        f->fix = "look at the log of peeringd; readiness says what it waits for";
    }
    table_begin(&t, k->c, PG_ARRAY_LEN(heads), heads);
    table_cell(&t, "peeringd");
    table_cell(&t, cl->ready ? "1/1" : "0/1");
    table_cell(&t, "Running");
    table_cell(&t, UNKNOWN);
    table_cell(&t, state_age(k->c, json_in_text(cl->status, "startedAt")));
    table_cell(&t, json_in_text(cl->status, "version"));
    check_table(k, f, &t);
}

static void proxy_row(struct check *k, struct table *t, const struct json_node *o)
{
    bool synced = state_all_synced(o);
    table_cell(t, json_in_text(o, "name"));
    table_cell(t, synced ? "1/1" : "0/1");
    table_cell(t, synced ? "Synced" : "NotSynced");
    table_cell(t, UNKNOWN);
    table_cell(t, ctl_age(k->c, json_in_u64(o, "ageMs") / 1000));
    table_cell(t, json_in_text(o, "version"));
}

/* Why a connection is not in sync, as one line. */
static void unsynced_lines(struct check *k, struct finding *f, const struct json_node *o)
{
    const struct json_node *types = json_in_get(o, "types");
    if (json_in_len(types) == 0) {
        check_line(k, f, ctl_fmt(k->c, "%s has subscribed to nothing", json_in_text(o, "name")));
    }
    for (size_t i = 0; i < json_in_len(types); i++) {
        const struct json_node *t = json_in_at(types, i);
        const char *last = json_in_text(t, "lastError");
        if (!json_in_true(t, "synced")) {
            check_line(k, f,
                       ctl_fmt(k->c, "%s: %s not synced (sent %llu, acknowledged %llu, refused %llu)%s%s",
                               json_in_text(o, "name"), json_in_text(t, "type"),
                               (unsigned long long)json_in_u64(t, "sent"),
                               (unsigned long long)json_in_u64(t, "acked"),
                               (unsigned long long)json_in_u64(t, "nacked"), last[0] != '\0' ? ": " : "",
                               last));
        }
    }
}

/* The connections of `gateway`, or with NULL those of node proxies. */
static void check_proxies(struct check *k, struct check_cluster *cl, struct finding *f,
                          const struct json_node *gateway, const char *fix)
{
    static const char *const heads[] = {"NAME", "READY", "STATUS", "RESTARTS", "AGE", "VERSION"};
    const struct json_node *all = json_in_get(cl->connections, "connections");
    struct table t;
    size_t n = 0;
    table_begin(&t, k->c, PG_ARRAY_LEN(heads), heads);
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *o = json_in_at(all, i);
        if (is_peer(o) || state_gateway_of(cl->status, o) != gateway) {
            continue;
        }
        n++;
        proxy_row(k, &t, o);
        if (!state_all_synced(o)) {
            f->level = CHECK_FAIL;
            f->text = "not all pods are in sync with the control plane";
            f->fix = "look at the log of that proxy, and at: peerctl proxy-status";
            unsynced_lines(k, f, o);
        }
    }
    if (n == 0) {
        f->level = CHECK_FAIL;
        f->text = "no pod is connected to the control plane";
        f->fix = fix;
    } else {
        check_table(k, f, &t);
    }
}

static void check_pods(struct check *k, struct check_cluster *cl)
{
    const struct json_node *gateways = json_in_get(cl->status, "gateways");
    struct finding *f =
        check_add(k, &cl->findings, "pod-ztunnel", "Pod Check (ztunnel)", CHECK_PASS, "all pods healthy");
    check_proxies(k, cl, f, NULL,
                  "start hbone on the nodes with XDS_ADDRESS and CA_ADDRESS of this control plane");
    for (size_t i = 0; i < json_in_len(gateways); i++) {
        const struct json_node *g = json_in_at(gateways, i);
        const char *ns = json_in_text(g, "namespace");
        const char *name = json_in_text(g, "name");
        f = check_add(k, &cl->findings, "pod-gateway",
                      ctl_fmt(k->c, "Pod Check (eastwest gateway %s/%s)", ns, name), CHECK_PASS,
                      "all pods healthy");
        check_proxies(k, cl, f, g,
                      ctl_fmt(k->c,
                              "start hbone with PROXY_MODE=gateway as service account %s of namespace %s",
                              name, ns));
    }
}

/* --- gateways */

static void check_gateways(struct check *k, struct check_cluster *cl)
{
    const struct json_node *all = json_in_get(cl->status, "gateways");
    struct finding *f = check_add(k, &cl->findings, "gateways", "Gateway Check", CHECK_PASS,
                                  "all eastwest gateways programmed");
    if (json_in_len(all) == 0) {
        f->level = CHECK_FAIL;
        f->text = "no eastwest gateway found";
        f->fix = ctl_fmt(
            k->c, "peerctl multicluster expose --context %s --namespace istio-eastwest --address IP|HOST",
            cl->context->name);
    }
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *g = json_in_at(all, i);
        const char *at = state_join(k->c, json_in_get(g, "addresses"), ", ");
        const char *id = ctl_fmt(k->c, "%s/%s", json_in_text(g, "namespace"), json_in_text(g, "name"));
        const char *reason = json_in_text(g, "reason");
        bool up = json_in_true(g, "programmed");
        if (up) {
            check_line(k, f, ctl_fmt(k->c, "%s available at %s", id, at));
        } else {
            f->level = CHECK_FAIL;
            f->text = "not all eastwest gateways are programmed";
            f->fix =
                strcmp(reason, "AddressNotAssigned") == 0
                    ? ctl_fmt(k->c,
                              "peerctl multicluster expose --context %s --namespace %s --address IP|HOST",
                              cl->context->name, json_in_text(g, "namespace"))
                    : "start the gateway's hbone; it must connect to this control plane as the gateway's "
                      "service account";
            check_line(k, f, ctl_fmt(k->c, "%s is not programmed: %s", id, reason));
        }
        check_detail(k, f, ctl_fmt(k->c, "Gateway: %s", id));
        check_detail(k, f, ctl_fmt(k->c, "Addresses: %s", at));
        check_detail(k, f,
                     ctl_fmt(k->c, "Status: %s %s", up ? "programmed" : "not programmed",
                             check_mark(k->c, up ? CHECK_PASS : CHECK_FAIL)));
    }
}

/* --- peers */

static const struct json_node *first_false(const struct json_node *peer)
{
    const struct json_node *all = json_in_get(peer, "conditions");
    for (size_t i = 0; i < json_in_len(all); i++) {
        if (strcmp(json_in_text(json_in_at(all, i), "status"), "True") != 0) {
            return json_in_at(all, i);
        }
    }
    return NULL;
}

static void peer_details(struct check *k, struct finding *f, const struct json_node *p, const char *addresses,
                         bool up)
{
    const struct json_node *all = json_in_get(p, "conditions");
    check_detail(k, f, ctl_fmt(k->c, "Cluster: %s", json_in_text(p, "cluster")));
    check_detail(k, f, ctl_fmt(k->c, "Addresses: %s", addresses));
    check_detail(k, f, "Conditions:");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *o = json_in_at(all, i);
        const char *message = json_in_text(o, "message");
        check_detail(k, f,
                     ctl_fmt(k->c, "- %s: %s (%s%s%s, since %s)", json_in_text(o, "type"),
                             json_in_text(o, "status"), json_in_text(o, "reason"),
                             message[0] != '\0' ? ": " : "", message, json_in_text(o, "lastTransitionTime")));
    }
    check_detail(k, f,
                 ctl_fmt(k->c, "Status: %s %s", up ? "connected" : "not connected",
                         check_mark(k->c, up ? CHECK_PASS : CHECK_FAIL)));
}

static void check_peer(struct check *k, struct finding *f, const struct json_node *p)
{
    const struct json_node *wrong = first_false(p);
    const char *all = state_join(k->c, json_in_get(p, "addresses"), ", ");
    const char *used = json_in_text(p, "address")[0] != '\0' ? json_in_text(p, "address") : all;
    bool up = wrong == NULL && json_in_len(json_in_get(p, "conditions")) > 0;
    if (up) {
        check_line(k, f, ctl_fmt(k->c, "Connected to %s via %s", json_in_text(p, "cluster"), used));
    } else {
        const char *message = json_in_text(wrong, "message");
        const char *last = json_in_text(p, "lastError");
        bool again = last[0] != '\0' && strcmp(last, message) != 0;
        f->level = CHECK_FAIL;
        f->text = "not all clusters connected";
        f->fix = "look for a misconfiguration of the remote gateway, and whether its ports 15008 and 15012 "
                 "are blocked by a "
                 "firewall or network policy";
        check_line(k, f,
                   ctl_fmt(k->c, "Not connected to %s via %s: %s is %s (%s)%s%s%s%s",
                           json_in_text(p, "cluster"), used, json_in_text(wrong, "type"),
                           json_in_text(wrong, "status"), json_in_text(wrong, "reason"),
                           message[0] != '\0' ? ": " : "", message, again ? "; last error: " : "",
                           again ? last : ""));
    }
    peer_details(k, f, p, all, up);
}

static void check_peers(struct check *k, struct check_cluster *cl)
{
    const struct json_node *all = json_in_get(cl->status, "peers");
    struct finding *f =
        check_add(k, &cl->findings, "peers", "Peers Check", CHECK_PASS, "all clusters connected");
    if (json_in_len(all) == 0) {
        f->level = CHECK_WARN;
        f->text = "no remote gateways found, this cluster is linked to none";
        f->fix = ctl_fmt(k->c, "peerctl multicluster link --namespace istio-eastwest --contexts=%s,OTHER",
                         cl->context->name);
    }
    for (size_t i = 0; i < json_in_len(all); i++) {
        check_peer(k, f, json_in_at(all, i));
    }
}

/* --- services and manifests */

static void check_shared(struct check *k, struct check_cluster *cl)
{
    const struct json_node *all = json_in_get(cl->services, "global");
    size_t n = json_in_len(all);
    struct finding *f = check_add(
        k, &cl->findings, "shared-services", "Shared Services Check", n == 0 ? CHECK_INFO : CHECK_PASS,
        n == 0 ? "no globally shared services found"
               : ctl_fmt(k->c, "%zu globally shared service%s found", n, n == 1 ? "" : "s"));
    for (size_t i = 0; i < n; i++) {
        const struct json_node *g = json_in_at(all, i);
        const struct json_node *endpoints = json_in_get(g, "endpoints");
        const char *warning = json_in_text(g, "warning");
        size_t healthy = 0;
        for (size_t e = 0; e < json_in_len(endpoints); e++) {
            healthy += json_in_true(json_in_at(endpoints, e), "healthy") ? 1 : 0;
        }
        check_detail(k, f,
                     ctl_fmt(k->c, "%s (%s): clusters [%s], %zu of %zu endpoints healthy",
                             json_in_text(g, "hostname"), json_in_text(g, "scope"),
                             state_join(k->c, json_in_get(g, "clusters"), ", "), healthy,
                             json_in_len(endpoints)));
        if (warning[0] != '\0') {
            f->level = CHECK_WARN;
            check_line(k, f, ctl_fmt(k->c, "%s: %s", json_in_text(g, "hostname"), warning));
        }
    }
}

/* Only shown when something is wrong: a manifest left out explains much else. */
static void check_manifests(struct check *k, struct check_cluster *cl)
{
    const struct json_node *all = json_in_get(json_in_get(cl->status, "manifests"), "problems");
    size_t n = json_in_len(all);
    if (n == 0) {
        return;
    }
    struct finding *f = check_add(k, &cl->findings, "manifests", "Manifest Check", CHECK_WARN,
                                  ctl_fmt(k->c, "%zu problem%s in the manifests", n, n == 1 ? "" : "s"));
    f->fix = "mend the files named; what they should have said is left out until then";
    for (size_t i = 0; i < n; i++) {
        const struct json_node *p = json_in_at(all, i);
        check_line(k, f,
                   ctl_fmt(k->c, "%s:%llu: %s", json_in_text(p, "file"),
                           (unsigned long long)json_in_u64(p, "line"), json_in_text(p, "reason")));
    }
}

void check_one(struct check *k, struct check_cluster *cl)
{
    check_env(k, cl);
    (void)check_add(k, &cl->findings, "license", "License Check", CHECK_INFO, "not applicable");
    check_dns(k, cl);
    check_istiod(k, cl);
    check_pods(k, cl);
    check_gateways(k, cl);
    if (!k->precheck) {
        check_peers(k, cl);
        check_shared(k, cl);
    }
    check_manifests(k, cl);
}
