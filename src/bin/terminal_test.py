#!/usr/bin/python3
"""What every command of meshvpn writes where: no escape codes off a terminal, with NO_COLOR, TERM=dumb or --no-color; data to
stdout and talk to stderr; an output that cannot be written is a failure that is said.

    terminal_test.py DIRECTORY-OF-PROGRAMS OPTIONS-DOCS [--no-proxy]

The commands come from the option table (options_docs list): one that is in no row below fails the test.
"""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = os.path.abspath(sys.argv[1])
MESHVPN = os.path.join(PROGRAMS, "meshvpn")
OPTIONS_DOCS = sys.argv[2]
HAS_PROXY = "--no-proxy" not in sys.argv
ESCAPE = b"\x1b"
# What a command does here: it prints DATA; or it FAILS, and says so on stderr alone; or either, as this computer is (ANY).
DATA, FAILS, ANY = "data", "fails", "any"
# Seconds that one run takes: not run under all conditions.
SLOW = {"netcheck", "doctor", "report"}
problems = []


def rows(directory):
    """command: (arguments, what it does)"""
    bad, good = os.path.join(directory, "bad.conf"), os.path.join(directory, "client.conf")
    client = ["--control", os.path.join(directory, "client.sock")]
    relay = ["--control", os.path.join(directory, "alpha.sock")]
    of_client = DATA if HAS_PROXY else FAILS
    return {
        "join": (["meshvpn:nonsense"], FAILS),
        "invite": ([directory, "--no-qr"], DATA),
        "up": (["--config", bad], FAILS),
        "down": (["--config", bad], FAILS),
        "reconnect": (["--config", bad], FAILS),
        "status": (relay, DATA),
        "circuit list": (client, of_client),
        "circuit show": (client, ANY),
        "circuit new": (client, ANY),
        "proxy": (["--config", bad], FAILS),
        "exit list": (client, of_client),
        "exit suggest": (client, ANY),
        "exit use": (["nobody-has-this-name", *client], FAILS),
        "exit block": (["nobody-has-this-name", *client], FAILS),
        "exit unblock": (["nobody-has-this-name", *client], FAILS),
        "relay enable": (["--config-dir", os.path.join(directory, "none")], FAILS),
        "relay status": (relay, DATA),
        "doctor": ([], ANY),
        "report": (["--yes", "--output", os.path.join(directory, "report.txt")], ANY),
        "log": ([], ANY),
        "netcheck": (["--config", good], DATA),
        "ping": (["nobody-has-this-name", *relay], FAILS),
        "config check": (["client", good], DATA),
        "config show": (["client", good, "--effective"], DATA),
        "config set": (["--file", good, "client", "hops", "3"], ANY),
        "config unset": (["--file", good, "client", "hops"], ANY),
        "config docs": ([], DATA),
        "run": (["--outside", *client, "true"], FAILS),
        "top": (client, ANY),
        "version": ([], DATA),
        "help": ([], DATA),
    }


def check(is_so, verb, what, *shown):
    if not is_so:
        problems.append(f"{verb}: {what}: " + " | ".join(repr(s)[:300] for s in shown))


def environment(**more):
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8",
            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}, **more}


