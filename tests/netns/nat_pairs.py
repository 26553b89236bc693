#!/usr/bin/python3
"""Pairs of homes behind NATs call each other by the real programs: who gets to whom, how soon, and by
which way. Asks the control sockets, runs "meshvpn ping". Standard library only.

    nat_pairs.py wait SOCKETS SECONDS NODE...            until each can be reached and knows its NAT
    nat_pairs.py knows SOCKETS SECONDS NODE BY...        until each of these knows the node
    nat_pairs.py until SOCKET PEER direct|relay SECONDS  until the link with the peer runs so
    nat_pairs.py way SOCKET PEER                         "direct|relay|no link;reason"
    nat_pairs.py nat SOCKET                              the NAT before it, in words
    nat_pairs.py call PROGRAM SOCKETS FILE RUN CALLER:CALLED...
                                                         one call each, all at once; adds a line of JSON
                                                         for each to FILE
    nat_pairs.py judge FILE DELAY_MS LOSS FIGURES TYPE...
                                                         table (standard error), "ok" or "FAIL" lines,
                                                         figures as JSON into a file

Homes are called SIDE-TYPE (a-port, a-port2): what is to be expected of a pair follows from the types.
"""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time

DIRECT_S = 1  # p95 from the open link, where nothing has to be found
BIRTHDAY_S = 10
BIRTHDAY_SHARE = 0.95
ROUND_TRIPS = 2
CALL_S = {"yes": 6, "any": 6, "no": 4, "birthday": 14}
INTERVAL_MS = 100
DIRECT_PINGS = 5  # in a row: then a call is over
# A round trip in this lab is less than a turn of a busy machine's scheduler, and than the 150 ms after which
# a first packet that was lost is sent again.
OPENED_FLOOR_MS = 250


# ---- the daemons ----

def ask(path, request):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(json.dumps(request).encode() + b"\n")
        reply = b""
        while not reply.endswith(b"\n"):
            part = sock.recv(65536)
            if not part:
                break
            reply += part
        return json.loads(reply)


def status(path):
    try:
        return ask(path, {"cmd": "status"})
    except (OSError, ValueError):
        return {}


