#!/usr/bin/env python3
"""The systemd units of packaging/systemd.

    units_test.py look BUILD    what systemd-analyze says of them; do they agree with meshvpn-bootstrap's?
    units_test.py run BUILD     start each with the rights that its unit gives (root, namespaces of its own)

No systemd runs as the first process where tests run. So this program does what matters of its work: user and
groups, capabilities, NoNewPrivileges, SystemCallFilter, a read-only system with the directories of the unit, and the
socket for notification. RestrictAddressFamilies, RestrictNamespaces and their like are not imitated.
"""
import ctypes
import glob
import grp
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NODES = {
    # program: name of its configuration, arguments of add-node
    "meshvpn-relay": ("relay", ["--address", "11.2.0.1:443"]),
    "meshvpn-exit-node": ("exit", ["--address", "11.3.0.1:443", "--exit"]),
    "meshvpn-dht-bootstrap": ("bootstrap", ["--address", "11.1.0.1:443", "--bootstrap"]),
    "meshvpn-discovery": ("discovery", ["--address", "11.4.0.1:443", "--discovery", "--url", "http://11.4.0.1:8080/"]),
}
CLIENT = "meshvpn-client"
LOCKDOWN = "meshvpn-lockdown"
EXPOSURE_MAX = 25  # tenths
SKIPPED = 77
WATCHDOG_S = 1
WAIT_S = 20
SYSUSERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "systemd/meshvpn.sysusers")


def say(text):
    print(text, flush=True)


def check(ok, text):
    if not ok:
        say(f"FAIL {text}")
        sys.exit(1)
    say(f"ok {text}")


def run(*args, **more):
    return subprocess.run(args, check=True, text=True, capture_output=True, **more).stdout


def unit_of(build, program):
    name = "meshvpn" if program == CLIENT else program
    return os.path.join(build, "packaging", name + ".service")


def settings(path):
    """The lines of a unit as (key, value), in their order."""
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and not line.startswith("#")]


def make_network(build, base):
    """A network with a node of each kind; returns its directory."""
    bootstrap = os.path.join(build, "src/bin/meshvpn-bootstrap")
    net = os.path.join(base, "net")
    run(bootstrap, "init", net, "--name", "units")
    for program in ["meshvpn-dht-bootstrap"] + [p for p in NODES if p != "meshvpn-dht-bootstrap"]:
        run(bootstrap, "add-node", net, NODES[program][0], *NODES[program][1])
    return net


# ---- look ----


def comparable(path):
    """What a unit does, without what people read and where its program is."""
    kept = [s for s in settings(path) if s[0] not in ("Description", "Documentation", "ConditionPathExists")]
    return sorted((key, re.sub(r"^(-?)\S*/", r"\1", value) if key.startswith("Exec") else value) for key, value in kept)


def look(build):
    if shutil.which("systemd-analyze") is None:
        say("systemd-analyze is missing: install systemd")
        return SKIPPED
    with tempfile.TemporaryDirectory() as base:
        net = make_network(build, base)
        for program in [CLIENT, LOCKDOWN] + list(NODES):
            path = unit_of(build, program)
            name = os.path.basename(path)
            # Its program need not be installed for that.
            copy = os.path.join(base, name)
            with open(path, encoding="utf-8") as source, open(copy, "w", encoding="utf-8") as target:
                target.write(re.sub(r"^(Exec\w+=-?)\S+", r"\1/bin/true", source.read(), flags=re.M))
            r = subprocess.run(["systemd-analyze", "verify", copy], text=True, capture_output=True, check=False)
            check(r.returncode == 0 and not r.stdout + r.stderr, f"{name}: no mistakes {r.stdout}{r.stderr}")
            r = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", copy],
                               text=True, capture_output=True, check=False)
            last = (r.stdout.strip().splitlines() or [r.stderr])[-1]
            check(r.returncode == 0, f"{name}: {last}")
            keys = dict(settings(path))
            if program == LOCKDOWN:
                check("network-pre.target" in keys["Before"].split(), f"{name}: before any network")
                continue
            check(keys["Type"] == "notify" and int(keys["WatchdogSec"]) >= 10, f"{name}: notifies, is watched")
            if program in NODES:
                written = os.path.join(net, "nodes", NODES[program][0], program + ".service")
                check(comparable(path) == comparable(written), f"{name}: as meshvpn-bootstrap writes it")
    return 0


# ---- run: rights ----

CDLL = {}


def library(name):
    if name not in CDLL:
        CDLL[name] = ctypes.CDLL(name, use_errno=True)
    return CDLL[name]


