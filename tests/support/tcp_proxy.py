"""The way to a database server, which can be cut, and its administrator's view of a test's connections."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support import servers

WRITE = re.compile(rb'(INSERT INTO|UPDATE) ["`]chat')
WRITE_OR_COMMIT = re.compile(WRITE.pattern + b"|COMMIT")


class Wire:
    """The way to a server, on a port of its own: it can be cut at a write, or altogether."""

    def __init__(self, server: tuple[str, int], write: re.Pattern[bytes] = WRITE) -> None:
        self.server = server
        self.write = write
        self.port = 0
        self.refuse = 0
        self.cut: tuple[int, str] | None = None
        self.writes = 0
        self.open: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.up()

    def up(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self._run(self._accept, self.listener)

    def down(self) -> None:
        """Nobody answers any more, and every connection ends."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up(*self.open)

    def close(self) -> None:
        self.down()
        for thread in self.threads:
            thread.join(10)
        for end in self.open:
            end.close()

    def cut_at(self, number: int, when: str) -> None:
        """The next write with this number ends its connection: "before" the server has it, or "after"."""
        self.cut, self.writes = (number, when), 0

    def hang_up(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                if self.refuse:
                    self.refuse -= 1
                    client.close()
                    continue
                server = socket.create_connection(self.server)
                self.open += [client, server]
                answerless = threading.Event()
                self._run(self._forward, client, server, answerless)
                self._run(self._answer, client, server, answerless)

    def _forward(self, client: socket.socket, server: socket.socket, answerless: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self.writes += len(self.write.findall(data))
                if self.cut is not None and self.cut[0] == self.writes:
                    _, when = self.cut
                    self.cut = None
                    answerless.set()
                    if when == "before":
                        break
                server.sendall(data)
        self.hang_up(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, answerless: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not answerless.is_set():
                client.sendall(data)
        self.hang_up(client, server)


class Server:
    """The server as its administrator sees it: the connections of one test."""

    def __init__(self, url: str) -> None:
        self.backend = servers.backend_of(url)
        self.name = re.split("[/=]", url.partition("#")[0])[-1]
        self.admin = servers.admin(self.backend)

    def connections(self, *, waiting: bool = False) -> list[int]:
        """Their ids; `waiting`: of those that wait for a lock."""
        if self.backend == "postgres":
            query = "select pid from pg_stat_activity where application_name = %s"
            query += " and wait_event_type = 'Lock'" if waiting else ""
        else:
            query = "select id from information_schema.processlist where db = %s"
            query += (
                " and id in (select trx_mysql_thread_id from information_schema.innodb_trx"
                " where trx_state = 'LOCK WAIT')"
                if waiting
                else ""
            )
        return [number for (number,) in self.admin.execute_sql(query, (self.name,)).fetchall()]

    def kill(self, *, waiting: bool = False) -> None:
        """End the connections, of which there has to be one, and see them gone."""
        found = self._until(lambda: self.connections(waiting=waiting))
        for number in found:
            kill = "select pg_terminate_backend(%s)" if self.backend == "postgres" else "kill connection %s"
            self.admin.execute_sql(kill, (number,))
        self._until(lambda: not set(found) & set(self.connections()))

    def _until(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.15)  # InnoDB shows news only to who has not asked for 0.1 s.
        raise AssertionError("it never came")
