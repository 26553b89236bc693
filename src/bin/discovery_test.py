#!/usr/bin/python3
"""meshvpn-discovery over loopback: a small network of real processes is surveyed and shown.

    discovery_test.py DIRECTORY-OF-PROGRAMS [--keep-running]

Works in a network namespace of its own. With --keep-running it waits at the end, for a look with a browser.
"""

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PROGRAMS = os.path.abspath(sys.argv[1])
KEEP = "--keep-running" in sys.argv
PORT = 8081
NODES = {  # name: (address, options, program, configuration)
    "boot": ("127.1.0.1:4101", ["--bootstrap"], "meshvpn-dht-bootstrap", "bootstrap.conf"),
    "alpha": ("127.2.0.1:4102", ["--country", "DE", "--provider", "Rack", "--bandwidth-mbit", "900", "--listed"],
              "meshvpn-relay", "relay.conf"),
    "bravo": ("127.3.0.1:4103", ["--country", "FR", "--provider", "Otter", "--listed"], "meshvpn-relay",
              "relay.conf"),
    "charlie": ("127.4.0.1:4104", ["--country", "SE"], "meshvpn-relay", "relay.conf"),
    "look": ("127.5.0.1:4105", ["--discovery"], "meshvpn-discovery", "discovery.conf"),
}
children = {}


def isolate():
    """A network namespace of our own, with loopback up."""
    if os.environ.get("DISCOVERY_TEST_INSIDE") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["DISCOVERY_TEST_INSIDE"] = "1"
    options = ["-n"] if os.geteuid() == 0 else ["-r", "-n"]
    os.execvp("unshare", ["unshare"] + options + [sys.executable] + sys.argv)


def check(condition, what):
    if not condition:
        raise SystemExit("discovery_test: failed: " + what)


def bootstrap(*arguments):
    subprocess.run([os.path.join(PROGRAMS, "meshvpn-bootstrap"), *arguments], check=True,
                   stdout=subprocess.DEVNULL)


def start(directory, name):
    _, _, program, config = NODES[name]
    with open(os.path.join(directory, name + ".log"), "ab") as log:
        children[name] = subprocess.Popen(
            [os.path.join(PROGRAMS, program), "--config", os.path.join(directory, "nodes", name, config)],
            stdout=log, stderr=log)


def stop(name):
    child = children.pop(name)
    child.send_signal(signal.SIGTERM)
    check(child.wait(timeout=20) == 0, name + " ends with 0")


def get(path, headers=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    connection.request(method, path, headers=headers or {})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, dict((k.lower(), v) for k, v in reply.getheaders()), body


def get_json(path, schema, expected=200):
    status, headers, body = get(path)
    check(status == expected, "%s: status %d, not %d" % (path, status, expected))
    check(headers["content-type"] == "application/json", path + " is JSON")
    value = json.loads(body)
    check(value["schema"] == schema, path + ": schema")
    return value


def wait_for(what, seconds, question):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if question():
                return
        except OSError:
            pass
        check(all(c.poll() is None for c in children.values()), "a program ended while waiting for " + what)
        time.sleep(0.2)
    check(False, "in %d s: %s" % (seconds, what))


def raw(request):
    with socket.create_connection(("127.0.0.1", PORT), timeout=10) as s:
        s.sendall(request)
        reply = b""
        while chunk := s.recv(65536):
            reply += chunk
    return int(reply.split(b" ")[1]) if reply.startswith(b"HTTP/1.1 ") else 0


def make_network(directory):
    bootstrap("init", directory, "--name", "loopnet", "--allow-private")
    for name, (address, options, _, _) in NODES.items():
        bootstrap("add-node", directory, name, "--address", address, *options)
    for name, (address, _, _, config) in NODES.items():
        node = os.path.join(directory, "nodes", name)
        # Every node has the network file as it is at the end.
        with open(os.path.join(directory, "network.conf"), "rb") as whole:
            content = whole.read()
        with open(os.path.join(node, "network.conf"), "wb") as own:
            own.write(content)
        own = {"listen": '{"%s"}' % address, "run_dir": '"%s/run"' % node, "state_dir": '"%s/state"' % node,
               "control_socket": '"%s/control.sock"' % node}
        if name == "look":
            own["http_listen"] = '"127.0.0.1:%d"' % PORT
            own["http_names"] = '{"relays.example"}'
        path = os.path.join(node, config)
        with open(path, encoding="utf-8") as file:
            lines = [l for l in file.read().splitlines() if l.split("=")[0].strip() not in own]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + ["%s = %s" % item for item in own.items()]) + "\n")


def look_at_relays():
    found = get_json("/v1/relays?sort=name", "meshvpn.relays/1")
    by_name = {r["name"]: r for r in found["relays"]}
    check({"alpha", "bravo"} <= set(by_name), "relays are listed")
    alpha = by_name["alpha"]
    check(alpha["country"] == "DE" and alpha["provider"] == "Rack" and alpha["declared_mbit"] == 900, "alpha")
    check(alpha["alive"] and alpha["uptime_h"] == 0 and "guard" in alpha["roles"], "alpha is alive")
    check(alpha["addresses"] == ["127.2.0.1:4102"], "its address")
    one = get_json("/v1/relays/" + alpha["identity"], "meshvpn.relay/1")["relay"]
    check(one["name"] == "alpha", "one relay")
    french = get_json("/v1/relays?country=fr&role=middle", "meshvpn.relays/1")
    check([r["name"] for r in french["relays"]] == ["bravo"], "search")


