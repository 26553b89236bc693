#!/usr/bin/python3
"""What the labs of names need beside shell.

    dns_tool.py resolved serve|refuse|hang FILE    systemd-resolved's manager on the system bus, as far as a VPN talks to
                                                   it; what it knows of links in FILE as JSON (python3-dbusmock)
    dns_tool.py watch IFACE GUARD...               frames from the client until SIGTERM, as JSON: to a guard's port 4242,
                                                   to ports of name services (53, 853, 5353, 5355, 137), others
    dns_tool.py lookups COUNT SERVER NAME ADDRESS PAUSE_MS FILE NEIGHBOUR
                                                   questions by getaddrinfo, UDP and TCP in turn, and strays (to the name
                                                   server of the local network and by mDNS, LLMNR, NetBIOS, also by sockets
                                                   that name eth0); how each ended, as JSON in FILE (renewed while it runs)
    dns_tool.py control SOCKET COMMAND             a command for a client that runs
"""

import collections
import json
import os
import random
import signal
import socket
import struct
import sys
import time

NAME_PORTS = (53, 853, 5353, 5355, 137)
running = True


def stop(*_):
    global running
    running = False


# ---- systemd-resolved ----

MANAGER = "org.freedesktop.resolve1.Manager"


def resolved(mode, path):
    import dbus
    import dbus.service
    import dbusmock
    from dbus.mainloop.glib import DBusGMainLoop
    from gi.repository import GLib

    DBusGMainLoop(set_as_default=True)
    bus = dbus.SystemBus()
    links = collections.defaultdict(dict)

    def keep():
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump({str(k): v for k, v in links.items()} | {"links": len(links), "link": next(iter(links.values()), {})},
                      file)
        os.rename(path + ".new", path)

    def told(mock, method, args):
        index = int(args[0])
        socket.if_indextoname(index)
        links[index][method] = json.loads(json.dumps(args[1:]))
        mock.props[MANAGER]["DNS"] = dbus.Array(
            [dbus.Struct((dbus.Int32(i), dbus.Int32(f), dbus.Array(a, signature="y")), signature="iiay")
             for i, link in links.items() for f, a in link.get("SetLinkDNS", [[]])[0]], signature="(iiay)")
        mock.props[MANAGER]["Domains"] = dbus.Array(
            [dbus.Struct((dbus.Int32(i), d, dbus.Boolean(r)), signature="isb")
             for i, link in links.items() for d, r in link.get("SetLinkDomains", [[]])[0]], signature="(isb)")
        keep()

    def told_nothing(mock):
        mock.props[MANAGER]["DNS"] = dbus.Array([], signature="(iiay)")
        mock.props[MANAGER]["Domains"] = dbus.Array([], signature="(isb)")
        keep()

    class Manager(dbusmock.DBusMockObject):
        def called(self, method, args):
            if mode == "refuse" and method.startswith("SetLink"):
                raise dbus.DBusException("Access denied by the test", name="org.freedesktop.DBus.Error.AccessDenied")
            if mode == "hang":
                time.sleep(3600)
            if method == "RevertLink":
                if int(args[0]) not in links:
                    raise dbus.DBusException(f"Link {int(args[0])} not known", name="org.freedesktop.resolve1.NoSuchLink")
                del links[int(args[0])]
                told_nothing(self)
            elif method.startswith("SetLink"):
                told(self, method, args)

    name = dbus.service.BusName("org.freedesktop.resolve1", bus, allow_replacement=True, replace_existing=True,
                                do_not_queue=True)
    mock = Manager(name, "/org/freedesktop/resolve1", MANAGER,
                   {"DNS": dbus.Array([], signature="(iiay)"), "Domains": dbus.Array([], signature="(isb)")})
    for method, signature in (("SetLinkDNS", "ia(iay)"), ("SetLinkDomains", "ia(sb)"), ("SetLinkDefaultRoute", "ib"),
                              ("SetLinkLLMNR", "is"), ("SetLinkMulticastDNS", "is"), ("SetLinkDNSOverTLS", "is"),
                              ("RevertLink", "i"), ("FlushCaches", "")):
        mock.AddMethod(MANAGER, method, signature, "", f"self.called({method!r}, args)")
    keep()
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGTERM, loop.quit)
    # Others change what it knows: `kill -USR1` forgets all links, as `resolvectl revert` does.
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, lambda: links.clear() or told_nothing(mock) or True)
    loop.run()


# ---- the wire ----


