#!/usr/bin/python3
"""Connections that go on while something happens to their circuit, and what they noticed of it.
Standard library only. Times are microseconds of CLOCK_MONOTONIC, the same clock in every namespace.

    session_tool.py serve PORT                   the far end of hold and bulk
    session_tool.py hold ADDRESS PORT FILE [MS]  a connection with a line every MS (0: silent) until SIGTERM; one that
                                                 is lost is opened again. FILE grows by a line for each event:
                                                 "open TIME PORT", "lost TIME REASON", "pause FROM TO", "end TIME PORT"
    session_tool.py bulk ADDRESS PORT SECONDS BYTES_PER_S LIMIT
                                                 so much in both directions; JSON: is it whole, when it paused
    session_tool.py clock                        CLOCK_REALTIME minus CLOCK_MONOTONIC
    session_tool.py event FOLDER SINCE HIT END   JSON: what FOLDER's flow.up, flow.down, bulk.json, hold, idle and new say
                                                 of what happened at HIT; connections lost since SINCE
    session_tool.py back FOLDER SINCE LINK END   JSON: the same of a link that is there again since LINK
    session_tool.py summary NAME FILE KEY=VALUE... [--text]
                                                 JSON of all lines of FILE (events as JSON, each with its "kind")
"""

import errno
import hashlib
import json
import math
import os
import select
import signal
import socket
import statistics
import sys
import threading
import time

sys.dont_write_bytecode = True  # nothing is written beside the sources
import nat_flow  # noqa: E402

CHUNK = 65536
TICK_S = 0.01
PAUSE_US = 100_000
ECHO_WAIT_S = 0.3
CONNECT_WAIT_S = 0.4
# What the issue asks for, milliseconds.
GAP_MEDIAN_MS = 1000
GAP_P95_MS = 3000
BACK_MS = 2000


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def reason(error):
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


# ---- the far end ----

class Progress:
    """What came when: its checksum, and each time in which nothing did."""

    def __init__(self):
        self.digest, self.size, self.pauses, self.last = hashlib.sha256(), 0, [], now()

    def add(self, data):
        at = now()
        if at - self.last > PAUSE_US:
            self.pauses.append((self.last, at))
        self.last = at
        self.digest.update(data)
        self.size += len(data)


def send_paced(sock, size, rate, digest):
    """Never in step with what was lost: what is behind is made up for at once."""
    block = os.urandom(CHUNK)
    begin, sent = time.monotonic(), 0
    while sent < size:
        due = min(size, int((time.monotonic() - begin) * rate) + 1)
        if due <= sent:
            time.sleep(TICK_S)
            continue
        part = sent.to_bytes(8, "big") + block[:min(CHUNK, due - sent)]
        part = part[:due - sent]
        sock.sendall(part)
        digest.update(part)
        sent += len(part)


def serve_one(sock):
    with sock:
        sock.settimeout(300)
        reader = sock.makefile("rb")
        try:
            order = json.loads(reader.readline())
            if order["kind"] == "hold":
                sock.settimeout(None)
                for line in reader:
                    sock.sendall(line)
            else:
                serve_bulk(sock, reader, order)
        except (OSError, ValueError):
            pass


def serve_bulk(sock, reader, order):
    sent, came = hashlib.sha256(), Progress()
    sender = threading.Thread(target=send_safely, args=(sock, order["size"], order["rate"], sent))
    sender.start()
    while came.size < order["size"]:
        data = reader.read1(min(CHUNK, order["size"] - came.size))
        if not data:
            return
        came.add(data)
    sender.join()
    sock.sendall(json.dumps({"sent": sent.hexdigest(), "came": came.digest.hexdigest(),
                             "pauses": came.pauses}).encode() + b"\n")


def send_safely(*arguments):
    try:
        send_paced(*arguments)
    except OSError:
        pass


def serve(port):
    listener = socket.create_server(("", int(port)), backlog=64)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve_one, args=(sock,), daemon=True).start()


# ---- a connection that is kept ----

def hold(address, port, path, interval="100"):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    seconds = float(interval) / 1000
    with open(path, "a", encoding="ascii", buffering=1) as log:
        while not stop:
            try:
                sock = socket.create_connection((address, int(port)), timeout=CONNECT_WAIT_S)
            except OSError:
                time.sleep(0.02)
                continue
            with sock:
                hold_one(sock, seconds, stop, log)


