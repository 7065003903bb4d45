/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table of options and one of commands make parsing, the check of what fits together,
 * and the help text, so that they cannot differ. Options may stand before, between or after the words of a
 * command. Pure; nothing is allocated, everything parsed points into argv. One thread.
 */
#ifndef ISTHMUS_PEERCTL_ARGS_H
#define ISTHMUS_PEERCTL_ARGS_H

#include "core/str.h"

#include <stdio.h>

enum arg_id {
    ARG_HELP,
    ARG_CONTEXTS_FILE,
    ARG_CONTEXT,
    ARG_OUTPUT,
    ARG_REQUEST_TIMEOUT,
    ARG_CONTEXTS,
    ARG_NAMESPACE,
    ARG_ALL_NAMESPACES,
    ARG_DIR,
    ARG_FORCE,
    ARG_SERVICE_ACCOUNT,
    ARG_POD,
    ARG_AUDIENCE,
    ARG_TTL,
    ARG_ADDRESS,
    ARG_NAME,
    ARG_GENERATE,
    ARG_FROM,
    ARG_TO,
    ARG_PRECHECK,
    ARG_VERBOSE,
    ARG_NO_EMOJI,
    ARG_WAIT,
    ARG_TIMEOUT,
    ARG_REMOTE,
    ARG_COUNT,
};
#define ARG_BIT(id) (UINT64_C(1) << (id))

#define ARGS_OPERANDS_MAX 8u /* words after the command */
#define ARGS_ADDRESSES_MAX 8u
#define ARGS_WORDS_MAX 12u

struct ctl; /* ctl.h */
struct args_command {
    const char *words;    /* "certs root" */
    const char *operands; /* "CLUSTER", "" for none */
    const char *summary;
    uint64_t options; /* ARG_BITs besides those every command has */
    uint64_t needs;   /* of them, those that must be given */
    unsigned min_operands, max_operands;
    int (*run)(struct ctl *c); /* exit status */
};
struct args {
    const struct args_command *command; /* NULL: none named, see `group` */
    const char *group;                  /* first word, when it names several commands; else NULL */
    bool wants_help;
    const char *value[ARG_COUNT]; /* NULL: not given; "true" or "false" for a switch */
    const char *addresses[ARGS_ADDRESSES_MAX];
    size_t n_addresses;
    const char *operands[ARGS_OPERANDS_MAX];
    size_t n_operands;
};

/* 0, or PG_E_CONFIG with the whole complaint in `err`. A `help` word or --help asks for help and is no fault.
 */
int args_parse(const struct args_command *commands, size_t n, int argc, char *const *argv, struct args *out,
               struct pg_errtext *err) PG_MUST_CHECK;
bool args_on(const struct args *a, enum arg_id id); /* a switch that was set */
/* Help on the command, the group, or all of it. */
void args_help(const struct args_command *commands, size_t n, const struct args *a, FILE *to);

#endif
