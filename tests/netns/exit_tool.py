#!/usr/bin/python3
"""What tests of an exit ask from the client's side. Standard library only.

    exit_tool.py dns SERVER NAME TYPE udp|tcp      "RCODE [RECORD...]", or "none"
    exit_tool.py connect ADDRESS PORT              "open", or the error's name, and the milliseconds
    exit_tool.py connects ADDRESS PORT COUNT       how many of COUNT TCP connections were opened
    exit_tool.py refused ADDRESS PORT              "refused" if a UDP datagram is answered by "port unreachable", else "silent"
    exit_tool.py flows ADDRESS PORT COUNT          how many of COUNT UDP flows were echoed
    exit_tool.py echo PORT                         UDP echo server until SIGTERM
    exit_tool.py stream PORT                       sends every 20 ms to all who ever asked, until SIGTERM
    exit_tool.py blast ADDRESS PORT MBIT SECONDS   so much UDP, counted as IP packets
    exit_tool.py sink PORT SECONDS                 kbit/s of it that arrive, from 1.5 s after the first on
    exit_tool.py hears PORT SECONDS                how many UDP datagrams from PORT any device brings
"""
import errno
import ipaddress
import socket
import struct
import sys
import time

TYPES = {"A": 1, "CNAME": 5, "TXT": 16, "AAAA": 28, "HTTPS": 65}


def skip_name(message, at):
    while message[at] != 0:
        if message[at] & 0xc0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def records(message):
    at = skip_name(message, 12) + 4
    for _ in range(struct.unpack(">H", message[6:8])[0]):
        at = skip_name(message, at)
        kind, _, _, n = struct.unpack(">HHIH", message[at:at + 10])
        data = message[at + 10:at + 10 + n]
        at += 10 + n
        yield str(ipaddress.ip_address(data)) if kind in (1, 28) else f"type{kind}:{n}"


def dns(server, name, kind, protocol):
    query = struct.pack(">HHHHHH", 0x4d56, 0x0100, 1, 0, 0, 0)
    query += b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
    query += struct.pack(">HH", TYPES[kind], 1)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        if protocol == "tcp":
            with socket.create_connection((server, 53), 5) as s:
                s.sendall(struct.pack(">H", len(query)) + query)
                f = s.makefile("rb")
                answer = f.read(struct.unpack(">H", f.read(2))[0])
        else:
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.settimeout(5)
                s.connect((server, 53))
                s.send(query)
                answer = s.recv(65535)
    except (OSError, struct.error):
        return "none"
    cut = " cut" if answer[2] & 2 else ""
    return " ".join([str(answer[3] & 15) + cut, *records(answer)])


def connect(address, port):
    since = time.monotonic()
    try:
        socket.create_connection((address, int(port)), 5).close()
        what = "open"
    except socket.timeout:
        what = "timeout"
    except OSError as e:
        what = errno.errorcode.get(e.errno, str(e))
    return f"{what} {(time.monotonic() - since) * 1000:.0f}"


def connects(address, port, count):
    opened = []
    for _ in range(int(count)):
        try:
            opened.append(socket.create_connection((address, int(port)), 0.3))
        except OSError:
            pass
    return str(len(opened))


def refused(address, port):
    """Asked again, as errors may be lost, like all datagrams."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((address, int(port)))
        s.settimeout(0.5)
        for _ in range(20):
            try:
                s.send(b"x")
                s.recv(16)
            except socket.timeout:
                pass
            except ConnectionRefusedError:
                return "refused"
    return "silent"


def flows(address, port, count):
    sockets = []
    for _ in range(int(count)):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect((address, int(port)))
        try:
            s.send(b"x")
        except OSError:
            pass
        sockets.append(s)
        time.sleep(0.002)
    time.sleep(0.5)
    echoed = 0
    for s in sockets:
        s.setblocking(False)
        try:
            echoed += s.recv(16) == b"x"
        except OSError:
            pass
    return str(echoed)


def echo(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind(("0.0.0.0", int(port)))
    while True:
        data, peer = s.recvfrom(2048)
        s.sendto(data, peer)


def stream(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", int(port)))
    s.settimeout(0.02)
    peers = set()
    while True:
        try:
            peers.add(s.recvfrom(2048)[1])
        except OSError:  # nobody, or an old peer's host that says so
            pass
        for peer in peers:
            try:
                s.sendto(b"x", peer)
            except OSError:
                pass


HEADERS = 28
DATAGRAM = 1000


def blast(address, port, mbit, seconds):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, int(port)))
    gap = (DATAGRAM + HEADERS) * 8 / (float(mbit) * 1e6)
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic()) < start + float(seconds):
        while sent * gap < now - start:
            try:
                s.send(bytes(DATAGRAM))
            except OSError:
                pass
            sent += 1
        time.sleep(0.002)
    return str(sent)


def sink(port, seconds):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind(("0.0.0.0", int(port)))
    s.settimeout(10)
    s.recv(2048)
    start = time.monotonic() + 1.5  # what may pass at once has passed
    got = 0
    while (now := time.monotonic()) < start + float(seconds):
        bits = (len(s.recv(2048)) + HEADERS) * 8
        got += bits if now >= start else 0
    return f"{got / float(seconds) / 1000:.0f}"


def hears(port, seconds):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    end = time.monotonic() + float(seconds)
    count = 0
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            p = s.recv(2048)
        except OSError:
            break
        count += p[9] == socket.IPPROTO_UDP and int.from_bytes(p[20:22], "big") == int(port)
    return str(count)


if __name__ == "__main__":
    print(globals()[sys.argv[1]](*sys.argv[2:]))
