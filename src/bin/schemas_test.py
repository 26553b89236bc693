#!/usr/bin/python3
"""The objects that meshvpn prints with --json are what docs/schemas says: asked of real daemons over loopback.

    schemas_test.py DIRECTORY-OF-PROGRAMS DIRECTORY-OF-SCHEMAS OPTIONS-DOCS

Every command of the option table (options_docs list) that has --json must name its schema, and something that it prints
must have been judged by it.

Works in a network namespace of its own; needs root and /dev/net/tun.
"""

import copy
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import jsonschema

PROGRAMS = os.path.abspath(sys.argv[1])
SCHEMAS = {}
judged = set()
NODES = {"alpha": ("relay", "127.2.0.1:4102"), "bravo": ("exit", "127.3.0.1:4103"), "charlie": ("exit", "127.4.0.1:4104")}
OPTIONS = {"alpha": [], "bravo": ["--exit", "--country", "CH", "--bandwidth-mbit", "100"],
           "charlie": ["--exit", "--country", "SE", "--bandwidth-mbit", "200"]}
children = {}


def isolate():
    """A network namespace of our own, with loopback up."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("schemas_test: skipped: needs root and /dev/net/tun")
        sys.exit(77)
    if os.environ.get("SCHEMAS_TEST_INSIDE") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["SCHEMAS_TEST_INSIDE"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable] + sys.argv)


def check(condition, what):
    if not condition:
        raise SystemExit("schemas_test: failed: %s" % (what,))


def program(name, *arguments):
    return subprocess.run([os.path.join(PROGRAMS, name), *arguments], text=True, capture_output=True, timeout=60, check=False)


def meshvpn(directory, name, *arguments):
    return program("meshvpn", *arguments, "--control", os.path.join(directory, name + ".sock"))


def judge(text):
    """An object by the schema that it names."""
    found = json.loads(text)
    check(found["schema"] in SCHEMAS, found["schema"])
    judged.add(found["schema"])
    schema = SCHEMAS[found["schema"]]
    try:
        jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    except jsonschema.ValidationError as fault:
        raise SystemExit("schemas_test: %s: %s\n%s" % (found["schema"], fault.message, text)) from None
    for key in schema.get("required", []):  # and the schema would notice
        less = copy.deepcopy(found)
        del less[key]
        check(not jsonschema.Draft202012Validator(schema).is_valid(less), key)
    return found


def start(directory, name, kind, conf, *options):
    with open(os.path.join(directory, name + ".log"), "ab") as log:
        children[name] = subprocess.Popen([os.path.join(PROGRAMS, kind), "--config", conf, *options], stdout=log, stderr=log)


def serve_names():
    """The exits' resolver: it answers that there is nothing of that name."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    while True:
        question, asker = sock.recvfrom(1500)
        if len(question) > 12:
            sock.sendto(question[:2] + bytes([0x81 | question[2] & 1, 0x83]) + question[4:6] + bytes(6) + question[12:], asker)


def make_network(directory):
    check(program("meshvpn-bootstrap", "init", directory, "--allow-private").returncode == 0, "init")
    for name, (_, address) in NODES.items():
        done = program("meshvpn-bootstrap", "add-node", directory, name, "--address", address, "--listed", *OPTIONS[name])
        check(done.returncode == 0, done.stderr)
    with open(os.path.join(directory, "network.conf"), "rb") as whole:
        content = whole.read()
    for name, (kind, address) in NODES.items():
        node = os.path.join(directory, "nodes", name)
        with open(os.path.join(node, "network.conf"), "wb") as own:
            own.write(content)
        own = {"listen": '{"%s"}' % address, "run_dir": '"%s/run"' % node, "state_dir": '"%s/state"' % node,
               "control_socket": '"%s/%s.sock"' % (directory, name)}
        if kind == "exit":
            own.update(tun_name='"x%s0"' % name, dns_upstream='{"127.0.0.1:53"}', ipv6="no",
                       pool_v4='"10.%d.0.0/16"' % (64 + len(name)), pool_v6='"fd6d:7670:%x::/64"' % len(name))
        path = os.path.join(node, kind + ".conf")
        with open(path, encoding="utf-8") as file:
            lines = [l for l in file.read().splitlines() if l.split("=")[0].strip() not in own]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + ["%s = %s" % item for item in own.items()]) + "\n")


