#!/usr/bin/python3
"""meshvpn ping, and the verbs behind it, between real daemons over loopback.

    ping_test.py DIRECTORY-OF-PROGRAMS

Works in a network namespace of its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = os.path.abspath(sys.argv[1])
NODES = {"alpha": "127.2.0.1:4102", "bravo": "127.3.0.1:4103", "charlie": "127.4.0.1:4104"}
PING_KEYS = {"seq", "rtt_ms", "type", "state", "reason", "via", "opened_after_ms", "direct_after_ms"}
children = {}


def isolate():
    """A network namespace of our own, with loopback up."""
    if os.environ.get("PING_TEST_INSIDE") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["PING_TEST_INSIDE"] = "1"
    options = ["-n"] if os.geteuid() == 0 else ["-r", "-n"]
    os.execvp("unshare", ["unshare"] + options + [sys.executable] + sys.argv)


def check(condition, what):
    if not condition:
        raise SystemExit("ping_test: failed: %s" % (what,))


def program(name, *arguments, **options):
    return subprocess.run([os.path.join(PROGRAMS, name), *arguments], text=True, capture_output=True, timeout=60,
                          check=False, **options)


def make_network(directory):
    check(program("meshvpn-bootstrap", "init", directory, "--allow-private").returncode == 0, "init")
    for name, address in NODES.items():
        done = program("meshvpn-bootstrap", "add-node", directory, name, "--address", address, "--listed")
        check(done.returncode == 0, done.stderr)
    for name, address in NODES.items():
        node = os.path.join(directory, "nodes", name)
        with open(os.path.join(directory, "network.conf"), "rb") as whole:
            content = whole.read()
        with open(os.path.join(node, "network.conf"), "wb") as own:
            own.write(content)
        own = {"listen": '{"%s"}' % address, "run_dir": '"%s/run"' % node, "state_dir": '"%s/state"' % node,
               "control_socket": '"%s"' % control(directory, name)}
        path = os.path.join(node, "relay.conf")
        with open(path, encoding="utf-8") as file:
            lines = [l for l in file.read().splitlines() if l.split("=")[0].strip() not in own]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + ["%s = %s" % item for item in own.items()]) + "\n")


def control(directory, name):
    return os.path.join(directory, name + ".sock")


def start(directory, name):
    with open(os.path.join(directory, name + ".log"), "ab") as log:
        children[name] = subprocess.Popen(
            [os.path.join(PROGRAMS, "meshvpn-relay"), "--config",
             os.path.join(directory, "nodes", name, "relay.conf")], stdout=log, stderr=log)
    until = time.monotonic() + 10
    while program("meshvpn", "status", "--control", control(directory, name)).returncode != 0:
        check(time.monotonic() < until, name + " does not start")
        time.sleep(0.1)


def stop(name, how=signal.SIGTERM):
    child = children.pop(name)
    child.send_signal(how)
    child.wait(timeout=20)


def ask(directory, name, **request):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(control(directory, name))
        s.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(s.makefile().readline())


def link_of(directory, name, peer):
    found = [l for l in ask(directory, name, cmd="status")["links"] if l["name"] == peer]
    check(len(found) <= 1, found)
    return found[0] if found else None


def ping(directory, name, *arguments):
    return program("meshvpn", "ping", "--control", control(directory, name), *arguments)


def test_answers(directory):
    ask(directory, "alpha", cmd="link_close", node="bravo")
    done = ping(directory, "alpha", "bravo")
    check(done.returncode == 0 and done.stderr == "", done)
    lines = done.stdout.splitlines()
    check(len(lines) == 1 and lines[0].startswith("pong from bravo: ") and lines[0].endswith(" ms, direct"), lines)
    check(0 < float(lines[0].split()[3]) < 1000, lines)

    began = time.monotonic()
    done = ping(directory, "alpha", "bravo", "--count", "5", "--interval", "50", "--json")
    check(done.returncode == 0, done)
    check(0.2 <= time.monotonic() - began < 5, "interval")
    rows = [json.loads(l) for l in done.stdout.splitlines()]
    check(len(rows) == 5 and all(set(r) == PING_KEYS for r in rows), rows)
    check([r["seq"] for r in rows] == list(range(2, 7)), "each ping is one of its own")
    check(all(r["type"] == "direct" and r["via"] is None and 0 < r["rtt_ms"] < 1000 for r in rows), rows)

    identity = link_of(directory, "alpha", "bravo")["identity"]
    check(ping(directory, "alpha", identity).returncode == 0, "by identity")
    check(ping(directory, "alpha", identity[:8]).returncode == 0, "by its beginning")


def test_hold(directory):
    """Held while it is pinged: for how long is the simulator's matter (sim_ping)."""
    check(ping(directory, "alpha", "bravo").returncode == 0, "ping")
    link = link_of(directory, "alpha", "bravo")
    check(link["held"] and link["open"] and link["type"] == "direct", link)


