/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: options around the words, what is refused and in which words, help from the same table.
 */
#include "args.h"
#include "testlib.h"

static int nothing(struct ctl *c)
{
    (void)c;
    return 0;
}

static const struct args_command commands[] = {
    {"certs root", "", "make a root", ARG_BIT(ARG_DIR) | ARG_BIT(ARG_FORCE), 0, 0, 0, nothing},
    {"certs show", "FILE", "show", 0, 0, 1, 1, nothing},
    {"multicluster expose", "", "expose",
     ARG_BIT(ARG_NAMESPACE) | ARG_BIT(ARG_ADDRESS) | ARG_BIT(ARG_GENERATE), ARG_BIT(ARG_NAMESPACE), 0, 0,
     nothing},
    {"get", "KIND", "list", ARG_BIT(ARG_NAMESPACE), 0, 1, 1, nothing},
    {"version", "", "version", ARG_BIT(ARG_REMOTE), 0, 0, 0, nothing},
};

#define MAX_WORDS 24

/* Parses one line split at blanks; "''" stands for an empty word. */
static int parse(const char *line, struct args *a, struct pg_errtext *err)
{
    static char copy[512];
    static char *argv[MAX_WORDS + 1];
    static char program[] = "peerctl";
    int argc = 1;
    size_t n = strlen(line);
    CU_ASSERT_FATAL(n < sizeof(copy));
    memcpy(copy, line, n + 1);
    argv[0] = program;
    for (char *p = copy; *p != '\0' && argc < MAX_WORDS;) {
        argv[argc++] = p;
        char *end = strchr(p, ' ');
        p = end != NULL ? end + 1 : p + strlen(p);
        if (end != NULL) {
            *end = '\0';
        }
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "''") == 0) {
            argv[i] += 2;
        }
    }
    *err = (struct pg_errtext){""};
    return args_parse(commands, PG_ARRAY_LEN(commands), argc, argv, a, err);
}

static void fails(const char *line, const char *words)
{
    struct args a;
    struct pg_errtext err;
    CU_ASSERT_EQUAL(parse(line, &a, &err), PG_E_CONFIG);
    if (strstr(err.text, words) == NULL) {
        (void)fprintf(stderr, "\n\"%s\": \"%s\" lacks \"%s\"\n", line, err.text, words);
        CU_FAIL("other words");
    }
}

static void test_places(void)
{
    static const char *const lines[] = {
        "--context c1 multicluster expose -n ew --address 1.2.3.4 --address=gw.x",
        "multicluster --context=c1 expose --address 1.2.3.4 --namespace=ew --address gw.x",
        "multicluster expose -new --address=1.2.3.4 --address gw.x --context c1",
        "multicluster expose -n=ew --address=1.2.3.4 --address gw.x --context c1 --context c1",
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(lines); i++) {
        struct args a;
        struct pg_errtext err;
        CU_ASSERT_EQUAL_FATAL(parse(lines[i], &a, &err), 0);
        CU_ASSERT_STRING_EQUAL(a.command->words, "multicluster expose");
        CU_ASSERT_STRING_EQUAL(a.value[ARG_CONTEXT], "c1");
        CU_ASSERT_STRING_EQUAL(a.value[ARG_NAMESPACE], "ew");
        CU_ASSERT_EQUAL_FATAL(a.n_addresses, 2);
        CU_ASSERT_STRING_EQUAL(a.addresses[0], "1.2.3.4");
        CU_ASSERT_STRING_EQUAL(a.addresses[1], "gw.x");
        CU_ASSERT_FALSE(args_on(&a, ARG_GENERATE));
    }
}

static void test_switches(void)
{
    struct args a;
    struct pg_errtext err;
    CU_ASSERT_EQUAL(parse("version --remote=false", &a, &err), 0);
    CU_ASSERT_STRING_EQUAL(a.value[ARG_REMOTE], "false");
    CU_ASSERT_FALSE(args_on(&a, ARG_REMOTE));
    /* A switch takes no separate value: the word after it stays a word. */
    CU_ASSERT_EQUAL(parse("certs --force root", &a, &err), 0);
    CU_ASSERT_TRUE(args_on(&a, ARG_FORCE));
    fails("version --remote=no", "true or false");
    fails("certs root --force=", "true or false");
}

