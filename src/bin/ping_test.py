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
import threading
import time

PROGRAMS = os.path.abspath(sys.argv[1])
NODES = {"alpha": "127.2.0.1:4102", "bravo": "127.3.0.1:4103", "charlie": "127.4.0.1:4104"}
PING_KEYS = {"schema", "node", "seq", "rtt_ms", "type", "state", "reason", "via", "opened_after_ms", "direct_after_ms"}
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


def test_close_rights(directory):
    """Whoever may open the socket may ask, but not close."""
    if os.geteuid() != 0:
        return
    os.chmod(directory, 0o755)
    os.chmod(control(directory, "alpha"), 0o666)
    check(ping(directory, "alpha", "bravo").returncode == 0, "ping")
    script = """import socket
s = socket.socket(socket.AF_UNIX)
s.connect("%s")
s.sendall(b'{"cmd":"link_close","node":"bravo"}\\n')
print(s.makefile().readline())""" % control(directory, "alpha")
    done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", script],
                          capture_output=True, text=True, timeout=20, check=False)
    check("only root and the daemon's own user" in done.stdout, done)
    check(link_of(directory, "alpha", "bravo")["open"], "it stays")


def test_restart(directory):
    check(ping(directory, "alpha", "charlie").returncode == 0, "before")
    stop("charlie", signal.SIGKILL)
    done = ping(directory, "alpha", "charlie", "--count", "1")
    # Whichever is first: the ping gives up, or the link is found dead.
    silent, dead = "no answer from charlie within 2 s\n", "no link with charlie\n"
    check(done.returncode == 1 and done.stdout in (silent, dead), done)
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


def fake(directory, replies):
    """A daemon that gives these answers, the last one again and again."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(control(directory, "fake"))
    listener.listen()
    seq = [0]

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = json.loads(connection.makefile().readline())
                seq[0] += request["start"]
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if "schema" in reply:
                    reply = dict(reply, seq=seq[0])
                connection.sendall(json.dumps(reply).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


def test_words(directory):
    """What is said of relayed links, and of changes."""
    relayed = {"schema": "meshvpn.ping/1", "node": "birch", "done": True, "rtt_ms": 34.24, "open": True,
               "type": "relay", "state": "hole punch", "reason": "a round of hole punching begins", "via": "oak",
               "opened_after_ms": 80.0, "direct_after_ms": None}
    direct = dict(relayed, type="direct", state="established", via=None, rtt_ms=30.06, direct_after_ms=412.0,
                  reason="the direct path is proven")
    silent = dict(relayed, done=False, rtt_ms=None)
    failed = dict(relayed, done=True, open=False, type="failed", state="failed", rtt_ms=None, via=None,
                  reason="no NAT relay could help")
    back = dict(relayed, reason="the direct path went silent")
    pong, pong_direct = "pong from birch: 34.2 ms, relayed by oak", "pong from birch: 30.1 ms, direct"
    rows = [
        ([silent, relayed, direct], [], 0, [pong, "now direct after 0.41 s", pong_direct]),
        ([relayed], ["--count", "2", "--interval", "30"], 0, [pong, pong]),
        ([direct, back], ["--count", "2", "--interval", "30"], 0,
         [pong_direct, "now relayed by oak: the direct path went silent", pong]),
        ([silent], ["--count", "1"], 1, ["no answer from birch within 2 s"]),
        ([failed], ["--count", "1"], 1, ["no link with birch: no NAT relay could help"]),
        ([{"error": "because"}], [], 1, []),
        ([{"strange": 1}], [], 1, []),
    ]
    for replies, arguments, status, lines in rows:
        listener, thread = fake(directory, list(replies))
        done = ping(directory, "fake", "birch", *arguments)
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        os.unlink(control(directory, "fake"))
        check(done.returncode == status and done.stdout.splitlines() == lines, (done, lines))
        check((done.stderr == "") == bool(lines), done)


def test_client(directory):
    """A client pings those alone that it has a link with."""
    if not os.path.exists("/dev/net/tun") or os.geteuid() != 0:
        return
    path = os.path.join(directory, "client.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write("""network_file = "%s/network.conf"
listen = {"0.0.0.0:0"}
hops = 1
path = {"bravo"}
routes = none
tun_name = mvpnping0
run_dir = "%s/run"
state_dir = "%s/client-state"
control_socket = "%s"
""" % (directory, directory, directory, control(directory, "client")))
    with open(os.path.join(directory, "client.log"), "ab") as log:
        children["client"] = subprocess.Popen([os.path.join(PROGRAMS, "meshvpn-client"), "--config", path],
                                              stdout=log, stderr=log)
    until = time.monotonic() + 10
    while not os.path.exists(control(directory, "client")):
        check(time.monotonic() < until and children["client"].poll() is None, open(log.name).read())
        time.sleep(0.1)
    done = ping(directory, "client", "charlie")
    check(done.returncode == 1 and "shows itself to its guards alone" in done.stderr, done)
    check(link_of(directory, "client", "charlie") is None, "and no link is made")
    check("error" in ask(directory, "client", cmd="link_close", node="bravo"), "link_close is for relays")
    done = ping(directory, "client", "bravo")
    linked = link_of(directory, "client", "bravo") is not None
    check((done.returncode == 0) == linked, done)


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
            test_close_rights(directory)
            test_restart(directory)
            test_refusals(directory)
            test_words(directory)
            test_client(directory)
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
