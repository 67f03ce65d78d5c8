"""A client of pyright's language server over stdio: what an editor shows for a name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class LanguageServer:
    """A running `pyright-langserver`. Its workspace is `root`; it also finds the packages in `source`."""

    def __init__(self, root: Path, source: Path) -> None:
        analysis = {"extraPaths": [str(source)], "diagnosticMode": "openFilesOnly"}
        self._settings = {"python": {"pythonPath": sys.executable}, "python.analysis": analysis}
        self._root = root
        self._last_id = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        abilities: dict[str, Any] = {"workspace": {"configuration": True}}
        abilities["textDocument"] = {"hover": {"contentFormat": ["markdown"]}}
        uri = self._root.as_uri()
        folders = [{"uri": uri, "name": "root"}]
        client = {"processId": None, "rootUri": uri, "workspaceFolders": folders}
        self._request("initialize", {**client, "capabilities": abilities})
        self._send({"method": "initialized", "params": {}})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The process is Python, and node is its child.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def open(self, name: str, text: str) -> None:
        """Open a document, which need not exist on the disk."""
        document = {"uri": self._uri(name), "languageId": "python", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def hover(self, name: str, line: int, character: int) -> str:
        """Return the text that an editor shows at a position of a document; both numbers count from 0."""
        position = {"line": line, "character": character}
        params = {"textDocument": {"uri": self._uri(name)}, "position": position}
        found = self._request("textDocument/hover", params)
        return "" if found is None else str(found["contents"]["value"])

    def _uri(self, name: str) -> str:
        return (self._root / name).as_uri()

    def _request(self, method: str, params: Any) -> Any:
        """Send a request, answer the requests of the server, and return the result."""
        self._last_id += 1
        self._send({"id": self._last_id, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": self._reply(message)})
            elif message.get("id") == self._last_id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _reply(self, request: Any) -> Any:
        if request["method"] != "workspace/configuration":
            return None
        return [self._settings.get(item.get("section"), {}) for item in request["params"]["items"]]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        length = 0
        while header := self._process.stdout.readline().strip():
            name, _, value = header.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        if not length:
            raise EOFError("the language server has ended")
        return json.loads(self._process.stdout.read(length))
