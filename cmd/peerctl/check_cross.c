/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the answers of several clusters together can tell: whether they trust each other, agree about
 * networks, and whether imported pods are still there. One thread.
 */
#include "check.h"

#include "certs/ca.h"
#include "core/clock.h"

static bool reached(const struct check_cluster *cl)
{
    return cl->unreachable == NULL;
}

static size_t n_reached(const struct check *k)
{
    size_t n = 0;
    for (size_t i = 0; i < k->n; i++) {
        n += reached(&k->clusters[i]) ? 1 : 0;
    }
    return n;
}

static const struct check_cluster *by_name(const struct check *k, const char *cluster)
{
    for (size_t i = 0; i < k->n; i++) {
        if (reached(&k->clusters[i]) && strcmp(k->clusters[i].name, cluster) == 0) {
            return &k->clusters[i];
        }
    }
    return NULL;
}

/* --- certificates */

static void root_sums(struct check *k, struct finding *f, const struct check_cluster *cl)
{
    struct pg_str pem = pg_str_c(json_in_text(json_in_get(cl->status, "ca"), "rootPem"));
    struct cert_facts facts;
    for (size_t i = 0; cert_facts_of(pem, i, &facts) == 0; i++) {
        check_detail(k, f,
                     ctl_fmt(k->c, "cluster %s root certificate SHA256 sum: %s", cl->name, facts.sha256));
    }
}

static void compare_certs(struct check *k, struct finding *f, const struct check_cluster *a,
                          const struct check_cluster *b)
{
    const struct json_node *own = json_in_get(a->status, "ca");
    const struct json_node *other = json_in_get(b->status, "ca");
    struct pg_errtext why = {""};
    int ok = cert_chain_verifies(pg_str_c(json_in_text(other, "intermediatePem")),
                                 pg_str_c(json_in_text(other, "chainPem")),
                                 pg_str_c(json_in_text(own, "rootPem")), pg_clock_wall_s(), &why);
    if (ok == 1) {
        check_detail(k, f,
                     ctl_fmt(k->c, "cluster %s has compatible intermediate certificates with cluster %s",
                             a->name, b->name));
        return;
    }
    f->level = CHECK_FAIL;
    f->text = "not all clusters have compatible intermediate certificates";
    f->fix = "make one root for all and an intermediate for each (peerctl certs root, peerctl certs cacerts "
             "CLUSTER), and "
             "start each peeringd with its --cacerts";
    check_line(k, f,
               ctl_fmt(k->c, "cluster %s does not trust the intermediate certificate of cluster %s: %s%s",
                       a->name, b->name, why.text,
                       json_in_true(other, "selfSigned") ? " (self-signed)" : ""));
}

static void check_certs(struct check *k)
{
    struct finding *f = check_add(k, &k->cross, "certificates", "Intermediate Certs Compatibility Check",
                                  CHECK_PASS, "all clusters have compatible intermediate certificates");
    if (n_reached(k) < 2) {
        f->level = CHECK_INFO;
        f->text = "skipped (needs two clusters that answer)";
    }
    for (size_t i = 0; i < k->n; i++) {
        if (reached(&k->clusters[i])) {
            root_sums(k, f, &k->clusters[i]);
        }
    }
    for (size_t i = 0; i < k->n; i++) {
        for (size_t j = 0; j < k->n; j++) {
            if (i != j && reached(&k->clusters[i]) && reached(&k->clusters[j])) {
                compare_certs(k, f, &k->clusters[i], &k->clusters[j]);
            }
        }
    }
}

/* --- networks */

static void network_wrong(struct check *k, struct finding *f, const char *text, const char *fix)
{
    f->level = CHECK_FAIL;
    f->text = "some network configurations are not valid";
    f->fix = fix;
    check_line(k, f, text);
}

