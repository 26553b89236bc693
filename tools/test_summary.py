#!/usr/bin/python3
"""Sum up a test run.

    test_summary.py add RESULTS PREFIX TESTLOG...   append "ok NAME" / "FAIL NAME" from meson's testlog.json
    test_summary.py end RESULTS                     names of the failures, then "N passed, N failed"

RESULTS holds one "ok NAME" or "FAIL NAME" line per test; other lines are ignored. A failing meson test's last output
lines go to stderr at once.
"""

import json
import sys

GOOD = {"OK", "EXPECTEDFAIL"}
TAIL = 25


def add(results, prefix, logs):
    with open(results, "a", encoding="utf-8") as out:
        for log in logs:
            with open(log, encoding="utf-8") as file:
                for line in file:
                    test = json.loads(line)
                    name = f"{prefix}: {test['name'].split(' / ')[-1]}"
                    if test["result"] == "SKIP":
                        print(f"skipped {name}", file=sys.stderr)
                        continue
                    good = test["result"] in GOOD
                    out.write(f"{'ok' if good else 'FAIL'} {name}\n")
                    if not good:
                        show(name, test)


def show(name, test):
    print(f"--- FAIL {name} ({test['result']})", file=sys.stderr)
    text = ((test.get("stdout") or "") + (test.get("stderr") or "")).splitlines()
    for line in text[-TAIL:]:
        print(f"    {line}", file=sys.stderr)


def end(results):
    with open(results, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file]
    failed = [line[5:] for line in lines if line.startswith("FAIL ")]
    passed = sum(line.startswith("ok ") for line in lines)
    for name in failed:
        print(f"FAIL {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    if len(sys.argv) >= 4 and sys.argv[1] == "add":
        sys.exit(add(sys.argv[2], sys.argv[3], sys.argv[4:]))
    if len(sys.argv) == 3 and sys.argv[1] == "end":
        sys.exit(end(sys.argv[2]))
    sys.exit(__doc__)
