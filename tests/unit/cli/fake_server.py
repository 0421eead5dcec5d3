# SPDX-License-Identifier: Apache-2.0
"""A REST server that answers what a test tells it to and remembers what it was asked."""

import http.server
import json
import threading


class FakeServer:
    """`answers` maps (method, path without query) to a list of (status, body), given in turn; the last one stays."""

    def __init__(self):
        self.requests = []
        self.answers = {}
        self.streams = {}
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                path, _, query = self.path.partition("?")
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                fake.requests.append(
                    {
                        "method": self.command,
                        "path": path,
                        "query": query,
                        "headers": dict(self.headers),
                        "body": json.loads(body) if body else None,
                    }
                )
                if path in fake.streams:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    chunks = fake.streams[path]
                    if chunks:
                        self.wfile.write(chunks.pop(0))
                    self.close_connection = True
                    return
                answers = fake.answers.get((self.command, path))
                if not answers:
                    status, answer = 404, problem("not-found", 404, f"no {self.command} {path}")
                else:
                    status, answer = answers[0]
                    if len(answers) > 1:
                        answers.pop(0)
                data = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_one

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def on(self, method, path, *answers):
        self.answers[(method, path)] = [answer if isinstance(answer, tuple) else (200, answer) for answer in answers]

    def last(self):
        return self.requests[-1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def problem(slug, status, detail, **more):
    return {
        "type": f"urn:holdfast:problem:{slug}",
        "title": "A title",
        "status": status,
        "detail": detail,
        "request_id": "r-1",
        **more,
    }
