/* SPDX-License-Identifier: Apache-2.0 */
/* The contexts file: what is read, every complaint with its line, choosing, and running out of memory. */
#include "contexts.h"
#include "testlib.h"

static int parse(struct contexts *c, const char *text, struct pg_errtext *err)
{
    contexts_init(c);
    *err = (struct pg_errtext){""};
    return contexts_parse(c, "/etc/isthmus/contexts", pg_str_c(text), err);
}

static const char two[] = "# mine\n"
                          "[cluster1]\r\n"
                          "  manifests=/m1\n"
                          "admin = unix:/run/a b.sock\n"
                          "\n"
                          "; theirs\n"
                          "[ cluster2 ]\n"
                          "admin = [::1]:15014\n"
                          "manifests = sub/m2"; /* no newline at the end */

static void test_read(void)
{
    struct contexts c;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(parse(&c, two, &err), 0);
    CU_ASSERT_EQUAL_FATAL(c.n, 2);
    CU_ASSERT_STRING_EQUAL(c.items[0].name, "cluster1");
    CU_ASSERT_STRING_EQUAL(c.items[0].manifests, "/m1");
    CU_ASSERT_STRING_EQUAL(c.items[0].admin, "unix:/run/a b.sock");
    CU_ASSERT_EQUAL(c.items[0].line, 2);
    CU_ASSERT_STRING_EQUAL(c.items[1].name, "cluster2");
    CU_ASSERT_STRING_EQUAL(c.items[1].manifests, "/etc/isthmus/sub/m2");
    CU_ASSERT_STRING_EQUAL(c.items[1].admin, "[::1]:15014");
    CU_ASSERT_EQUAL(c.items[1].line, 7);
    contexts_fini(&c);
}

static void test_complaints(void)
{
    static const char *const wrong[][2] = {
        {"admin = 1.2.3.4:5\n", "contexts:1: stands before the first [section]"},
        {"[a]\nadmin = 1.2.3.4:5\n\nwhat is this\n",
         "contexts:4: neither [section], key = value nor comment"},
        {"[a\nadmin = 1.2.3.4:5\n", "contexts:1: a section looks like [name]"},
        {"[]\n", "contexts:1: a name has letters"},
        {"[a b]\n", "contexts:1: a name has letters"},
        {"[a]\nmanifest = /x\n", "contexts:2: known keys are manifests and admin, not \"manifest\""},
        {"[a]\nadmin =\n", "contexts:2: no value for \"admin\""},
        {"[a]\nadmin = unix:\n", "contexts:2: admin is unix:/path or ip:port"},
        {"[a]\nadmin = localhost:15014\n", "contexts:2: admin is unix:/path or ip:port"},
        {"[a]\nadmin = 1.2.3.4:0\n", "contexts:2: admin is unix:/path or ip:port"},
        {"[a]\nadmin = 1.2.3.4:5\nadmin = 1.2.3.4:6\n",
         "contexts:3: a second time in this section: \"admin\""},
        {"[a]\nadmin = 1.2.3.4:5\n[a]\n", "contexts:3: section a second time: \"a\""},
        {"\n[a]\nmanifests = /x\n[b]\nadmin = 1.2.3.4:5\n", "contexts:2: no \"admin = unix:/path\""},
        {"[a]\n", "contexts:1: no \"admin = unix:/path\""},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(wrong); i++) {
        struct contexts c;
        struct pg_errtext err;
        CU_ASSERT_EQUAL(parse(&c, wrong[i][0], &err), PG_E_CONFIG);
        if (strstr(err.text, wrong[i][1]) == NULL) {
            (void)fprintf(stderr, "\n\"%s\" lacks \"%s\"\n", err.text, wrong[i][1]);
            CU_FAIL("other words");
        }
        contexts_fini(&c);
    }
}

static void test_bytes(void)
{
    struct contexts c;
    struct pg_errtext err = {""};
    contexts_init(&c);
    CU_ASSERT_EQUAL(contexts_parse(&c, "f", pg_str_n("[a]\nadmin = 1.2.3.4:5\0", 22), &err), PG_E_CONFIG);
    CU_ASSERT_STRING_EQUAL(err.text, "f: not a text file");
    contexts_fini(&c);
    /* Every cut of a good file is read or refused, never worse. */
    for (size_t n = 0; n <= sizeof(two) - 1; n++) {
        contexts_init(&c);
        int r = contexts_parse(&c, "f", pg_str_n(two, n), &err);
        CU_ASSERT_TRUE(r == 0 || r == PG_E_CONFIG);
        contexts_fini(&c);
    }
}

