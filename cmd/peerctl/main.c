/* SPDX-License-Identifier: Apache-2.0 */
/* peerctl: the command line tool. The table of commands, and the way from argv to an exit status. One thread.
 */
#include "ctl.h"

#define NS ARG_BIT(ARG_NAMESPACE)
#define DIR_FORCE (ARG_BIT(ARG_DIR) | ARG_BIT(ARG_FORCE))

const struct args_command ctl_commands[] = {
    {"certs root", "", "make the root certificate shared by all clusters", DIR_FORCE, 0, 0, 0,
     cmd_certs_root},
    {"certs cacerts", "CLUSTER", "make the intermediate of one cluster", DIR_FORCE, 0, 1, 1,
     cmd_certs_cacerts},
    {"certs issuer", "", "make a key that signs service-account tokens", ARG_BIT(ARG_DIR), 0, 0, 0,
     cmd_certs_issuer},
    {"certs token", "", "sign a service-account token",
     NS | ARG_BIT(ARG_SERVICE_ACCOUNT) | ARG_BIT(ARG_POD) | ARG_BIT(ARG_AUDIENCE) | ARG_BIT(ARG_TTL) |
         ARG_BIT(ARG_DIR),
     NS | ARG_BIT(ARG_SERVICE_ACCOUNT), 0, 0, cmd_certs_token},
    {"certs show", "FILE", "facts of each certificate in a PEM file", 0, 0, 1, 1, cmd_certs_show},
    {"multicluster expose", "", "declare the east-west gateway of a cluster",
     NS | ARG_BIT(ARG_ADDRESS) | ARG_BIT(ARG_NAME) | ARG_BIT(ARG_GENERATE), 0, 0, 0, cmd_expose},
    {"multicluster link", "", "let clusters see each other's exported services",
     NS | ARG_BIT(ARG_CONTEXTS) | ARG_BIT(ARG_FROM) | ARG_BIT(ARG_TO) | ARG_BIT(ARG_GENERATE), 0, 0, 0,
     cmd_link},
    {"multicluster check", "", "examine clusters and the links between them",
     ARG_BIT(ARG_CONTEXTS) | ARG_BIT(ARG_PRECHECK) | ARG_BIT(ARG_VERBOSE) | ARG_BIT(ARG_NO_EMOJI), 0, 0, 0,
     cmd_check},
    {"proxy-status", "", "who is connected to the control planes", 0, 0, 0, 0, cmd_proxy_status},
    {"get", "KIND", "list services, workloads, peers, gateways, serviceentries, workloadentries",
     NS | ARG_BIT(ARG_ALL_NAMESPACES), 0, 1, 1, cmd_get},
    {"explain", "SRC DST:PORT", "what happens to a connection from NS/POD, and why", 0, 0, 2, 2, cmd_explain},
    {"status", "", "state of the control planes",
     ARG_BIT(ARG_CONTEXTS) | ARG_BIT(ARG_WAIT) | ARG_BIT(ARG_TIMEOUT), 0, 0, 0, cmd_status},
    {"contexts", "", "the clusters of the contexts file", 0, 0, 0, 0, cmd_contexts},
    {"version", "", "version of peerctl and of the control planes", ARG_BIT(ARG_REMOTE), 0, 0, 0,
     cmd_version},
};
const size_t ctl_n_commands = PG_ARRAY_LEN(ctl_commands);

static int run(struct ctl *c)
{
    if (ctl_begin(c) != 0) {
        ctl_oom();
    }
    int status = c->args.command->run(c);
    ctl_end(c);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return ctl_complain(status == CTL_OK ? CTL_UNREACHABLE : status, "cannot write the output");
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct ctl c;
    struct pg_errtext err = {""};
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("client version: %s\n", ISTHMUS_VERSION);
        return CTL_OK;
    }
    int r = args_parse(ctl_commands, ctl_n_commands, argc, argv, &c.args, &err);
    if (c.args.wants_help) {
        args_help(ctl_commands, ctl_n_commands, &c.args, stdout);
        return CTL_OK;
    }
    if (r != 0) {
        bool bare = argc == 1;
        (void)ctl_complain(0, "%s", err.text);
        if (bare) {
            args_help(ctl_commands, ctl_n_commands, &c.args, stderr);
        } else {
            fprintf(stderr, "peerctl: see peerctl %s%s--help\n",
                    c.args.command != NULL ? c.args.command->words
                    : c.args.group != NULL ? c.args.group
                                           : "",
                    c.args.command != NULL || c.args.group != NULL ? " " : "");
        }
        return CTL_USAGE;
    }
    return run(&c);
}
