/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest directory: last good version per file, places of problems, repeats, links as Kubernetes swaps
 * them, damage. */
#include "manifest.h"

#include "ctl_testlib.h"

static const char svc_a[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: demo}\nspec: {ports: [{port: 80}]}\n";
static const char svc_b[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: demo}\nspec: {ports: [{port: 80}]}\n";

static const char full[] =
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata:\n"
    "  name: demo\n"
    "  labels: {istio.io/dataplane-mode: ambient}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata:\n"
    "  name: web\n"
    "  namespace: demo\n"
    "  labels: {solo.io/service-scope: global}\n"
    "spec:\n"
    "  clusterIP: 10.255.10.7\n"
    "  selector: {app: web}\n"
    "  ports:\n"
    "  - {name: http, port: 80, targetPort: http}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata: {name: web-1, namespace: demo, labels: {app: web}}\n"
    "spec:\n"
    "  containers:\n"
    "  - ports: [{name: http, containerPort: 8080}]\n"
    "status:\n"
    "  phase: Running\n"
    "  podIPs: [{ip: 10.10.0.5}]\n"
    "  conditions: [{type: Ready, status: \"True\"}]\n"
    "---\n"
    "apiVersion: gateway.networking.k8s.io/v1\n"
    "kind: Gateway\n"
    "metadata: {name: istio-remote-peer-b, namespace: gw, labels: {topology.istio.io/network: b}}\n"
    "spec:\n"
    "  gatewayClassName: istio-remote\n"
    "  addresses: [{type: IPAddress, value: 192.0.2.7}]\n"
    "  listeners: [{name: cross-network, port: 15008, protocol: HBONE}]\n"
    "---\n"
    "apiVersion: security.istio.io/v1\n"
    "kind: AuthorizationPolicy\n"
    "metadata: {name: p, namespace: demo}\n"
    "spec:\n"
    "  action: DENY\n"
    "  rules: [{from: [{source: {namespaces: [bad]}}], to: [{operation: {ports: [\"80\"]}}]}]\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: ServiceEntry\n"
    "metadata: {name: e, namespace: demo}\n"
    "spec:\n"
    "  hosts: [e.example.org]\n"
    "  resolution: STATIC\n"
    "  ports: [{number: 80, name: http}]\n"
    "  endpoints: [{address: 192.0.2.4}]\n";

static struct manifest *open_dir(const char *dir)
{
    struct manifest *m = NULL;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(manifest_new(dir, &m, &err), 0);
    return m;
}

static void test_changes(void)
{
    struct test_dir d;
    struct pg_errtext err;
    const struct manifest_problem *p;
    test_dir_make(&d);
    struct manifest *m = open_dir(d.path);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 0);
    CU_ASSERT_FALSE(test_readable(manifest_fd(m)));

    test_write(&d, "a.yaml", svc_a);
    test_write(&d, "notes.txt", "not: [yaml");
    test_write(&d, ".hidden.yaml", "not: [yaml");
    CU_ASSERT_TRUE(test_readable(manifest_fd(m)));
    manifest_drain(m);
    CU_ASSERT_FALSE(test_readable(manifest_fd(m)));
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Pod"), 0);
    CU_ASSERT_EQUAL(manifest_count(m, "Nonsense"), 0);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 0);

    /* The same size within the same tick of the clock is still noticed. */
    test_write(&d, "a.yaml", svc_b);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 0);

    test_write(&d, "b.yml", svc_a);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
    test_remove(&d, "b.yml");
    manifest_drain(m);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL(manifest_problems(m, &p), 0);

    test_remove(&d, "a.yaml");
    test_remove(&d, "notes.txt");
    test_remove(&d, ".hidden.yaml");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 0);
    /* The directory goes: an error, and the old state stays. */
    test_dir_remove(&d);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), PG_E_IO);
    manifest_free(m);
}

