"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.places import PLACES, PRAGMAS
from tests.support import servers

LIBRARIES = ("agentsession", "peewee", "pydantic", "msgspec", "psycopg")
SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "autovacuum")


def machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "filesystems": {place.key: _filesystem(place.folder) for place in PLACES if place.folder},
        "sqlite": {"version": sqlite3.sqlite_version, **PRAGMAS},
        "postgresql": _postgres(),
    }


def described(facts: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    server = (facts["postgresql"] or {}).get("server_version", "none")
    return (
        f"{facts['date']}, {facts['machine']}, {facts['cores']} cores, load {facts['load']}; "
        f"Python {facts['python']}, {libraries}; SQLite {facts['sqlite']['version']} "
        f"(WAL, synchronous={facts['sqlite']['synchronous']}), PostgreSQL {server}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.partition(": ")[2] for line in names if line.startswith("model name")), "processor unknown"
    )


def _filesystem(folder: Path) -> str:
    """The type of the file system that is mounted nearest."""
    mounts = Path("/proc/mounts")
    found = [line.split()[1:3] for line in mounts.read_text().splitlines()] if mounts.exists() else []
    above = [(place, kind) for place, kind in found if folder.resolve().is_relative_to(place)]
    return max(above, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def _postgres() -> dict[str, str] | None:
    if servers.unreachable("postgres"):
        return None
    admin = servers.admin("postgres")
    return {name: admin.execute_sql(f"show {name}").fetchone()[0] for name in SETTINGS}