def hold_one(sock, seconds, stop, log):
    port = sock.getsockname()[1]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    log.write(f"open {now()} {port}\n")
    last, paused, due = now(), None, 0.0
    try:
        sock.send(b'{"kind":"hold"}\n')
        while not stop:
            if seconds > 0 and time.monotonic() >= due:
                due = time.monotonic() + seconds
                try:
                    sock.send(b"%d\n" % now())
                except BlockingIOError:
                    pass
            ready, _, _ = select.select([sock], [], [], min(seconds or 0.2, 0.2))
            if ready:
                if not sock.recv(CHUNK):
                    raise ConnectionError(0, "closed")
                if paused:
                    log.write(f"pause {paused} {now()}\n")
                last, paused = now(), None
            elif seconds > 0 and now() - last > ECHO_WAIT_S * 1e6 and not paused:
                paused = last
    except OSError as error:
        log.write(f"lost {now()} {reason(error)}\n")
        return
    log.write(f"end {now()} {port}\n")


# ---- a transfer in both directions ----

def bulk(address, port, seconds, rate, limit):
    size, rate = int(float(seconds) * float(rate)), float(rate)
    out = {"began": now(), "size": size, "error": None, "error_at": None}
    sent, came, pauses = hashlib.sha256(), Progress(), []
    report, sender = {}, None

    def fail(error):
        # Of two threads one is told of the reset, the other that all is closed.
        if out["error"] is None or reason(error) == "ECONNRESET":
            out["error"], out["error_at"] = reason(error), now()

    def send():
        try:
            send_paced(sock, size, rate, sent)
        except OSError as error:
            fail(error)

    try:
        sock = socket.create_connection((address, int(port)), timeout=float(limit))
        out["port"] = sock.getsockname()[1]
        sock.sendall(json.dumps({"kind": "bulk", "size": size, "rate": rate}).encode() + b"\n")
        reader = sock.makefile("rb")
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while came.size < size:
            data = reader.read1(min(CHUNK, size - came.size))
            if not data:
                raise ConnectionError(0, "closed")
            came.add(data)
        sender.join()
        report = json.loads(reader.readline())
        pauses = report["pauses"]
    except OSError as error:
        fail(error)
    except ValueError:
        fail(ConnectionError(0, "no report"))
    if sender:
        sender.join(1)
    out.update(ended=now(), came=came.size, pauses_down=came.pauses, pauses_up=pauses,
               whole=report.get("sent") == came.digest.hexdigest() and report.get("came") == sent.hexdigest())
    print(json.dumps(out))


# ---- what happened ----

def events(path):
    """Lines of `hold` as (word, number or two numbers)."""
    try:
        with open(path, encoding="ascii") as lines:
            return [line.split() for line in lines]
    except FileNotFoundError:
        return []


def longest(pauses, begin, end):
    """Milliseconds of the longest pause that overlaps; what is not listed was no pause."""
    return round(max((b - a for a, b in pauses if b > begin and a < end), default=PAUSE_US) / 1000)


def first_after(lines, word, moment):
    """(milliseconds from the moment to the first such event after it, its last word)"""
    for line in lines:
        if line[0] == word and int(line[1]) >= moment:
            return round((int(line[1]) - moment) / 1000), line[2]
    return None, None


def load_bulk(folder):
    try:
        with open(f"{folder}/bulk.json", encoding="ascii") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return {"error": "no report", "error_at": None, "whole": False, "pauses_up": [], "pauses_down": []}


def about_connections(folder, since, hit, end):
    since, out = int(since), {}
    transfer = load_bulk(folder)
    out["bulk_whole"], out["bulk_error"] = transfer["whole"], transfer["error"]
    if transfer["error_at"]:
        out["bulk_error_ms"] = round((transfer["error_at"] - hit) / 1000)
    out["tcp_gap_ms"] = max(longest(transfer[way], hit, end) for way in ("pauses_up", "pauses_down")) \
        if transfer["error"] is None else None
    for name in "hold", "idle":
        out[f"{name}_lost_ms"], out[f"{name}_reason"] = first_after(events(f"{folder}/{name}"), "lost", hit)
    out["lost_connections"] = (out["bulk_error"] is not None) + sum(
        line[0] == "lost" and int(line[1]) >= since for name in ("hold", "idle") for line in events(f"{folder}/{name}"))
    return out


