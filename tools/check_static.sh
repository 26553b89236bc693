#!/bin/sh
# cppcheck and clang's analyser over src/, by the compile commands of a build.
#
#     check_static.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/.." || exit 1
database=$1/compile_commands.json
status=0
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --std=c11 --inline-suppr -j 2 \
    --suppress=missingIncludeSystem --suppress=unknownMacro --suppress='*:/usr/*' \
    --suppress='*:*/build/*' --suppress='*:*_test.c' --file-filter='*src/*' --project="$database" || status=1
/usr/bin/python3 - "$database" <<'PYTHON' || status=1
import concurrent.futures, json, os, shlex, subprocess, sys
jobs = []
for entry in json.load(open(sys.argv[1])):
    path = os.path.relpath(os.path.join(entry["directory"], entry["file"]))
    if not path.startswith("src/") or path.endswith("_test.c"):
        continue
    given = shlex.split(entry["command"])[1:]
    words = [w for i, w in enumerate(given) if w.startswith(("-I", "-D", "-std", "-isystem")) or given[i - 1] == "-isystem"]
    jobs.append((path, entry["directory"], ["clang", "--analyze", "--analyzer-output", "text", "-Wno-everything",
                 "-Xclang", "-analyzer-werror",
                 # It does not follow intrusive lists: what is popped and freed seems to be there still. ASan watches this.
                 "-Xclang", "-analyzer-disable-checker=unix.Malloc", *words, "-o", "/dev/null", os.path.abspath(path)]))

def analyse(job):
    done = subprocess.run(job[2], cwd=job[1], capture_output=True, text=True)
    return job[0], done.returncode, done.stderr

bad = 0
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for path, code, text in pool.map(analyse, jobs):
        if code:
            bad += 1
            print(f"{path}: clang --analyze\n{text}")
print(f"{len(jobs)} files analysed, {bad} with findings")
sys.exit(1 if bad else 0)
PYTHON
exit "$status"