static void test_first_file_wins(void)
{
    struct contexts c;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL(parse(&c, two, &err), 0);
    CU_ASSERT_EQUAL(
        contexts_parse(&c, "x", PG_STR("[cluster1]\nadmin = 9.9.9.9:9\n[c3]\nadmin = 1.2.3.4:5\n"), &err), 0);
    CU_ASSERT_EQUAL_FATAL(c.n, 3);
    CU_ASSERT_STRING_EQUAL(c.items[0].admin, "unix:/run/a b.sock");
    CU_ASSERT_STRING_EQUAL(c.items[2].name, "c3");
    contexts_fini(&c);
}

static void test_cap(void)
{
    struct contexts c;
    struct pg_errtext err = {""};
    struct pg_sb text;
    pg_sb_init(&text, CONTEXTS_FILE_MAX);
    for (unsigned i = 0; i <= CONTEXTS_MAX; i++) {
        pg_sb_fmt(&text, "[c%u]\nadmin = 1.2.3.4:5\n", i);
    }
    contexts_init(&c);
    CU_ASSERT_EQUAL(contexts_parse(&c, "f", pg_sb_view(&text), &err), PG_E_LIMIT);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "more than 256 contexts"));
    contexts_fini(&c);
    pg_sb_fini(&text);
}

static void test_pick(void)
{
    struct contexts c;
    struct pg_errtext err = {""};
    CU_ASSERT_EQUAL(parse(&c, two, &err), 0);
    CU_ASSERT_PTR_EQUAL(contexts_pick(&c, "cluster2", &err), &c.items[1]);
    CU_ASSERT_PTR_NULL(contexts_pick(&c, "cluster", &err));
    CU_ASSERT_STRING_EQUAL(err.text, "no context \"cluster\"; there are: cluster1, cluster2");
    CU_ASSERT_PTR_NULL(contexts_pick(&c, NULL, &err));
    CU_ASSERT_STRING_EQUAL(err.text, "several contexts; choose one with --context: cluster1, cluster2");
    c.n = 1;
    CU_ASSERT_PTR_EQUAL(contexts_pick(&c, NULL, &err), &c.items[0]);
    c.n = 0;
    CU_ASSERT_PTR_NULL(contexts_pick(&c, NULL, &err));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "names no context"));
    contexts_fini(&c);
}

static void test_list(void)
{
    struct contexts c;
    struct pg_errtext err = {""};
    const struct context *found[2];
    size_t n = 0;
    CU_ASSERT_EQUAL(parse(&c, two, &err), 0);
    CU_ASSERT_EQUAL(contexts_list(&c, "cluster2, cluster1", found, 2, &n, &err), 0);
    CU_ASSERT_EQUAL(n, 2);
    CU_ASSERT_PTR_EQUAL(found[0], &c.items[1]);
    CU_ASSERT_EQUAL(contexts_list(&c, "cluster1,cluster1", found, 2, &n, &err), PG_E_CONFIG);
    CU_ASSERT_STRING_EQUAL(err.text, "--contexts: \"cluster1\" is named twice");
    CU_ASSERT_EQUAL(contexts_list(&c, "cluster1,,cluster2", found, 2, &n, &err), PG_E_CONFIG);
    CU_ASSERT_EQUAL(contexts_list(&c, "cluster1,x", found, 2, &n, &err), PG_E_CONFIG);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no context \"x\""));
    CU_ASSERT_EQUAL(contexts_list(&c, "cluster1,cluster2", found, 1, &n, &err), PG_E_CONFIG);
    contexts_fini(&c);
}

static int scenario(void *arg)
{
    struct contexts c;
    struct pg_errtext err;
    (void)arg;
    int r = parse(&c, two, &err);
    contexts_fini(&c);
    return r;
}

static void test_memory(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > 0);
}

TEST_MAIN("peerctl contexts", {"read", test_read}, {"complaints name the line", test_complaints},
          {"bytes", test_bytes}, {"the first file wins", test_first_file_wins}, {"cap", test_cap},
          {"pick", test_pick}, {"list", test_list}, {"out of memory", test_memory})
