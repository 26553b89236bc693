#!/usr/bin/python3
"""What the lab's shell scripts cannot do well: a web server that says whom it saw, a DNS query, a
look at the wire, a UDP probe, a search of a process's memory. Standard library only.

    lab_tool.py web --root DIR --log FILE [--port 80]
    lab_tool.py dns SERVER NAME [A|AAAA]
    lab_tool.py peers IFACE                      addresses seen until SIGTERM, one "from to" a line
    lab_tool.py wire IFACE                       the same with "frames first-second last-second"
    lab_tool.py udp-recv PORT SECONDS            prints JSON counts of what udp-send sent
    lab_tool.py udp-send ADDRESS PORT COUNT SIZE PER_SECOND
    lab_tool.py get KEY... < JSON                first key (dotted) that exists
    lab_tool.py memory PID ADDRESS...            JSON: where the addresses lie in its memory
    lab_tool.py ready SOCKET SINCE_NS SECONDS    seconds from SINCE_NS until that client is connected
    lab_tool.py median < NUMBERS
"""

import hashlib
import http.server
import ipaddress
import json
import os
import re
import signal
import socket
import socketserver
import statistics
import struct
import sys
import time


# ---- web ----

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = log = ""

    def do_GET(self):
        seen = self.client_address[0]
        if seen.startswith("::ffff:"):
            seen = seen[7:]
        with open(self.log, "a", encoding="ascii") as log:
            log.write(f"{seen} {self.path}\n")
        if re.fullmatch(r"/file/\d+", self.path):
            self.send_stored(os.path.join(self.root, self.path[6:]))
        elif self.path == "/":
            self.send_text("<!doctype html><title>MeshVPN lab</title>\n"
                           f"<h1>Hello from the far side</h1>\n<p>You came from {seen}.</p>\n")
        elif self.path == "/ip":
            self.send_text(seen + "\n")
        else:
            self.send_error(404)

    def do_POST(self):
        """Answer with the SHA-256 of what was uploaded."""
        left = int(self.headers["Content-Length"])
        digest = hashlib.sha256()
        while left > 0:
            part = self.rfile.read(min(left, 1 << 20))
            if not part:
                break
            digest.update(part)
            left -= len(part)
        self.send_text(digest.hexdigest() + "\n")

    def send_text(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_stored(self, path):
        try:
            with open(path, "rb") as file:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                self.wfile.flush()
                self.connection.sendfile(file)
        except FileNotFoundError:
            self.send_error(404)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: it looks up the host's name, which takes seconds without a resolver.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "lab", self.server_address[1]


def web(arguments):
    options = dict(zip(arguments[::2], arguments[1::2]))
    Page.root, Page.log = options["--root"], options["--log"]
    Server(("::", int(options.get("--port", "80"))), Page).serve_forever()


# ---- DNS ----

def dns(arguments):
    server, name = arguments[:2]
    kind = {"A": 1, "AAAA": 28}[arguments[2] if len(arguments) > 2 else "A"]
    request_id = os.urandom(2)
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    query = request_id + b"\1\0\0\1\0\0\0\0\0\0" + question + struct.pack("!HH", kind, 1)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        for _ in range(4):
            sock.send(query)
            sock.settimeout(1.5)
            try:
                reply = sock.recv(4096)
            except (socket.timeout, ConnectionError):
                continue
            if reply[:2] != request_id:
                continue
            return dns_answers(reply, len(query), kind)
    print("no answer", file=sys.stderr)
    return 1


def dns_answers(reply, at, kind):
    count = struct.unpack_from("!H", reply, 6)[0]
    found = 0
    for _ in range(count):
        while reply[at] != 0 and reply[at] < 0xC0:
            at += reply[at] + 1
        at += 2 if reply[at] >= 0xC0 else 1
        answer_kind, _, _, length = struct.unpack_from("!HHIH", reply, at)
        at += 10
        if answer_kind == kind:
            print(ipaddress.ip_address(reply[at:at + length]))
            found += 1
        at += length
    return 0 if found else 1


# ---- the wire ----

def peers(arguments, with_times=False):
    """Raw frames, so that it shows what a relay's operator could see with tcpdump."""
    pairs = {}
    begin = time.monotonic()

    def add(source, destination):
        second = time.monotonic() - begin
        pair = (str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination)))
        frames, first, _ = pairs.get(pair, (0, second, second))
        pairs[pair] = (frames + 1, first, second)

    def stop(*_):
        for pair, (frames, first, last) in sorted(pairs.items()):
            print(*pair, *((frames, round(first, 2), round(last, 2)) if with_times else ()))
        sys.stdout.flush()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((arguments[0], 0))
    print("# ready", flush=True)
    while True:
        frame = sock.recv(128)
        kind = frame[12:14]
        if kind == b"\x08\0" and len(frame) >= 34:
            add(frame[26:30], frame[30:34])
        elif kind == b"\x86\xdd" and len(frame) >= 54:
            add(frame[22:38], frame[38:54])


# ---- a client's way to being connected ----