def ports_of(frame):
    """(protocol, source, target address, target port) of an IP packet; None: something else."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == 0x0800:
        at = 14 + (frame[14] & 15) * 4
        protocol, source, target = frame[23], frame[26:30], frame[30:34]
    elif kind == 0x86DD:
        at, protocol, source, target = 54, frame[20], frame[22:38], frame[38:54]
    else:
        return None
    if protocol not in (6, 17) or len(frame) < at + 4:
        return protocol, source, target, 0
    return protocol, source, target, struct.unpack_from("!H", frame, at + 2)[0]


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def watch(interface, *guards):
    guards = [packed(g) for g in guards]
    seen = collections.Counter(guard=0, names=0, other=0)
    names = collections.Counter()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
        s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        s.bind((interface, 0))
        s.settimeout(0.2)
        print("ready", flush=True)
        while running:
            try:
                frame, address = s.recvfrom(65536)
            except (TimeoutError, InterruptedError):
                continue
            except OSError:  # its interface went down; it comes back
                time.sleep(0.05)
                continue
            if address[2] == 4:  # PACKET_OUTGOING: to the client
                continue
            what = ports_of(frame)
            if what is None:
                continue
            protocol, _, target, port = what
            if target in guards and protocol == 17 and port == 4242:
                seen["guard"] += 1
            elif protocol in (6, 17) and port in NAME_PORTS:
                seen["names"] += 1
                names[f"{'udp' if protocol == 17 else 'tcp'} {port}"] += 1
            else:
                seen["other"] += 1
        lost = struct.unpack("II", s.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
    print(json.dumps({"frames": seen, "name_ports": names, "lost": lost}), flush=True)


# ---- questions ----


def question(name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", random.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def has_answer(reply, query, address):
    return reply[:2] == query[:2] and reply[3] & 15 == 0 and packed(address) in reply


def ask_udp(server, name, address):
    query = question(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((server, 53))
        s.send(query)
        return has_answer(s.recv(4096), query, address)


def ask_tcp(server, name, address):
    query = question(name)
    with socket.create_connection((server, 53), timeout=3) as s:
        s.sendall(struct.pack("!H", len(query)) + query)
        size = struct.unpack("!H", s.recv(2, socket.MSG_WAITALL))[0]
        return has_answer(s.recv(size, socket.MSG_WAITALL), query, address)


def ask_system(name, address):
    infos = socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)
    return infos[0][4][0] == address


def send_strays(neighbour, name):
    """What must not leave; returns how many were tried. Nobody is waited for."""
    query, tried = question(name), 0
    for target, port, device in ((neighbour, 53, ""), (neighbour, 53, "eth0"), (neighbour, 853, "eth0"),
                                 ("224.0.0.251", 5353, "eth0"), ("224.0.0.252", 5355, "eth0"),
                                 ("255.255.255.255", 137, "eth0")):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as s:
                s.setblocking(False)
                tried += 1
                try:
                    if device:
                        s.setsockopt(socket.SOL_SOCKET, 25, device.encode())  # SO_BINDTODEVICE
                    if kind == socket.SOCK_DGRAM:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                        s.sendto(query, (target, port))
                    else:
                        s.connect((target, port))
                except OSError:
                    pass
    return tried


def lookups(count, server, name, address, pause_ms, path, neighbour):
    count, pause = int(count), float(pause_ms) / 1000
    results = collections.Counter()
    strays = 0
    kinds = [("getaddrinfo", lambda: ask_system(name, address)), ("udp", lambda: ask_udp(server, name, address)),
             ("tcp", lambda: ask_tcp(server, name, address))]

    def keep(done):
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump({"done": done, "lookups": sum(results.values()), "results": results, "strays": strays}, file)
        os.rename(path + ".new", path)

    for i in range(count):
        if not running:
            break
        kind, ask = kinds[i % len(kinds)]
        try:
            ok = ask()
        except OSError:
            ok = False
        results[f"{kind} {'answered' if ok else 'failed'}"] += 1
        if i % 10 == 9:
            strays += send_strays(neighbour, name)
            keep(False)
        time.sleep(pause)
    keep(True)


def control(path, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(json.dumps({"cmd": command}).encode() + b"\n")
        reply = json.loads(s.makefile().readline())
    return 0 if reply.get("ok") else reply


def main():
    signal.signal(signal.SIGTERM, stop)
    command, *args = sys.argv[1:]
    sys.exit({"resolved": resolved, "watch": watch, "lookups": lookups, "control": control}[command](*args))


if __name__ == "__main__":
    main()