def wait_for(what, question):
    until = time.monotonic() + 60
    while not question():
        check(time.monotonic() < until, what)
        time.sleep(0.1)


def start_client(directory, *options, is_free=False):
    path = os.path.join(directory, "client.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write("""network_file = "%s/network.conf"
listen = {"0.0.0.0:0"}
hops = 2
%sroutes = none
tun_name = mvpnschema0
run_dir = "%s/run"
state_dir = "%s/client-state"
control_socket = "%s/client.sock"
""" % (directory, "" if is_free else 'path = {"alpha", "bravo"}\n', directory, directory, directory))
    start(directory, "client", "meshvpn-client", path, *options)
    wait_for("the client starts", lambda: os.path.exists(os.path.join(directory, "client.sock")))


def test_circuits(directory):
    found = judge(meshvpn(directory, "client", "circuit", "list", "--json").stdout)
    current = [c for c in found["circuits"] if c["is_current"]]
    check(len(current) == 1 and current[0]["state"] == "in use" and current[0]["build_ms"] > 0, found)
    check([(h["name"], h["country"], h["role"]) for h in current[0]["path"]]
          == [("alpha", None, "guard"), ("bravo", "CH", "exit")], found)
    one = judge(meshvpn(directory, "client", "circuit", "show", "--json").stdout)
    check(one["number"] == current[0]["number"] and one["path"] == current[0]["path"], one)
    one = judge(meshvpn(directory, "client", "circuit", "show", str(current[0]["number"]), "--json").stdout)
    check(one["is_current"], one)
    done = meshvpn(directory, "client", "circuit", "list")
    check(done.returncode == 0 and "* in use " in done.stdout and "alpha > bravo (CH)" in done.stdout, done)
    done = meshvpn(directory, "client", "circuit", "show")
    check(done.returncode == 0 and "guard     alpha  " in done.stdout and "exit      bravo (CH)  " in done.stdout, done)
    unused = max(c["number"] for c in found["circuits"]) % 10 + 1
    done = meshvpn(directory, "client", "circuit", "show", str(unused))
    if unused not in [c["number"] for c in found["circuits"]]:
        check(done.returncode == 1 and "there is no circuit" in done.stderr and done.stdout == "", done)


def names(directory, *arguments):
    found = judge(meshvpn(directory, "client", "exit", "list", "--json", *arguments).stdout)
    check(found["total"] == len(found["exits"]), found)
    return [e["name"] for e in found["exits"]]


def test_exits(directory):
    check(names(directory) == ["charlie", "bravo"], "the fastest first, relays not at all")
    check(names(directory, "--country", "CH") == ["bravo"], "of a country")
    check(names(directory, "--country", "JP") == [], "of none")
    check(names(directory, "--port", "443") == ["charlie", "bravo"], "a port of the default policy")
    check(names(directory, "--port", "25") == [], "one that it refuses")
    done = meshvpn(directory, "client", "exit", "list")
    lines = done.stdout.splitlines()
    check(done.returncode == 0 and len(lines) == 3 and lines[1].split()[:3] == ["charlie", "SE", "200"], done)
    done = meshvpn(directory, "client", "exit", "list", "--country", "ch")
    check(done.returncode == 1 and "two upper-case letters" in done.stderr and done.stdout == "", done)
    done = meshvpn(directory, "client", "exit", "list", "--country", "JP")
    check(done.returncode == 0 and "No exit is known that fits" in done.stdout, done)
    done = meshvpn(directory, "client", "exit", "list", "--port", "65536")
    check(done.returncode == 2, done)


def choice(directory):
    return judge(meshvpn(directory, "client", "status", "--json").stdout)["exit_choice"]


def marks(directory):
    found = judge(meshvpn(directory, "client", "exit", "list", "--json").stdout)
    return {e["name"]: [m for m in ("in_use", "chosen", "blocked") if e["is_" + m]] + [e["reason"]] for e in found["exits"]}


def test_choices(directory):
    """Both exits are known; bravo runs, charlie does not."""
    def restart(*options):
        children.pop("client").send_signal(signal.SIGTERM)
        wait_for("the client ends", lambda: not os.path.exists(os.path.join(directory, "client.sock")))
        start_client(directory, *options, is_free=True)

    def is_connected():
        return meshvpn(directory, "client", "status", "--json").returncode == 0

    def takes(*words):
        done = meshvpn(directory, "client", "exit", *words)
        check(done.returncode == 0, done)
        return done.stdout + done.stderr

    def refuses(said, *words):
        before = choice(directory)
        done = meshvpn(directory, "client", "exit", *words)
        check(done.returncode == 1 and said in done.stderr and done.stdout == "", (said, done))
        check(choice(directory) == before, "a refused choice changes nothing")
    nothing = {"use": "auto", "kind": "auto", "identity": None, "blocked": [], "reason": None}
    check(choice(directory) == nothing, choice(directory))
    refuses("says the whole path", "use", "bravo")
    restart("--exit", "bravo")
    wait_for("the client connects", is_connected)
    check(choice(directory)["use"] == "bravo" and choice(directory)["kind"] == "exit", choice(directory))
    takes("use", "auto")
    check(choice(directory) == nothing, choice(directory))
    check(names(directory, "--min-mbit", "150") == ["charlie"] and names(directory, "--min-mbit", "201") == [], "by bandwidth")
    found = judge(meshvpn(directory, "client", "exit", "suggest", "--json").stdout)
    check([s["name"] for s in found["suggestions"]] in (["charlie", "bravo"], ["bravo", "charlie"]) and found["total"] == 2, found)
    check(all("Mbit/s" in s["reason"] for s in found["suggestions"]), found)
    done = meshvpn(directory, "client", "exit", "suggest", "--country", "CH")
    check(done.returncode == 0 and done.stdout.startswith("1  bravo ") and "CH" in done.stdout and "in use" in done.stdout, done)
    refuses("Did you mean bravo?", "use", "brvo")
    refuses("'alpha' is a relay, but no exit", "use", "alpha")
    refuses("Exits are known in: CH, SE", "use", "JP")
    refuses("A country is written CH", "use", "ch")
    refuses("is no exit", "use", "!CH")
    refuses("no exit is known as", "use", "0123456789abcdef")
    refuses("auto is no exit", "block", "auto")
    refuses("maple is not blocked", "unblock", "maple")
    check("exit: bravo" in takes("use", "bravo"), "by name")
    check(choice(directory)["kind"] == "exit" and choice(directory)["reason"] is None, choice(directory))
    refuses("would block what meshvpn exit use chose", "block", "CH")
    identity = choice(directory)["identity"]
    takes("use", "auto")
    takes("use", identity)  # the digits that are shown
    check(choice(directory)["use"] == "bravo", choice(directory))
    check(marks(directory) == {"bravo": ["in_use", "chosen", None], "charlie": ["another exit is chosen"]}, marks(directory))
    takes("use", "CH")
    check(choice(directory)["use"] == "CH" and choice(directory)["kind"] == "countries", choice(directory))
    check(marks(directory) == {"bravo": ["in_use", "chosen", None], "charlie": ["not in a wanted country"]}, marks(directory))
    with open(os.path.join(directory, "client.log"), encoding="utf-8") as log:  # the sandbox lets it read the tables
        check("exits are believed where they are: " not in log.read(), "tables of countries")
    takes("block", "charlie")
    takes("block", "DE,FR")
    check(choice(directory)["blocked"] == ["DE", "FR", "charlie"], choice(directory))
    lines = meshvpn(directory, "client", "status").stdout.splitlines()
    check("chosen    CH; blocked: DE, FR, charlie" in lines, lines)
    check(marks(directory)["charlie"] == ["blocked", "not in a wanted country"], marks(directory))
    found = judge(meshvpn(directory, "client", "exit", "suggest", "--json").stdout)
    check([s["name"] for s in found["suggestions"]] == ["bravo"], found)
    restart()  # keeps it
    check(choice(directory)["use"] == "CH" and choice(directory)["blocked"] == ["DE", "FR", "charlie"], choice(directory))
    wait_for("the client connects", is_connected)
    # Nothing is left: connections wait, and it is said.
    takes("use", "auto")
    check("no exit that is known is left" in takes("block", "bravo"), "the only one that is not blocked")
    check("blocked" in choice(directory)["reason"], choice(directory))
    done = meshvpn(directory, "client", "status", "--json")
    check(done.returncode == 5 and "blocked" in judge(done.stdout)["blocked_by"], done)
    takes("unblock", "all")
    wait_for("the client connects", is_connected)
    check(choice(directory) == nothing, choice(directory))
    restart("--exit", "nobody-knows-it")
    check(choice(directory)["kind"] == "name" and choice(directory)["use"] == "nobody-knows-it", choice(directory))
    wait_for("it is blocked", lambda: meshvpn(directory, "client", "status").returncode == 5)
    check("by that name" in choice(directory)["reason"], choice(directory))
    takes("use", "bravo")
    wait_for("the client connects", is_connected)
    takes("use", "auto")
    done = program("meshvpn-client", "--config", os.path.join(directory, "client.conf"), "--exit", "CH SE")
    check(done.returncode == 2 and "is no exit" in done.stderr, done)
    start_again = os.path.join(directory, "client.sock")
    children.pop("client").send_signal(signal.SIGTERM)
    wait_for("the client ends", lambda: not os.path.exists(start_again))
    start_client(directory)
    wait_for("the client connects", is_connected)


def test_config(directory):
    path = os.path.join(directory, "client.conf")

    def show(*arguments, kind="client", file=path):
        return program("meshvpn", "config", "show", kind, file, *arguments)
    found = judge(show("--json").stdout)
    rows = {s["key"]: s for s in found["settings"]}
    check(found["kind"] == "client" and found["file"] == path, found)
    check(set(rows) == {"network_file", "listen", "hops", "path", "routes", "tun_name", "run_dir", "state_dir", "control_socket"}, rows)
    check((rows["hops"]["value"], rows["hops"]["line"]) == (2, 3), rows["hops"])
    check((rows["path"]["value"], rows["path"]["line"]) == (["alpha", "bravo"], 4), rows["path"])
    check((rows["tun_name"]["value"], rows["tun_name"]["default"]) == ("mvpnschema0", "mvpn0"), rows["tun_name"])
    rows = {s["key"]: s for s in judge(show("--json", "--effective").stdout)["settings"]}
    check(rows["log_level"] == {"key": "log_level", "value": None, "line": None, "file": None, "default": "info"}, rows["log_level"])
    check(rows["listen"]["default"] == '{"0.0.0.0:0", "[::]:0"}' and "pool_v4" not in rows, rows["listen"])
    node = os.path.join(directory, "nodes", "alpha", "relay.conf")
    rows = {s["key"]: s for s in judge(show("--json", "--effective", kind="relay", file=node).stdout)["settings"]}
    check(rows["bandwidth_mbit"]["default"] == "not said; else relay_limit", rows["bandwidth_mbit"])
    check(rows["listen"]["default"] == '{"0.0.0.0:443"}' and "hops" not in rows, rows["listen"])
    lines = show("--effective").stdout.splitlines()
    check(any(l.startswith("hops = 2 ") and l.endswith("# %s:3" % path) for l in lines), lines)
    check(any(l.startswith('path = {"alpha", "bravo"} ') for l in lines), lines)
    check(any(l.startswith("# log_level: info ") and l.endswith("# default") for l in lines), lines)
    # What is printed is a configuration that says the same.
    copy_of = os.path.join(directory, "copy.conf")
    with open(copy_of, "w", encoding="utf-8") as file:
        file.write(show("--effective").stdout)
    again = json.loads(show("--json", file=copy_of).stdout)["settings"]
    check([(s["key"], s["value"]) for s in again] == [(s["key"], s["value"]) for s in found["settings"]], again)
    with open(copy_of, "a", encoding="utf-8") as file:
        file.write("hopps = 3\n")
    done = show(file=copy_of)
    check(done.returncode == 1 and "Did you mean 'hops'?" in done.stderr and done.stdout == "", done)
    done = show(file=os.path.join(directory, "none.conf"))
    check(done.returncode == 1 and "none.conf" in done.stderr and done.stdout == "", done)


def test_relays(directory):
    """The client has come to alpha, alpha to bravo."""
    for name, role in (("alpha", "relay"), ("bravo", "exit")):
        found = judge(meshvpn(directory, name, "relay", "status", "--json").stdout)["relays"][0]
        check((found["name"], found["role"], found["reach"]) == (name, role, "reached"), found)
    check(found["links_in"] == 1 and found["addresses"] == [NODES["bravo"][1]], found)
    done = meshvpn(directory, "alpha", "relay", "status")
    check(done.returncode == 0 and "reached   yes: others have opened links" in done.stdout, done)
    done = meshvpn(directory, "client", "relay", "status")
    check(done.returncode == 4 and "no relay runs here" in done.stderr and done.stdout == "", done)


def test_up(directory):
    """One that runs already, and one that cannot."""
    path = os.path.join(directory, "client.conf")
    wait_for("the client connects", lambda: meshvpn(directory, "client", "status").returncode == 0)
    done = program("meshvpn", "up", "--json", "--config", path)
    end = [judge(line) for line in done.stdout.splitlines()][-1]  # stages before it, if names are still asked for
    check(done.returncode == 0 and end["result"] in ("already connected", "connected"), done)
    check(not end["proof"]["kill_switch"]["is_good"], "routes = none: there is none")
    stages = judge(meshvpn(directory, "client", "status", "--json").stdout)["stages"]
    check([s["name"] for s in stages][:5] == ["host", "network", "guard", "circuit", "exit"], stages)
    check(all(s["state"] == "done" and s["ms"] >= 0 for s in stages[:5]), stages)
    bad = os.path.join(directory, "bad.conf")
    with open(bad, "w", encoding="utf-8") as file:
        file.write("hopps = 3\n")
    done = program("meshvpn", "up", "--json", "--config", bad)
    end = judge(done.stdout)
    check(done.returncode == 2 and end["result"] == "failed" and "bad.conf:1: unknown key" in end["cause"], done)
    done = program("meshvpn", "up", "--config", bad)
    check(done.returncode == 2 and "Did you mean 'hops'?" in done.stderr and done.stdout == "", done)
    done = program("meshvpn", "reconnect", "--config", path)
    check(done.returncode == 0, done)


def test_ping(directory):
    """Each line is an object."""
    done = meshvpn(directory, "alpha", "ping", "bravo", "--count", "2", "--interval", "100", "--json")
    lines = [judge(line) for line in done.stdout.splitlines()]
    check(done.returncode == 0 and len(lines) == 2 and all(line["node"] == "bravo" and line["rtt_ms"] > 0 for line in lines), done)
    line = judge(meshvpn(directory, "alpha", "ping", "charlie", "--count", "1", "--json").stdout)
    check(line["rtt_ms"] is None, line)


def test_netcheck(directory):
    """Without a network, and with one where nobody answers."""
    words = ["netcheck", "--json", "--config", os.path.join(directory, "client.conf")]
    check(judge(program("meshvpn", *words).stdout)["verdict"] == "offline", "a namespace with loopback alone")
    for command in ("link add home0 type veth peer name away0", "addr add 198.18.0.1/24 dev home0", "link set home0 up", "link set away0 up",
                    "route add default via 198.18.0.2"):
        subprocess.run(["ip", *command.split()], check=True)
    found = judge(program("meshvpn", *words).stdout)
    check(found["ipv4"]["local"] == "198.18.0.1" and found["port_mapping"]["gateway"] == "198.18.0.2", found)


def test_table():
    """Every command that speaks JSON was heard, and no schema is nobody's."""
    table = subprocess.run([sys.argv[3], "list", "meshvpn"], text=True, capture_output=True, check=True).stdout
    told = set()
    for line in table.splitlines():
        verb, *options = line.split("\t")
        for option in options:
            words = option.split()
            if words[0] == "--json":
                check(len(words) == 3, "%s --json names no schema" % verb)
                told.add(words[2].rstrip(")"))
    check(told <= set(SCHEMAS), "no schema file: %s" % (told - set(SCHEMAS)))
    check(told <= judged, "never judged: %s" % (told - judged))
    check(set(SCHEMAS) <= judged, "schemas that nothing was judged by: %s" % (set(SCHEMAS) - judged))


def test_others(directory):
    """A relay has neither."""
    for words in (("circuit", "list"), ("circuit", "show"), ("exit", "list"), ("exit", "suggest"), ("exit", "use", "auto")):
        done = meshvpn(directory, "alpha", *words)
        check(done.returncode == 1 and "is not meshvpn-client" in done.stderr and done.stdout == "", done)
        done = meshvpn(directory, "nobody", *words)
        check(done.returncode == 4 and "No daemon runs here" in done.stderr, done)


def main():
    isolate()
    for path in glob.glob(os.path.join(sys.argv[2], "*.json")):
        with open(path, encoding="utf-8") as file:
            schema = json.load(file)
        jsonschema.Draft202012Validator.check_schema(schema)
        check(os.path.basename(path) == schema["title"].replace("meshvpn.", "").replace("/", "-") + ".json", path)
        SCHEMAS[schema["title"]] = schema
    threading.Thread(target=serve_names, daemon=True).start()
    judge(program("meshvpn", "version", "--json").stdout)
    judge(program("meshvpn", "doctor", "--json").stdout)
    with tempfile.TemporaryDirectory(prefix="mvpn-schemas-test.") as directory:
        try:
            make_network(directory)
            for name, (kind, _) in NODES.items():
                if name != "charlie":  # known, that is all
                    start(directory, name, "meshvpn-exit-node" if kind == "exit" else "meshvpn-relay",
                          os.path.join(directory, "nodes", name, kind + ".conf"))
            for name in children:
                wait_for(name + " starts", lambda n=name: meshvpn(directory, n, "status").returncode == 0)
            start_client(directory)
            judge(meshvpn(directory, "client", "status", "--json").stdout)
            wait_for("the client connects", lambda: meshvpn(directory, "client", "status", "--json").returncode == 0)
            judge(meshvpn(directory, "client", "status", "--json").stdout)
            for name in ("alpha", "bravo"):
                judge(meshvpn(directory, name, "status", "--json").stdout)
            test_relays(directory)
            test_circuits(directory)
            test_up(directory)
            test_exits(directory)
            test_choices(directory)
            test_config(directory)
            test_others(directory)
            test_ping(directory)
            test_netcheck(directory)
            test_table()
            for name in reversed(list(children)):
                child = children.pop(name)
                child.send_signal(signal.SIGTERM)
                check(child.wait(timeout=30) == 0, name + " ends with 0")
        except SystemExit:
            for log in glob.glob(os.path.join(directory, "*.log")):
                with open(log, encoding="utf-8") as file:
                    sys.stderr.write("--- %s\n%s" % (log, file.read()[-2000:]))
            raise
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    print("passed")


main()
