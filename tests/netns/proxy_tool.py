#!/usr/bin/python3
"""Programs that use the proxy, well and badly. Standard library only.

    proxy_tool.py udp PROXY SERVER PORT NAME   a DNS query for NAME through UDP ASSOCIATE; prints the addresses
    proxy_tool.py many PROXY HOST COUNT        COUNT connections at once, each gets /ip of HOST; prints the answers, counted
    proxy_tool.py reply PROXY HOST PORT        connect; prints the number of the reply and tenths of seconds
    proxy_tool.py unread PROXY HOST PATH COUNT SECONDS
                                               COUNT programs that ask for PATH and never read; prints "ready", stays
    proxy_tool.py hold PROXY HOST COUNT        COUNT users, a connection of each; prints "ready", stays
    proxy_tool.py half PROXY HOST              sends a request and its own end before it reads; prints the answer's last line
                                               udp, many, reply: [USER PASSWORD] at the end
    proxy_tool.py bad PROXY HTTP               requests that are none; prints how many were closed or refused
"""

import random
import socket
import struct
import sys
import threading
import time

WAIT_S = 20


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise ConnectionError("closed early")
        data += more
    return data


def ask(proxy, command, host, port, user=()):
    """A connection on which was asked, and the number of the reply, and its address."""
    s = socket.create_connection(address(proxy), WAIT_S)
    s.sendall(b"\5\1\2" if user else b"\5\1\0")
    if read_exactly(s, 2) != (b"\5\2" if user else b"\5\0"):
        raise ConnectionError("no method")
    if user:
        s.sendall(b"\1" + b"".join(bytes([len(part)]) + part.encode() for part in user))
        if read_exactly(s, 2) != b"\1\0":
            raise ConnectionError("not let in")
    name = host.encode()
    s.sendall(bytes([5, command, 0, 3, len(name)]) + name + struct.pack(">H", port))
    head = read_exactly(s, 4)
    at = read_exactly(s, 4 if head[3] == 1 else 16)
    port = struct.unpack(">H", read_exactly(s, 2))[0]
    family = socket.AF_INET if head[3] == 1 else socket.AF_INET6
    return s, head[1], (socket.inet_ntop(family, at), port)


def get(host, path):
    return f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


def read_all(s):
    data = b""
    while more := s.recv(65536):
        data += more
    return data


def dns_query(name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", random.randrange(65536), 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def udp(proxy, server, port, name, *user):
    control, reply, relay = ask(proxy, 3, "0.0.0.0", 0, user)
    if reply != 0:
        sys.exit(f"reply {reply}")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    query = dns_query(name)
    target = bytes([3, len(server)]) + server.encode() + struct.pack(">H", int(port))
    s.sendto(b"\0\0\1" + target + query, relay)  # a fragment: dropped
    for _ in range(4):
        s.sendto(b"\0\0\0" + target + query, relay)
        stranger.sendto(b"\0\0\0" + target + query, relay)  # another port than the first: dropped
        try:
            data = s.recv(4096)
            break
        except socket.timeout:
            continue
    else:
        sys.exit("no answer")
    if data[:4] != b"\0\0\0\1" or data[10:12] != query[:2]:
        sys.exit(f"not an answer: {data!r}")
    stranger.settimeout(0.2)
    try:
        sys.exit(f"a stranger was answered: {stranger.recv(4096)!r}")
    except socket.timeout:
        pass
    print(socket.inet_ntoa(data[-4:]))
    control.close()
    time.sleep(0.3)
    s.sendto(b"\0\0\0" + target + query, relay)
    s.settimeout(0.3)
    try:
        s.recv(4096)
        sys.exit("the association outlives its connection")
    except OSError:
        pass


def many(proxy, host, count, *user):
    answers, lock = {}, threading.Lock()

    def one():
        try:
            s, reply, _ = ask(proxy, 1, host, 80, user)
            s.sendall(get(host, "/ip"))
            answer = read_all(s).split(b"\r\n\r\n", 1)[1].strip().decode() if reply == 0 else f"reply {reply}"
        except (OSError, IndexError) as error:
            answer = repr(error)
        with lock:
            answers[answer] = answers.get(answer, 0) + 1

    threads = [threading.Thread(target=one) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer, number in answers.items():
        print(number, answer)


def reply(proxy, host, port, *user):
    began = time.monotonic()
    s, number, _ = ask(proxy, 1, host, int(port), user)
    rest = s.recv(1) if number != 0 else b""
    print(number, int((time.monotonic() - began) * 10), "data" if rest else "closed")


def unread(proxy, host, path, count, seconds):
    held = []
    for _ in range(int(count)):
        s, number, _ = ask(proxy, 1, host, 80)
        if number != 0:
            sys.exit(f"reply {number}")
        s.sendall(get(host, path))
        held.append(s)
    time.sleep(float(seconds))
    print("ready", flush=True)
    sys.stdin.readline()


def hold(proxy, host, count):
    held = []
    for i in range(int(count)):
        s, number, _ = ask(proxy, 1, host, 80, (f"user {i}", "same"))
        if number != 0:
            sys.exit(f"reply {number}")
        held.append(s)
    print("ready", flush=True)
    sys.stdin.readline()


def half(proxy, host):
    s, number, _ = ask(proxy, 1, host, 80)
    s.sendall(get(host, "/ip"))
    s.shutdown(socket.SHUT_WR)
    print(number, read_all(s).split(b"\r\n")[-1].decode().strip())


def bad(proxy, http):
    source = random.Random(1)
    requests = [(proxy, b"\4\1\0\x50\1\2\3\4\0"), (proxy, b"GET / HTTP/1.1\r\n\r\n"), (proxy, b"\5\0"),
                (proxy, b"\5\1\0\5\2\0\1\1\2\3\4\0\x50"), (proxy, b"\5\1\0\5\1\0\3\0\0\x50"),
                (proxy, b"\5\1\0\5\1\0\3\3a\0b\0\x50"), (proxy, b"\5\1\0\6\1\0\1\1\2\3\4\0\x50"),
                (http, b"GET http://x/ HTTP/1.1\r\n\r\n"), (http, b"CONNECT x HTTP/1.1\r\n\r\n"),
                (http, b"CONNECT localhost:80 HTTP/1.1\r\n\r\n"), (http, b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n"),
                (proxy, b"\5\2\1\3"), (proxy, b"\5\1\2\1\0\0"), (proxy, b"\5\1\2\2\1a\1b"), (proxy, b"\5\1\2\1\5ab"),
                (http, b"CONNECT x:80 HTTP/1.1\r\nProxy-Authorization: Basic !\r\n\r\n"),
                (http, b"CONNECT x:80 HTTP/1.1\r\nProxy-Authorization: Digest x\r\n\r\n"),
                (http, b"A" * 5000), (http, b"\r\n" * 3)]
    for _ in range(100):
        requests.append((source.choice((proxy, http)),
                         bytes(source.choice((0, 1, 3, 4, 5, 13, 10, 255)) for _ in range(source.randrange(1, 40)))))
    ended = 0
    for to, request in requests:
        s = socket.create_connection(address(to), WAIT_S)
        s.settimeout(1)
        try:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)  # so that what waits for more ends, too
            read_all(s)
            ended += 1
        except ConnectionError:
            ended += 1
        except socket.timeout:
            print("open:", request)
        s.close()
    print(ended, "of", len(requests))
    sys.exit(ended != len(requests))


def main():
    commands = {"udp": udp, "many": many, "reply": reply, "unread": unread, "half": half, "bad": bad, "hold": hold}
    commands[sys.argv[1]](*sys.argv[2:])


main()
