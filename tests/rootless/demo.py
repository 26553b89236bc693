#!/usr/bin/python3
"""The main job as a story, for machines that allow neither root nor namespaces: a whole network of the real programs on
loopback, by an ordinary user, and a page through three hops of it. Standard library only.

    demo.py PROGRAMS [--hops N] [--once] [--json] [--mb N]

--once  end after the story; exit code 0 only if everything held
--json  the last line on stdout is one JSON object
--mb    of the download that is measured (40)

Each node has a /16 of 127.0.0.0/8, so no rule about addresses is relaxed but that the network file says allow_private.
The exits are exits of the ordinary kind with `nat = user`. Loopback stays refused as a destination, by the client and by
the exits' policy: the page's address is a public one, which the exits' nat_map alone leads to the web server of this
story; their policy lets nothing else out, so nothing of this leaves the computer.
"""

import argparse
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

NODES = {  # name: (second and third byte of its address, role, country)
    "boot": (87, "bootstrap", ""),
    "alder": (21, "relay", "CH"),
    "birch": (32, "relay", "SE"),
    "cedar": (43, "relay", "IS"),
    "maple": (54, "exit", "NL"),
    "oak": (65, "exit", "FI"),
}
PROGRAM_OF = {"bootstrap": "meshvpn-dht-bootstrap", "relay": "meshvpn-relay", "exit": "meshvpn-exit-node"}
WEB_NAME, WEB_ADDRESS, WEB_HERE = "web.lab.example", "11.201.158.93", "127.201.158.93"
NOBODY = "11.201.158.94"  # the policy refuses it
PAGE = b"<!doctype html><title>A page</title><p>It came through the network.</p>\n"
PIECE = bytes(range(256)) * 4096
WAIT_S = 45


class Failure(Exception):
    pass