def must(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 8, 38
ACT_ALLOW, ACT_ERRNO_EPERM = 0x7FFF0000, 0x00050000 | 1


def syscall_set(name, groups):
    """The system calls of "@name", groups in it resolved."""
    found = set()
    for entry in groups[name]:
        found |= syscall_set(entry, groups) if entry.startswith("@") else {entry}
    return found


def syscall_groups():
    groups, current = {}, None
    for line in run("systemd-analyze", "syscall-filter").splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if line.startswith("@"):
            current = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#") and current is not None:
            current.append(line.strip())
    return groups


def allowed_calls(unit):
    """As systemd.exec(5) says: the first line makes a list of what is allowed, then it is added to and taken from."""
    groups = syscall_groups()
    allowed = syscall_set("@default", groups)
    for key, value in unit:
        if key == "SystemCallFilter":
            takes = value.startswith("~")
            for name in value.lstrip("~").split():
                calls = syscall_set(name, groups) if name.startswith("@") else {name}
                allowed = allowed - calls if takes else allowed | calls
    return allowed


def set_capabilities(unit, uid, gid):
    keys = dict(unit)
    libc, libcap = library("libc.so.6"), library("libcap.so.2")
    keep = {name.lower() for name in keys["CapabilityBoundingSet"].split()}
    ambient = {name.lower() for name in keys.get("AmbientCapabilities", "").split()}
    names = {}
    libcap.cap_to_name.restype = ctypes.c_char_p
    for number in range(libcap.cap_max_bits()):
        names[libcap.cap_to_name(number).decode()] = number
    for name, number in names.items():
        if name not in keep:
            must(libcap.cap_drop_bound(number), "cap_drop_bound")
    if uid != 0:
        must(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libcap.cap_from_text.restype = ctypes.c_void_p
    wanted = keep if uid == 0 else ambient
    text = " ".join(f"{name}={'eip' if name in ambient else 'ep'}" for name in wanted) or "="
    caps = libcap.cap_from_text(text.encode())
    must(libcap.cap_set_proc(ctypes.c_void_p(caps)), "cap_set_proc")
    for name in ambient:
        must(libcap.cap_set_ambient(names[name], 1), "cap_set_ambient")


def filter_calls(allowed):
    libc, seccomp = library("libc.so.6"), library("libseccomp.so.2")
    must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    ctx = ctypes.c_void_p(seccomp.seccomp_init(ACT_ERRNO_EPERM))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            must(seccomp.seccomp_rule_add(ctx, ACT_ALLOW, number, 0), name)
    must(seccomp.seccomp_load(ctx), "seccomp_load")


def become_service(path, program):
    """In the place that service_place made: what systemd does in the process that becomes the service."""
    unit = settings(path)
    keys = dict(unit)
    allowed = allowed_calls(unit)
    user, group = pwd.getpwnam(keys.get("User", "root")), grp.getgrnam(keys["Group"])
    for directory, key in (("/run", "RuntimeDirectory"), ("/var/lib", "StateDirectory")):
        made = os.path.join(directory, keys[key])
        os.makedirs(made, exist_ok=True)
        os.chmod(made, int(keys[key + "Mode"], 8))
        for name in [made] + glob.glob(made + "/*"):
            os.chown(name, user.pw_uid, group.gr_gid)
    if keys["ProtectSystem"] == "strict":
        run("mount", "-o", "remount,bind,ro", "/")
        writable = {path for key, value in unit if key == "ReadWritePaths" for path in value.split()}
        if not {"/etc", "/etc/meshvpn"} & writable:
            run("mount", "-o", "remount,ro", "/etc")
    if keys.get("ProtectKernelTunables") == "yes":
        run("mount", "--bind", "/proc/sys", "/proc/sys")
        run("mount", "-o", "remount,bind,ro", "/proc/sys")
    os.umask(int(keys["UMask"], 8))
    command = shlex.split(keys["ExecStart"])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"],
                   "WATCHDOG_USEC": str(WATCHDOG_S * 1000000)}
    set_capabilities(unit, user.pw_uid, group.gr_gid)
    filter_calls(allowed)
    os.execve(program, [program] + command[1:], environment)


# ---- run: a place for a service ----


def service_place(base, files):
    """Own namespaces: an /etc with the user and the configuration, empty /run and /var/lib."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", base)
    for name in ("upper", "work"):
        os.mkdir(os.path.join(base, name))
    os.chmod(base, 0o755)
    os.chmod(os.path.join(base, "upper"), 0o755)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={base}/upper,workdir={base}/work", "/etc")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib")
    run("mount", "-t", "proc", "proc", "/proc")
    # Its mode is that of udev.
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev/net")
    os.mknod("/dev/net/tun", 0o020666, os.makedev(10, 200))
    os.chmod("/dev/net/tun", 0o666)
    run("ip", "link", "set", "lo", "up")
    run("systemd-sysusers", SYSUSERS)
    shutil.rmtree("/etc/meshvpn", ignore_errors=True)
    shutil.copytree(files, "/etc/meshvpn")


class Notifications:
    """The socket that a service manager would have."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        os.environ["NOTIFY_SOCKET"] = path
        self.seen = []

    def comes(self, word, times=1):
        end = time.monotonic() + WAIT_S
        while self.seen.count(word) < times and time.monotonic() < end:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.seen += self.socket.recv(4096).decode().split("\n")
            except TimeoutError:
                break
        return self.seen.count(word) >= times


def host_state():
    return [run("ip", "-4", "rule"), run("ip", "-6", "rule"), run("ip", "link"), run("nft", "list", "ruleset"),
            open("/proc/sys/net/ipv4/ip_forward", encoding="ascii").read()]


def ask_status(path, groups):
    """As nobody in these groups; None if that may not ask."""
    os.setgroups(groups)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(WAIT_S)
            asking.connect(path)
            asking.sendall(b'{"cmd": "status"}\n')
            return json.loads(asking.makefile().readline())
    except PermissionError:
        return None
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def lives_once(build, program, name, notifications):
    sock = "/run/meshvpn/" + ("control.sock" if program == CLIENT else NODES[program][0] + ".sock")
    group = grp.getgrnam("meshvpn").gr_gid
    path = unit_of(build, program)
    notifications.seen.clear()
    pid = os.fork()
    if pid == 0:
        try:
            become_service(path, os.path.join(build, "src/bin", program))
        finally:
            os._exit(99)
    check(notifications.comes("READY=1"), f"{name}: ready")
    check(notifications.comes("WATCHDOG=1", 2), f"{name}: feeds the watchdog")
    worker = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status", encoding="ascii") if ":\t" in line)
    check(set(worker["Uid"].split()) == {str(pwd.getpwnam("meshvpn").pw_uid)}, f"{name}: became the user meshvpn")
    st = os.stat(sock)
    check(st.st_mode & 0o777 == 0o660 and st.st_gid == group, f"{name}: its control socket is the group's")
    check(ask_status(sock, [group]) is not None, f"{name}: the group asks for the status")
    check(ask_status(sock, []) is None, f"{name}: others are refused")
    st = os.stat("/var/lib/meshvpn")
    check((st.st_uid, st.st_mode & 0o777) == (pwd.getpwnam("meshvpn").pw_uid, 0o700), f"{name}: may remember")
    os.kill(pid, signal.SIGTERM)
    check(notifications.comes("STOPPING=1"), f"{name}: tells that it ends")
    check(os.waitpid(pid, 0)[1] == 0, f"{name}: ends well")


def serve(build, program, files):
    """In namespaces of its own, as their first process."""
    name = os.path.basename(unit_of(build, program))
    base = os.environ["UNITS_BASE"]
    service_place(base, files)
    key = "/etc/meshvpn/onion.key"
    if program != CLIENT:
        # As meshvpn-bootstrap deploy leaves them. An onion key is renewed after a week.
        for file in ["/etc/meshvpn"] + glob.glob("/etc/meshvpn/*"):
            shutil.chown(file, "meshvpn", "meshvpn")
        os.utime(key, (time.time() - 8 * 86400,) * 2)
    before = host_state()
    notifications = Notifications(os.path.join(base, "notify"))
    lives_once(build, program, name, notifications)
    check(host_state() == before, f"{name}: nothing is left of it")
    if program in ("meshvpn-relay", "meshvpn-exit-node"):
        check(time.time() - os.stat(key).st_mtime < 3600, f"{name}: renews its onion key")
    # What it kept belongs to the user it became.
    lives_once(build, program, name + ", again", notifications)
    return 0


def run_all(build):
    if os.geteuid() != 0:
        say("this test needs root")
        return SKIPPED
    if shutil.which("systemd-analyze") is None or shutil.which("systemd-sysusers") is None:
        say("systemd-analyze or systemd-sysusers is missing: install systemd")
        return SKIPPED
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        net = make_network(build, base)
        link = run(os.path.join(build, "src/bin/meshvpn-bootstrap"), "invite", net, "--no-qr").strip()
        member = os.path.join(base, "member")
        run(os.path.join(build, "src/bin/meshvpn"), "join", "-", "--config-dir", member, input=link)
        place = os.path.join(base, "place")
        os.mkdir(place)
        os.environ["UNITS_BASE"] = place
        running = []
        for program in [CLIENT] + list(NODES):
            files = member if program == CLIENT else os.path.join(net, "nodes", NODES[program][0])
            running.append(subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", sys.executable,
                                             os.path.abspath(__file__), "serve", build, program, files]))
        failed = [p.wait() for p in running]
        return 1 if any(failed) else 0


def main():
    command, build, more = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3:]
    if command == "look":
        return look(build)
    if command == "serve":
        return serve(build, *more)
    return run_all(build)


if __name__ == "__main__":
    sys.exit(main())
