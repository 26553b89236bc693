#!/usr/bin/python3
"""Check that dependencies point down only and that the cores stay free of the operating system.

    base <- wire, crypto <- dht, network, exit, payment <- core <- io <- bin, embed

Reads every .c and .h under src/ and include/; prints "file:line: what is wrong" and exits 1 on any finding.
The libraries of meson.build say the same to the linker; this also sees headers and what libc offers to everyone.
"""

import os
import re
import sys

LOWER = ["base", "wire", "crypto"]
MIDDLE = ["dht", "network", "exit", "payment"]

# folder -> folders (or single headers) it may include, besides itself
ALLOWED = {
    "base": [],
    "crypto": ["base"],
    # Key types are fields of messages; certificates and descriptors are verified where they are decoded.
    "wire": ["base", "crypto/keys.h", "crypto/hash.h", "crypto/x25519.h", "crypto/layer.h"],
    "dht": LOWER,
    "network": LOWER,
    "exit": LOWER + ["network/ip/"],  # parsing and rewriting IP packets, which knows of nothing else
    "payment": LOWER,
    "core": LOWER + MIDDLE,
    "io": LOWER + MIDDLE + ["core"],
    "bin": LOWER + MIDDLE + ["core", "io"],
    "embed": LOWER + MIDDLE + ["core", "io"],
}

# Cores: no sockets, clock, system randomness, files, printf.
CORES = set(ALLOWED) - {"io", "bin", "embed"}
STANDARD = {"assert.h", "inttypes.h", "limits.h", "math.h", "stdalign.h", "stdarg.h", "stdbool.h",
            "stddef.h", "stdint.h", "stdlib.h", "string.h", "endian.h"}
LIBRARIES = {"crypto": re.compile(r"openssl/|sodium(\.h|/)|intel-ipsec-mb\.h|blake3\.h")}
EXCEPTIONS = {
    # Text in buffers (vsnprintf) and the last words of a failed assertion.
    "src/base/addr.c": {"stdio.h", "arpa/inet.h"},
    "src/base/log.c": {"stdio.h"},
    "src/base/assert.c": {"stdio.h"},
}
CALLS = re.compile(
    r"(?<![\w.>])(printf|fprintf|vprintf|vfprintf|puts|fputs|perror|fopen|popen|system|socket|"
    r"clock_gettime|gettimeofday|time|nanosleep|usleep|sleep|getrandom|getentropy|rand|random|srand|"
    r"RAND_bytes|RAND_priv_bytes|randombytes_buf|randombytes_random|randombytes|"
    r"crypto_sign_keypair|crypto_box_keypair|crypto_kx_keypair|getenv|setenv)\s*\(")
CALL_EXCEPTIONS = {"src/base/assert.c": {"fprintf", "fputs"}}
# In all product code, io and bin included.
BANNED = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|alloca|strncpy|strtok)\s*\(")

# Tests, their models, and the readers of test vectors.
TEST_FILE = re.compile(r"_test\.[ch]$|/test_[^/]*$|/model_[^/]*$|/test(ing|net|relay)\.[ch]$|/vectors\.[ch]$")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def without_comments(text):
    """Comments, strings and characters blanked, line numbers kept; include lines keep their names."""
    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            line_start = text.rfind("\n", 0, match.start()) + 1
            if text[line_start:match.start()].lstrip().startswith("#"):
                return found
            return found[0] * 2
        return re.sub(r"[^\n]", " ", found)
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def may_include(folder, target):
    owner = target.split("/")[0]
    return (owner == folder or owner in ALLOWED[folder] or target in ALLOWED[folder] or
            any(rule.endswith("/") and target.startswith(rule) for rule in ALLOWED[folder]))


def check_include(path, folder, is_core, mark, target):
    if mark == '"':
        if "/" not in target and os.path.exists(os.path.join(os.path.dirname(path), target)):
            return f'write the path from src/: "{folder}/.../{target}"'
        owner = target.split("/")[0]
        if owner in ALLOWED:
            if not may_include(folder, target):
                return f"{folder} may not include {target}"
            return None
        if owner == "meshvpn":
            return None
    if not is_core or target in STANDARD or target in EXCEPTIONS.get(path, ()):
        return None
    if folder in LIBRARIES and LIBRARIES[folder].match(target):
        return None
    return f"a core may not include <{target}>: only src/io and src/bin touch the system"


def check_file(path, findings):
    folder = path.split("/")[1] if path.startswith("src/") else "include"
    is_test = TEST_FILE.search(path) is not None
    is_core = folder in CORES and not is_test
    with open(path, encoding="utf-8") as file:
        text = without_comments(file.read())
    for number, line in enumerate(text.split("\n"), 1):
        problem = None
        match = INCLUDE.match(line)
        if match and folder in ALLOWED:
            problem = check_include(path, folder, is_core, *match.groups())
            # A test may use what stands beside and below its subject, the reader of test vectors, and
            # whatever the system has.
            if is_test and problem and ("may not include <" in problem or match.group(2) == "crypto/vectors.h"):
                problem = None
        elif match is None:
            call = CALLS.search(line) if is_core else None
            banned = None if is_test else BANNED.search(line)
            if call and call.group(1) not in CALL_EXCEPTIONS.get(path, ()):
                problem = f"a core may not call {call.group(1)}()"
            elif banned:
                problem = f"{banned.group(1)}() is not used here"
        if problem:
            findings.append(f"{path}:{number}: {problem}")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    findings, count = [], 0
    for top in ("src", "include"):
        for folder, _, names in sorted(os.walk(top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    check_file(f"{folder}/{name}", findings)
                    count += 1
            if folder.startswith("src/") and folder.count("/") == 1 and folder[4:] not in ALLOWED:
                findings.append(f"{folder}: no rule for this folder in tools/check_includes.py")
    print("\n".join(findings) if findings else f"{count} files: includes point down only")
    return 1 if findings or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
