/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peerctl explain SRC DST:PORT`: the control plane's own account of one connection, for people. Status 1
 * when the connection would be refused, so that scripts can ask. One thread.
 */
#include "state.h"

static void encode(struct pg_sb *out, const char *z)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *z != '\0'; z++) {
        unsigned char b = (unsigned char)*z;
        bool plain = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-' ||
                     b == '.' || b == '_' || b == '~';
        if (plain) {
            pg_sb_ch(out, (char)b);
        } else {
            pg_sb_ch(out, '%');
            pg_sb_ch(out, hex[b >> 4]);
            pg_sb_ch(out, hex[b & 15u]);
        }
    }
}

static void fact(struct pg_sb *out, const char *name, const char *value)
{
    if (value[0] != '\0') {
        pg_sb_fmt(out, "  %-17s%s\n", name, value);
    }
}

static const char *kind_text(const char *kind)
{
    static const char *const texts[][2] = {
        {"double-hbone", "through the gateway of the other network (HBONE inside HBONE)"},
        {"hbone", "straight to the endpoint over HBONE (mutual TLS)"},
        {"tcp", "straight to the endpoint over plain TCP"},
        {"passthrough", "not known to the mesh: passed on as it is"},
        {"refused", "the connection is refused"},
        {"unresolved", "none, there is no address to connect to"},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(texts); i++) {
        if (strcmp(texts[i][0], kind) == 0) {
            return texts[i][1];
        }
    }
    return kind;
}

static void as_text(struct ctl *c, const struct json_node *doc, struct pg_sb *out)
{
    const struct json_node *lines = json_in_get(doc, "lines");
    const struct json_node *d = json_in_get(doc, "decision");
    pg_sb_fmt(out, "%s -> %s, seen from cluster %s\n\n", c->args.operands[0], c->args.operands[1],
              json_in_text(doc, "cluster"));
    for (size_t i = 0; i < json_in_len(lines); i++) {
        pg_sb_fmt(out, "%3zu. %s\n", i + 1, json_in_string(json_in_at(lines, i)));
    }
    pg_sb_fmt(out, "\nDecision: %s\n", kind_text(json_in_text(d, "kind")));
    fact(out, "why:", json_in_text(d, "error"));
    fact(out, "next hop:", json_in_text(d, "hop"));
    fact(out, "authority:", json_in_text(d, "authority"));
    fact(out, "service:", json_in_text(d, "service"));
    const char *endpoint = json_in_text(d, "endpoint");
    if (endpoint[0] != '\0') {
        unsigned long long n = json_in_u64(d, "candidates");
        fact(out, "endpoint:",
             ctl_fmt(c, "%s in cluster %s (one of %llu candidate%s)", endpoint, json_in_text(d, "cluster"), n,
                     n == 1 ? "" : "s"));
    }
    fact(out, "hop must be:", state_join(c, json_in_get(d, "hopIdentities"), "\n                   "));
    fact(out, "end must be:", state_join(c, json_in_get(d, "endIdentities"), "\n                   "));
    fact(out, "policy:", json_in_text(d, "policy"));
}

int cmd_explain(struct ctl *c)
{
    const struct context *x = ctl_context(c);
    struct pg_sb path;
    struct pg_sb out;
    if (x == NULL) {
        return CTL_USAGE;
    }
    if (strrchr(c->args.operands[1], ':') == NULL) {
        return ctl_complain(CTL_USAGE, "the destination is HOST:PORT, for example %s:80",
                            c->args.operands[1]);
    }
    pg_sb_init(&path, 8192);
    pg_sb_c(&path, "/explain?src=");
    encode(&path, c->args.operands[0]);
    pg_sb_c(&path, "&dst=");
    encode(&path, c->args.operands[1]);
    if (path.err != 0) {
        pg_sb_fini(&path);
        return ctl_complain(CTL_USAGE, "source or destination is too long");
    }
    const struct json_node *doc = ctl_ask(c, x, path.p, STATE_EXPLAIN_SCHEMA);
    pg_sb_fini(&path);
    if (doc == NULL) {
        return CTL_UNREACHABLE;
    }
    const char *error = json_in_text(doc, "error");
    const char *kind = json_in_text(json_in_get(doc, "decision"), "kind");
    const char *policy = json_in_text(json_in_get(doc, "decision"), "policy");
    bool denied = strncmp(policy, "deny", 4) == 0 || strncmp(policy, "policy missing", 14) == 0;
    bool routed = error[0] == '\0' && kind[0] != '\0' && strcmp(kind, "refused") != 0 && !denied;
    pg_sb_init(&out, CTL_MEMORY_MAX);
    if (c->json) {
        json_in_dump(doc, &out);
        pg_sb_ch(&out, '\n');
    } else if (error[0] != '\0') {
        pg_sb_fini(&out);
        return ctl_complain(CTL_FAILED, "context %s (%s): %s: %s", x->name, x->admin, c->args.operands[0],
                            error);
    } else {
        as_text(c, doc, &out);
    }
    ctl_print(&out);
    pg_sb_fini(&out);
    return routed ? CTL_OK : CTL_FAILED;
}
