/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing and help from the tables. Invariant: an option that a command does not know is an error that names
 * the nearest one it knows, never ignored. One thread.
 */
#include "args.h"

enum arg_kind { KIND_SWITCH, KIND_TEXT, KIND_DURATION, KIND_OUTPUT };

struct arg_def {
    const char *name;
    char letter; /* 0: none */
    enum arg_kind kind;
    const char *value; /* in the help text */
    const char *help;
};

static const struct arg_def defs[ARG_COUNT] = {
    [ARG_HELP] = {"help", 'h', KIND_SWITCH, NULL, "this text"},
    [ARG_CONTEXTS_FILE] = {"contexts-file", 0, KIND_TEXT, "FILE",
                           "where the clusters are named (PEERCTL_CONTEXTS, ~/.config/isthmus/contexts)"},
    [ARG_CONTEXT] = {"context", 0, KIND_TEXT, "NAME", "one cluster of the contexts file"},
    [ARG_OUTPUT] = {"output", 'o', KIND_OUTPUT, "FORMAT", "json; with get also name and wide"},
    [ARG_REQUEST_TIMEOUT] = {"request-timeout", 0, KIND_DURATION, "TIME",
                             "how long one question to a control plane may take (5s)"},
    [ARG_CONTEXTS] = {"contexts", 0, KIND_TEXT, "A,B,...", "several clusters of the contexts file"},
    [ARG_NAMESPACE] = {"namespace", 'n', KIND_TEXT, "NS", "namespace"},
    [ARG_ALL_NAMESPACES] = {"all-namespaces", 'A', KIND_SWITCH, NULL,
                            "every namespace (the default without -n)"},
    [ARG_DIR] = {"dir", 0, KIND_TEXT, "DIR", "directory of the keys (the current one)"},
    [ARG_FORCE] = {"force", 0, KIND_SWITCH, NULL, "replace what is there already"},
    [ARG_SERVICE_ACCOUNT] = {"service-account", 0, KIND_TEXT, "SA", "service account the token speaks for"},
    [ARG_POD] = {"pod", 0, KIND_TEXT, "POD", "bind the token to a pod"},
    [ARG_AUDIENCE] = {"audience", 0, KIND_TEXT, "AUD", "audience of the token (istio-ca)"},
    [ARG_TTL] = {"ttl", 0, KIND_DURATION, "TIME", "life of the token (24h)"},
    [ARG_ADDRESS] = {"address", 0, KIND_TEXT, "IP|HOST",
                     "where other clusters reach the gateway; may be repeated"},
    [ARG_NAME] = {"name", 0, KIND_TEXT, "NAME", "name of the Gateway (istio-eastwest)"},
    [ARG_GENERATE] = {"generate", 0, KIND_SWITCH, NULL, "print the YAML and change nothing"},
    [ARG_FROM] = {"from", 0, KIND_TEXT, "NAME", "context whose workloads may call"},
    [ARG_TO] = {"to", 0, KIND_TEXT, "NAME", "context that is called"},
    [ARG_PRECHECK] = {"precheck", 0, KIND_SWITCH, NULL, "before linking: leave the peers out"},
    [ARG_VERBOSE] = {"verbose", 0, KIND_SWITCH, NULL, "the facts behind each line"},
    [ARG_NO_EMOJI] = {"no-emoji", 0, KIND_SWITCH, NULL, "[OK] [INFO] [WARN] [FAIL] instead of symbols"},
    [ARG_WAIT] = {"wait", 0, KIND_SWITCH, NULL, "wait until ready, gateways programmed and peers synced"},
    [ARG_TIMEOUT] = {"timeout", 0, KIND_DURATION, "TIME", "how long to wait (60s)"},
    [ARG_REMOTE] = {"remote", 0, KIND_SWITCH, NULL, "ask the control planes too (default; --remote=false)"},
};
static const uint64_t for_all = ARG_BIT(ARG_HELP) | ARG_BIT(ARG_CONTEXTS_FILE) | ARG_BIT(ARG_CONTEXT) |
                                ARG_BIT(ARG_OUTPUT) | ARG_BIT(ARG_REQUEST_TIMEOUT);

bool args_on(const struct args *a, enum arg_id id)
{
    return a->value[id] != NULL && strcmp(a->value[id], "true") == 0;
}

/* --- nearest name */

#define NAME_MAX_LEN 32u

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

static size_t distance(const char *a, size_t n, const char *b)
{
    size_t m = strlen(b);
    size_t row[NAME_MAX_LEN + 1];
    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN) {
        return NAME_MAX_LEN;
    }
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
            diagonal = above;
        }
    }
    return row[m];
}