static void own_network(struct check *k, struct finding *f, const struct check_cluster *cl)
{
    const char *network = json_in_text(cl->status, "network");
    const struct json_node *gateways = json_in_get(cl->status, "gateways");
    const struct json_node *connections = json_in_get(cl->connections, "connections");
    if (network[0] == '\0') {
        network_wrong(k, f, ctl_fmt(k->c, "Cluster %s has no network", cl->name),
                      "label the system namespace with topology.istio.io/network=NAME");
    } else {
        check_detail(k, f, ctl_fmt(k->c, "Cluster %s has network: %s", cl->name, network));
    }
    for (size_t i = 0; i < json_in_len(gateways); i++) {
        const struct json_node *g = json_in_at(gateways, i);
        const char *label = json_in_text(g, "network");
        const char *id =
            ctl_fmt(k->c, "Eastwest gateway %s/%s", json_in_text(g, "namespace"), json_in_text(g, "name"));
        if (strcmp(label, network) == 0) {
            check_detail(k, f, ctl_fmt(k->c, "%s has correct network label: %s", id, label));
        } else {
            network_wrong(k, f,
                          ctl_fmt(k->c, "%s has network label \"%s\", but cluster %s has network \"%s\"", id,
                                  label, cl->name, network),
                          "correct the label topology.istio.io/network of the Gateway, or run peerctl "
                          "multicluster expose again");
        }
    }
    for (size_t i = 0; i < json_in_len(connections); i++) {
        const struct json_node *o = json_in_at(connections, i);
        const char *said = json_in_text(o, "network");
        if (!json_in_true(o, "peer") && strcmp(said, network) != 0) {
            network_wrong(
                k, f,
                ctl_fmt(k->c, "Proxy %s of cluster %s has NETWORK \"%s\" instead of \"%s\"",
                        json_in_text(o, "name"), cl->name, said, network),
                "start the proxy with NETWORK of its cluster; otherwise it takes local pods for remote ones");
        }
    }
}

static void remote_network(struct check *k, struct finding *f, const struct check_cluster *cl,
                           const struct json_node *p)
{
    const char *network = json_in_text(p, "network");
    const char *cluster = json_in_text(p, "cluster");
    const char *id =
        ctl_fmt(k->c, "Remote gateway %s/%s", json_in_text(p, "namespace"), json_in_text(p, "name"));
    const struct check_cluster *target = by_name(k, cluster);
    const char *fix = ctl_fmt(k->c, "peerctl multicluster link --namespace %s --from %s --to %s",
                              json_in_text(p, "namespace"), cl->context->name,
                              target != NULL ? target->context->name : cluster);
    check_detail(k, f, ctl_fmt(k->c, "%s references network %s (clusters: [%s])", id, network, cluster));
    if (target == NULL) {
        return;
    }
    const char *real = json_in_text(target->status, "network");
    const char *domain = json_in_text(target->status, "trustDomain");
    if (strcmp(network, real) != 0) {
        network_wrong(k, f,
                      ctl_fmt(k->c,
                              "%s in cluster %s references network \"%s\", but cluster %s has network \"%s\"",
                              id, cl->name, network, cluster, real),
                      fix);
    }
    if (strcmp(json_in_text(p, "trustDomain"), domain) != 0) {
        network_wrong(k, f,
                      ctl_fmt(k->c, "%s in cluster %s names trust domain \"%s\", but cluster %s has \"%s\"",
                              id, cl->name, json_in_text(p, "trustDomain"), cluster, domain),
                      fix);
    }
}

static void check_networks(struct check *k)
{
    struct finding *f = check_add(k, &k->cross, "networks", "Network Configuration Check", CHECK_PASS,
                                  "all network configurations are valid");
    for (size_t i = 0; i < k->n; i++) {
        const struct check_cluster *cl = &k->clusters[i];
        const struct json_node *peers = json_in_get(cl->status, "peers");
        if (!reached(cl)) {
            continue;
        }
        own_network(k, f, cl);
        for (size_t p = 0; p < json_in_len(peers); p++) {
            remote_network(k, f, cl, json_in_at(peers, p));
        }
        for (size_t j = 0; j < i; j++) {
            if (reached(&k->clusters[j]) && strcmp(k->clusters[j].name, cl->name) == 0) {
                network_wrong(k, f,
                              ctl_fmt(k->c, "Contexts %s and %s are both cluster \"%s\"",
                                      k->clusters[j].context->name, cl->context->name, cl->name),
                              "give each peeringd its own --cluster");
            }
        }
    }
    if (n_reached(k) == 0) {
        f->level = CHECK_INFO;
        f->text = "skipped (no cluster answers)";
    }
}

/* --- pods of flat peers */

static bool has_flat_peer(const struct check_cluster *cl)
{
    const struct json_node *peers = json_in_get(cl->status, "peers");
    const char *network = json_in_text(cl->status, "network");
    for (size_t i = 0; i < json_in_len(peers); i++) {
        if (network[0] != '\0' && strcmp(json_in_text(json_in_at(peers, i), "network"), network) == 0) {
            return true;
        }
    }
    return false;
}