def free_port(address, kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind((address, 0))
        return s.getsockname()[1]


class Web(http.server.BaseHTTPRequestHandler):
    seen = []

    def do_GET(self):
        Web.seen.append(self.client_address[0])
        megabytes = int(self.path[6:]) if self.path.startswith("/file/") else 0
        self.send_response(200)
        self.send_header("Content-Length", str(megabytes * len(PIECE) or len(PAGE)))
        self.end_headers()
        if megabytes == 0:
            self.wfile.write(PAGE)
        for _ in range(megabytes):
            self.wfile.write(PIECE)

    def log_message(self, *_):
        pass


class Names(threading.Thread):
    """A name server that knows one name (RFC 1035)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((WEB_HERE, 0))
        self.port = self.socket.getsockname()[1]
        self.asked_by = []

    def run(self):
        while True:
            query, sender = self.socket.recvfrom(2048)
            labels, at = [], 12
            while query[at] != 0:
                labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            is_known = ".".join(labels) == WEB_NAME
            self.asked_by.append(sender[0])
            answer = b""
            if is_known and kind == 1:
                answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(WEB_ADDRESS)
            flags = 0x8180 if is_known else 0x8183
            head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
            self.socket.sendto(head + query[12:at + 5] + answer, sender)


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise OSError("closed early")
        data += more
    return data


class Story:
    def __init__(self, options):
        self.options = options
        self.out = sys.stderr if options.json else sys.stdout
        self.began = time.monotonic()
        self.problems = 0
        self.children = {}
        self.directory = tempfile.mkdtemp(prefix="meshvpn-demo.")
        self.net = os.path.join(self.directory, "net")
        self.log = os.path.join(self.directory, "log")
        self.home = os.path.join(self.directory, "home")
        os.mkdir(self.log)
        os.mkdir(self.home)
        self.ports = {}
        self.result = {}

    # ---- words ----

    def tell(self, text=""):
        print(text, file=self.out, flush=True)

    def hold(self, text, is_so):
        self.problems += not is_so
        self.tell(f"   {'ok   ' if is_so else 'FAIL '} {text}")

    # ---- programs ----

    def program(self, name):
        return os.path.join(self.options.programs, name)

    def run(self, name, *arguments):
        done = subprocess.run([self.program(name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=WAIT_S, stdin=subprocess.DEVNULL, env=self.environment(), check=False)
        if done.returncode != 0:
            raise Failure(f"{name} {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def environment(self):
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": self.home, "LC_ALL": "C.UTF-8",
                **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}

    def start(self, name, *command):
        with open(os.path.join(self.log, name + ".log"), "ab") as log:
            self.children[name] = subprocess.Popen([self.program(command[0]), *command[1:]], stdout=log, stderr=log,
                                                   stdin=subprocess.DEVNULL, env=self.environment())

    def stop(self, name, how=signal.SIGTERM):
        child = self.children.pop(name)
        child.send_signal(how)
        try:
            return child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def check_alive(self):
        for name, child in self.children.items():
            if child.poll() is not None:
                raise Failure(f"{name} ended by itself")

    def status(self, name):
        socket_path = os.path.join(self.home, "control.sock") if name == "client" else self.node_path(name, "sock")
        return json.loads(self.run("meshvpn", "status", "--json", "--control", socket_path))

    # ---- the network ----

    def node_path(self, name, *parts):
        return os.path.join(self.net, "nodes", name, *parts)

    @staticmethod
    def address(name):
        return f"127.{NODES[name][0]}.140.1"

    def make_network(self):
        self.run("meshvpn-bootstrap", "init", self.net, "--name", "demo", "--allow-private")
        for name, (_, role, country) in NODES.items():
            self.ports[name] = free_port(self.address(name), socket.SOCK_DGRAM)
            at = f"{self.address(name)}:{self.ports[name]}"
            words = {"bootstrap": ["--bootstrap"], "exit": ["--exit"]}.get(role, [])
            if role != "bootstrap":
                words += ["--country", country, "--provider", name + "-hosting", "--bandwidth-mbit", "1000"]
            self.run("meshvpn-bootstrap", "add-node", self.net, name, "--address", at, *words)
            self.configure(name, role, at)

    def configure(self, name, role, at):
        own = {"listen": f'{{"{at}"}}', "run_dir": f'"{self.node_path(name, "run")}"',
               "state_dir": f'"{self.node_path(name, "state")}"', "control_socket": f'"{self.node_path(name, "sock")}"',
               "log_level": "info"}
        if role == "exit":
            web = f"{WEB_ADDRESS}:80={WEB_HERE}:{self.web.server_port}"
            own |= {"nat": '"user"', "nat_map": f'{{"{web}"}}', "ipv6": '"no"',
                    "dns_upstream": f'{{"{WEB_HERE}:{self.names.port}"}}',
                    "policy": f'{{"accept tcp {WEB_ADDRESS} 80", "reject any *"}}'}
        path = self.node_path(name, role + ".conf")
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if line.split("=")[0].strip() not in own]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + [f"{key} = {value}" for key, value in own.items()]) + "\n")
        for part in ("run", "state"):
            os.makedirs(self.node_path(name, part), exist_ok=True)

    def start_node(self, name):
        role = NODES[name][1]
        self.start(name, PROGRAM_OF[role], "--config", self.node_path(name, role + ".conf"))

    def wait_for_network(self):
        """Until the relays have found each other: who asks before is told too little, and asks again much later."""
        others = [name for name in NODES if name != "boot"]
        until = time.monotonic() + WAIT_S
        known = 0
        while known < len(others) and time.monotonic() < until:
            self.check_alive()
            try:
                known = min(self.status(name)["view"]["relays"] for name in others)
            except (Failure, ValueError, KeyError):
                pass
            time.sleep(0.1)

    # ---- the client ----

    def join(self):
        link = self.run("meshvpn-bootstrap", "invite", self.net, "--no-qr").strip()
        self.run("meshvpn", "join", link, "--config-dir", os.path.join(self.home, "config"))
        with open(os.path.join(self.home, "config", "client.conf"), "w", encoding="utf-8") as file:
            file.write(f'network_file = "network.conf"\nhops = {self.options.hops}\n'
                       f'exit_ports = {{"any"}}\nstate_dir = "{self.home}/state"\nrun_dir = "{self.home}/run"\n'
                       f'control_socket = "{self.home}/control.sock"\n')
        for part in ("state", "run"):
            os.makedirs(os.path.join(self.home, part), exist_ok=True)
        return link

    def connect(self):
        """Start the client; seconds until it is connected."""
        began = time.monotonic()
        self.socks = free_port("127.0.0.1", socket.SOCK_STREAM)
        self.start("client", "meshvpn", "proxy", "--socks", str(self.socks), "--config",
                   os.path.join(self.home, "config", "client.conf"))
        while time.monotonic() < began + WAIT_S:
            self.check_alive()
            try:
                self.now = self.status("client")
                if self.now["state"] == "connected":
                    return round(time.monotonic() - began, 2)
            except (Failure, ValueError):
                pass
            time.sleep(0.05)
        raise Failure(f"the client is not connected after {WAIT_S} s")

    def ask(self, host):
        """A connection through the client, to a name or an address; and the number of the reply (RFC 1928)."""
        s = socket.create_connection(("127.0.0.1", self.socks), WAIT_S)
        s.sendall(b"\5\1\0")
        read_exactly(s, 2)
        s.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + struct.pack(">H", 80))
        reply = read_exactly(s, 4)
        read_exactly(s, 18 if reply[3] == 4 else 6)
        return s, reply[1]

    def get(self, path):
        """Status, length and digest of what came."""
        s, number = self.ask(WEB_NAME)
        with s:
            if number != 0:
                return 0, 0, ""
            s.sendall(f"GET {path} HTTP/1.0\r\nHost: {WEB_NAME}\r\n\r\n".encode())
            digest, length, head = hashlib.sha256(), 0, b""
            while b"\r\n\r\n" not in head and (more := s.recv(65536)):
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            body = body or s.recv(262144)
            while body:
                digest.update(body)
                length += len(body)
                body = s.recv(262144)
            return int(head.split()[1]), length, digest.hexdigest()

    def page(self, text):
        Web.seen.clear()
        status, length, digest = self.get("/")
        self.now = self.status("client")
        path = [hop["name"] for hop in self.now["path"]]
        is_whole = digest == hashlib.sha256(PAGE).hexdigest()
        seen = Web.seen[-1] if Web.seen else "nobody"
        self.hold(f"{text}: HTTP {status}, {length} bytes", status == 200 and is_whole)
        self.hold(f"the web server saw {seen}: the exit {path[-1]}", Web.seen == [self.address(path[-1])])
        self.result |= {"http_status": status, "seen_by_server": seen, "exit_addr": self.address(path[-1])}
        return path

    # ---- the story ----

    def look_at_relays(self, path):
        """What each hop has links with: named are relays, the others are clients."""
        spare = set()
        for circuit in json.loads(self.run("meshvpn", "circuit", "list", "--json", "--control",
                                           os.path.join(self.home, "control.sock")))["circuits"]:
            spare.add(circuit["path"][0]["name"])
        for i, name in enumerate(path):
            status = self.status(name)
            relays = {link["name"] or link["identity"] for link in status["links"]} # its descriptor may still be on its way
            self.tell(f"   {name}: {', '.join(sorted(relays)) or 'no relay'}, and {status['links_unnamed']} client(s)")
            if i == 0:
                self.hold("the guard knows a client (so this look at it works)", status["links_unnamed"] == 1)
            elif name in spare:
                self.tell(f"   note  {name} knows the client too: it is the guard of a circuit that stands by")
            else:
                self.hold(f"{name} knows no client", status["links_unnamed"] == 0)

    def tell_all(self):
        hops = self.options.hops
        self.tell(f"1. A web server and a name server on loopback, as the user {os.getuid()}, without namespaces.")
        self.names = Names()
        self.names.start()
        self.web = http.server.ThreadingHTTPServer((WEB_HERE, 0), Web)
        self.web.daemon_threads = True
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.tell("2. meshvpn-bootstrap makes a closed network and certifies its nodes; they start: a bootstrap node, three")
        self.tell("   relays and two exits, each in a /16 of 127.0.0.0/8. Each knows the bootstrap node and finds the others.")
        self.make_network()
        for name in NODES:
            self.start_node(name)
        self.wait_for_network()
        self.tell(f"3. The client joins by a link and builds a circuit of {hops} hop(s): meshvpn proxy, no device, no rights.")
        link = self.join()
        self.tell(f"      meshvpn join {link[:48]}...   ({len(link)} characters)")
        self.result["ready_s"] = self.connect()
        path = [hop["name"] for hop in self.now["path"]]
        self.result["circuit_build_ms"] = self.now["circuit_build_ms"]
        self.tell("")
        self.tell("   client (127.0.0.1) -> " + " -> ".join(f"{n} ({NODES[n][2]}, {self.address(n)})" for n in path) +
                  f" -> web ({WEB_ADDRESS}, in truth {WEB_HERE})")
        self.tell(f"   connected {self.result['ready_s']} s after its start, the circuit built in {self.now['circuit_build_ms']} ms")
        self.hold(f"the path has {hops} hop(s) and ends at an exit", len(path) == hops and NODES[path[-1]][1] == "exit")
        self.tell("")
        self.tell(f"4. A program asks the proxy (SOCKS5) for {WEB_NAME} and fetches the page.")
        path = self.page("the page arrived")
        exits = {self.address(n) for n in NODES if NODES[n][1] == "exit"}
        self.hold("the name was asked for by the exit, not from here", self.names.asked_by != [])
        self.hold("the web server did not see the client (127.0.0.1)", "127.0.0.1" not in Web.seen and set(Web.seen) <= exits)
        self.tell("")
        self.tell("5. Whom each hop has links with:")
        self.look_at_relays(path)
        self.tell("")
        self.tell("6. What the exit must not let out:")
        s, number = self.ask(NOBODY)
        s.close()
        self.hold(f"an address that the policy refuses ({NOBODY}): SOCKS5 reply {number}", number in (2, 3, 4, 5))
        s, number = self.ask(WEB_HERE)
        s.close()
        self.hold(f"the web server by its address on loopback: SOCKS5 reply {number}", number == 2)
        self.tell("")
        self.tell("7. The bootstrap node is killed. Nobody needs it any more:")
        self.stop("boot", signal.SIGKILL)
        self.page("the page once more")
        self.tell("")
        self.tell("8. Measurements")
        megabytes = self.options.mb
        began = time.monotonic()
        _, length, digest = self.get(f"/file/{megabytes}")
        took = time.monotonic() - began
        expected = hashlib.sha256()
        for _ in range(megabytes):
            expected.update(PIECE)
        self.result["tcp_mbit_s"] = round(length * 8 / took / 1e6, 1)
        self.hold(f"TCP: {self.result['tcp_mbit_s']} Mbit/s ({megabytes} MiB through {hops} hops and two user-space IP stacks)",
                  length == megabytes * len(PIECE) and digest == expected.hexdigest())
        self.check_alive()

    def end(self):
        """Everything ends by itself, with 0."""
        names = [name for name in ["client", *NODES] if name in self.children]
        for name in names:
            self.children[name].send_signal(signal.SIGTERM)
        for name in names:
            try:
                code = self.children[name].wait(timeout=10)
                del self.children[name]
            except subprocess.TimeoutExpired:
                code = "nothing: it does not end"
            if code != 0:
                self.hold(f"{name} ends with {code}", False)

    def stay_up(self):
        self.tell("")
        self.tell("The network stays up. In another terminal:")
        self.tell(f"   curl --socks5-hostname 127.0.0.1:{self.socks} http://{WEB_NAME}/")
        self.tell(f"   {self.program('meshvpn')} status --control {self.home}/control.sock")
        self.tell(f"   logs: {self.log}")
        self.tell("Ctrl-C ends it and leaves nothing behind.")
        while True:
            self.check_alive()
            time.sleep(1)

    def show_logs(self):
        for name in sorted(os.listdir(self.log)):
            self.tell(f"--- {name}")
            with open(os.path.join(self.log, name), encoding="utf-8", errors="replace") as file:
                self.tell("".join(file.readlines()[-8:]).rstrip())

    def clean(self):
        for name in list(self.children):
            self.children[name].terminate()
        for name in list(self.children):
            self.stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)


def on_signal(number, _):
    raise KeyboardInterrupt(number)


def main():
    parser = argparse.ArgumentParser(prog="./run demo --rootless")
    parser.add_argument("programs", help=argparse.SUPPRESS)
    parser.add_argument("--hops", type=int, choices=range(1, 6), default=3)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mb", type=int, default=40)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, on_signal)
    story = Story(options)
    code = 1
    try:
        story.tell_all()
        if not options.once:
            story.stay_up()
        story.end()
        code = int(story.problems > 0)
    except KeyboardInterrupt:
        code = 130
    except (Failure, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        story.problems += 1
        story.tell(f"   FAIL  {error}")
    finally:
        if story.problems > 0:
            story.show_logs()
        story.clean()
    took = round(time.monotonic() - story.began, 1)
    story.tell("")
    story.tell(f"Everything held ({took} s)." if code == 0 else f"{story.problems} of the claims above did not hold ({took} s).")
    if options.json:
        print(json.dumps({"ok": code == 0, "hops": options.hops, "client_addr": "127.0.0.1", "uid": os.getuid(), **story.result}))
    sys.exit(code)


main()
