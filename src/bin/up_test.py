#!/usr/bin/python3
"""What meshvpn up shows of a daemon that connects, on a terminal and off it; and how it ends.

    up_test.py DIRECTORY-OF-PROGRAMS DIRECTORY-OF-SCHEMAS

The daemon is played: its statuses are a script. Works in a network namespace of its own, as up looks at the routes.
"""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import jsonschema

MESHVPN = os.path.join(os.path.abspath(sys.argv[1]), "meshvpn")
TITLES = [("host", "host prepared"), ("network", "network found"), ("guard", "guard handshake"), ("circuit", "circuit built"),
          ("exit", "exit answers"), ("names", "names resolve"), ("checked", "protection checked")]
GOOD = {"exit": "24a1ccab18b81d0e", "checked_s_ago": 0, "checking": False, "ok": True, "exit_address": {"ok": True, "seen": "11.5.0.1", "witnesses": 2},
        "dns": {"ok": True}, "ipv6": {"ok": True, "carried": True, "seen": None}, "kill_switch": {"ok": True}}
with open(os.path.join(sys.argv[2], "up-1.json"), encoding="utf-8") as file:
    SCHEMA = json.load(file)


def isolate():
    if os.environ.get("UP_TEST_INSIDE") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True)
        return
    os.environ["UP_TEST_INSIDE"] = "1"
    options = ["-n"] if os.geteuid() == 0 else ["-r", "-n"]
    os.execvp("unshare", ["unshare"] + options + [sys.executable] + sys.argv)


def check(condition, what):
    if not condition:
        raise SystemExit("up_test: failed: %s" % (what,))


def status(done, code=None, reason=None, **more):
    """`done` stages are over, the next one runs or, with a code, has failed."""
    stages = []
    for i, (name, title) in enumerate(TITLES):
        state = "done" if i < done else "waiting" if i > done else "failed" if code else "running"
        stages.append({"name": name, "title": title, "state": state, "ms": {"waiting": None, "failed": 5000.0}.get(state, 12.5 * (i + 1)),
                       "code": code if i == done else None, "reason": reason if i == done else None})
    return {"schema": "meshvpn.status/1", "role": "client", "state": "connected" if done >= 5 else "connecting",
            "stages": stages, "path": [{"name": "maple", "country": "CH"}], "exit_address": "11.5.0.1", "ipv6": True,
            "clock": {"is_wrong": False}, "protection": {"kill_switch": True}, "proof": GOOD if done >= 7 else None} | more