def until(seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_ready(found):
    return found.get("nat", {}).get("is_known") and any(b["registered"] for b in found["nat"]["bindings"])


def wait(sockets, seconds, nodes):
    left = set(nodes)

    def all_there():
        left.difference_update([n for n in left if is_ready(status(os.path.join(sockets, n)))])
        return not left

    if until(seconds, all_there):
        return 0
    for node in sorted(left):
        print(node, json.dumps(status(os.path.join(sockets, node)).get("nat")))
    return 1


def link_of(found, peer):
    """The link over NATs, or the one there is."""
    links = [l for l in found.get("links", []) if isinstance(l, dict) and l.get("name") == peer]
    return max(links, key=lambda l: l.get("state") == "established", default=None)


def way_of(link):
    return None if link is None else "relay" if link.get("via") else "direct"


def knows(sockets, seconds, node, others):
    """What a ping that was never begun says of a relay: whether it is known at all."""
    def known(other):
        try:
            error = ask(os.path.join(sockets, other), {"cmd": "ping", "node": node}).get("error", "")
        except (OSError, ValueError):
            return False
        return not error.startswith("no relay called")
    return 0 if until(seconds, lambda: all(known(other) for other in others)) else 1


def way(path, peer):
    link = link_of(status(path), peer)
    print(f"{way_of(link) or 'no link'};{(link or {}).get('reason') or 'an ordinary link'}")
    return 0


def nat(path):
    """In words, for the demo."""
    found = status(path).get("nat", {})
    served = [b["name"] for b in found.get("bindings", []) if b.get("registered")]
    print(f"{found.get('class', 'unknown')} NAT, reached through {' and '.join(served) or 'nobody yet'}")
    return 0


# ---- one call ----

def call(program, path, caller, called, results):
    """Pings until the link was direct for a while, or could have been."""
    seconds = CALL_S[expected(type_of(caller), type_of(called))]
    command = [program, "ping", called, "--json", "--control", path, "--interval", str(INTERVAL_MS),
               "--count", str(int(seconds * 1000 / INTERVAL_MS))]
    lines = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        timer = threading.Timer(seconds + 12, process.terminate)  # a link may take its time to open
        timer.start()
        for line in process.stdout:
            lines.append(json.loads(line))
            if len(lines) >= DIRECT_PINGS and all(is_direct(l) for l in lines[-DIRECT_PINGS:]):
                process.terminate()
                break
        timer.cancel()
        error = process.stderr.read().strip()
    results.append(dict(outcome(lines), caller=caller, called=called, error=error, again_ms=again(path, called)))


def again(path, called):
    """Close the link, open another: its session at the NAT relay is there still. -> ms until it was open"""
    opened = None
    try:
        for _ in range(2):
            ask(path, {"cmd": "link_close", "node": called})
            time.sleep(0.2)  # until the peer knows it, too
            if opened is not None:
                break
            ask(path, {"cmd": "ping", "node": called, "start": True})
            found = {}
            until(3, lambda: found.update(ask(path, {"cmd": "ping", "node": called})) or found.get("done"))
            opened = found.get("opened_after_ms")
    except (OSError, ValueError):
        pass
    return opened


def is_direct(line):
    return line["via"] is None and line["rtt_ms"] is not None


def outcome(lines):
    last = lines[-1] if lines else {}
    relayed = [l["rtt_ms"] for l in lines if l["via"] is not None and l["rtt_ms"] is not None]
    direct = [l["rtt_ms"] for l in lines if is_direct(l)]
    return {"sent": len(lines), "answered": sum(l["rtt_ms"] is not None for l in lines),
            "opened_ms": first(l.get("opened_after_ms") for l in lines),
            "direct_ms": first(l.get("direct_after_ms") for l in lines) or (0 if direct and not relayed else None),
            "rtt_relay_ms": min(relayed, default=None), "rtt_direct_ms": min(direct, default=None),
            "over_nat": first(l.get("opened_after_ms") for l in lines) is not None,
            "way": None if not lines else "relay" if last["via"] else "direct", "reason": last.get("reason")}


def first(values):
    return next((v for v in values if v is not None), None)


def calls(program, sockets, file, run, pairs):
    results, threads = [], []
    for pair in pairs:
        caller, called = pair.split(":")
        threads.append(threading.Thread(target=call, args=(program, os.path.join(sockets, caller), caller, called,
                                                           results)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(file, "a", encoding="utf-8") as out:
        for result in results:
            out.write(json.dumps(dict(result, run=run)) + "\n")
    return 0


# ---- what is to be expected ----

def type_of(home):
    return home.split("-", 1)[1].rstrip("0123456789")


def hardness(kind):
    """How little is known of its next port: 0 all, 1 in sequence, 2 nothing."""
    return 2 if kind in ("addrmap", "sym", "doublesym") else 1 if kind == "symseq" else 0


def expected(a, b):
    """yes; birthday: by many sockets; any: luck has a part; no: stays relayed. As nat_punch.sh found."""
    if "blocked" in (a, b) or "v6only" in (a, b):
        return "no"
    hard, filters = [hardness(a), hardness(b)], [k not in ("public", "full", "addr") for k in (a, b)]
    if (hard[0] == 2 and filters[1]) or (hard[1] == 2 and filters[0]):
        return "birthday" if 0 in hard else "no"
    return "any" if hard == [1, 1] else "yes"


def percentile(values, share):
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def allowed_opened_ms(result, trips, delay):
    """Two home wires there and two back, if the link was direct before a ping went through the NAT relay."""
    trip = result["rtt_relay_ms"] or 4 * delay
    return max(OPENED_FLOOR_MS, trip * trips * 1.25 + OPENED_FLOOR_MS / 4)


class Cell:
    """All runs of one type calling another."""

    def __init__(self, caller, called, results, delay, is_bad):
        self.caller, self.called, self.results = caller, called, results
        self.expected = expected(caller, called)
        self.direct = [r["direct_ms"] for r in results if r["direct_ms"] is not None]
        self.opened = [r["opened_ms"] for r in results if r["opened_ms"] is not None]
        self.again = [r["again_ms"] for r in results if r["again_ms"] is not None]
        self.wrong, self.is_late = [], False
        silent = [r for r in results if r["answered"] == 0]
        if silent:
            self.wrong.append(f"{len(silent)} of {len(results)} times no answer: {silent[0]['error'] or silent[0]['reason']}")
        if not is_bad:  # a lost packet is sent again after a time that has nothing to do with round trips
            self.judge_opening("opened_ms", ROUND_TRIPS, delay)
            self.judge_opening("again_ms", 1, delay)
        if any(r["answered"] < r["sent"] * (0.5 if is_bad else 0.95) - 1 for r in results):
            self.wrong.append("pings were not answered: " + ", ".join(
                f"{r['answered']} of {r['sent']}" for r in results))
        # Longer wires, longer times: a round trip for the candidates, one for the punch, one for its proof.
        self.judge_way((DIRECT_S * 1000 + 3 * 4 * delay) * (4 if is_bad else 1))

    def judge_opening(self, key, trips, delay):
        late = [r for r in self.results if r[key] is not None and r[key] > allowed_opened_ms(r, trips, delay)]
        if len(late) > len(self.results) * 0.05:
            self.is_late = True
            self.wrong.append(f"{key}: " + ", ".join(
                f"{r[key]:.0f} (at most {allowed_opened_ms(r, trips, delay):.0f})" for r in late))

    def judge_way(self, limit):
        count = len(self.results)
        if self.expected == "yes":
            if len(self.direct) < count:
                self.wrong.append(f"{count - len(self.direct)} of {count} were never direct")
            elif percentile(self.direct, 0.95) > limit:
                self.wrong.append(f"direct after {percentile(self.direct, 0.95):.0f} ms (p95)")
        elif self.expected == "no" and self.direct:
            self.wrong.append("direct, which nobody thought possible")

    def text(self):
        if not self.direct:
            return "relayed"
        words = f"{percentile(self.direct, 0.5) / 1000:.2f}"
        if len(self.results) > 1:
            words += f"/{percentile(self.direct, 0.95) / 1000:.2f}"
        if len(self.direct) < len(self.results):
            words += f" {len(self.direct)}:{len(self.results) - len(self.direct)}"
        return words

    def as_dict(self):
        return {"caller": self.caller, "called": self.called, "expected": self.expected, "runs": len(self.results),
                "direct": len(self.direct),
                "opened_ms_median": percentile(self.opened, 0.5) if self.opened else None,
                "opened_ms_p95": percentile(self.opened, 0.95) if self.opened else None,
                "again_ms_p95": percentile(self.again, 0.95) if self.again else None,
                "direct_ms_median": percentile(self.direct, 0.5) if self.direct else None,
                "direct_ms_p95": percentile(self.direct, 0.95) if self.direct else None,
                "wrong": self.wrong}


def judge_birthdays(cells):
    """Luck has a part in one run, hardly in many; so all of these cells are judged together too."""
    runs = sum(len(c.results) for c in cells)
    direct = sum(sum(ms <= BIRTHDAY_S * 1000 for ms in c.direct) for c in cells)
    failures = max(1, runs * 0.3) if runs < 60 else runs * (1 - BIRTHDAY_SHARE)
    wrong = [] if runs - direct <= failures else [f"{direct} of {runs} were direct within {BIRTHDAY_S} s"]
    return {"runs": runs, "direct": direct, "wrong": wrong}


def say(name, wrong):
    print("ok" if not wrong else "FAIL", "nat_" + name)
    for words in wrong:
        print("   ", words)
    return bool(wrong)


def read(file):
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def judge(file, delay, loss, figures, types):
    results = read(file)
    cells = []
    for a in types:
        for b in types:
            found = [r for r in results if type_of(r["caller"]) == a and type_of(r["called"]) == b]
            if found:
                cells.append(Cell(a, b, found, delay, loss > 0))
    print("%-11s" % "", *("%-13s" % t for t in types), file=sys.stderr)
    for a in types:
        row = {c.called: c.text() for c in cells if c.caller == a}
        print("%-11s" % a, *("%-13s" % row.get(b, "") for b in types), file=sys.stderr)
    failed = 0
    for c in cells:
        failed += say(f"{c.caller}_calls_{c.called}", c.wrong)
    summary = {"delay_ms": delay, "loss": loss, "cells": [c.as_dict() for c in cells]}
    births = [c for c in cells if c.expected == "birthday"]
    if births:
        summary["birthdays"] = judge_birthdays(births)
        failed += say("birthdays", summary["birthdays"]["wrong"])
    summary.update(totals(cells))
    with open(figures, "w", encoding="utf-8") as out:
        json.dump(summary, out)
    print(summary["line"], file=sys.stderr)
    return failed > 0


def totals(cells):
    sure = [c for c in cells if c.expected == "yes"]
    late = [c for c in cells if c.is_late or any(r["answered"] == 0 for r in c.results)]
    direct = [ms for c in sure for ms in c.direct]
    births = [c for c in cells if c.expected == "birthday"]
    line = f"established within {ROUND_TRIPS} round trips in {len(cells) - len(late)} of {len(cells)} cells"
    if direct:
        line += (f"; direct where possible: {len(direct)} of {sum(len(c.results) for c in sure)}, p95 "
                 f"{percentile(direct, 0.95) / 1000:.2f} s")
    if births:
        both = judge_birthdays(births)
        line += f"; port x sym: {both['direct']} of {both['runs']} direct within {BIRTHDAY_S} s"
    return {"line": line}


def main():
    verb, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if verb == "wait":
        return wait(words[0], float(words[1]), words[2:])
    if verb == "knows":
        return knows(words[0], float(words[1]), words[2], words[3:])
    if verb == "until":
        return 0 if until(float(words[3]), lambda: way_of(link_of(status(words[0]), words[1])) == words[2]) else 1
    if verb == "way":
        return way(*words)
    if verb == "nat":
        return nat(*words)
    if verb == "call":
        return calls(*words[:3], int(words[3]), words[4:])
    if verb == "judge":
        return judge(words[0], float(words[1]), float(words[2]), words[3], words[4:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