/* "autogenflat.<cluster>.<ns>.<pod>.<12 hex>": names may hold dots, a namespace cannot. */
static bool split_name(const char *object, const char *cluster, struct pg_str *ns, struct pg_str *pod)
{
    struct pg_str s = pg_str_c(object);
    size_t head = strlen("autogenflat.") + strlen(cluster) + 1;
    ptrdiff_t last = pg_str_rchr(s, '.');
    if (s.len <= head || last < (ptrdiff_t)head) {
        return false;
    }
    *pod = pg_str_n(s.p + head, (size_t)last - head);
    return pg_str_cut(pod, '.', ns) && pod->len > 0;
}

static bool holds(const struct json_node *strings, const char *wanted)
{
    for (size_t i = 0; i < json_in_len(strings); i++) {
        if (strcmp(json_in_string(json_in_at(strings, i)), wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the cluster's own control plane knows the pod, with the address we imported. */
static bool is_live(const struct check_cluster *target, struct pg_str ns, struct pg_str pod,
                    const char *address)
{
    const struct json_node *all = json_in_get(target->workloads, "workloads");
    for (size_t i = 0; i < json_in_len(all); i++) {
        const struct json_node *w = json_in_at(all, i);
        if (strcmp(json_in_text(w, "cluster"), target->name) == 0 &&
            pg_str_eq_c(ns, json_in_text(w, "namespace")) && pg_str_eq_c(pod, json_in_text(w, "name")) &&
            holds(json_in_get(w, "addresses"), address)) {
            return true;
        }
    }
    return false;
}

struct flat_count {
    size_t entries, unknown;
};

static void check_entry(struct check *k, struct finding *f, const struct check_cluster *cl,
                        const struct json_node *e, struct flat_count *n)
{
    const char *object = json_in_text(e, "object");
    const char *address = json_in_text(e, "address");
    const struct check_cluster *target = by_name(k, json_in_text(e, "cluster"));
    struct pg_str ns;
    struct pg_str pod;
    if (strncmp(object, "autogenflat.", 12) != 0) {
        return;
    }
    n->entries++;
    if (target == NULL || !split_name(object, json_in_text(e, "cluster"), &ns, &pod)) {
        n->unknown++;
        check_detail(k, f,
                     ctl_fmt(k->c, "%s in cluster %s: cluster %s is not part of this check", object, cl->name,
                             json_in_text(e, "cluster")));
    } else if (!is_live(target, ns, pod, address)) {
        f->level = CHECK_FAIL;
        f->text = "stale workload entries found";
        f->fix = "the peer's stream is late or lost: look at Peers Check and at peerctl get peers -o wide";
        check_line(k, f,
                   ctl_fmt(k->c, "%s (%s) in cluster %s has no live pod in cluster %s", object, address,
                           cl->name, target->name));
    } else {
        check_detail(k, f, ctl_fmt(k->c, "%s (%s) in cluster %s is live", object, address, cl->name));
    }
}

static void check_stale(struct check *k)
{
    struct finding *f = check_add(k, &k->cross, "stale-workloads", "Stale Workloads Check", CHECK_PASS,
                                  "no stale workload entries found");
    struct flat_count n = {0, 0};
    bool flat = false;
    for (size_t i = 0; i < k->n; i++) {
        const struct check_cluster *cl = &k->clusters[i];
        const struct json_node *all = json_in_get(cl->services, "global");
        flat = flat || has_flat_peer(cl);
        for (size_t s = 0; s < json_in_len(all); s++) {
            const struct json_node *endpoints = json_in_get(json_in_at(all, s), "endpoints");
            for (size_t e = 0; e < json_in_len(endpoints); e++) {
                check_entry(k, f, cl, json_in_at(endpoints, e), &n);
            }
        }
    }
    if (n.entries == 0) {
        f->level = flat ? CHECK_WARN : CHECK_INFO;
        f->text = flat ? "no autogenflat workload entries found" : "skipped (flat network not detected)";
        if (!flat) {
            check_detail(
                k, f,
                ctl_fmt(k->c, "%s no autogenflat workload entries found", check_mark(k->c, CHECK_WARN)));
        }
    } else if (f->level == CHECK_PASS && n.unknown == n.entries) {
        f->level = CHECK_INFO;
        f->text = "not known, the clusters of the entries are not part of this check";
    }
}

void check_cross(struct check *k)
{
    check_certs(k);
    check_networks(k);
    if (!k->precheck) {
        check_stale(k);
    }
}
