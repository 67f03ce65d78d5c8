"""What a turn minimally must do, written by hand for `sqlite3` and psycopg, with msgspec."""

from tests.benchmarks.floor.connected import Floor
from tests.benchmarks.floor.document import DocumentFloor
from tests.benchmarks.floor.rows import RowsFloor

FLOORS: dict[str, type[Floor]] = {"document": DocumentFloor, "rows": RowsFloor}


def open_floor(url: str, layout: str, seed: int = 1) -> Floor:
    return FLOORS[layout](url, seed)