static void test_last_good(void)
{
    struct test_dir d;
    struct pg_errtext err;
    const struct manifest_problem *p;
    test_dir_make(&d);
    struct manifest *m = open_dir(d.path);
    test_write(&d, "a.yaml", svc_a);
    test_write(&d, "b.yaml", svc_b);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);

    static const char *const bad[] = {"kind: [", "apiVersion: v1\nkind: Service\nmetadata: {}\n",
                                      "just text"};
    for (size_t i = 0; i < PG_ARRAY_LEN(bad); i++) {
        test_write(&d, "a.yaml", bad[i]);
        CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
        CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
        CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 1);
        CU_ASSERT_STRING_EQUAL(p[0].file, "a.yaml");
        CU_ASSERT_TRUE(p[0].line >= 1);
        /* The problem is not forgotten by a scan that finds nothing new, nor by one that finds something
         * elsewhere. */
        CU_ASSERT_EQUAL(manifest_scan(m, &err), 0);
        CU_ASSERT_EQUAL(manifest_problems(m, &p), 1);
    }
    test_write(&d, "c.yaml", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa, namespace: demo}\n");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_problems(m, &p), 1);
    CU_ASSERT_TRUE(manifest_has_service_account(m, PG_STR("demo"), PG_STR("sa")));
    CU_ASSERT_FALSE(manifest_has_service_account(m, PG_STR("other"), PG_STR("sa")));
    /* Good again; and a file that was never good brings nothing. */
    test_write(&d, "a.yaml", svc_a);
    test_write(&d, "d.yaml", "kind: [");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 1);
    CU_ASSERT_STRING_EQUAL(p[0].file, "d.yaml");
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
    /* A bad file that is removed takes its last good version along. */
    test_write(&d, "a.yaml", "kind: [");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    test_remove(&d, "a.yaml");
    test_remove(&d, "d.yaml");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL(manifest_problems(m, &p), 0);
    manifest_free(m);
    test_remove(&d, "b.yaml");
    test_remove(&d, "c.yaml");
    test_dir_remove(&d);
}

static void test_places(void)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *word;
    } rows[] = {
        {"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n    solo.io/service-scope: "
         "gloabl\n",
         6, "solo.io/service-scope: gloabl is not one of global, global-only, segment, cluster"},
        {"apiVersion: v1\nkind: Service\nmetadata:\n  namespace: x\n", 4, "metadata.name is missing"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: Bad_Name}\n", 3, "lower-case"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a.b}\n", 3, "metadata.namespace"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\n", 1, "Service"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 70000\n", 6,
         "1 to 65535"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: '80'\n", 6,
         "must be a number"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - name: x\n", 6,
         "port is missing"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - {port: 1, targetPort: "
         "0}\n",
         6, "targetPort"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: {port: 1}\n", 5,
         "spec.ports must be a list"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  clusterIP: 10.0.0.300\n", 5,
         "10.0.0.300"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 1, protocol: tcp}]\n",
         5, "TCP, UDP"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: [1]\n", 4, "spec must be a map"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {v: 1}}\n", 3, "put it in quotes"},
        {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {trafficDistribution: PreferMoon}\n", 4,
         "PreferMoon"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIP: 10.0.0}\n", 4, "10.0.0"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: maybe}\n", 4, "true or false"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus:\n  conditions: [{type: Ready, status: "
         "True}]\n",
         5, "quotes"},
        {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {}\n", 4,
         "gatewayClassName"},
        {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  "
         "gatewayClassName: x\n"
         "  addresses:\n  - value: example.org\n",
         7, "not an IP address"},
        {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {action: "
         "PERMIT}\n",
         4, "ALLOW"},
        {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  rules:\n"
         "  - from: [{source: {ipBlocks: [10.0.0.0/33]}}]\n",
         6, "10.0.0.0/33"},
        {"apiVersion: v1\nmetadata: {name: a}\n", 1, "kind is missing"},
        {"kind: Pod\nmetadata: {name: a}\n", 1, "apiVersion is missing"},
        {"- 1\n", 1, "must be a map"},
    };
    struct test_dir d;
    test_dir_make(&d);
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct pg_errtext err;
        const struct manifest_problem *p;
        struct manifest *m = open_dir(d.path);
        test_write(&d, "x.yaml", rows[i].text);
        CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
        CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 1);
        if (p[0].line != rows[i].line || strstr(p[0].reason, rows[i].word) == NULL) {
            (void)fprintf(stderr, "row %zu: line %u: %s\n", i, p[0].line, p[0].reason);
        }
        CU_ASSERT_EQUAL(p[0].line, rows[i].line);
        CU_ASSERT_PTR_NOT_NULL(strstr(p[0].reason, rows[i].word));
        manifest_free(m);
    }
    test_remove(&d, "x.yaml");
    test_dir_remove(&d);
}

static void test_several_problems(void)
{
    struct test_dir d;
    struct pg_errtext err;
    const struct manifest_problem *p;
    test_dir_make(&d);
    struct manifest *m = open_dir(d.path);
    test_write(&d, "x.yaml",
               "apiVersion: v1\nkind: Pod\nmetadata: {}\n---\nkind: Pod\n---\napiVersion: v1\nkind: "
               "Node\nmetadata: {name: n}\n");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 2);
    CU_ASSERT_EQUAL(p[0].line, 3);
    CU_ASSERT_EQUAL(p[1].line, 5);
    manifest_free(m);
    test_remove(&d, "x.yaml");
    test_dir_remove(&d);
}