def run(arguments, stdout=subprocess.PIPE, **env):
    """Exit status, stdout, stderr of a run without a terminal."""
    done = subprocess.run([MESHVPN, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, timeout=60,
                          env=environment(TERM="xterm-256color", **env), check=False)
    return done.returncode, done.stdout or b"", done.stderr


def run_closed(arguments, how):
    """The same with an output that takes nothing."""
    if how == "full":
        with open("/dev/full", "wb") as full:
            return run(arguments, stdout=full)
    if how == "closed":
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", MESHVPN, *arguments], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=60, env=environment(TERM="xterm"), check=False)
        return done.returncode, b"", done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    # Python itself ignores SIGPIPE; its children must not.
    child = subprocess.Popen([MESHVPN, *arguments], stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE,
                             env=environment(TERM="xterm"), restore_signals=True)
    os.close(writer)
    said = child.communicate(timeout=60)[1]
    return child.returncode, b"", said


def run_on_terminal(arguments, seconds=20, **env):
    """All that it writes to a terminal in so many seconds at most."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([MESHVPN, *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment(**env))
    os.close(theirs)
    said, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        ready = select.select([ours], [], [], 0.1)[0]
        if not ready and child.poll() is not None:
            break
        if ready:
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
    child.kill()
    child.wait()
    os.close(ours)
    return said


def try_verb(verb, words, what, options):
    arguments = verb.split() + words
    code, out, said = run(arguments)
    check(ESCAPE not in out + said, verb, "escape codes off a terminal", out, said)
    if what == DATA:
        check(out != b"", verb, "no data on stdout", code, said)
    if what == FAILS:
        check(code != 0 and out == b"" and said != b"", verb, "a failure is said on stderr alone, with a status", code, out, said)
    if "--quiet" in options and what == DATA:
        check(run(arguments + ["--quiet"])[1:] == (b"", b""), verb, "--quiet is not quiet")
    if what == DATA:
        for how in ("full",) if verb in SLOW else ("full", "closed", "pipe"):
            code, _, said = run_closed(arguments, how)
            check(code not in (0, -signal.SIGPIPE) and b"standard output" in said, verb, f"output {how}: no failure", code, said)
    if verb in SLOW:
        return
    for env in ({"TERM": "dumb"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}, {}):
        said = run_on_terminal(arguments, **env)
        check(ESCAPE not in said, verb, f"escape codes with {env or 'no TERM'}", said)
    if "--no-color" in options:
        said = run_on_terminal(verb.split() + ["--no-color"] + words, TERM="xterm-256color")
        check(ESCAPE not in said, verb, "escape codes with --no-color", said)


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_daemons(directory):
    """A relay, and a client that stays alone with it: it connects to nothing."""
    def bootstrap(*words):
        subprocess.run([os.path.join(PROGRAMS, "meshvpn-bootstrap"), *words], check=True, stdout=subprocess.DEVNULL)
    bootstrap("init", directory, "--allow-private")
    at = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    bootstrap("add-node", directory, "alpha", "--address", at, "--listed")
    bootstrap("add-node", directory, "boot", "--address", f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", "--bootstrap")
    node = os.path.join(directory, "nodes", "alpha")
    conf = os.path.join(node, "relay.conf")
    own = {"listen": f'{{"{at}"}}', "run_dir": f'"{node}"', "state_dir": f'"{node}/state"',
           "control_socket": f'"{directory}/alpha.sock"'}
    with open(conf, encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line.split("=")[0].strip() not in own]
    with open(conf, "w", encoding="utf-8") as file:
        file.write("\n".join(lines + [f"{key} = {value}" for key, value in own.items()]) + "\n")
    with open(os.path.join(directory, "client.conf"), "w", encoding="utf-8") as file:
        file.write(f'network_file = "{directory}/network.conf"\nrun_dir = "{directory}/run"\nstate_dir = "{directory}/client"\n'
                   f'control_socket = "{directory}/client.sock"\n')
    with open(os.path.join(directory, "bad.conf"), "w", encoding="utf-8") as file:
        file.write("hopps = 3\n")
    for name in ("run", "client", "nodes/alpha/state"):
        os.makedirs(os.path.join(directory, name), exist_ok=True)
    with open(os.path.join(directory, "log"), "ab") as log:
        children = [subprocess.Popen([os.path.join(PROGRAMS, "meshvpn-relay"), "--config", conf], stdout=log, stderr=log)]
        if HAS_PROXY:
            children.append(subprocess.Popen(
                [os.path.join(PROGRAMS, "meshvpn-client"), "--proxy", "--socks", str(free_port(socket.SOCK_STREAM)), "--config",
                 os.path.join(directory, "client.conf")], stdout=log, stderr=log))
    wanted = ["alpha.sock"] + (["client.sock"] if HAS_PROXY else [])
    until = time.monotonic() + 30
    while not all(os.path.exists(os.path.join(directory, name)) for name in wanted):
        if time.monotonic() > until:
            with open(os.path.join(directory, "log"), encoding="utf-8") as file:
                sys.exit("terminal_test: the daemons do not start:\n" + file.read())
        time.sleep(0.05)
    return children


def main():
    table = {}
    for line in subprocess.run([OPTIONS_DOCS, "list", "meshvpn"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        verb, *options = line.split("\t")
        table[verb] = [option.split(" ")[0] for option in options]
    with tempfile.TemporaryDirectory(prefix="mvpn-terminal-test.") as directory:
        children = start_daemons(directory)
        try:
            known = rows(directory)
            for verb, options in table.items():
                if verb not in known:
                    problems.append(f"{verb}: is in no row of this test")
                    continue
                words, what = known[verb]
                try:
                    try_verb(verb, words, what, options)
                except subprocess.TimeoutExpired:
                    problems.append(f"{verb}: does not end")
                try_verb("help " + verb, [], DATA, []) if verb in ("up", "circuit list") else None
            # Otherwise what was looked for above would never be there.
            relay = known["status"][0]
            if ESCAPE not in run_on_terminal(["status", "--watch", *relay], seconds=2, TERM="xterm-256color"):
                problems.append("status --watch: writes no escape codes even to a terminal: this test proves nothing")
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=30)
    for problem in problems:
        print("terminal_test: failed:", problem)
    print(f"{len(table)} commands" if not problems else f"{len(problems)} problems")
    sys.exit(len(problems) > 0)


main()
