#!/usr/bin/env python3
"""meshvpn status and meshvpn circuit new against a daemon of the test's own. Argument: the program meshvpn."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

CLIENT = {
    "schema": "meshvpn.status/1", "role": "client", "state": "connected", "since_s": 3700, "hops": 3,
    "path": [
        {"name": "guard-1", "identity": "0011223344556677", "country": "CH", "role": "guard"},
        {"name": None, "identity": "8899aabbccddeeff", "country": None, "role": "middle"},
        {"name": "exit-1", "identity": "aa", "country": "SE", "role": "exit"},
    ],
    "exit_address": "11.3.0.1", "circuit_build_ms": 123.4, "rtt_ms": 45.6, "ipv6": False,
    "bytes_up": 1234, "bytes_down": 56789012, "spare": True,
    "session": {"age_s": 723, "expires_in_s": 27605, "flows": 4, "draining": False, "draining_flows": 0},
    "failovers": 1, "takeovers": 3, "rotations": 2, "sessions_lost": 0,
    "missing_protections": ["relays of one path may share a provider"], "blocked_by": None,
    "view": {"relays": 12, "relays_confirmed": 11, "is_confirmed": True, "equivocations": 1},
    "clock": {"offset_s": -86400, "peers": 3, "is_wrong": True},
}
CONNECTING = dict(CLIENT, state="connecting", path=[], exit_address=None, rtt_ms=None,
                  circuit_build_ms=None, since_s=5, missing_protections=[], spare=False, session=None)
BLOCKED = dict(CONNECTING, blocked_by="no exit is known that fits")
DRAINING = dict(CLIENT, session={"age_s": 5, "expires_in_s": 59, "flows": 1, "draining": True, "draining_flows": 2})
RELAY = {
    "schema": "meshvpn.status/1", "role": "exit", "state": "running", "since_s": 90061,
    "links": [
        {"name": "birch", "identity": "0011223344556677", "type": "relay", "via": "oak"},
        {"name": None, "identity": "8899aabbccddeeff", "type": "relay", "via": "oak"},
        {"name": "elm", "identity": "aa", "type": "direct", "via": None},
    ],
    "link_count": 12, "links_unnamed": 9,
    "nat": {"class": "port-restricted", "bindings": [
        {"name": "birch", "identity": "0011", "registered": True},
        {"name": "oak", "identity": "2233", "registered": True},
    ]},
    "circuits": 7, "sessions": 3, "counters": {"bytes_in": 12, "cells_forward": 345},
    "dht": {"contacts": 19, "records": 24, "nodes_estimated": 21, "is_published": True},
    "view": {"relays": 20, "relays_confirmed": 20, "equivocations": 0},
}

NO = {"ok": False}
PROOF = {"checked_s_ago": 3, "checking": False, "ok": True, "dns": {"ok": True}, "kill_switch": {"ok": True},
         "exit_address": {"ok": True, "seen": "11.3.0.1", "witnesses": 2},
         "ipv6": {"ok": True, "carried": True, "seen": "2a10::1"}}
PROTECTION = {"state": "connected", "kill_switch": True, "lockdown": False, "allow_lan": False, "repaired": 0}

NO_BINDING = dict(RELAY, links=[], link_count=3, nat={"class": "unknown", "bindings": [
    {"name": "birch", "identity": "0011", "registered": False}]})
# Nothing is known: nothing is said.
NO_NAT = dict(RELAY, links=[], link_count=3, nat={"class": "unknown", "bindings": []})

# reply, exit status, lines that must be printed
ROWS = [
    (CLIENT, 0, ["client    connected", "since     1 h 1 min",
                 "path      you > guard-1 (CH) > 8899aabb > exit-1 (SE) > internet",
                 "exit      11.3.0.1", "ipv6      not carried by this exit", "rtt       45.6 ms",
                 "built in  123.4 ms", "traffic   1.23 kB up, 56.8 MB down",
                 "rate      0 bit/s up, 0 bit/s down", "spare     a second circuit is ready",
                 "session   12 min 3 s old, 4 connections; a new one in 7 h 40 min",
                 "missing   relays of one path may share a provider",
                 "relays    12 known, 11 shown by two operators",
                 "warning   1 discovery nodes show different lists to different people; they count no more",
                 "clock     86400 s fast: set it; MeshVPN corrects it for itself alone"]),
    (DRAINING, 0, ["session   5 s old, 1 connection; a new one in 59 s; the last one keeps 2 connections"]),
    (CONNECTING, 3, ["client    connecting", "since     5 s", "spare     none"]),
    (BLOCKED, 5, ["client    connecting: no exit is known that fits"]),
    (dict(CLIENT, state="down"), 4, ["client    down"]),
    (RELAY, 0, ["node      running", "since     1 d 1 h", "role      exit", "links     12, 2 relayed: birch via oak, 8899aabb via oak",
                "nat       port-restricted, reachable through birch and oak",
                "circuits  7", "sessions  3",
                "dht       19 contacts, 24 records, about 21 servers in all; published",
                "relays    20 known, 20 shown by two operators", "  bytes_in                         12",
                "  cells_forward                    345"]),
    (NO_BINDING, 0, ["links     3", "nat       unknown, not reachable: no NAT relay serves us yet"]),
    (NO_NAT, 0, ["links     3"]),
    (dict(CLIENT, proof=PROOF), 0, ["proof     ok address (2 witnesses)  ok names  ok IPv6  ok kill switch"]),
    (dict(CLIENT, proof=dict(PROOF, exit_address={"ok": True, "seen": "11.3.0.1", "witnesses": 1}, ipv6={
        "ok": None, "carried": True, "seen": None})), 0,
     ["proof     ok address (only one witness)  ok names  - IPv6  ok kill switch"]),
    (dict(CLIENT, proof=dict(PROOF, ok=False, dns=NO, ipv6=dict(NO, carried=False, seen=None), kill_switch=NO,
                             exit_address={"ok": None, "seen": None, "witnesses": 0})), 0,
     ["proof     - address (no witness known)", "          NO names: the exit does not answer",
      "          NO IPv6: neither carried nor refused",
      "          NO kill switch: a packet left this host outside the tunnel"]),
    (dict(CLIENT, proof=dict(PROOF, exit_address=dict(NO, seen=None, witnesses=0))), 0,
     ["proof     ok names  ok IPv6  ok kill switch", "          NO address: relays do not see this host at the exit"]),
    (dict(CLIENT, protection=PROTECTION), 0, ["protected kill switch on, lockdown off, local network closed"]),
    (dict(CLIENT, protection=dict(PROTECTION, lockdown=True, allow_lan=True, repaired=2)), 0,
     ["protected kill switch on, lockdown on, local network open; repaired 2 times after other programs"]),
    (dict(CLIENT, proof=dict(PROOF, ok=False, astray=True, exit_address=dict(NO, seen=None, witnesses=0))), 0,
     ["          NO address: routes lead past the tunnel (ip rule shows whose)"]),
    (dict(CLIENT, protection=dict(PROTECTION, kill_switch=False)), 0, ["protected NO: the kill switch is off"]),
    (dict(CLIENT, nat={"class": "symmetric", "bindings": []}, links=RELAY["links"], link_count=3), 0,
     ["nat       symmetric", "links     3, 2 relayed: birch via oak, 8899aabb via oak"]),
]


def serve(listener, reply, requests):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            line = b""
            while not line.endswith(b"\n"):
                part = connection.recv(4096)
                if not part:
                    break
                line += part
            requests.append(json.loads(line))
            connection.sendall(reply)


def ask(program, directory, reply, *options, words=("status",), cmd="status"):
    """Run `meshvpn WORDS` against a daemon that gives `reply` to `cmd`."""
    path = os.path.join(directory, "control.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    requests = []
    thread = threading.Thread(target=serve, args=(listener, reply, requests))
    thread.start()
    try:
        done = subprocess.run([program, *words, "--control", path, *options],
                              capture_output=True, text=True, timeout=20, check=False,
                              env=dict(os.environ, LC_ALL="C"))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        os.unlink(path)
    assert requests and all(r == {"cmd": cmd} for r in requests), requests
    return done


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="mvpn-status-test.") as directory:
        for reply, status, lines in ROWS:
            line = json.dumps(reply).encode() + b"\n"
            done = ask(program, directory, line)
            printed = done.stdout.splitlines()
            assert reply.get("path") or "this exit" not in done.stdout, done.stdout
            assert done.returncode == status, (done.returncode, status, done)
            assert done.stderr == "", done.stderr
            for wanted in lines:
                assert wanted in printed, (wanted, done.stdout)
            assert any(l.startswith("session   ") for l in printed) == bool(reply.get("session")), done.stdout
            if reply in (NO_NAT, CLIENT):
                assert not any(l.startswith("nat") for l in printed), done.stdout
            assert len(printed) <= 24, "more than a screen"
            done = ask(program, directory, line, "--json")
            assert done.returncode == status, done
            assert json.loads(done.stdout) == reply and done.stdout.count("\n") == 1, done.stdout

        done = ask(program, directory, b'{"error":"not now"}\n')
        assert done.returncode == 1 and done.stdout == "" and "not now" in done.stderr, done
        done = ask(program, directory, b"nonsense\n", "--json")
        assert done.returncode == 1 and done.stdout == "" and done.stderr != "", done

        def new(reply):
            return ask(program, directory, reply, words=("circuit", "new"), cmd="new-identity")
        done = new(b'{"ok":true}\n')
        assert done.returncode == 0 and "new identity" in done.stdout and done.stderr == "", done
        done = new(b'{"error":"not connected yet"}\n')
        assert done.returncode == 1 and done.stdout == "" and done.stderr == "meshvpn: not connected yet\n", done
        for reply in (b'{"error":"unknown command"}\n', b'{}\n'):
            done = new(reply)
            assert done.returncode == 1 and done.stdout == "" and "is not meshvpn-client" in done.stderr, done
        for words in ([], ["old"], ["new", "--json"], ["new", "--control"]):
            done = subprocess.run([program, "circuit", *words], capture_output=True, text=True, timeout=20, check=False,
                              env=dict(os.environ, LC_ALL="C"))
            assert done.returncode == 2 and "Try 'meshvpn help" in done.stderr, done
    print("passed")


main()
