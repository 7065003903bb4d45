/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_doc: trees with lines, what is refused, every prefix and every flipped byte of a good text, failing
 * allocations. */
#include "yaml_doc.h"

#include "testlib.h"

static const char good[] = "apiVersion: v1\n"
                           "kind: Service\n"
                           "metadata:\n"
                           "  name: 'web'\n"
                           "  labels: {a: b, \"c\": \"1\"}\n"
                           "spec:\n"
                           "  ports:\n"
                           "  - port: 80\n"
                           "    name: http\n"
                           "  - {port: 81}\n"
                           "---\n"
                           "# nothing here\n"
                           "---\n"
                           "text: |\n"
                           "  two\n"
                           "  lines\n";

static int parse(const char *text, size_t len, struct pg_arena *a, const struct yaml_node **out,
                 unsigned *line, struct pg_errtext *err)
{
    pg_arena_init(a, 64u << 20);
    return yaml_parse(pg_str_n(text, len), a, out, line, err);
}

static void test_tree(void)
{
    struct pg_arena a;
    const struct yaml_node *doc = NULL;
    unsigned line = 0;
    struct pg_errtext err;
    CU_ASSERT_EQUAL_FATAL(parse(good, sizeof(good) - 1, &a, &doc, &line, &err), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(doc);
    CU_ASSERT_EQUAL(doc->kind, YAML_MAP);
    CU_ASSERT_TRUE(pg_str_eq_c(yaml_get(doc, "kind")->value, "Service"));
    const struct yaml_node *meta = yaml_get(doc, "metadata");
    CU_ASSERT_TRUE(yaml_get(meta, "name")->quoted);
    CU_ASSERT_EQUAL(yaml_get(meta, "name")->line, 4);
    CU_ASSERT_TRUE(yaml_is_string(yaml_get(yaml_get(meta, "labels"), "c")));
    const struct yaml_node *ports = yaml_get(yaml_get(doc, "spec"), "ports");
    CU_ASSERT_EQUAL(ports->kind, YAML_SEQ);
    CU_ASSERT_EQUAL(ports->n, 2);
    CU_ASSERT_TRUE(yaml_is_number(yaml_get(ports->first, "port")));
    CU_ASSERT_EQUAL(ports->last->line, 10);
    CU_ASSERT_PTR_NULL(yaml_get(doc, "nothing"));
    CU_ASSERT_PTR_NULL(yaml_get(NULL, "nothing"));
    /* The empty document in the middle is not one. */
    CU_ASSERT_PTR_NOT_NULL_FATAL(doc->next);
    CU_ASSERT_PTR_NULL(doc->next->next);
    CU_ASSERT_TRUE(pg_str_eq_c(yaml_get(doc->next, "text")->value, "two\nlines\n"));
    pg_arena_fini(&a);
}

static void test_words(void)
{
    static const struct {
        const char *text;
        char kind; /* s, n, b, 0 (null) */
    } rows[] = {{"abc", 's'},
                {"'1'", 's'},
                {"1", 'n'},
                {"-1.5e3", 'n'},
                {"0x1F", 'n'},
                {"1.2.3", 's'},
                {"1e", 's'},
                {"-", 's'},
                {"true", 'b'},
                {"Off", 'b'},
                {"tRUE", 's'},
                {"~", '0'},
                {"null", '0'},
                {"\"\"", 's'},
                {"\"no\"", 's'},
                {"10.0.0.1", 's'},
                {"2024-01-01T00:00:00Z", 's'},
                {".", 's'},
                {"0xfg", 's'},
                {".5", 'n'}};
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        char text[64];
        struct pg_arena a;
        const struct yaml_node *doc = NULL;
        unsigned line;
        struct pg_errtext err;
        int n = snprintf(text, sizeof(text), "k: %s\n", rows[i].text);
        if (strcmp(rows[i].text, "-") == 0) {
            n = snprintf(text, sizeof(text), "k: -x\n");
        }
        CU_ASSERT_EQUAL_FATAL(parse(text, (size_t)n, &a, &doc, &line, &err), 0);
        const struct yaml_node *v = yaml_get(doc, "k");
        CU_ASSERT_EQUAL(yaml_is_string(v), rows[i].kind == 's');
        CU_ASSERT_EQUAL(yaml_is_number(v), rows[i].kind == 'n');
        CU_ASSERT_EQUAL(yaml_is_bool(v, NULL), rows[i].kind == 'b');
        CU_ASSERT_EQUAL(yaml_is_null(v), rows[i].kind == '0');
        pg_arena_fini(&a);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *word;
    } rows[] = {
        {"a: &x 1\nb: 2\n", 1, "anchors"},  {"a: 1\nb: *x\n", 2, "aliases"},
        {"a: !!str 1\n", 1, "tags"},        {"a: !foo {b: c}\n", 1, "tags"},
        {"- &x [1]\n", 1, "anchors"},       {"%TAG ! tag:x,2000:\n---\na: 1\n", 1, "directives"},
        {"a: 1\nb: 2\na: 3\n", 3, "twice"}, {"? [a]\n: b\n", 1, "key"},
        {"? {a: b}\n: c\n", 1, "key"},      {"a: [1, 2\n", 2, "not valid YAML"},
        {"a: b: c\n", 1, "not valid YAML"}, {"a: \"\\0\"\n", 1, "NUL"},
        {"\ta: 1\n", 1, "not valid YAML"},  {"a: \xff\xfe\n", 1, "not valid YAML"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(rows); i++) {
        struct pg_arena a;
        const struct yaml_node *doc = NULL;
        unsigned line = 0;
        struct pg_errtext err = {{0}};
        CU_ASSERT_EQUAL(parse(rows[i].text, strlen(rows[i].text), &a, &doc, &line, &err), PG_E_PARSE);
        CU_ASSERT_EQUAL(line, rows[i].line);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, rows[i].word));
        CU_ASSERT_PTR_NULL(doc);
        pg_arena_fini(&a);
    }
}

