#!/usr/bin/env python3
"""A discovery node for source_url_test.c, well-behaved or not by the first part of the path.

source_url_server.py [CERTIFICATE KEY]: serves on loopback, https if there is a certificate; writes its
port to stdout and ends when stdin does.
"""
import http.server
import os
import ssl
import sys
import threading
import time

BUNDLE = b"\x05\x00\x00\x00\x3a" + bytes(58)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp=None):
        return "Sun, 22 Nov 2026 12:00:00 GMT"

    def answer(self, status, body, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if rest != "v1/bundle":
            self.answer(404, b"")
        elif kind == "good":
            self.answer(200, BUNDLE)
        elif kind == "large":
            self.answer(200, bytes(100000))
        elif kind == "announced":  # says that it is too big, and sends nothing
            self.send_response(200)
            self.send_header("Content-Length", "999999999999")
            self.end_headers()
        elif kind == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"1000\r\n" + bytes(4096) + b"\r\n")
            except OSError:
                pass
        elif kind == "slow":
            time.sleep(5)
        elif kind == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                pass
        elif kind == "redirect":
            self.answer(302, b"", [("Location", "/good/v1/bundle")])
        elif kind == "elsewhere":
            self.answer(301, b"", [("Location", "file:///etc/passwd")])
        elif kind == "asked":  # what the client says of itself
            text = "".join(f"{name}: {value}\n" for name, value in self.headers.items())
            self.answer(200, text.encode())
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        else:
            self.answer(404, b"")

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


def main():
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
