#!/usr/bin/python3
"""Who tries to get past the kill switch, and who watches the wire. Standard library only.

    leak_tool.py probe RATE TARGET...     as any user would: UDP, TCP, echo, DNS, mDNS, in both families, also from
                                          sockets bound to eth0, until SIGTERM; prints how many were sent
    leak_tool.py probe-routed RATE TARGET...    the same without what chooses its interface itself
    leak_tool.py watch IFACE GUARD... [--next HOP...]    frames that arrive on IFACE until SIGTERM, as JSON: those to a
                                          guard's UDP port 4242, those that a host needs (DHCP; ARP and neighbour
                                          discovery of these next hops and of its own addresses), leaks
    leak_tool.py spoof IFACE MAC COUNT FROM4 FROM6 TO4 TO6    forged packets to the tunnel's addresses, and ARP
    leak_tool.py add                      what several probers printed, as one
    leak_tool.py answers IFACE PEER...    packets that arrive or leave on IFACE to these addresses, until SIGTERM

A probe carries MAGIC wherever it can: also what goes to a guard's own address and port is then known.
"""

import errno
import json
import signal
import socket
import struct
import sys
import time

MAGIC = b"MVPN-LEAK-PROBE!"
ETH_P_ALL = 3
SO_BINDTODEVICE = 25
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4
running = True


def stop(*_):
    global running
    running = False


# ---- probes ----

def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def bind_device(s, device):
    if device:
        s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())


def send_udp(target, port, device):
    with socket.socket(family_of(target), socket.SOCK_DGRAM) as s:
        bind_device(s, device)
        s.sendto(MAGIC, (target, port))


def send_syn(target, port, device):
    with socket.socket(family_of(target), socket.SOCK_STREAM) as s:
        s.setblocking(False)
        bind_device(s, device)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.connect_ex((target, port))


def send_echo(target, _port, device):
    v6 = family_of(target) == socket.AF_INET6
    protocol = socket.getprotobyname("ipv6-icmp") if v6 else socket.IPPROTO_ICMP
    with socket.socket(family_of(target), socket.SOCK_DGRAM, protocol) as s:
        bind_device(s, device)
        s.sendto(struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, 1) + MAGIC, (target, 0))


def send_mdns(target, _port, device):
    v6 = family_of(target) == socket.AF_INET6
    index = socket.if_nametoindex(device or "eth0")
    with socket.socket(family_of(target), socket.SOCK_DGRAM) as s:
        if v6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
        s.sendto(MAGIC, (target, 5353))


def send_broadcast(target, port, device):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        bind_device(s, device)
        s.sendto(MAGIC, (target, port))


def probes_of(targets, devices):
    kinds = []
    for target in targets:
        for device in devices:
            kinds += [(send_udp, target, port, device) for port in (53, 443, 853, 4242)]
            kinds += [(send_syn, target, port, device) for port in (53, 80, 853, 4242)]
            kinds.append((send_echo, target, 0, device))
    for device in devices if len(devices) > 1 else ():
        kinds += [(send_mdns, "224.0.0.251", 0, device), (send_mdns, "ff02::fb", 0, device),
                  (send_broadcast, "255.255.255.255", 137, device)]
    return kinds