static void test_limits(void)
{
    struct pg_arena a;
    const struct yaml_node *doc = NULL;
    unsigned line = 0;
    struct pg_errtext err;
    char deep[128];
    memset(deep, '[', sizeof(deep));
    memset(deep + YAML_DEPTH_MAX, ']', YAML_DEPTH_MAX);
    CU_ASSERT_EQUAL(parse(deep, 2 * (size_t)YAML_DEPTH_MAX, &a, &doc, &line, &err), 0);
    pg_arena_fini(&a);
    memset(deep, '[', YAML_DEPTH_MAX + 1);
    CU_ASSERT_EQUAL(parse(deep, YAML_DEPTH_MAX + 1, &a, &doc, &line, &err), PG_E_LIMIT);
    pg_arena_fini(&a);
    struct pg_sb sb;
    pg_sb_init(&sb, 4u << 20);
    for (unsigned i = 0; i < YAML_KEYS_MAX; i++) {
        pg_sb_fmt(&sb, "k%u: 1\n", i);
    }
    CU_ASSERT_EQUAL(parse(sb.p, sb.len, &a, &doc, &line, &err), 0);
    pg_arena_fini(&a);
    pg_sb_c(&sb, "more: 1\n");
    CU_ASSERT_EQUAL(parse(sb.p, sb.len, &a, &doc, &line, &err), PG_E_LIMIT);
    CU_ASSERT_EQUAL(line, YAML_KEYS_MAX + 1);
    pg_arena_fini(&a);
    pg_sb_reset(&sb);
    pg_sb_c(&sb, "a: ");
    for (unsigned i = 0; i < YAML_SCALAR_MAX + 1; i++) {
        pg_sb_ch(&sb, 'x');
    }
    CU_ASSERT_EQUAL(parse(sb.p, sb.len, &a, &doc, &line, &err), PG_E_LIMIT);
    pg_arena_fini(&a);
    pg_sb_fini(&sb);
}

/* Any end and any changed byte: an answer, never a crash; an error has a line inside the text. */
static void test_damaged(void)
{
    struct pg_arena a;
    const struct yaml_node *doc;
    unsigned line;
    struct pg_errtext err;
    for (size_t n = 0; n < sizeof(good); n++) {
        line = 0;
        int r = parse(good, n, &a, &doc, &line, &err);
        CU_ASSERT_TRUE(r == 0 || (r == PG_E_PARSE && line >= 1 && line <= 17));
        pg_arena_fini(&a);
    }
    static const char swaps[] = "\0\t&*!:-[]{}'\"|>%#\xff\n";
    for (size_t n = 0; n + 1 < sizeof(good); n++) {
        for (size_t k = 0; k < sizeof(swaps) - 1; k++) {
            char text[sizeof(good)];
            memcpy(text, good, sizeof(good));
            text[n] = swaps[k];
            int r = parse(text, sizeof(good) - 1, &a, &doc, &line, &err);
            CU_ASSERT_TRUE(r == 0 || r == PG_E_PARSE);
            pg_arena_fini(&a);
        }
    }
}

static int scenario(void *arg)
{
    struct pg_arena a;
    const struct yaml_node *doc = NULL;
    unsigned line;
    struct pg_errtext err;
    (void)arg;
    int r = parse(good, sizeof(good) - 1, &a, &doc, &line, &err);
    pg_arena_fini(&a);
    return r;
}

static void test_nomem(void)
{
    CU_ASSERT_TRUE(test_alloc_sweep(scenario, NULL) > 0);
}

TEST_MAIN("yaml", {"tree", test_tree}, {"words", test_words}, {"refused", test_refused},
          {"limits", test_limits}, {"damaged", test_damaged}, {"nomem", test_nomem})