def ask(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(b'{"cmd":"status"}\n')
        reply = b""
        while not reply.endswith(b"\n"):
            part = sock.recv(65536)
            if not part:
                break
            reply += part
        return json.loads(reply)


def ready(arguments):
    path, since, seconds = arguments[0], int(arguments[1]) / 1e9, float(arguments[2])
    state = "not running"
    while time.time() < since + seconds:
        try:
            state = ask(path)["state"]
        except (OSError, ValueError):
            pass
        if state == "connected":
            print(round(time.time() - since, 3))
            return 0
        time.sleep(0.005)
    print(f"after {seconds} s the client is {state}", file=sys.stderr)
    return 1


# ---- UDP probe ----

def probe_packet(number, size):
    """Sequence number, send time, and filler that follows from the number."""
    head = struct.pack("!Qd", number, time.monotonic())
    return head + (hashlib.sha256(head[:8]).digest() * (size // 32 + 1))[:size - 16]


def udp_recv(arguments):
    port, seconds = int(arguments[0]), float(arguments[1])
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("::", port))
    sock.settimeout(0.2)
    print("# ready", file=sys.stderr, flush=True)
    end = time.monotonic() + seconds
    seen, delays = {}, []
    late = corrupt = highest = size = 0
    first = last = None
    while time.monotonic() < end:
        try:
            packet = sock.recv(65536)
        except socket.timeout:
            continue
        last = time.monotonic()
        number, sent = struct.unpack_from("!Qd", packet)
        filler = (hashlib.sha256(packet[:8]).digest() * (len(packet) // 32 + 1))[:len(packet) - 16]
        if filler != packet[16:] or abs(last - sent) > 60:
            corrupt += 1
            continue
        first = first or last
        size += len(packet)
        late += number < highest
        highest = max(highest, number)
        seen[number] = seen.get(number, 0) + 1
        delays.append((last - sent) * 1000)
    delays.sort()
    print(json.dumps({
        "received": sum(seen.values()), "distinct": len(seen),
        "duplicates": sum(seen.values()) - len(seen), "late": late, "corrupt": corrupt,
        "bytes": size, "seconds": (last - first) if first else 0,
        "delay_ms_min": delays[0] if delays else None,
        "delay_ms_median": delays[len(delays) // 2] if delays else None,
        "delay_ms_max": delays[-1] if delays else None}))


def udp_send(arguments):
    address, port, count, size, rate = arguments[0], *map(int, arguments[1:5])
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: never DF, never an EMSGSIZE
    sock.connect((address, port))
    start = time.monotonic()
    for number in range(1, count + 1):
        wait = start + number / rate - time.monotonic()
        if wait > 0.001:
            time.sleep(wait)
        try:
            sock.send(probe_packet(number, size))
        except (ConnectionError, BlockingIOError):
            pass


# ---- JSON ----

def get(arguments):
    document = json.load(sys.stdin)
    for key in arguments:
        value = document
        for part in key.split("."):
            if isinstance(value, list) and re.fullmatch(r"-?\d+", part) and value:
                value = value[int(part)]
            elif isinstance(value, dict):
                value = value.get(part)
            else:
                value = None
        if value is not None:
            print(value if isinstance(value, str) else json.dumps(value))
            return 0
    return 1


def median(_):
    print(round(statistics.median(float(word) for word in sys.stdin.read().split()), 3))


# ---- memory ----

def patterns(address):
    """Name -> bytes: the ways in which a program may hold an address."""
    ip = ipaddress.ip_address(address)
    raw = ip.packed
    found = {"text": str(ip).encode(), "network order": raw, "reversed": raw[::-1]}
    if ip.version == 6:
        found["text, long"] = ip.exploded.encode()
        found["text, upper case"] = str(ip).upper().encode()
        found["16-bit words swapped"] = b"".join(raw[i:i + 2][::-1] for i in range(0, 16, 2))
        found["32-bit words swapped"] = b"".join(raw[i:i + 4][::-1] for i in range(0, 16, 4))
        found["64-bit words swapped"] = raw[:8][::-1] + raw[8:][::-1]
    return found


def memory(arguments):
    """
    Stop the process, read every mapping through /proc/PID/mem, let it run on. Unlike a core file
    this holds pages marked as not to be dumped as well, and needs no debugger.
    """
    pid = int(arguments[0])
    wanted = [(address, name, data) for address in arguments[1:] for name, data in patterns(address).items()]
    hits, total, unread = [], 0, []
    os.kill(pid, signal.SIGSTOP)
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                fields = line.split()
                name = fields[5] if len(fields) > 5 else "anonymous"
                if "r" not in fields[1] or name in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                    continue
                start, end = (int(part, 16) for part in fields[0].split("-"))
                total += scan(mem, start, end, name, wanted, hits, unread)
    finally:
        os.kill(pid, signal.SIGCONT)
    print(json.dumps({"bytes": total, "unread": unread, "hits": hits}))
    return 0


def scan(mem, start, end, name, wanted, hits, unread):
    chunk, overlap, total, tail = 16 << 20, 64, 0, b""
    at = start
    while at < end:
        try:
            mem.seek(at)
            data = mem.read(min(chunk, end - at))
        except OSError as error:
            unread.append(f"{name} at {at:x}: {error.strerror}")
            break
        if not data:
            break
        block = tail + data
        for address, how, pattern in wanted:
            place = block.find(pattern)
            while place >= 0:
                # A find that ends inside the tail was reported with the block before.
                if place + len(pattern) > len(tail):
                    hits.append({"address": address, "as": how, "mapping": name,
                                 "at": hex(at - len(tail) + place),
                                 "around": block[max(0, place - 16):place + len(pattern) + 16].hex()})
                place = block.find(pattern, place + 1)
        tail = block[-overlap:]
        at += len(data)
        total += len(data)
    return total


COMMANDS = {"web": web, "dns": dns, "peers": peers, "udp-recv": udp_recv, "udp-send": udp_send,
            "get": get, "median": median, "ready": ready,
            "wire": lambda arguments: peers(arguments, True), "memory": memory}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
