/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peeringd: the control plane of one cluster. Options come from the command line, then the environment, then
 * defaults; everything else is libpeering's.
 */
#include <peering/control.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/log.h"
#include "core/str.h"
#include "net/sock.h"

static peering_control *running;

static void on_signal(int signo)
{
    (void)signo;
    if (running != NULL) {
        peering_control_stop(running);
    }
}

static int usage(FILE *to, int status)
{
    peering_option_info i;
    fprintf(to,
            "peeringd %s: peers Istio ambient control planes and serves one cluster\n\n"
            "usage: peeringd --manifests DIR [--cacerts DIR] [--state DIR] [--OPTION VALUE]...\n"
            "       peeringd --print-config   the options in force, and where each came from\n"
            "       peeringd --version\n\noptions (environment variable, default):\n",
            peering_version());
    for (size_t n = 0; peering_options_describe(n, &i); n++) {
        fprintf(to, "  --%-28s %s\n  %30s (%s%s\"%s\")\n", i.name, i.help, "", i.env == NULL ? "" : i.env,
                i.env == NULL ? "" : ", ", i.fallback);
    }
    return status;
}

static int complain(const char *what)
{
    fprintf(stderr, "peeringd: %s\npeeringd: see --help\n", what);
    return 2;
}

static int from_environment(peering_options *o)
{
    peering_option_info i;
    peering_text why;
    for (size_t n = 0; peering_options_describe(n, &i); n++) {
        const char *value = i.env == NULL ? NULL : getenv(i.env);
        if (value == NULL || value[0] == '\0') {
            continue;
        }
        if (peering_options_set(o, i.name, value, &why) != 0) {
            char text[400];
            (void)snprintf(text, sizeof(text), "environment variable %s: %s", i.env, why.text);
            return complain(text);
        }
    }
    return 0;
}

/* "--name value" and "--name=value". */
static int from_arguments(peering_options *o, int argc, char **argv)
{
    for (int k = 1; k < argc; k++) {
        char name[64];
        peering_text why = {""};
        const char *arg = argv[k];
        if (strcmp(arg, "--print-config") == 0) {
            continue;
        }
        if (strncmp(arg, "--", 2) != 0) {
            (void)snprintf(why.text, sizeof(why.text), "unexpected argument \"%s\"", arg);
            return complain(why.text);
        }
        const char *eq = strchr(arg, '=');
        size_t len = eq == NULL ? strlen(arg) - 2 : (size_t)(eq - arg) - 2;
        (void)snprintf(name, sizeof(name), "%.*s", (int)(len < 60 ? len : 60), arg + 2);
        const char *value = eq != NULL ? eq + 1 : k + 1 < argc ? argv[++k] : NULL;
        if (value == NULL && peering_options_get(o, name) != NULL) {
            (void)snprintf(why.text, sizeof(why.text), "--%s needs a value", name);
            return complain(why.text);
        }
        if (peering_options_set(o, name, value == NULL ? "" : value, &why) != 0) {
            return complain(why.text);
        }
    }
    return 0;
}

static void print_config(const peering_options *o, int argc, char **argv)
{
    peering_option_info i;
    for (size_t n = 0; peering_options_describe(n, &i); n++) {
        const char *from = "default";
        const char *env = i.env == NULL ? NULL : getenv(i.env);
        if (env != NULL && env[0] != '\0') {
            from = i.env;
        }
        for (int k = 1; k < argc; k++) {
            size_t len = strlen(i.name);
            if (strncmp(argv[k], "--", 2) == 0 && strncmp(argv[k] + 2, i.name, len) == 0 &&
                (argv[k][2 + len] == '\0' || argv[k][2 + len] == '=')) {
                from = "command line";
            }
        }
        printf("%-28s %-30s # %s\n", i.name, peering_options_get(o, i.name), from);
    }
}

static int set_log(const peering_options *o)
{
    struct pg_errtext err = {""};
    pg_log_set_output(1, strcmp(peering_options_get(o, "log-format"), "json") == 0);
    if (pg_log_set_filter(peering_options_get(o, "log-level"), &err) != 0) {
        char text[320];
        (void)snprintf(text, sizeof(text), "log-level: %s", err.text);
        return complain(text);
    }
    return 0;
}

static int run(const peering_options *o)
{
    peering_text why = {""};
    peering_control *c;
    /* Keys live in this process: no core dumps. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)pg_raise_fd_limit();
    if (peering_control_new(o, &c, &why) != 0) {
        fprintf(stderr, "peeringd: %s\n", why.text);
        return 1;
    }
    struct sigaction act = {.sa_handler = on_signal};
    running = c;
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGINT, &act, NULL);
    peering_control_run(c);
    running = NULL;
    peering_control_free(c);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 &&
        (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
        return usage(stdout, 0);
    }
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)) {
        printf("peeringd %s\n", peering_version());
        return 0;
    }
    peering_options *o;
    if (peering_options_new(&o) != 0) {
        return complain("out of memory");
    }
    int r = from_environment(o);
    r = r == 0 ? from_arguments(o, argc, argv) : r;
    r = r == 0 ? set_log(o) : r;
    bool print = false;
    for (int k = 1; k < argc; k++) {
        print = print || strcmp(argv[k], "--print-config") == 0;
    }
    if (r == 0 && print) {
        print_config(o, argc, argv);
    } else if (r == 0) {
        r = run(o);
    }
    peering_options_free(o);
    return r;
}