def probe(rate, targets, devices):
    """What the kernel refuses is what we want: a probe counts when it was tried."""
    kinds, sent, refused, since = probes_of(targets, devices), 0, 0, time.monotonic()
    while running:
        for _ in range(max(1, rate // 100)):
            kind, target, port, device = kinds[sent % len(kinds)]
            sent += 1
            try:
                kind(target, port, device)
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.EACCES, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
                    raise
                refused += 1
        pause = since + sent / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    json.dump({"probes": sent, "refused": refused, "seconds": round(time.monotonic() - since, 1)}, sys.stdout)
    print()


def add():
    total = {}
    for line in sys.stdin:
        if line.startswith("{"):
            one = json.loads(line)
            total = {key: total.get(key, 0) + value for key, value in one.items() if key != "seconds"} | {
                "seconds": max(one["seconds"], total.get("seconds", 0))}
    json.dump(total, sys.stdout)


# ---- the wire ----

def open_wire(iface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    s.bind((iface, ETH_P_ALL))
    s.settimeout(0.1)
    return s


def frames(s):
    """All that arrives until we are told to end, and then what is still there, for a second at most."""
    end = None
    while True:
        end = end or (None if running else time.monotonic() + 1)
        if end and time.monotonic() > end:
            return
        try:
            frame, address = s.recvfrom(65536)
            yield frame, address[2]
        except socket.timeout:
            if not running:
                return


class Packet:
    """An IP packet in a frame, as far as it matters here."""

    def __init__(self, frame, at=14, ethertype=None):
        kind = ethertype or struct.unpack_from("!H", frame, 12)[0]
        self.kind, self.protocol, self.ports, self.type, self.sought = kind, None, None, None, ""
        self.source = self.target = ""
        if kind == 0x0800 and len(frame) >= at + 20:
            self.protocol, head = frame[at + 9], (frame[at] & 15) * 4
            self.source, self.target = (socket.inet_ntop(socket.AF_INET, frame[at + k:at + k + 4]) for k in (12, 16))
        elif kind == 0x86dd and len(frame) >= at + 40:
            self.protocol, head = frame[at + 6], 40
            self.source, self.target = (socket.inet_ntop(socket.AF_INET6, frame[at + k:at + k + 16]) for k in (8, 24))
            if self.protocol == 0:  # hop-by-hop options: multicast listener reports
                self.protocol, head = frame[at + 40], 40 + 8 * (frame[at + 41] + 1)
        else:
            return
        rest = frame[at + head:]
        if self.protocol in (6, 17) and len(rest) >= 4:
            self.ports = struct.unpack_from("!HH", rest)
        elif self.protocol in (1, 58) and rest:
            self.type = rest[0]
            if self.type in (135, 136) and len(rest) >= 24:
                self.sought = socket.inet_ntop(socket.AF_INET6, rest[8:24])

    def __str__(self):
        return f"{self.kind:#06x} {self.source} > {self.target} protocol {self.protocol} {self.ports or self.type}"


def seeks(p, frame):
    """Whose hardware address is asked for: None if nobody's, or the sender's own (RFC 5227 announcements and probes)."""
    if p.kind == 0x0806:
        p.source, p.target = (socket.inet_ntop(socket.AF_INET, frame[k:k + 4]) for k in (28, 38))
        return p.target if frame[20:22] == b"\0\1" and p.source not in ("0.0.0.0", p.target) else None
    return p.sought if p.type == 135 and p.source != "::" else None


def verdict(frame, guards, hops):
    p = Packet(frame)
    if MAGIC in frame:
        return "leak", p
    if p.kind == 0x0806:
        return "leak" if seeks(p, frame) and seeks(p, frame) not in hops else "arp", p
    if p.protocol == 17 and p.ports in ((68, 67), (546, 547)):
        return "dhcp", p
    if p.kind == 0x86dd and p.protocol == 58 and p.type in (133, 135, 136):
        sought = seeks(p, frame)
        return "leak" if sought and sought not in hops and not sought.startswith("fe80:") else "discovery", p
    if p.protocol == 17 and p.ports[1] == 4242 and p.target in guards:
        return "guard", p
    return "leak", p


def normal(addresses):
    return {socket.inet_ntop(family_of(a), socket.inet_pton(family_of(a), a)) for a in addresses}


def watch(iface, words):
    at = words.index("--next") if "--next" in words else len(words)
    guards, hops = normal(words[:at]), normal(words[at + 1:])
    s, count, examples = open_wire(iface), {}, {}
    print("ready", file=sys.stderr, flush=True)
    for frame, direction in frames(s):
        if direction == PACKET_OUTGOING:
            continue
        what, packet = verdict(frame, guards, hops)
        count[what] = count.get(what, 0) + 1
        if what == "leak" and len(examples) < 10:
            examples[str(packet)] = examples.get(str(packet), 0) + 1
    # struct tpacket_stats: what we were too slow for
    lost = struct.unpack("II", s.getsockopt(263, 6, 8))[1]
    count.setdefault("leak", 0)
    json.dump({"frames": count, "lost": lost, "leaks": examples}, sys.stdout)


# ---- forged packets ----

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data if len(data) % 2 == 0 else data + b"\0"))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip_packet(source, target, protocol, payload):
    v6 = family_of(source) == socket.AF_INET6
    a, b = (socket.inet_pton(family_of(source), x) for x in (source, target))
    at = {6: 16, 17: 6, 1: 2, 58: 2}[protocol]
    pseudo = b"" if protocol == 1 else a + b + struct.pack("!II" if v6 else "!HH", *(
        (len(payload), protocol) if v6 else (protocol, len(payload))))
    payload = payload[:at] + struct.pack("!H", checksum(pseudo + payload)) + payload[at + 2:]
    if v6:
        return 0x86dd, struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + a + b + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, a, b)
    return 0x0800, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def forged(source, target, number):
    v6, port = family_of(source) == socket.AF_INET6, 1024 + number % 60000
    kind = number % 4
    if kind == 0:
        return ip_packet(source, target, 17, struct.pack("!HHHH", 4444, port, 8, 0))
    if kind < 3:  # SYN to a closed or open port; SYN-ACK
        flags = 0x5002 if kind == 1 else 0x5012
        return ip_packet(source, target, 6, struct.pack("!HHIIHHHH", 80, port, number, 1, flags, 1024, 0, 0))
    return ip_packet(source, target, 58 if v6 else 1, struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 7, number % 65536))


