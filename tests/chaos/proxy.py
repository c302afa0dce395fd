# SPDX-License-Identifier: Apache-2.0
"""A small HTTP proxy between alloyd and ClickHouse that misbehaves on demand.

Each request that carries rows, be it an insert or a question for them, meets one fault, drawn from the weights in force:

  pass       forward, and bring the answer back
  cut        forward (ClickHouse commits), then close without an answer
  reset      forward, then reset the connection
  truncate   forward, then bring back only half of the answer's bytes
  delay      forward, wait, then bring the answer back
  exception  forward, then answer 200 with an X-ClickHouse-Exception-Code header
  error500   do not forward, answer 500
  error503   forward, answer 503
  refuse     close before anything is forwarded
  late       forward, and answer later than alloyd waits
  error429   do not forward, answer 429 with Retry-After

While `down` is set it closes whatever comes; with `falls` it is down from the first fault on.

The proxy adds `settings` to each insert, for example a memory limit that large inserts exceed.
"""

import http.client
import random
import socket
import socketserver
import struct
import threading
import time

FAULTS = ("pass", "cut", "reset", "truncate", "delay", "exception", "error500", "error503", "refuse",
          "late", "error429")
LATE_S = 4


class Proxy:
    def __init__(self, upstream_port, seed=0):
        self.upstream_port = upstream_port
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.weights = {"pass": 1}
        self.settings = ""
        self.down = self.falls = False
        self.done = dict.fromkeys(FAULTS, 0)
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    while proxy.one_request(self):
                        pass
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def heal(self):
        self.down = self.falls = False
        self.weights = {"pass": 1}
        self.settings = ""

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def draw(self):
        with self.lock:
            weights = self.weights
            fault = self.random.choices(list(weights), list(weights.values()))[0]
            self.down = self.down or (self.falls and fault != "pass")
            self.done[fault] += 1
            return fault

    def one_request(self, handler):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = handler.rfile.readline()
            if not line:
                return False
            head += line
        if self.down:
            return False
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        fault = self.draw() if "INSERT" in target.upper() or "alloy_rows" in target else "pass"
        if fault == "refuse":
            return False
        if fault == "error500":
            return self.answer(handler, b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops")
        if fault == "error429":
            return self.answer(handler, b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n"
                               b"Content-Length: 4\r\n\r\nslow")
        if "INSERT" in target.upper():
            target += self.settings
        reply = self.forward(method, target, headers, body)
        if reply is None:
            return False
        return self.misbehave(handler, fault, reply)

    def forward(self, method, target, headers, body):
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)
        try:
            upstream.request(method, target, body, {k: v for k, v in headers.items()
                                                    if k.startswith("x-") or k == "content-type"})
            answer = upstream.getresponse()
            data = answer.read()
            kept = "".join(f"{k}: {v}\r\n" for k, v in answer.getheaders() if k.lower().startswith("x-"))
            head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n{kept}Content-Length: {len(data)}\r\n\r\n"
            return head.encode("latin-1") + data
        except (OSError, http.client.HTTPException):
            return None
        finally:
            upstream.close()

    def misbehave(self, handler, fault, reply):
        if fault == "cut":
            return False
        if fault == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "truncate":
            self.answer(handler, reply[:len(reply) // 2])
            return False
        if fault in ("delay", "late"):
            time.sleep(LATE_S if fault == "late" else 0.3)
        if fault == "exception":
            reply = (b"HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Code: 241\r\nContent-Length: 45\r\n\r\n"
                     b"Code: 241. DB::Exception: Memory limit (total)")[:-1]
        if fault == "error503":
            reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
        return self.answer(handler, reply)

    @staticmethod
    def answer(handler, data):
        handler.wfile.write(data)
        handler.wfile.flush()
        return True
