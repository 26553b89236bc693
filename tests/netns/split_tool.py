#!/usr/bin/python3
"""What leaves a host whose client sends some of it outside the tunnel. Standard library only.

    split_tool.py watch IFACE GUARD...   packets that arrive on IFACE until SIGTERM, without those to a guard's UDP port
                                         4242 and those that a host needs: a JSON object {"probes": N of leak_tool's
                                         probes, "flows": {"SOURCE > TARGET PROTOCOL PORT": N}, "lost": N}
    split_tool.py sink PORT              take one connection, print how many bytes came
    split_tool.py send ADDRESS PORT N    connect, send N bytes, close at once: the rest leaves without a socket's owner
    split_tool.py say ADDRESS PORT FROM  one datagram, from port FROM
    split_tool.py keep GROUP OTHER GO ADDRESS PORT
                                         open a socket as a process of cgroup GROUP and go on as one of OTHER (their
                                         directories); once there is a file GO, fetch the page /keep by that socket
    split_tool.py serve PORT             answer connections with one line, until SIGTERM
"""

import json
import os
import signal
import socket
import struct
import sys
import time

import leak_tool


def is_needed(p, guards):
    """ARP, DHCP, neighbour discovery, and the client's own."""
    return (p.kind == 0x0806 or (p.protocol == 17 and p.ports in ((68, 67), (546, 547))) or
            (p.kind == 0x86dd and p.protocol == 58 and p.type in (133, 135, 136)) or
            (p.protocol == 17 and p.ports[1] == 4242 and p.target in guards))


def watch(iface, guards):
    guards = {socket.inet_ntop(leak_tool.family_of(g), socket.inet_pton(leak_tool.family_of(g), g)) for g in guards}
    s, flows, probes = leak_tool.open_wire(iface), {}, 0
    print("ready", file=sys.stderr, flush=True)
    for frame, direction in leak_tool.frames(s):
        if direction == leak_tool.PACKET_OUTGOING:
            continue
        if leak_tool.MAGIC in frame:
            probes += 1
            continue
        p = leak_tool.Packet(frame)
        if not is_needed(p, guards):
            key = f"{p.source} > {p.target} {p.protocol} {p.ports[1] if p.ports else p.type}"
            flows[key] = flows.get(key, 0) + 1
    lost = struct.unpack("II", s.getsockopt(263, 6, 8))[1]
    json.dump({"probes": probes, "flows": flows, "lost": lost}, sys.stdout)


def listen(port):
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", port))
    s.listen()
    return s


def sink(port):
    peer, total = listen(port).accept()[0], 0
    peer.settimeout(10)
    while True:
        data = peer.recv(1 << 16)
        if not data:
            break
        total += len(data)
    print(total)


def send(address, port, count):
    with socket.create_connection((address, port), timeout=5) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        s.setblocking(False)
        sent = s.send(bytes(count))
    print(sent)


def say(address, port, source):
    with socket.socket(leak_tool.family_of(address), socket.SOCK_DGRAM) as s:
        s.bind(("", source))
        s.sendto(b"said", (address, port))


def join(group):
    with open(os.path.join(group, "cgroup.procs"), "w") as f:
        f.write(str(os.getpid()))


def keep(group, other, go, address, port):
    join(group)
    with socket.socket() as s:
        join(other)
        print("ready", flush=True)
        while leak_tool.running and not os.path.exists(go):
            time.sleep(0.05)
        s.settimeout(5)
        s.connect((address, port))
        s.sendall(b"GET /keep HTTP/1.0\r\n\r\n")
        while s.recv(1 << 16):
            pass


def serve(port):
    s = listen(port)
    s.settimeout(0.1)
    while leak_tool.running:
        try:
            peer = s.accept()[0]
        except socket.timeout:
            continue
        peer.sendall(b"served\n")
        peer.close()


def main():
    for signo in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signo, leak_tool.stop)
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "watch":
        watch(rest[0], rest[1:])
    elif verb == "sink":
        sink(int(rest[0]))
    elif verb == "send":
        send(rest[0], int(rest[1]), int(rest[2]))
    elif verb == "say":
        say(rest[0], int(rest[1]), int(rest[2]))
    elif verb == "keep":
        keep(*rest[:4], int(rest[4]))
    elif verb == "serve":
        serve(int(rest[0]))
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