def spoof(iface, mac, count, from4, from6, to4, to6):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind((iface, ETH_P_ALL))
    own, peer = s.getsockname()[4], bytes.fromhex(mac.replace(":", ""))
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, socket.inet_aton(from4), bytes(6), socket.inet_aton(to4))
    for number in range(count):
        ethertype, packet = forged(*((from4, to4) if number // 4 % 2 else (from6, to6)), number)
        s.send(peer + own + struct.pack("!H", ethertype) + packet)
        if number % 1000 == 0:
            s.send(peer + own + struct.pack("!H", 0x0806) + arp)


def answers(iface, peers):
    """Whatever speaks to the forger: IP, or ARP with an address that is not the host's own."""
    peers = normal(peers)
    s, count, examples = open_wire(iface), 0, []
    is_tun = not s.getsockname()[4]
    print("ready", file=sys.stderr, flush=True)
    for frame, _ in frames(s):
        if is_tun:
            p = Packet(frame, 0, 0x0800 if frame[0] >> 4 == 4 else 0x86dd)
        else:
            p = Packet(frame)
        is_arp = p.kind == 0x0806 and frame[20:22] == b"\0\2" and frame[28:30] == b"\x0a\x08"
        is_own = p.kind == 0x86dd and p.protocol == 58 and p.type in (133, 134, 135, 136)
        if is_arp or (p.target in peers and not is_own):
            count += 1
            examples = (examples + [str(p)])[:5]
    json.dump({"answers": count, "examples": examples}, sys.stdout)


def main():
    for signo in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signo, stop)
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "probe":
        probe(int(rest[0]), rest[1:], ("", "eth0"))
    elif verb == "probe-routed":
        probe(int(rest[0]), rest[1:], ("",))
    elif verb == "add":
        add()
    elif verb == "watch":
        watch(rest[0], rest[1:])
    elif verb == "spoof":
        spoof(rest[0], rest[1], int(rest[2]), *rest[3:7])
    elif verb == "answers":
        answers(rest[0], rest[1:])
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
