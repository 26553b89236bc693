#!/usr/bin/python3
"""meshvpn top on a real terminal's screen (tmux, 80 x 24), before a daemon that says what it is told to.

    top_test.py DIRECTORY-OF-PROGRAMS
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

MESHVPN = os.path.join(os.path.abspath(sys.argv[1]), "meshvpn")
PATIENCE_S = 10
STATUS = {
    "schema": "meshvpn.status/1", "role": "client", "state": "connected", "since_s": 3723, "hops": 3, "blocked_by": None,
    "path": [{"name": n, "identity": "00" * 8, "country": c, "role": r}
             for n, c, r in (("alder", "CH", "guard"), ("cedar", None, "middle"), ("maple", "JP", "exit"))],
    "exit_address": "192.0.2.7", "rtt_ms": 43.2, "ipv6": True, "bytes_up": 0, "bytes_down": 0, "failovers": 1, "rotations": 2,
    "session": {"flows": 17}, "exit_choice": {"use": "JP", "kind": "countries", "identity": None, "blocked": [], "reason": None},
    "protection": {"state": "connected", "kill_switch": True, "lockdown": False, "allow_lan": False, "repaired": 0},
}
CIRCUITS = [{"number": i + 1, "state": "in use" if i == 0 else "spare", "is_current": i == 0, "age_s": 60 * i, "build_ms": 80.0,
             "rtt_ms": 43.2, "bytes": 1000 * i, "path": [{"name": "alder"}, {"name": "cedar"}, {"name": "maple"}]} for i in range(2)]
EVENTS = [{"number": 1, "time": 1800000000, "level": "info", "text": "connected"}]


def check(condition, what):
    if not condition:
        raise SystemExit("top_test: failed: %s" % (what,))


class Daemon:
    """A control socket."""

    def __init__(self, path):
        self.path, self.asked, self.polls = path, [], 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        self.is_on = True
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while self.is_on:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                line = peer.makefile("r").readline()
                if line:
                    peer.sendall(json.dumps(self.answer(json.loads(line))).encode() + b"\n")

    def answer(self, request):
        cmd = request["cmd"]
        self.asked.append(cmd)
        if cmd == "status":
            self.polls += 1
            return dict(STATUS, bytes_down=125000 * self.polls, bytes_up=12500 * self.polls)
        return {"circuits": {"schema": "meshvpn.circuits/1", "circuits": CIRCUITS},
                "events": {"schema": "meshvpn.events/1", "last": 1, "events": EVENTS},
                "new-identity": {"ok": True}}.get(cmd, {"error": "unknown command"})

    def end(self):
        self.is_on = False
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.unlink(self.path)


class Screen:
    """A tmux server of our own with one window."""

    def __init__(self, directory, name, command, columns=80, rows=24, **environment):
        self.tmux = ["tmux", "-S", os.path.join(directory, name + ".tmux"), "-f", "/dev/null"]
        settings = {"TERM": "screen-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", **environment}
        words = ["env", "-u", "NO_COLOR"] + ["%s=%s" % item for item in settings.items()] + command
        shell = " ".join(words) + "; echo ended $?; sleep 60"
        subprocess.run(self.tmux + ["new-session", "-d", "-x", str(columns), "-y", str(rows), shell], check=True,
                       env=dict(os.environ, LC_ALL="C.UTF-8"))

    def run(self, *words):
        return subprocess.run(self.tmux + list(words), check=True, capture_output=True, text=True, encoding="utf-8").stdout

    def lines(self, *options):
        return self.run("capture-pane", "-p", *options).split("\n")[:-1]

    def keys(self, *keys):
        self.run("send-keys", *keys)

    def wait(self, what, condition):
        until = time.monotonic() + PATIENCE_S
        while True:
            lines = self.lines()
            if condition(lines):
                return lines
            check(time.monotonic() < until, "%s\n%s" % (what, "\n".join(lines)))
            time.sleep(0.05)

    def end(self):
        subprocess.run(self.tmux + ["kill-server"], check=False)


def test_screen(directory, daemon, control):
    screen = Screen(directory, "plain", [MESHVPN, "top", "--control", control])
    try:
        lines = screen.wait("rates are drawn", lambda l: any("▁" in x or "█" in x for x in l))
        check(len(lines) == 24 and lines[0].startswith("meshvpn  connected for 1 h 2 min"), lines)
        check(lines[1] == "path      you > alder (CH) > cedar > maple (JP) > internet", lines)
        check(lines[2] == "exit      192.0.2.7, rtt 43 ms, chosen JP", lines)
        check(lines[3].startswith("protected kill switch  IPv6  lockdown off"), lines)
        check(" 1 * in use    0 s              43 ms      0 B  alder > cedar > maple" in lines, lines)
        check("08:00:00  connected" in lines, lines)
        check(lines[23] == "q quit   p pause   c new circuit   up/down circuits", lines)
        coloured = "\n".join(screen.lines("-e"))
        check(re.search("\x1b\\[32m(\x1b\\[49m)?connected", coloured), "the state is green: %r" % coloured[:400])
        screen.wait("the rate is about 1 Mbit/s", lambda l: l[5].startswith(("1.00 Mbit/s ", "2.00 Mbit/s ")) and
                    any(x.startswith(("100 kbit/s ", "200 kbit/s ")) for x in l))
        # The selection goes down, and no further.
        for _ in range(3):
            screen.keys("Down")
        screen.wait("the second circuit is selected", lambda _: any(x.startswith("\x1b[7m 2   spare") for x in screen.lines("-e")))
        screen.keys("p")
        screen.wait("it pauses", lambda l: "(paused)" in l[0])
        time.sleep(0.2)
        polls = daemon.polls
        time.sleep(1.5)
        check(daemon.polls == polls, "a pause asks nothing")
        screen.keys("p")
        screen.wait("it goes on", lambda l: "(paused)" not in l[0] and daemon.polls > polls)
        # A new circuit only after y.
        screen.keys("c")
        screen.wait("it asks", lambda l: l[23].startswith("a new circuit and address for new connections? y"))
        screen.keys("n")
        screen.wait("no", lambda l: l[23].startswith("q quit"))
        check("new-identity" not in daemon.asked, daemon.asked)
        screen.keys("c")
        screen.wait("it asks again", lambda l: "y: yes" in l[23])
        screen.keys("y")
        screen.wait("it is taken", lambda l: l[23].startswith("new connections get a new circuit"))
        check("new-identity" in daemon.asked, daemon.asked)
        for columns, rows in ((120, 40), (60, 16), (80, 24)):
            screen.run("resize-window", "-x", str(columns), "-y", str(rows))
            screen.wait("it fills %d x %d" % (columns, rows),
                        lambda l, r=rows, c=columns: len(l) == r and l[0].startswith("meshvpn") and len(l[0]) == c)
        screen.run("resize-window", "-x", "50", "-y", "10")
        screen.wait("too small is said", lambda l: l[0].startswith("too small: 60 x 16"))
        screen.run("resize-window", "-x", "80", "-y", "24")
        screen.wait("and forgotten", lambda l: l[0].startswith("meshvpn  connected"))
        daemon.end()
        screen.wait("no daemon is said", lambda l: l[0].startswith("meshvpn  no daemon, trying again: "))
        again = Daemon(control)
        screen.wait("it is found again", lambda l: l[0].startswith("meshvpn  connected"))
        screen.keys("q")
        screen.wait("q ends it", lambda l: any(x.startswith("ended 0") for x in l))
        return again
    finally:
        screen.end()


def test_terminals(directory, control):
    """Without colours, without Unicode, of another kind; each begins without a daemon's help."""
    for name, changes in (("monochrome", {"NO_COLOR": "1"}), ("vt100", {"TERM": "vt100"}), ("ascii", {"LC_ALL": "C"}),
                          ("xterm", {"TERM": "xterm-256color"})):
        screen = Screen(directory, name, [MESHVPN, "top", "--control", control], **changes)
        try:
            lines = screen.wait(name, lambda l, n=name: l[0].startswith("meshvpn  connected") and any(
                ("#" if n == "ascii" else "█") in x for x in l))
            check(name != "ascii" or all(ord(c) < 127 for x in lines for c in x), lines)
            escapes = "\n".join(screen.lines("-e"))
            check(("\x1b[32m" in escapes) == (name in ("ascii", "xterm")), (name, escapes[:300]))
            screen.keys("q")
            screen.wait(name + " ends", lambda l: any(x.startswith("ended 0") for x in l))
        finally:
            screen.end()
    for term, said in (("dumb", "TERM=dumb"), ("no-such-terminal", "not known here")):
        # ncurses forgets what it had allocated when it does not know a terminal.
        screen = Screen(directory, term, [MESHVPN, "top", "--control", control], TERM=term, ASAN_OPTIONS="detect_leaks=0")
        try:
            lines = screen.wait(term, lambda l: "ended 2" in l)
            check(said in "".join(lines) and "meshvpn status --json" in "".join(lines), lines)
        finally:
            screen.end()


def test_no_terminal(control):
    done = subprocess.run([MESHVPN, "top", "--control", control], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    check(done.returncode == 2 and done.stdout == "" and "top needs a terminal" in done.stderr, done)
    check("meshvpn status --json" in done.stderr, done)


def main():
    check(shutil.which("tmux") is not None, "tmux is needed: ./run installs it")
    with tempfile.TemporaryDirectory(prefix="mvpn-top-test.") as directory:
        control = os.path.join(directory, "control.sock")
        daemon = Daemon(control)
        test_no_terminal(control)
        daemon = test_screen(directory, daemon, control)
        test_terminals(directory, control)
        daemon.end()
    print("passed")


main()
