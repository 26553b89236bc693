#!/usr/bin/python3
"""symbols_test.py LIBRARY.so LIBRARY.a: only meshvpn_* can be linked with, and what can be written in the library's own
memory is known by name: clients of one process share nothing else.
"""

import re
import subprocess
import sys

# Writable data, and why it does no harm.
SHARED = {
    "once": "io/libraries.c: pthread_once",
    "has_begun": "io/libraries.c: written inside pthread_once",
    "g_cpu_features": "BLAKE3: what the processor can; written inside that pthread_once, as it hashes there first",
    "scanner": "io/settings.c: the lock of libconfuse's scanner",
    "current": "io/settings.c: written and read under that lock",
    "pins": "io/file.c: sandboxed programs write it; the library has none of the functions that do",
    "pin_count": "the same",
    "owners": "the same",
    "owner_count": "the same",
    # The compiler's own.
    "completed.0": "start files", "__dso_handle": "start files", "__TMC_END__": "start files",
}
WRITERS = {"mvpn_file_pin_dir", "mvpn_file_trust_owner"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sections(library):
    """Names of the sections that stay writable: not those that the loader protects after relocation."""
    found = {}
    for match in re.finditer(r"\[ *(\d+)\] (\S+)", run("readelf", "-SW", library)):
        found[match.group(1)] = match.group(2)
    return found


def symbols(library):
    for line in run("readelf", "-sW", library).splitlines():
        part = line.split()
        if len(part) >= 8 and part[0].rstrip(":").isdigit():
            yield part[7].split("@")[0], part[3], part[4], part[6]


def main():
    shared, static = sys.argv[1:3]
    names = sections(shared)
    problems = []
    present = set()
    for name, kind, _, section in symbols(shared):
        present.add(name)
        if kind in ("OBJECT", "TLS", "NOTYPE") and names.get(section) in (".data", ".bss", ".tdata", ".tbss"):
            if name not in SHARED and not name.startswith((".", "_edata", "_end", "__bss_start")):
                problems.append(f"{name} in {names[section]}: several clients would share it")
    for name in sorted(WRITERS & present):
        problems.append(f"{name} is in the library: io/file.c's tables could be written")
    for line in run("nm", "-D", "--defined-only", shared).splitlines():
        name = line.split()[2].split("@")[0]
        if not name.startswith("meshvpn_") and name != "MESHVPN_0":
            problems.append(f"{shared} exports {name}")
    for line in run("nm", "-g", "--defined-only", static).splitlines():
        part = line.split()
        if len(part) == 3 and not part[2].startswith("meshvpn_"):
            problems.append(f"{static} exports {part[2]}")
    exported = {line.split()[2].split("@")[0] for line in run("nm", "-D", "--defined-only", shared).splitlines()}
    if "meshvpn_client_new" not in exported:
        problems.append("meshvpn_client_new is not exported")
    print("\n".join(problems) if problems else "only meshvpn_*; what is shared is known")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
