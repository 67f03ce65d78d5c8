"""A turn of ours beside the same turn of other libraries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from importlib.metadata import version

from tests.benchmarks.figures import Figure, Section, column, milliseconds, size, times
from tests.benchmarks.meters import SqliteMeter
from tests.benchmarks.ours import Ours, open_ours
from tests.benchmarks.peers import MODULES
from tests.benchmarks.peers.peer import Keeping
from tests.benchmarks.places import Place, another_connection, file_of
from tests.benchmarks.plan import Plan
from tests.benchmarks.sessions import later_turns
from tests.benchmarks.timing import Effort, Keeper, alternate, summary

LENGTHS = (10, 100, 1000)
EFFORT = Effort(0.6, 5, 30, 3)

HEAD = """\
The same turn with the SQLite sessions of other libraries, all in WAL mode on a memory-backed file system,
where a sync costs nothing. Each shows the whole conversation to a model in the process that takes no time.
kB written: by which the -wal file grew. Words first: are the user's words stored when the model is asked?"""
COLUMNS = [
    column("peer", "peer"),
    column("version", "version"),
    column("ours", "layout"),
    column("after", "after"),
    column("p50 ms: ours", "ours", "p50_ms", form=milliseconds),
    column("the peer", "theirs", "p50_ms", form=milliseconds),
    column("ratio", "ratio", form=times),
    column("kB written: ours", "ours", "written", form=size),
    column("the peer", "theirs", "written", form=size),
    column("words first", "kept", form=lambda kept: "yes" if kept else "no"),
]


def peers(plan: Plan) -> Section:
    section = Section("peers", "Beside other libraries", HEAD, COLUMNS)
    for place, layout in plan.limited_to(("memory",)).cases(section):
        for name in MODULES if layout == plan.layouts[-1] else ():
            try:
                section.figures += _figures(place, layout, name)
            except ImportError as error:
                section.skipped.append(f"{name}: {error}")
    return section


def _figures(place: Place, layout: str, name: str) -> Iterator[Figure]:
    Peer = import_module(f"tests.benchmarks.peers.{MODULES[name]}").Peer
    with place.database() as ours, place.database() as theirs:
        side, file = open_ours(ours, layout), file_of(theirs)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma journal_mode = wal")
        with another_connection(theirs):
            peer: Keeping = Peer(file)
            side.connect()
            for after in LENGTHS:
                facts = {"peer": name, "version": version(name), "layout": layout, "after": after}
                yield facts | _figure(side, file_of(ours), peer, after)
            peer.disconnect()
            side.disconnect()


def _figure(ours: Ours, file: str, peer: Keeping, after: int) -> Figure:
    sides: tuple[Keeper, Keeper] = (ours, peer)
    mine, theirs = alternate([later_turns(side, after, EFFORT.at_most) for side in sides], EFFORT)
    one, other = summary(mine), summary(theirs)
    figure = {"rounds": len(mine), "ratio": other["p50_ms"] / one["p50_ms"]}
    one["written"], other["written"] = _written(ours, file, after), _written(peer, peer.file, after)
    if not after < peer.shown <= after * 1.2 + 1:
        raise RuntimeError(f"{peer.name} shows {peer.shown} of {after} messages to its model")
    return figure | {"ours": one, "theirs": other, "kept": _kept(peer, after)}


def _written(side: Keeper, file: str, after: int) -> float:
    turn = later_turns(side, after, EFFORT.counted)
    with closing(SqliteMeter(file)) as meter:
        meter.settle()
        mark = meter.mark()
        for _ in range(EFFORT.counted):
            turn()
        return meter.written_since(mark) / EFFORT.counted


def _kept(peer: Keeping, after: int) -> bool:
    peer.is_watched = True
    later_turns(peer, after, 1)()
    peer.is_watched = False
    return peer.kept
