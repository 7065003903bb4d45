# SPDX-License-Identifier: Apache-2.0
"""Shared by the checks: our source files, with or without comments and strings."""
import os
import re
import sys

TOP = ("base", "certs", "xds", "libpeering", "hbone", "cmd", "examples", "tests", "fuzz", "bench", "tools")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def files(root, suffixes=(".c", ".h"), tops=TOP):
    """Paths relative to root, sorted; build trees and hidden folders are not ours."""
    found = []
    for top in tops:
        for folder, dirs, names in os.walk(os.path.join(root, top)):
            dirs[:] = [d for d in dirs if not d.startswith((".", "build")) and d != "gen"]
            found += [os.path.relpath(os.path.join(folder, n), root) for n in names if n.endswith(suffixes)]
    return sorted(found)


def text(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def code(source):
    """Without comments and literals; every line keeps its number."""
    def blank(m):
        s = m.group(0)
        return ('""' if s[0] in "\"'" else " ") + "\n" * s.count("\n")
    return TOKEN.sub(blank, source)


def includes(source):
    """(line, is_angle, name) of each include directive outside comments."""
    plain = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group(0).count("\n"), source, flags=re.S)
    return [(plain.count("\n", 0, m.start(2)) + 1, m.group(1) == "<", m.group(2)) for m in INCLUDE.finditer(plain)]


def root_argument():
    return sys.argv[1] if len(sys.argv) > 1 else "."


def finish(name, findings, hint):
    for f in findings:
        print(f)
    if findings:
        print(f"{name}: {len(findings)} finding(s). {hint}")
        sys.exit(1)
    print(f"{name}: ok")