static void test_repeats(void)
{
    struct test_dir d;
    struct pg_errtext err;
    const struct manifest_problem *p;
    test_dir_make(&d);
    struct manifest *m = open_dir(d.path);
    test_write(&d, "2.yaml",
               "# comment\n\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: demo}\n");
    test_write(&d, "1.yaml", svc_a);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 1);
    CU_ASSERT_STRING_EQUAL(p[0].file, "2.yaml");
    CU_ASSERT_EQUAL(p[0].line, 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(p[0].reason, "1.yaml:1"));
    /* The first goes: the second counts. */
    test_remove(&d, "1.yaml");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL(manifest_problems(m, &p), 0);
    /* Twice in one file: the file does not count, its last good version does. */
    char both[512];
    (void)snprintf(both, sizeof(both), "%s---\n%s", svc_a, svc_a);
    test_write(&d, "2.yaml", both);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL_FATAL(manifest_problems(m, &p), 1);
    CU_ASSERT_EQUAL(p[0].line, 6);
    CU_ASSERT_PTR_NOT_NULL(strstr(p[0].reason, "line 1"));
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    manifest_free(m);
    test_remove(&d, "2.yaml");
    test_dir_remove(&d);
}

static void test_kinds(void)
{
    struct test_dir d;
    test_dir_make(&d);
    struct manifest *m = test_manifest(
        &d,
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: 1}}\n"
        "- {apiVersion: v1, kind: Pod, metadata: {name: p.q, namespace: x}}\n"
        "---\n---\nnull\n---\n"
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}}\n"
        "---\n{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a}, spec: 5}\n"
        "---\n{apiVersion: v1, kind: Node, metadata: {name: n.example}, status: {anything: [1, {x: y}]}}\n");
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Pod"), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Node"), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Gateway"), 0);
    CU_ASSERT_EQUAL(manifest_count(m, ""), 3);
    manifest_free(m);
    test_remove(&d, "all.yaml");
    test_dir_remove(&d);
}

/* A mounted ConfigMap: files are links through ..data, which is replaced by rename. */
static void test_config_map(void)
{
    struct test_dir d;
    struct pg_errtext err;
    char a[256], b[256];
    test_dir_make(&d);
    CU_ASSERT_EQUAL(mkdir(test_path(&d, "..1", a), 0700), 0);
    CU_ASSERT_EQUAL(mkdir(test_path(&d, "..2", a), 0700), 0);
    test_write(&d, "..1/x.yaml", svc_a);
    char two[512];
    (void)snprintf(two, sizeof(two), "%s---\n%s", svc_a, svc_b);
    test_write(&d, "..2/x.yaml", two);
    CU_ASSERT_EQUAL(symlink("..1", test_path(&d, "..data", a)), 0);
    CU_ASSERT_EQUAL(symlink("..data/x.yaml", test_path(&d, "x.yaml", a)), 0);
    struct manifest *m = open_dir(d.path);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    manifest_drain(m);
    CU_ASSERT_EQUAL(symlink("..2", test_path(&d, "..tmp", a)), 0);
    CU_ASSERT_EQUAL(rename(a, test_path(&d, "..data", b)), 0);
    CU_ASSERT_TRUE(test_readable(manifest_fd(m)));
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
    /* The link leads nowhere: the last good version stays and the reason is given. */
    const struct manifest_problem *p;
    test_remove(&d, "..data");
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
    CU_ASSERT_EQUAL(manifest_problems(m, &p), 1);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 0);
    manifest_free(m);
    test_remove(&d, "x.yaml");
    test_remove(&d, "..1/x.yaml");
    test_remove(&d, "..2/x.yaml");
    CU_ASSERT_EQUAL(rmdir(test_path(&d, "..1", a)), 0);
    CU_ASSERT_EQUAL(rmdir(test_path(&d, "..2", a)), 0);
    test_dir_remove(&d);
}

