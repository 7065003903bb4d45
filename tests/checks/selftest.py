#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that each check passes a clean tree and fails on each violation it is there for, naming the file.

Usage: selftest.py CHECKS_FOLDER CHECK_NAME. Every case is a tiny tree in a temporary folder.
"""
import os
import subprocess
import sys
import tempfile

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n"
GUARDED = HEAD + "#ifndef X_H\n#define X_H\n{}\n#endif\n"
LONG = HEAD + "int f(void)\n{\n" + "    (void)0;\n" * 99 + "    return 0;\n}\n"
BRANCHY = HEAD + "int f(int x)\n{\n" + "    if (x == 1) {\n        x++;\n    }\n" * 26 + "    return x;\n}\n"


def inc(name):
    return HEAD + f"#include {name}\n"


# check -> (clean tree, [(violating path, text), ...]); a violation is added to the clean tree alone.
CASES = {
    "check-layers": ({
        "base/core/a.h": HEAD,
        "base/net/a.c": inc('"core/a.h"') + '#include "net/a.h"\n/* #include "xds/never.h" */\n',
        "libpeering/src/a.c": inc('"xds/a.h"') + "#include <peering/a.h>\n",
        "hbone/a.c": inc('"peering/a.h"') + '#include "hbone/b.h"\n#include "certs/a.h"\n',
        "cmd/peeringd/a.c": inc('"xds/a.h"'),
    }, [
        ("base/core/bad.c", inc('"net/loop.h"')),
        ("base/net/bad.c", inc('"certs/tls.h"')),
        ("certs/bad.c", inc('"xds/model.h"')),
        ("xds/bad.c", inc("<peering/table.h>")),
        ("libpeering/src/bad.c", inc('"hbone/pool.h"')),
        ("libpeering/include/peering/bad.h", inc('"core/str.h"')),
        ("hbone/bad.c", inc('"xds/model.h"')),
        ("hbone/bad.h", inc('"libpeering/src/table.h"')),
        ("cmd/hbone/bad.c", inc('"xds/model.h"')),
        ("cmd/peerctl/bad.c", inc('"cmd/hbone/main.h"')),
        ("examples/bad.c", inc('"core/str.h"')),
        ("xds/up.c", inc('"../libpeering/src/merge.h"')),
    ]),
    "check-thirdparty": ({
        "base/net/loop_ev.c": inc("<ev.h>") + "#include <errno.h>\n",
        "base/net/h2_nghttp2.c": inc("<nghttp2/nghttp2.h>"),
        "base/net/resolve_ares.c": inc("<ares.h>"),
        "certs/ossl_a.c": inc("<openssl/ssl.h>") + '#include "certs/ossl_int.h"\n',
        "certs/ossl_int.h": inc("<openssl/x509.h>"),
        "xds/codec_a.c": inc('"wds.pb-c.h"'),
        "libpeering/src/yaml_doc.c": inc("<yaml.h>"),
        "cmd/peerctl/json_in.c": inc("<jansson.h>"),
        "tests/unit/core/test_a.c": inc("<CUnit/Basic.h>"),
    }, [
        ("base/net/bad.c", inc("<ev.h>")),
        ("hbone/bad.c", inc("<nghttp2/nghttp2.h>")),
        ("base/net/bad2.c", inc("<ares.h>")),
        ("hbone/bad2.c", inc("<openssl/ssl.h>")),
        ("certs/tls.c", inc('"certs/ossl_int.h"')),
        ("xds/model.c", inc('"wds.pb-c.h"')),
        ("xds/model2.c", inc("<protobuf-c/protobuf-c.h>")),
        ("libpeering/src/yaml_two.c", inc("<yaml.h>")),
        ("hbone/json.c", inc("<jansson.h>")),
        ("hbone/cunit.c", inc("<CUnit/Basic.h>")),
        ("base/core/zip.c", inc("<zlib.h>")),
    ]),
    "check-banned": ({
        "base/core/mem.c": HEAD + "void *f(void)\n{\n    return malloc(1);\n}\n",
        "base/core/clock.c": HEAD + "int f(void)\n{\n    return clock_gettime(0, 0);\n}\n",
        "cmd/peerctl/a.c": HEAD + "int f(void)\n{\n    return printf(\"hi\");\n}\n",
        "xds/a.c": HEAD + "/* strcpy(a, b) and free(x) */\nint f(void)\n{\n    snprintf(\"gets(x)\");\n    a->free(b);\n"
                          "    pg_free(0);\n    uptime(0);\n    static_assert(1, \"\");\n    return todo;\n}\n",
    }, [("xds/bad.c", HEAD + f"int f(void)\n{{\n    {call};\n}}\n") for call in (
        "strcpy(a, b)", "strcat(a, b)", "sprintf(a, b)", "strtok(a, b)", "atoi(a)", "strncpy(a, b, 1)", "gets(a)",
        "x = rand()", "system(a)", "popen(a, b)", "getaddrinfo(a)", "gethostbyname(a)", "x = time(NULL)",
        "clock_gettime(a, b)", "assert(x)", "printf(a)", "usleep(1)", "sleep (1)", "x = (char *)malloc(1)", "free(x)",
        "strdup(a)", "x = 1; /* TODO */", "x = 1; /* good enough for now */", "alloca(1)")]
        + [("tests/unit/core/test_bad.c", HEAD + "void f(void)\n{\n    usleep(1);\n}\n"),
           ("xds/nohead.c", "int x;\n")]),
    "check-budgets": ({
        "xds/a.c": HEAD + "int f(int x)\n{\n    return x;\n}\n",
        "xds/edge.c": LONG.replace("    (void)0;\n" * 99, "    (void)0;\n" * 90),
    }, [
        ("xds/long.c", LONG),
        ("xds/branchy.c", BRANCHY),
        ("xds/file.c", HEAD + "\n" * 1000),
    ]),
    "check-headers": ({
        "base/core/a.h": GUARDED.format("#include <stddef.h>\nsize_t pg_a(void);"),
        "xds/a.h": GUARDED.format('#include "core/a.h"'),
        "libpeering/include/peering/a.h": GUARDED.format("#include <stddef.h>\nsize_t peering_a(void);"),
    }, [
        ("xds/bad.h", GUARDED.format("size_t pg_b(void);")),
        ("libpeering/include/peering/c.h", GUARDED.format("int peering_c(int class);")),
        ("libpeering/include/peering/d.h", GUARDED.format('#include "core/a.h"')),
    ]),
    "check-spelling": ({"docs/A.md": "all is well\n"}, [("docs/B.md", "we rec" + "ieve it\n")]),
    "check-format": ({"xds/a.c": HEAD + "int f(void)\n{\n    return 0;\n}\n"},
                     [("xds/bad.c", HEAD + "int f(void) {\n  return 0; }\n")]),
}


def run(folder, check, tree, source):
    with tempfile.TemporaryDirectory() as root:
        for path, text in tree.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        with open(os.path.join(source, ".clang-format"), encoding="utf-8") as f:
            style = f.read()
        with open(os.path.join(root, ".clang-format"), "w", encoding="utf-8") as f:
            f.write(style)
        done = subprocess.run([os.path.join(folder, check), root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def main():
    folder, check = os.path.abspath(sys.argv[1]), sys.argv[2]
    source = os.path.dirname(os.path.dirname(folder))
    clean, violations = CASES[check]
    failed = 0
    code, said = run(folder, check, clean, source)
    if code != 0:
        print(f"{check}: refuses the clean tree:\n{said}")
        failed += 1
    for path, text in violations:
        code, said = run(folder, check, {**clean, path: text}, source)
        name = path.removeprefix("libpeering/include/")
        if code != 1 or name not in said:
            print(f"{check}: does not find {path} (exit {code}):\n{text}{said}")
            failed += 1
    print(f"{check}: {len(violations)} violations tried, {failed} missed")
    sys.exit(1 if failed or not violations else 0)


main()