static void test_operands(void)
{
    struct args a;
    struct pg_errtext err;
    CU_ASSERT_EQUAL(parse("get peers -o wide", &a, &err), 0);
    CU_ASSERT_EQUAL(a.n_operands, 1);
    CU_ASSERT_STRING_EQUAL(a.operands[0], "peers");
    CU_ASSERT_EQUAL(parse("certs show -- -odd-name", &a, &err), 0);
    CU_ASSERT_STRING_EQUAL(a.operands[0], "-odd-name");
    CU_ASSERT_EQUAL(parse("certs show -", &a, &err), 0);
    CU_ASSERT_STRING_EQUAL(a.operands[0], "-");
    fails("get", "\"get\" needs KIND");
    fails("get peers more", "unexpected \"more\"");
}

static void test_refused(void)
{
    fails("", "no command is given");
    fails("certs", "certs needs a command after it");
    fails("certs rot", "did you mean \"certs root\"?");
    fails("gte peers", "did you mean \"get\"?");
    fails("somethingelse", "no command \"somethingelse\"");
    fails("certs root --dri x", "has no option --dri; did you mean --dir?");
    fails("certs root --zzzzzzz", "has no option --zzzzzzz");
    fails("certs root -z", "has no option -z");
    fails("certs root -n x", "\"certs root\" has no option --namespace");
    fails("certs root --dir", "--dir needs a value: --dir DIR");
    fails("multicluster expose --namespace --generate", "--namespace needs a value");
    fails("multicluster expose", "needs --namespace NS");
    fails("multicluster expose -n ''", "something not empty");
    fails("certs root --dir a --dir b", "--dir is given twice");
    fails("certs root -o yaml", "\"yaml\" is not accepted");
    fails("certs root -o wide", "knows only -o json");
    fails("version --request-timeout 0s", "a time such as");
    fails("version --request-timeout 12", "a time such as");
    fails("multicluster expose -n a --address 1 --address 2 --address 3 --address 4 --address 5 --address 6 "
          "--address 7 --address 8 --address 9",
          "at most 8 addresses");
    fails("a b c d e f g h i j k l m", "too many words");
}

static void test_long_words(void)
{
    char word[300];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    fails(word, "no command \"xxx");
    memcpy(word, "certs root --", 13);
    fails(word, "has no option --xxx");
}

static void help_holds(const char *line, const char *words, bool wanted)
{
    static char text[16384];
    struct args a;
    struct pg_errtext err;
    CU_ASSERT_EQUAL(parse(line, &a, &err), 0);
    CU_ASSERT_TRUE(a.wants_help);
    FILE *to = fmemopen(text, sizeof(text), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    args_help(commands, PG_ARRAY_LEN(commands), &a, to);
    (void)fclose(to);
    CU_ASSERT_EQUAL(strstr(text, words) != NULL, wanted);
}

static void test_help(void)
{
    help_holds("help", "multicluster expose", true);
    help_holds("--help", "certs show FILE", true);
    help_holds("certs help", "certs show FILE", true);
    help_holds("certs help", "multicluster", false);
    help_holds("help certs", "certs root", true);
    help_holds("multicluster expose --help", "--address IP|HOST", true);
    help_holds("multicluster expose -h", "(needed)", true);
    help_holds("certs root --help", "--address", false);
    /* Asking for help is never wrong use. */
    help_holds("certs root --nonsense --help", "--dir DIR", true);
}

TEST_MAIN("peerctl args", {"options around the words", test_places}, {"switches", test_switches},
          {"operands", test_operands}, {"refused", test_refused}, {"long words", test_long_words},
          {"help", test_help})
