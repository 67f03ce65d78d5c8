"""A model's HTTP service on 127.0.0.1 that answers each question with "answer to <question>".

It speaks both formats of `llm_formats`, plain and streamed, and keeps its connections open.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.llm_formats import FORMATS, Streams

PAUSE = 0.02
"""Seconds before each answer: long enough that the questions of two processes overlap."""


def answer_to(question: str) -> str:
    return f"answer to {question}"


@contextmanager
def question_server() -> Iterator[str]:
    """The URL of a running server."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that ends drops its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = asked["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        reply, form = Streams(answer_to(question)), FORMATS[self.path]
        time.sleep(PAUSE)
        if asked.get("stream"):
            self._send("text/event-stream", "".join([*form.pieces(reply, asked), *form.finish(reply, asked)]))
        else:
            self._send("application/json", json.dumps(form.whole(reply, asked)))

    def _send(self, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
