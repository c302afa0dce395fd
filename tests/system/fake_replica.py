# SPDX-License-Identifier: Apache-2.0
"""A server of a replicated table, as ClickHouse's documentation describes one, in a process of its own.

There is no Keeper here. What stands for it is a folder that all replicas of a shard share: an insert is one file, named
after its token, that appears with all its rows at once (link(2)) or, where the token is known, not at all. That is what
ReplicatedMergeTree does: token and part are one transaction in Keeper.

usage: fake_replica.py PORT FOLDER PATH_IN_KEEPER [LOSE]
LOSE: after so many inserts one is taken whose answer is lost.
"""

import http.server
import json
import os
import sys
import threading
import urllib.parse

PORT, FOLDER, PATH = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LOSE = int(sys.argv[4]) if len(sys.argv) > 4 else 0
inserts = 0
lock = threading.Lock()


def take(token, body):
    part = os.path.join(FOLDER, f".{os.getpid()}.{threading.get_ident()}")
    with open(part, "wb") as f:
        f.write(body)
    try:
        os.link(part, os.path.join(FOLDER, token))
    except FileExistsError:
        pass
    os.unlink(part)


def answer_to(query):
    if query == "SELECT 1":
        return "1\n"
    if query == "SELECT serverUUID()":
        return f"3b0bbe6e-0000-4000-8000-{PORT:012x}\n"
    if "zookeeper_path" in query:
        return f"ReplicatedMergeTree\t{PATH}\t0\n"
    if "system.columns" in query:
        return ""
    return "26.7.2.1\t1\tReplicatedMergeTree\t0\t\t0\t3b0bbe6e-0000-4000-8000-000000000001\t1\te\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global inserts
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # who sent it has gone: ClickHouse takes nothing of that either
            self.close_connection = True
            return
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        token = asked.get("insert_deduplication_token")
        headers, text = {}, ""
        if token is None:
            text = answer_to(asked["query"][0] if "query" in asked else body.decode())
        else:
            take(token[0], body)
            headers = {"X-ClickHouse-Summary": json.dumps({"written_rows": str(body.count(b"\n"))})}
            with lock:
                inserts += 1
                lost = LOSE and inserts % LOSE == 0
            if lost:
                self.close_connection = True
                self.connection.close()
                return
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, *_):
        pass


Server(("127.0.0.1", PORT), Handler).serve_forever()