def look_at_bytes(digest):
    status, headers, body = get("/v1/snapshot/" + digest)
    check(status == 200 and headers["etag"] == '"%s"' % digest, "snapshot by digest")
    entries = struct.unpack(">I", body[41:45])[0]
    check(len(body) == 45 + 40 * entries, "snapshot: size")
    status, _, none = get("/v1/snapshot", {"If-None-Match": headers["etag"]})
    check(status == 304 and none == b"", "not sent again")
    status, _, bundle = get("/v1/bundle")
    parts = []
    while bundle:
        kind, length = struct.unpack(">BI", bundle[:5])
        parts.append(kind)
        check(len(bundle) >= 5 + length, "bundle: whole")
        bundle = bundle[5 + length:]
    check(parts.count(1) >= 2 and set(parts) <= {1, 2, 3, 4, 5}, "bundle: %s" % parts)


def look_at_metrics():
    status, headers, body = get("/metrics")
    check(status == 200 and headers["content-type"].startswith("application/openmetrics-text; version=1.0.0"),
          "metrics")
    text = body.decode("ascii")
    check(text.endswith("# EOF\n") and "127." not in text, "metrics: end, and no addresses")
    values = dict(l.rsplit(" ", 1) for l in text.splitlines() if not l.startswith("#"))
    check(int(values["meshvpn_discovery_relays_alive"]) >= 3, "metrics: alive")
    check(int(values["meshvpn_discovery_checks_answered_total"]) >= 3, "metrics: checks")


def look_at_page():
    status, headers, body = get("/?country=DE")
    check(status == 200 and b"<table>" in body, "page")
    check("default-src 'none'" in headers["content-security-policy"], "page: policy")
    check(b"http://" not in body and b"https://" not in body, "page: nothing from elsewhere")
    check(get("/page.js")[0] == 200 and get("/page.css")[0] == 200, "page: its parts")
    status, headers, body = get("/", method="HEAD")
    check(status == 200 and body == b"" and int(headers["content-length"]) > 1000, "HEAD")


BAD = [
    (b"GET /v1/relays?country=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/relays?limit=5000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/relays?q=%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/relays?q=%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/relays/xyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/relays/" + b"ab" * 32 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    (b"GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
    (b"GET / HTTP/1.1\r\nHost: relays.example\r\nConnection: close\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    (b"POST /v1/relays HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 405),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 413),
    (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431),
]


def run(directory):
    make_network(directory)
    for name in NODES:
        if name == "look":
            time.sleep(3)  # the others are published by then; who comes later is found by the next walk only
        start(directory, name)
    wait_for("HTTP", 10, lambda: get("/v1/network")[0] == 200)
    # Two are listed in the network file; the others are found.
    wait_for("a relay is found and answers", 60,
             lambda: get_json("/v1/network", "meshvpn.network/1")["alive"] >= 3)
    wait_for("a snapshot", 60, lambda: get_json("/v1/network", "meshvpn.network/1")["snapshot"])
    wait_for("a measurement", 60, lambda: get_json("/v1/network", "meshvpn.network/1")["measured"] > 0)
    network = get_json("/v1/network", "meshvpn.network/1")
    check(network["name"] == "loopnet" and network["closed"], "network")
    check(network["roles"]["guard"] >= 2 and network["countries"]["DE"] == 1, "counts")
    digest = network["snapshot"]["digest"]
    look_at_relays()
    look_at_bytes(digest)
    look_at_metrics()
    look_at_page()
    for request, status in BAD:
        got = raw(request)
        check(got == status, "%r: %d, not %d" % (request[:60], got, status))
    hour = network["snapshot"]["hour"]
    stop("look")
    start(directory, "look")
    wait_for("HTTP", 10, lambda: get("/v1/network")[0] == 200)
    again = get_json("/v1/network", "meshvpn.network/1")
    check(again["snapshot"]["hour"] != hour or again["snapshot"]["digest"] == digest,
          "one snapshot an hour, also after a restart")
    check(again["alive"] >= 2, "who answered is known from before")
    wait_for("a relay is found again", 60,
             lambda: get_json("/v1/network", "meshvpn.network/1")["alive"] >= 3)
    if KEEP:
        print("http://127.0.0.1:%d/ in namespace of %d" % (PORT, os.getpid()), flush=True)
        signal.pause()
    for name in list(children):
        stop(name)


def main():
    isolate()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("discovery_test: ended by a signal"))
    with tempfile.TemporaryDirectory(prefix="meshvpn-discovery.") as directory:
        try:
            run(directory)
        except BaseException:
            for name in NODES:
                try:
                    with open(os.path.join(directory, name + ".log"), encoding="utf-8") as log:
                        print("--- %s\n%s" % (name, log.read()[-2000:]))
                except OSError:
                    pass
            raise
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    print("discovery_test: all is well")


if __name__ == "__main__":
    main()