def event(folder, since, hit, end):
    hit, end = int(hit), int(end)
    out = about_connections(folder, since, hit, end)
    for way in "up", "down":
        flow = nat_flow.between(f"{folder}/flow.{way}", hit - 200_000, end)
        before = nat_flow.between(f"{folder}/flow.{way}", hit - 1_200_000, hit - 200_000)
        out[f"gap_{way}_ms"], out[f"lost_{way}"], out[f"twice_{way}"] = flow["gap_ms"], flow["lost"], flow["twice"]
        out[f"calm_{way}_ms"] = before["gap_ms"]
    out["gap_ms"] = max(out["gap_up_ms"], out["gap_down_ms"])
    opened, _ = first_after(events(f"{folder}/new"), "open", hit)
    if opened is not None:
        out["new_tcp_ms"] = opened
    print(json.dumps(out))


def back(folder, since, link, end):
    """The first packet that set out after the link was there and came: until then nobody could know."""
    link, end = int(link), int(end)
    out = about_connections(folder, since, link, end)
    for way in "up", "down":
        _, _, packets = nat_flow.read(f"{folder}/flow.{way}")
        came = [p[2] for p in packets if link <= p[1] < end]
        out[f"back_{way}_ms"] = round((min(came) - link) / 1000, 1) if came else None
    ways = [out["back_up_ms"], out["back_down_ms"]]
    out["back_ms"] = None if None in ways else max(ways)
    print(json.dumps(out))


# ---- all of them ----

def percentile(values, share):
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def spread(rows, key):
    """What never came counts as endless."""
    values = [math.inf if row.get(key) is None else row[key] for row in rows]
    return {f"{key}_median": figure(statistics.median(values)), f"{key}_p95": figure(percentile(values, 0.95)),
            f"{key}_max": figure(max(values))}


def figure(value):
    return None if math.isinf(value) else round(value, 1)


def within(value, limit):
    return value is not None and value <= limit


def judge(kind, rows):
    out = {"runs": len(rows)}
    if kind.startswith("exit-"):
        for key in "gap_ms", "new_tcp_ms", "hold_lost_ms", "bulk_error_ms", "idle_lost_ms":
            out.update(spread(rows, key))
        out["other_errors"] = sum(row["hold_reason"] not in ("ECONNRESET", None)
                                  or row["bulk_error"] not in ("ECONNRESET", None) for row in rows)
        out["hanging"] = sum(not within(row.get(key), GAP_P95_MS) for row in rows
                             for key in ("hold_lost_ms", "idle_lost_ms", "bulk_error_ms"))
        out["ok"] = (within(out["gap_ms_p95"], GAP_P95_MS) and within(out["new_tcp_ms_p95"], GAP_P95_MS)
                     and out["other_errors"] == 0 and out["hanging"] == 0)
        return out
    out["lost_connections"] = sum(row["lost_connections"] for row in rows)
    out["not_whole"] = sum(not row["bulk_whole"] for row in rows)
    kept = out["lost_connections"] == 0 and out["not_whole"] == 0
    if "back_ms" in rows[0]:
        out.update(spread(rows, "back_ms"))
        # What sleeps for minutes may find its connections given up by the far end.
        out["ok"] = within(out["back_ms_max"], BACK_MS) and (kept or kind == "sleep")
        return out
    for key in "gap_ms", "tcp_gap_ms", "settle_ms":
        out.update(spread(rows, key))
    out["calm_ms_median"] = figure(statistics.median(max(row["calm_up_ms"], row["calm_down_ms"]) for row in rows))
    out["twice"] = sum(row["twice_up"] + row["twice_down"] for row in rows)
    out["ok"] = (kept and within(out["gap_ms_median"], GAP_MEDIAN_MS) and within(out["gap_ms_p95"], GAP_P95_MS))
    return out


def summary(name, path, *words):
    out = {"soak": name}
    for word in words:
        if word != "--text":
            key, value = word.split("=", 1)
            out[key] = json.loads(value)
    with open(path, encoding="ascii") as lines:
        rows = [json.loads(line) for line in lines]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        out[kind] = judge(kind, [row for row in rows if row["kind"] == kind])
    out["ok"] = bool(rows) and all(part["ok"] for part in out.values() if isinstance(part, dict))
    if "--text" in words:
        for key, value in out.items():
            print(key if isinstance(value, dict) else f"{key:22} {value}")
            for inner, figure_ in value.items() if isinstance(value, dict) else ():
                print(f"  {inner:22} {figure_}")
    else:
        print(json.dumps(out))
    return 0 if out["ok"] else 1


def clock():
    print(time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000 - now())


COMMANDS = {"serve": serve, "hold": hold, "bulk": bulk, "event": event, "back": back, "summary": summary, "clock": clock}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