/* The directory itself is a link that is swapped; or is not there at first. */
static void test_directory_swap(void)
{
    struct test_dir d;
    struct pg_errtext err;
    char a[256], b[256], c[256];
    test_dir_make(&d);
    struct manifest *m = open_dir(test_path(&d, "live", c));
    CU_ASSERT_EQUAL(manifest_scan(m, &err), PG_E_IO);
    CU_ASSERT_EQUAL(mkdir(test_path(&d, "v1", a), 0700), 0);
    CU_ASSERT_EQUAL(mkdir(test_path(&d, "v2", a), 0700), 0);
    test_write(&d, "v1/x.yaml", svc_a);
    char two[512];
    (void)snprintf(two, sizeof(two), "%s---\n%s", svc_a, svc_b);
    test_write(&d, "v2/x.yaml", two);
    manifest_drain(m);
    CU_ASSERT_EQUAL(symlink("v1", c), 0);
    CU_ASSERT_TRUE(test_readable(manifest_fd(m)));
    manifest_drain(m);
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
    manifest_drain(m);
    CU_ASSERT_EQUAL(symlink("v2", test_path(&d, "tmp", a)), 0);
    CU_ASSERT_EQUAL(rename(a, c), 0);
    CU_ASSERT_TRUE(test_readable(manifest_fd(m)));
    CU_ASSERT_EQUAL(manifest_scan(m, &err), 1);
    CU_ASSERT_EQUAL(manifest_count(m, "Service"), 2);
    /* It is the new directory that is watched now. */
    manifest_drain(m);
    test_write(&d, "v2/y.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n");
    CU_ASSERT_TRUE(test_readable(manifest_fd(m)));
    manifest_free(m);
    test_remove(&d, "live");
    test_remove(&d, "v1/x.yaml");
    test_remove(&d, "v2/x.yaml");
    test_remove(&d, "v2/y.yaml");
    CU_ASSERT_EQUAL(rmdir(test_path(&d, "v1", b)), 0);
    CU_ASSERT_EQUAL(rmdir(test_path(&d, "v2", b)), 0);
    test_dir_remove(&d);
}

/* Cut anywhere: never a crash, and whenever the rest is not a good file the last good one stays in force. */
static void test_cut_anywhere(void)
{
    struct test_dir d;
    struct pg_errtext err;
    const struct manifest_problem *p;
    size_t refused = 0;
    test_dir_make(&d);
    struct manifest *m = test_manifest(&d, full);
    struct manifest_config c = {.cluster = PG_STR("c"),
                                .network = PG_STR("n"),
                                .trust_domain = PG_STR("td"),
                                .domain = PG_STR("cluster.local"),
                                .system_ns = PG_STR("istio-system")};
    for (size_t n = 0; n < sizeof(full); n++) {
        test_write(&d, "all.yaml", full);
        CU_ASSERT_TRUE(manifest_scan(m, &err) >= 0);
        CU_ASSERT_EQUAL(manifest_problems(m, &p), 0);
        test_write_n(&d, "all.yaml", full, n);
        CU_ASSERT_TRUE(manifest_scan(m, &err) >= 0);
        if (manifest_problems(m, &p) > 0) {
            refused++;
            CU_ASSERT_EQUAL(manifest_count(m, "Service"), 1);
            CU_ASSERT_EQUAL(manifest_count(m, "Pod"), 1);
            CU_ASSERT_EQUAL(manifest_count(m, "Gateway"), 1);
            CU_ASSERT_EQUAL(manifest_count(m, "AuthorizationPolicy"), 1);
        }
        struct contrib_local l;
        CU_ASSERT_EQUAL(manifest_local(m, &c, &l, &err), 0);
        contrib_local_fini(&l);
    }
    CU_ASSERT_TRUE(refused > sizeof(full) / 4);
    manifest_free(m);
    test_remove(&d, "all.yaml");
    test_dir_remove(&d);
}

static int scenario(void *arg)
{
    const struct test_dir *d = arg;
    struct manifest *m = NULL;
    struct pg_errtext err;
    struct contrib_local l;
    struct peer_config *peers = NULL;
    size_t n = 0;
    struct manifest_config c = {.cluster = PG_STR("c"),
                                .network = PG_STR("n"),
                                .trust_domain = PG_STR("td"),
                                .domain = PG_STR("cluster.local"),
                                .system_ns = PG_STR("istio-system")};
    int r = manifest_new(d->path, &m, &err);
    if (r == 0) {
        r = manifest_scan(m, &err);
        /* A file that could not be read for want of memory must not look like a bad file. */
        const struct manifest_problem *p;
        CU_ASSERT_EQUAL(manifest_problems(m, &p), 0);
        r = r > 0 ? 0 : r;
    }
    if (r == 0) {
        r = manifest_local(m, &c, &l, &err);
    }
    if (r == 0) {
        contrib_local_fini(&l);
        r = manifest_peers(m, &c, &peers, &n);
    }
    for (size_t i = 0; i < n; i++) {
        peer_config_fini(&peers[i]);
    }
    pg_free(peers);
    manifest_free(m);
    return r;
}

static void test_nomem(void)
{
    struct test_dir d;
    test_dir_make(&d);
    test_write(&d, "all.yaml", full);
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, &d) > 20);
    test_remove(&d, "all.yaml");
    test_dir_remove(&d);
}

TEST_MAIN("manifest", {"changes", test_changes}, {"last good", test_last_good}, {"places", test_places},
          {"several problems", test_several_problems}, {"repeats", test_repeats}, {"kinds", test_kinds},
          {"config map", test_config_map}, {"directory swap", test_directory_swap},
          {"cut anywhere", test_cut_anywhere}, {"nomem", test_nomem})
