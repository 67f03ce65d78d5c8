"""A model's HTTP service on 127.0.0.1, scripted: OpenAI chat completions and Anthropic messages.

    with LlmServer(Says("Hello!"), Fails(429), Says("Better now.")) as server:
        litellm.completion("openai/gpt-4o", …, api_base=server.openai)
    assert server.requests[0].body["messages"][-1]["content"] == "Hi"

Each request takes the next behaviour of the script, and is answered as a stream if it asks for one; a request
that breaks the service's rules is refused. A block that ends well must have used them all.
"""

from __future__ import annotations

import inspect
import json
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.llm_formats import FORMATS, JsonMap, Says, Streams, streamed
from tests.support.llm_rules import broken


@dataclass(frozen=True)
class Fails:
    """An HTTP error. Without a body it is the service's usual one."""

    status: int
    body: str = ""
    retry_after: str = ""


@dataclass(frozen=True)
class Sends:
    """A body as it is, with status 200: another JSON value, or something that is none. It may be cut so many
    bytes before its end."""

    body: str
    missing: int = 0


@dataclass(frozen=True)
class Slow:
    """Another behaviour after some seconds, or at once when the server is stopped."""

    seconds: float
    then: Behaviour


@dataclass(frozen=True)
class Cut:
    """A reply whose connection ends in the middle of the body."""


@dataclass(frozen=True)
class Trickles:
    """A body that comes byte by byte, each after some seconds, until the server is stopped."""

    seconds: float


@dataclass(frozen=True)
class Bomb:
    """A compressed body that is this many megabytes of blanks once it is decompressed, without an end."""

    megabytes: int


Behaviour = Says | Streams | Fails | Sends | Slow | Cut | Trickles | Bomb


@dataclass(frozen=True)
class Asked:
    """A request as it came, and when on the monotonic clock. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: JsonMap
    at: float

    @property
    def said(self) -> list[tuple[str, str]]:
        """Role and text of each message, the system message first: the same for both formats."""
        messages = [{"role": "system", "content": self.body.get("system", [])}, *self.body["messages"]]
        return [(each["role"], _joined(each["content"])) for each in messages if each["content"]]

    @property
    def schema(self) -> JsonMap | None:
        """The JSON schema that the reply must fit, in whichever form it was asked for."""
        body = self.body
        if "response_format" in body:
            return body["response_format"]["json_schema"]["schema"]  # type: ignore[no-any-return]
        native = body.get("output_format") or body.get("output_config", {}).get("format") or {}
        forced = body.get("tool_choice", {}).get("name")
        tools = {tool.get("name"): tool.get("input_schema") for tool in body.get("tools", ())}
        return native.get("schema") or tools.get(forced)


def _joined(content: str | list[JsonMap]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def refusal(reason: str) -> Fails:
    return Fails(400, json.dumps({"type": "error", "error": {"type": "invalid", "message": reason}}))


class LlmServer:
    def __init__(self, *script: Behaviour) -> None:
        self.script = list(script)
        self.requests: list[Asked] = []
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        self.connected = 0
        self.hung_up = threading.Event()
        """Set when a client has left in the middle of a stream."""
        self._taking = threading.Lock()
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def openai(self) -> str:
        """The `api_base` of an OpenAI client; an Anthropic client's is `url`."""
        return f"{self.url}/v1"

    def take(self, asked: Asked) -> Behaviour:
        with self._taking:
            self.requests.append(asked)
            if reason := broken(asked.path, asked.body):
                return refusal(reason)
            return self.script.pop(0) if self.script else refusal("the script has no more replies")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._http.shutdown()
        for connection in tuple(self.connections):
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        close_clients()
        if error is None:
            assert not self.script, f"not asked for: {self.script}"


def close_clients() -> None:
    """litellm keeps a client for each address, and lets go of it, with its open connection, after ten
    minutes. Those of event loops end with their loops."""
    litellm = sys.modules.get("litellm")
    clients = getattr(litellm, "in_memory_llm_clients_cache", None)
    for key, client in [*getattr(clients, "cache_dict", {}).items()]:
        close = getattr(client, "close", None)
        if close is not None and not inspect.iscoroutinefunction(close):
            close()
            clients.cache_dict.pop(key, None)


class _Http(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, llm: LlmServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.llm = llm

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client hung up before its reply was sent, as clients with a timeout do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.llm.connections.add(self.connection)
        self.server.llm.connected += 1

    def finish(self) -> None:
        self.server.llm.connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, body, time.monotonic())
        self._behave(self.server.llm.take(asked), asked)

    def _behave(self, behaviour: Behaviour, asked: Asked) -> None:
        match behaviour:
            case Says() if asked.body.get("stream"):
                self._stream(streamed(behaviour), asked)
            case Says():
                self._send(200, json.dumps(FORMATS[asked.path].whole(behaviour, asked.body)))
            case Fails(status, text, retry_after):
                error = {"type": "error", "error": {"type": "scripted", "message": f"scripted {status}"}}
                self._send(status, text or json.dumps(error), retry_after)
            case Sends(text, missing):
                self._send(200, text, missing=missing)
            case Slow(seconds, then):
                self.server.llm.stopping.wait(seconds)
                self._behave(then, asked)
            case Cut():
                self._send(200, '{"id": "cut", "choi', missing=100)
            case Bomb(megabytes):
                self._explode(megabytes, is_stream=bool(asked.body.get("stream")))
            case Trickles(seconds):
                self._send(200, "{", missing=10_000)
                while not self.server.llm.stopping.wait(seconds):
                    self.wfile.write(b" ")

    def _send(self, status: int, text: str, retry_after: str = "", missing: int = 0) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) + missing))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or missing > 0

    def _explode(self, megabytes: int, *, is_stream: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "close")
        self.end_headers()
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        beginning = packer.compress(b"data: " if is_stream else b'{"a": "')
        self.wfile.write(beginning + packer.flush(zlib.Z_FULL_FLUSH))
        block = packer.compress(b" " * 2**20) + packer.flush(
            zlib.Z_FULL_FLUSH
        )  # depends on nothing before it
        for _ in range(megabytes):
            self.wfile.write(block)
        self.close_connection = True

    def _stream(self, reply: Streams, asked: Asked) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in self._events(reply, asked):
                self._chunk(event)
                if self.server.llm.stopping.wait(reply.pause):
                    break
            if reply.ends == "silent":
                self.server.llm.stopping.wait()
        except OSError:
            self.server.llm.hung_up.set()
            raise
        if reply.ends in ("cut", "late"):
            self.close_connection = True
        else:
            self._chunk("")

    def _events(self, reply: Streams, asked: Asked) -> Iterator[str]:
        form = FORMATS[asked.path]
        yield from form.pieces(reply, asked.body)
        if reply.ends == "error":
            yield form.error("scripted error")
        elif reply.ends in ("whole", "late"):
            yield from form.finish(reply, asked.body)

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a test reads `requests`."""