static const char *nearest_option(struct pg_str name, uint64_t known)
{
    const char *best = NULL;
    size_t least = 4;
    for (size_t i = 0; i < ARG_COUNT; i++) {
        size_t d = distance(name.p, name.len, defs[i].name);
        if ((known & ARG_BIT(i)) != 0 && d < least) {
            least = d;
            best = defs[i].name;
        }
    }
    return best;
}

/* --- options */

static ptrdiff_t find_name(struct pg_str name)
{
    for (size_t i = 0; i < ARG_COUNT; i++) {
        if (pg_str_eq_c(name, defs[i].name)) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static ptrdiff_t find_letter(char letter)
{
    for (size_t i = 0; letter != '\0' && i < ARG_COUNT; i++) {
        if (defs[i].letter == letter) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static int check_value(const struct arg_def *d, const char *value, struct pg_errtext *err)
{
    uint64_t ms;
    const char *wanted = NULL;
    switch (d->kind) {
    case KIND_SWITCH:
        wanted = strcmp(value, "true") == 0 || strcmp(value, "false") == 0 ? NULL : "true or false";
        break;
    case KIND_TEXT:
        wanted = value[0] != '\0' ? NULL : "something not empty";
        break;
    case KIND_DURATION:
        wanted = pg_str_duration_ms(pg_str_c(value), &ms) == 0 && ms > 0 && ms <= UINT64_C(3660) * 86400000
                     ? NULL
                     : "a time such as 500ms, 10s, 5m or 24h";
        break;
    case KIND_OUTPUT:
        wanted = strcmp(value, "json") == 0 || strcmp(value, "name") == 0 || strcmp(value, "wide") == 0
                     ? NULL
                     : "json, name or wide";
        break;
    }
    if (wanted != NULL) {
        pg_err_set(err, "--%s: \"%.60s\" is not accepted; give %s", d->name, value, wanted);
        return PG_E_CONFIG;
    }
    return 0;
}

static int set_option(struct args *a, size_t id, const char *value, struct pg_errtext *err)
{
    int r = check_value(&defs[id], value, err);
    if (r != 0) {
        return r;
    }
    if (id == ARG_ADDRESS) {
        if (a->n_addresses == ARGS_ADDRESSES_MAX) {
            pg_err_set(err, "--address: at most %u addresses", ARGS_ADDRESSES_MAX);
            return PG_E_CONFIG;
        }
        a->addresses[a->n_addresses++] = value;
    } else if (a->value[id] != NULL && strcmp(a->value[id], value) != 0) {
        pg_err_set(err, "--%s is given twice: \"%.60s\" and \"%.60s\"", defs[id].name, a->value[id], value);
        return PG_E_CONFIG;
    }
    a->value[id] = value;
    return 0;
}

struct scan { /* where we are in argv, and the words met */
    int argc;
    char *const *argv;
    int at;
    const char *words[ARGS_WORDS_MAX];
    size_t n_words;
    const char *unknown; /* first option nobody knows: reported when the command is known */
};

static int take_value(struct scan *s, struct args *a, size_t id, const char *attached, struct pg_errtext *err)
{
    const char *value = attached;
    if (value == NULL && defs[id].kind == KIND_SWITCH) {
        value = "true";
    } else if (value == NULL) {
        /* A word that looks like an option is no value: "--namespace --generate" forgot one. */
        const char *next = s->at + 1 < s->argc ? s->argv[s->at + 1] : NULL;
        if (next == NULL || (next[0] == '-' && next[1] != '\0')) {
            pg_err_set(err, "--%s needs a value: --%s %s", defs[id].name, defs[id].name, defs[id].value);
            return PG_E_CONFIG;
        }
        value = s->argv[++s->at];
    }
    return set_option(a, id, value, err);
}

static int take_option(struct scan *s, struct args *a, struct pg_errtext *err)
{
    const char *text = s->argv[s->at];
    const char *attached = NULL;
    ptrdiff_t id;
    if (text[1] == '-') {
        struct pg_str rest = pg_str_c(text + 2);
        const char *eq = strchr(text, '=');
        struct pg_str name = eq == NULL ? rest : pg_str_n(rest.p, (size_t)(eq - rest.p));
        attached = eq == NULL ? NULL : eq + 1;
        id = find_name(name);
    } else {
        id = find_letter(text[1]);
        attached = text[2] == '\0' ? NULL : text[2] == '=' ? text + 3 : text + 2;
    }
    if (id < 0) {
        s->unknown = s->unknown == NULL ? text : s->unknown;
        return 0;
    }
    return take_value(s, a, (size_t)id, attached, err);
}

static int scan_all(struct scan *s, struct args *a, struct pg_errtext *err)
{
    bool words_only = false;
    for (; s->at < s->argc; s->at++) {
        const char *text = s->argv[s->at];
        int r = 0;
        if (!words_only && strcmp(text, "--") == 0) {
            words_only = true;
        } else if (!words_only && text[0] == '-' && text[1] != '\0') {
            r = take_option(s, a, err);
        } else if (s->n_words == ARGS_WORDS_MAX) {
            pg_err_set(err, "too many words at \"%.60s\"", text);
            r = PG_E_CONFIG;
        } else {
            s->words[s->n_words++] = text;
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* --- the command */

/* How many of `words` the command's name takes; 0 when it is another command. */
static size_t matches(const struct args_command *c, const char *const *words, size_t n)
{
    struct pg_str left = pg_str_c(c->words);
    struct pg_str word;
    size_t used = 0;
    while (pg_str_cut(&left, ' ', &word)) {
        if (used == n || !pg_str_eq_c(word, words[used])) {
            return 0;
        }
        used++;
    }
    return used;
}

static bool in_group(const struct args_command *c, const char *group)
{
    struct pg_str left = pg_str_c(c->words);
    struct pg_str first;
    return pg_str_cut(&left, ' ', &first) && pg_str_eq_c(first, group) && left.len > 0;
}

static bool is_group(const struct args_command *commands, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        if (in_group(&commands[i], word)) {
            return true;
        }
    }
    return false;
}

/* Takes "help" out of the words, wherever a command could stand. */
static void take_help(struct scan *s, struct args *a)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_words; i++) {
        if (i <= 1 && strcmp(s->words[i], "help") == 0) {
            a->wants_help = true;
        } else {
            s->words[kept++] = s->words[i];
        }
    }
    s->n_words = kept;
}

static const struct args_command *find_command(const struct args_command *commands, size_t n,
                                               const struct scan *s, size_t *used)
{
    const struct args_command *found = NULL;
    *used = 0;
    for (size_t i = 0; i < n; i++) {
        size_t m = matches(&commands[i], s->words, s->n_words);
        if (m > *used) {
            *used = m;
            found = &commands[i];
        }
    }
    return found;
}

static const char *nearest_command(const struct args_command *commands, size_t n, const char *group,
                                   const char *word)
{
    const char *best = NULL;
    size_t least = 4;
    for (size_t i = 0; i < n; i++) {
        struct pg_str name = pg_str_c(commands[i].words);
        struct pg_str first;
        if (group != NULL && !in_group(&commands[i], group)) {
            continue;
        }
        (void)pg_str_cut(&name, ' ', &first);
        size_t d = distance(word, strlen(word), group != NULL ? name.p : commands[i].words);
        if (d < least) {
            least = d;
            best = commands[i].words;
        }
    }
    return best;
}

static int unknown_command(const struct args_command *commands, size_t n, const struct scan *s,
                           struct args *a, struct pg_errtext *err)
{
    if (s->n_words == 0) {
        pg_err_set(err, "no command is given");
        return PG_E_CONFIG;
    }
    bool group = is_group(commands, n, s->words[0]);
    a->group = group ? s->words[0] : NULL;
    if (group && s->n_words == 1) {
        pg_err_set(err, "%.60s needs a command after it", s->words[0]);
        return PG_E_CONFIG;
    }
    const char *word = s->words[group ? 1 : 0];
    const char *near = nearest_command(commands, n, a->group, word);
    pg_err_set(err, "no command \"%s%s%.60s\"%s%s%s", group ? s->words[0] : "", group ? " " : "", word,
               near != NULL ? "; did you mean \"" : "", near != NULL ? near : "", near != NULL ? "\"?" : "");
    return PG_E_CONFIG;
}

static int unknown_option(const struct args_command *c, const char *text, struct pg_errtext *err)
{
    struct pg_str name = pg_str_c(text[1] == '-' ? text + 2 : text + 1);
    struct pg_str head = name;
    (void)pg_str_cut(&name, '=', &head);
    const char *near = nearest_option(head, for_all | c->options);
    pg_err_set(err, "\"%s\" has no option %.60s%s%s%s", c->words, text,
               near != NULL ? "; did you mean --" : "", near != NULL ? near : "", near != NULL ? "?" : "");
    return PG_E_CONFIG;
}

static int check_command(const struct args *a, struct pg_errtext *err)
{
    const struct args_command *c = a->command;
    for (size_t i = 0; i < ARG_COUNT; i++) {
        if (a->value[i] != NULL && ((for_all | c->options) & ARG_BIT(i)) == 0) {
            pg_err_set(err, "\"%s\" has no option --%s", c->words, defs[i].name);
            return PG_E_CONFIG;
        }
        if (a->value[i] == NULL && (c->needs & ARG_BIT(i)) != 0) {
            pg_err_set(err, "\"%s\" needs --%s %s", c->words, defs[i].name, defs[i].value);
            return PG_E_CONFIG;
        }
    }
    if (a->n_operands < c->min_operands) {
        pg_err_set(err, "\"%s\" needs %s", c->words, c->operands);
        return PG_E_CONFIG;
    }
    if (a->n_operands > c->max_operands) {
        pg_err_set(err, "\"%s\": unexpected \"%.60s\"", c->words, a->operands[c->max_operands]);
        return PG_E_CONFIG;
    }
    const char *output = a->value[ARG_OUTPUT];
    if (output != NULL && strcmp(output, "json") != 0 && strncmp(c->words, "get", 3) != 0) {
        pg_err_set(err, "\"%s\" knows only -o json", c->words);
        return PG_E_CONFIG;
    }
    return 0;
}

int args_parse(const struct args_command *commands, size_t n, int argc, char *const *argv, struct args *out,
               struct pg_errtext *err)
{
    struct args a = {.command = NULL};
    struct scan s = {.argc = argc, .argv = argv, .at = 1};
    size_t used;
    int r = scan_all(&s, &a, err);
    take_help(&s, &a);
    a.wants_help = a.wants_help || args_on(&a, ARG_HELP);
    a.command = find_command(commands, n, &s, &used);
    if (a.command == NULL && s.n_words > 0 && is_group(commands, n, s.words[0])) {
        a.group = s.words[0];
    }
    for (size_t i = used; a.command != NULL && i < s.n_words && a.n_operands < ARGS_OPERANDS_MAX; i++) {
        a.operands[a.n_operands++] = s.words[i];
    }
    if (r == 0 && !a.wants_help) {
        r = a.command == NULL   ? unknown_command(commands, n, &s, &a, err)
            : s.unknown != NULL ? unknown_option(a.command, s.unknown, err)
                                : check_command(&a, err);
    }
    *out = a;
    return r;
}

/* --- help */

static void option_line(const struct arg_def *d, bool needed, FILE *to)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "--%s%s%s", d->name, d->value != NULL ? " " : "",
                   d->value != NULL ? d->value : "");
    if (d->letter != '\0') {
        fprintf(to, "  -%c, %-26s %s%s\n", d->letter, left, d->help, needed ? " (needed)" : "");
    } else {
        fprintf(to, "      %-26s %s%s\n", left, d->help, needed ? " (needed)" : "");
    }
}

static void options_of(uint64_t set, uint64_t needs, FILE *to)
{
    for (size_t i = 0; i < ARG_COUNT; i++) {
        if ((set & ARG_BIT(i)) != 0) {
            option_line(&defs[i], (needs & ARG_BIT(i)) != 0, to);
        }
    }
}

static void command_line(const struct args_command *c, FILE *to)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "%s%s%s", c->words, c->operands[0] != '\0' ? " " : "", c->operands);
    fprintf(to, "  %-30s %s\n", left, c->summary);
}

void args_help(const struct args_command *commands, size_t n, const struct args *a, FILE *to)
{
    if (a->command != NULL) {
        const struct args_command *c = a->command;
        fprintf(to, "%s\n\nusage: peerctl %s%s%s [options]\n\noptions:\n", c->summary, c->words,
                c->operands[0] != '\0' ? " " : "", c->operands);
        options_of(c->options, c->needs, to);
        options_of(for_all, 0, to);
    } else {
        fprintf(to,
                "peerctl %s: looks at and links Isthmus control planes\n\nusage: peerctl %s%sCOMMAND "
                "[options]\n\n",
                ISTHMUS_VERSION, a->group != NULL ? a->group : "", a->group != NULL ? " " : "");
        for (size_t i = 0; i < n; i++) {
            if (a->group == NULL || in_group(&commands[i], a->group)) {
                command_line(&commands[i], to);
            }
        }
        fprintf(to, "\noptions of every command, before or after it:\n");
        options_of(for_all, 0, to);
        fprintf(to, "\npeerctl COMMAND --help tells the options of one command.\n");
    }
    fprintf(
        to,
        "exit status: 0 fine, 1 a check failed, 2 wrong use (check: could not run), 3 could not reach.\n");
}