class Daemon(threading.Thread):
    """Answers each question for the status with the next of `script`; the last one stays."""

    def __init__(self, path, script, replies=None):
        super().__init__(daemon=True)
        self.script, self.replies, self.asked = list(script), replies or {}, []
        self.server = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self.server.bind(path)
        self.server.listen(16)
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client:
                request = json.loads(client.makefile().readline() or "{}")
                self.asked.append(request)
                reply = self.replies.get(request.get("cmd"), {"ok": True})
                if request.get("cmd") == "status":
                    reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                client.sendall(json.dumps(reply).encode() + b"\n")

    def end(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def up(directory, script, *options, replies=None, env=None, on_terminal=False, columns=60, interrupt_after=None):
    """(exit status, stdout, stderr, requests); on a terminal both streams are one."""
    daemon = Daemon(os.path.join(directory, "sock"), script, replies)
    command = [MESHVPN, "up", "--config", os.path.join(directory, "client.conf"), *options]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", **(env or {})}
    if not on_terminal:
        child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if interrupt_after:
            time.sleep(interrupt_after)
            child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        code = child.returncode
    else:
        pid, fd = pty.fork()
        if pid == 0:
            time.sleep(0.1)  # until the size is set
            os.execve(command[0], command, env)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        out, err = b"", b""
        try:
            while True:
                out += os.read(fd, 4096)
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
    daemon.end()
    return code, out.decode(), err.decode(), daemon.asked


def test_plain(directory):
    script = [status(i) for i in range(8)]
    code, out, err, _ = up(directory, script)
    lines = out.splitlines()
    check(code == 0 and err == "" and "\033" not in out, out)
    check([l.split(" \u2026 ")[0] for l in lines[:7]] == ["[%d/7] %s" % (i + 1, t) for i, (_, t) in enumerate(TITLES)], lines)
    check(all(re.fullmatch(r".* \u2026 [0-9]+ ms", l) for l in lines[:7]), lines)
    check(lines[7].startswith("Connected after "), lines)
    check(lines[8] == "  \u2713 exit address  11.5.0.1 maple (CH), seen by 2 relays" and len(lines) == 12, lines)
    code, out, err, _ = up(directory, script, env={"LC_ALL": "C"})
    check(code == 0 and out.isascii() and "[3/7] guard handshake ... " in out and "  ok kill switch " in out, out)
    check(up(directory, script, "--quiet")[1:3] == ("", ""), "--quiet says nothing")
    check("Already connected." in up(directory, [status(7)])[1], "one that was connected before")
    untested = dict(GOOD, ipv6={"ok": None, "carried": True, "seen": None})
    check("IPv6          carried, as the exit says\n" in up(directory, [status(7, proof=untested)])[1], "nobody was asked")
    code, out, _, _ = up(directory, [status(2)], "--no-wait")
    check(code == 0 and "status --watch" in out, out)


def test_json(directory):
    for script, want in (([status(i) for i in range(8)], 0), ([status(2, "udp-blocked", "silence")], 6),
                         ([status(2)], 3)):
        code, out, _, _ = up(directory, script, "--json", "--timeout", "1" if want == 3 else "20")
        lines = [json.loads(line) for line in out.splitlines()]
        for line in lines:
            jsonschema.validate(line, SCHEMA, cls=jsonschema.Draft202012Validator)
        check(code == want and lines[-1]["event"] == "end" and lines[-1]["exit_status"] == want, lines)
        check([l["number"] for l in lines if l["event"] == "stage" and l["state"] == "done"]
              == list(range(1, 8 if want == 0 else 3)), lines)


def test_terminal(directory):
    script = [status(2, "no-guard", "none of this client's guards answers, and this line is longer than the terminal is wide")] * 4
    script += [status(7)]
    code, out, _, _ = up(directory, script, on_terminal=True)
    check(code == 0 and "\r\033[K" in out, repr(out))
    for drawn in re.findall(r"\r\x1b\[K([^\r\n]*)", out):
        check(len(re.sub(r"\x1b\[[0-9]*m", "", drawn)) < 60, repr(drawn))
    out = up(directory, script, on_terminal=True, columns=20)[1]
    check("[7/7] protection checked \u2026 88 ms" in out, "what is done is told whole on a narrow terminal")
    for env, options in (({"NO_COLOR": "1"}, []), ({"TERM": "dumb"}, []), ({}, ["--no-color"])):
        out = up(directory, script, *options, env=env, on_terminal=True)[1]
        check("\033" not in out and out.count("[3/7]") == 2, (env, options, out))  # its failure once, and its end


def test_ends(directory):
    refuted = dict(GOOD, ok=False, kill_switch={"ok": False})
    for script, want, words in (
            ([status(2, "udp-blocked", "silence")], 6, "UDP"),
            ([status(2, "no-guard", "x", clock={"is_wrong": True, "offset_s": 999})], 8, "999 s slow"),
            ([status(6, "check-failed", "see the proof", proof=refuted)], 14, "the test of the protection failed")):
        code, out, err, _ = up(directory, script)
        check(code == want and words in err and "sudo meshvpn down ends it" in err, (code, want, err))
        check(want != 14 or "\u2717 kill switch   a packet left this computer outside the tunnel" in out, out)
    code, _, err, _ = up(directory, [status(2)], "--timeout", "1")
    check(code == 3 and "guard handshake" in err, err)
    code, _, err, _ = up(directory, [status(2)], interrupt_after=0.6)
    check(code == 3 and "goes on connecting in the background" in err and "sudo meshvpn down" in err, err)
    code, _, err, _ = up(directory, [{"schema": "meshvpn.status/1", "role": "relay", "state": "running"}])
    check(code == 1 and "no client" in err, err)


def test_wishes(directory):
    longer = status(7, path=[{"name": "maple", "country": "CH"}] * 4)
    code, _, _, asked = up(directory, [longer], "--exit", "CH", "--hops", "4")
    check(code == 0 and {"cmd": "hops", "hops": 4} in asked and {"cmd": "exit-use", "exit": "CH"} in asked, asked)
    code, out, _, asked = up(directory, [status(7)] * 5 + [longer], "--hops", "4")
    check(code == 0 and "Connected" in out and len([r for r in asked if r["cmd"] == "status"]) >= 6, asked)
    code, _, err, _ = up(directory, [status(7)], "--hops", "4", "--timeout", "1")
    check(code == 3 and "no path of 4 relays" in err, err)
    leaving = {"use": "oak", "kind": "exit", "identity": "24a1ccab18b81d0e", "blocked": [], "reason": "a session there is being opened"}
    oak = {"path": [{"name": "oak", "country": "CH"}]}
    script = [status(7)] + [status(7, exit_choice=leaving)] * 3 + [status(7, proof=None, **oak)] * 3 + [status(7, **oak)]
    code, out, _, asked = up(directory, script, "--exit", "oak")
    check(code == 0 and " oak (CH), seen by 2 relays" in out and "maple" not in out, "the proof of the exit before")
    check("Connected" in out and "[1/7]" not in out and len([r for r in asked if r["cmd"] == "status"]) >= 8, out)
    code, out, _, _ = up(directory, [status(7, proof=None)] * 3 + [status(7)])
    check(code == 0 and "seen by 2 relays" in out, "without a wish: the exit has changed by itself")
    for script, words in (([status(7, exit_choice=leaving)], "a session there is being opened"),
                          ([status(7, proof=None, **oak)], "not yet tested at this exit")):
        code, _, err, _ = up(directory, script, "--exit", "oak", "--timeout", "1")
        check(code == 3 and words in err, err)
    refusal = {"hops": {"error": "root may", "code": "refused"}}
    code, _, err, asked = up(directory, [status(7)], "--hops", "4", replies=refusal)
    check(code == 10 and "root may" in err and not any(r["cmd"] == "exit-use" for r in asked), err)


def main():
    isolate()
    with tempfile.TemporaryDirectory(prefix="mvpn-up-test.") as directory:
        with open(os.path.join(directory, "client.conf"), "w", encoding="utf-8") as conf:
            conf.write('control_socket = "%s/sock"\nnetwork_file = "%s/none"\n' % (directory, directory))
        for test in (test_plain, test_json, test_terminal, test_ends, test_wishes):
            test(directory)
    print("up_test: passed")


if __name__ == "__main__":
    main()