def test_close(directory):
    """A link that is closed while it is held is opened again, and nothing is held twice."""
    for _ in range(3):
        check(ping(directory, "alpha", "bravo").returncode == 0, "ping")
        check(ask(directory, "alpha", cmd="link_close", node="bravo") == {"closed": True}, "closed")
        check(link_of(directory, "alpha", "bravo") is None, "it is gone")
    check("no link" in ask(directory, "alpha", cmd="link_close", node="bravo")["error"], "none to close")
    check(ping(directory, "alpha", "bravo").returncode == 0, "and once more")


def test_restart(directory):
    check(ping(directory, "alpha", "charlie").returncode == 0, "before")
    stop("charlie", signal.SIGKILL)
    done = ping(directory, "alpha", "charlie", "--count", "1")
    check(done.returncode == 1 and done.stdout == "no answer from charlie within 2 s\n", done)
    start(directory, "charlie")
    ask(directory, "alpha", cmd="link_close", node="charlie")
    check(ping(directory, "alpha", "charlie").returncode == 0, "after")
    check(all(c.poll() is None for c in children.values()), "all daemons run")


def test_refusals(directory):
    rows = [
        (["nobody"], 1, "no relay called nobody is known here"),
        (["alpha"], 1, "that is this node itself"),
        ([], 2, "ping whom?"),
        (["bravo", "--count", "0"], 2, "--count takes a number"),
        (["bravo", "--count", "1x"], 2, "--count takes a number"),
        (["bravo", "--interval", "70000"], 2, "--interval takes milliseconds"),
        (["bravo", "--interval"], 2, "a value is missing"),
        (["bravo", "charlie"], 2, "takes one NODE"),
    ]
    for arguments, status, text in rows:
        done = ping(directory, "alpha", *arguments)
        check(done.returncode == status and done.stdout == "" and text in done.stderr, done)
    done = program("meshvpn", "ping", "bravo", "--control", os.path.join(directory, "none.sock"))
    check(done.returncode == 4, done)
    for request in ({"cmd": "ping"}, {"cmd": "ping", "node": 7}, {"cmd": "ping", "node": ""},
                    {"cmd": "link_close"}, {"cmd": "pong"}):
        check("error" in ask(directory, "alpha", **request), request)
    check("not being pinged" in ask(directory, "bravo", cmd="ping", node="charlie")["error"], "nothing to report")


def main():
    isolate()
    with tempfile.TemporaryDirectory(prefix="mvpn-ping-test.") as directory:
        try:
            make_network(directory)
            for name in NODES:
                start(directory, name)
            check(ask(directory, "alpha", cmd="status")["nat"]["bindings"] == [], "no guest")
            test_answers(directory)
            test_hold(directory)
            test_close(directory)
            test_restart(directory)
            test_refusals(directory)
            for name in list(children):
                child = children.pop(name)
                child.send_signal(signal.SIGTERM)
                check(child.wait(timeout=20) == 0, name + " ends with 0")
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    print("passed")


main()
