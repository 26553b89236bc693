#!/usr/bin/python3
"""Observers of NATs and a plain UDP puncher: what nat.sh's homes do and what they can reach, found
without any code of the programs. Standard library only.

    nat_tool.py serve PORT ADDRESS4 OTHER4 ADDRESS6 OTHER6
    nat_tool.py probe PORT ADDRESS OTHER [--lifetime SHORT,LONG]     JSON: what kind of NAT this is
    nat_tool.py punch PORT ADDRESS OTHER SESSION 0|1 [OPTION...]     JSON: whether and when it was direct
        --seconds S     give up after so long (3)
        --predict N     ports tried around a sequential peer's next (11; 0: none)
        --birthday      256 sockets against random ports where the types leave nothing else
    nat_tool.py natdiscovery SERVER                                 JSON: coturn's opinion
    nat_tool.py flat FILE...                                        "name key=value" of JSON files, for shells
"""

import argparse
import json
import os
import random
import re
import select
import socket
import subprocess
import time

PUNCH_EVERY = 0.05
AGREED_AHEAD = 0.1  # the common instant, after both are known
SOFT_PROBES = 400  # a second, from the side whose mapping is known
HARD_SOCKETS = 256


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def udp(address="", port=0, family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


def send(sock, message, to):
    try:
        sock.sendto(json.dumps(message).encode(), tuple(to))
    except OSError:
        pass  # unreachable, or a full queue: as if it were lost


# ---- observers ----

def serve(port, *addresses):
    """Four sockets for each family: two addresses, two ports. Each tells whence a question came and
    answers from the socket that is asked for; "join" makes two sides of a session known to each other."""
    place, sessions = {}, {}
    for i, address in enumerate(addresses):
        for j in range(2):
            place[udp(address, port + j, family_of(address))] = (i // 2, i % 2, j)
    at = {where: sock for sock, where in place.items()}
    tcp = socket.create_server(("", port))  # says that all are there, and that TCP passes
    while True:
        for sock in select.select([*place, tcp], [], [])[0]:
            if sock is tcp:
                sock.accept()[0].close()
                continue
            try:
                data, source = sock.recvfrom(2048)
                question = json.loads(data)
                family, address, own_port = place[sock]
                change = question.get("change", "")
                answer = at[family, address ^ ("a" in change), own_port ^ ("p" in change)]
                reply = {"id": question["id"], "seen": source[:2]}
                if "join" in question:
                    reply["peer"] = join(sessions, question)
                # Tell another: only in the lab, where nobody can be a victim.
                send(answer, reply, question.get("to", source))
            except (OSError, ValueError, KeyError, TypeError):
                continue


def join(sessions, question):
    session = sessions.setdefault(question["join"], {})
    session[question["side"]] = question["about"]
    if len(session) < 2:
        return None
    session.setdefault("at", time.monotonic() + AGREED_AHEAD)
    return {"about": session[1 - question["side"]], "at": session["at"]}


# ---- the prober ----

class Asker:
    def __init__(self, family=socket.AF_INET):
        self.sock = udp(family=family)
        self.number = random.getrandbits(40)
        self.inbox = []

    def receive(self, until):
        while time.monotonic() < until:
            if select.select([self.sock], [], [], max(0, until - time.monotonic()))[0]:
                try:
                    data, source = self.sock.recvfrom(2048)
                    return json.loads(data), source[:2]
                except (OSError, ValueError):
                    continue
        return None, None

    def ask(self, to, change="", tries=3, each=0.5, **more):
        """-> (answer, its source) or (None, None)"""
        for _ in range(tries):
            self.number += 1
            send(self.sock, {"id": self.number, "change": change, **more}, to)
            until = time.monotonic() + each
            while True:
                answer, source = self.receive(until)
                if answer is None:
                    break
                if answer.get("id") == self.number:
                    return answer, source
        return None, None

    def seen(self, to):
        answer, _ = self.ask(to)
        return answer and tuple(answer["seen"])

    def port(self):
        return self.sock.getsockname()[1]


def mapping_of(family, port, address, other):
    asker = Asker(family)
    first, same_ip, other_ip = (asker.seen(to) for to in ((address, port), (address, port + 1), (other, port)))
    if first is None:
        return None
    ports = [seen and seen[1] for seen in (first, same_ip, other_ip)]
    if first == same_ip == other_ip:
        kind = "endpoint"
    elif first == same_ip:
        kind = "address"
    else:
        kind = "address and port"
    steps = {b - a for a, b in zip(ports, ports[1:])} if None not in ports else set()
    return {"mapping": kind, "address": first[0], "keeps_port": ports[0] == asker.port(),
            "step": steps.pop() if len(steps) == 1 and kind == "address and port" else 0}


def filtering_of(family, port, address):
    asker = Asker(family)
    asker.ask((address, port))
    # The widest change first, from one socket that never spoke to the others.
    if asker.ask((address, port), "ap", 2, 0.4)[0]:
        return "endpoint"
    if asker.ask((address, port), "p", 2, 0.4)[0]:
        return "address"
    return "address and port"


def hairpin_of(family, port, address):
    """Does a packet to our own outside address come back in, and from an outside address?"""
    first, second = Asker(family), Asker(family)
    outside = first.seen((address, port))
    second.seen((address, port))
    if outside is None:
        return None
    if outside[1] == first.port() and outside[0] == own_address(family, address):
        return None  # no NAT: the question has no meaning
    for _ in range(3):
        send(second.sock, {"id": 0}, outside)
        answer, source = first.receive(time.monotonic() + 0.2)
        if answer:
            return "on" if source[0] == outside[0] else "on, inside source"
    return "off"


def own_address(family, towards):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((towards, 9))
        except OSError:
            return None
        return sock.getsockname()[0]


def lifetime_of(family, port, address, short, long):
    """Idle for `short` seconds a mapping must still pass the observer's packet, for `long` not. The
    packet is asked for by another socket: a question of the idle one's own would revive the mapping."""
    start = time.monotonic()
    idlers = [Asker(family), Asker(family)]
    outside = [idler.seen((address, port)) for idler in idlers]
    alive = []
    for idler, place, idle in zip(idlers, outside, (short, long)):
        time.sleep(max(0, start + idle - time.monotonic()))
        send(Asker(family).sock, {"id": -1, "to": place}, (address, port))
        alive.append(idler.receive(time.monotonic() + 0.5)[0] is not None)
    return {"alive_after": short if alive[0] else None, "dead_after": None if alive[1] else long}


def probe(port, address, other, lifetime):
    family = family_of(address)
    result = {"udp": False, "tcp": False}
    try:
        socket.create_connection((address, port), 2).close()
        result["tcp"] = True
    except OSError:
        pass
    found = mapping_of(family, port, address, other)
    if found:
        result.update(found, udp=True, filtering=filtering_of(family, port, address))
        result["nat"] = not (result["keeps_port"] and result["address"] == own_address(family, address))
        result["hairpin"] = hairpin_of(family, port, address)
        if lifetime:
            result["lifetime"] = lifetime_of(family, port, address, *lifetime)
    return result


# ---- coturn's client ----

def natdiscovery(server):
    """turnutils_natdiscovery in prose -> our words."""
    out = subprocess.run(["turnutils_natdiscovery", "-m", "-f", "-H", server], stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=40, text=True).stdout
    words = {"Endpoint Independent": "endpoint", "Address Dependent": "address",
             "Address and Port Dependent": "address and port"}
    result = {}
    for kind in ("Mapping", "Filtering"):
        found = re.findall(rf"NAT with (.*?) {kind}", out)
        result[kind.lower()] = words.get(found[-1].strip(), found[-1]) if found else None
    result["hairpin"] = "on" if "successful hairpinning" in out else "off"
    result["text"] = out
    return result


def flat(files):
    """One process for all the files: a shell that asks key by key spends its time starting Python."""
    for file in files:
        with open(file, encoding="utf-8") as lines:
            try:
                found = json.load(lines)
            except ValueError:
                found = {"broken": True}
        for key, value in leaves(found):
            print(f"{os.path.basename(file)} {key}={value if isinstance(value, str) else json.dumps(value)}")


def leaves(found, above=""):
    for key, value in found.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        elif key != "text":
            yield above + key, value


# ---- the puncher ----

def punch(port, address, other, session, side, seconds, predict, birthday):
    asker = Asker()
    seen = [asker.seen(to) for to in ((address, port), (other, port))]
    if None in seen:
        return {"direct": False, "why": "no UDP"}
    step = seen[1][1] - seen[0][1]
    about = {"address": seen[1][0], "port": seen[1][1], "step": step, "hard": step != 0}
    peer = meet(asker, (address, port), session, side, about)
    if peer is None:
        return {"direct": False, "why": "the peer did not come"}
    time.sleep(max(0, peer["at"] - time.monotonic()))
    return duel(asker, about, peer["about"], peer["at"], session, seconds, predict, birthday)


def meet(asker, to, session, side, about):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        answer, _ = asker.ask(to, tries=1, each=1, join=session, side=side, about=about)
        if answer and answer["peer"]:
            return answer["peer"]
        time.sleep(0.03)
    return None


def guesses(peer, predict):
    """Where the peer's next mapping may be."""
    ports = [peer["port"]]
    if 0 < abs(peer["step"]) <= 10:
        ports += [peer["port"] + peer["step"] * i for i in range(1, predict + 1)]
    return [(peer["address"], p) for p in ports if 0 < p < 65536]


def duel(asker, own, peer, start, session, seconds, predict, birthday):
    is_hard_side = birthday and own["hard"] and not peer["hard"]
    is_soft_side = birthday and peer["hard"] and not own["hard"]
    socks = [asker.sock] + [udp() for _ in range(HARD_SOCKETS - 1 if is_hard_side else 0)]
    targets = guesses(peer, predict)
    hello, heard, sent = {"punch": session, "heard": False}, {}, 0
    next_punch = next_probe = start
    confirmed = None
    # After success, on for a little: the peer may still wait for our word.
    while time.monotonic() < start + seconds and (confirmed is None or time.monotonic() < confirmed + 0.3):
        now = time.monotonic()
        if now >= next_punch:
            for sock in socks:
                for target in targets:
                    send(sock, hello, target)
                    sent += 1
            for sock, source in heard.items():
                send(sock, {"punch": session, "heard": True}, source)
            # Many sockets speak once a second: their mappings only have to stay.
            next_punch = now + (1 if is_hard_side else PUNCH_EVERY)
        if is_soft_side and not heard and now >= next_probe:
            send(asker.sock, hello, (peer["address"], random.randrange(1024, 65536)))
            sent += 1
            next_probe = max(now - 0.05, next_probe) + 1 / SOFT_PROBES
        wake = min(next_punch, next_probe) if is_soft_side and not heard else next_punch
        for sock in select.select(socks, [], [], max(0, min(wake - time.monotonic(), 0.05)))[0]:
            try:
                data, source = sock.recvfrom(2048)
                message = json.loads(data)
            except (OSError, ValueError):
                continue
            if message.get("punch") != session:
                continue
            heard[sock] = source
            if message["heard"] and confirmed is None:
                confirmed = time.monotonic()
            send(sock, {"punch": session, "heard": True}, source)
    return {"direct": confirmed is not None, "sent": sent, **own,
            "seconds": None if confirmed is None else round(confirmed - start, 3)}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("serve")
    verb.add_argument("port", type=int)
    verb.add_argument("addresses", nargs=4)
    verb = verbs.add_parser("probe")
    verb.add_argument("--lifetime", type=lambda text: [float(word) for word in text.split(",")])
    punching = verbs.add_parser("punch")
    for each in (verb, punching):
        each.add_argument("port", type=int)
        each.add_argument("address")
        each.add_argument("other")
    punching.add_argument("session")
    punching.add_argument("side", type=int)
    punching.add_argument("--seconds", type=float, default=3)
    punching.add_argument("--predict", type=int, default=11)
    punching.add_argument("--birthday", action="store_true")
    verbs.add_parser("natdiscovery").add_argument("server")
    verbs.add_parser("flat").add_argument("files", nargs="+")
    o = parser.parse_args()
    if o.verb == "serve":
        serve(o.port, *o.addresses)
    elif o.verb == "probe":
        print(json.dumps(probe(o.port, o.address, o.other, o.lifetime)))
    elif o.verb == "flat":
        flat(o.files)
    elif o.verb == "natdiscovery":
        print(json.dumps(natdiscovery(o.server)))
    else:
        print(json.dumps(punch(o.port, o.address, o.other, o.session, o.side, o.seconds, o.predict, o.birthday)))


if __name__ == "__main__":
    os.umask(0o077)
    main()
