"""The JSON fields of Peewee, and whether SQL can read and change their values, as the library does."""

from __future__ import annotations

import json
from typing import Any

from agentsession._store.dialects import DIALECTS
from agentsession._store.identity import overridden

CONVERSIONS = ("db_value", "python_value")

DUMPS, LOADS = ("_dumps", "_json_dumps"), ("_loads", "_json_loads")
"""Where Peewee's fields keep their `dumps` and `loads`."""

EXAMPLE = {"text": "é", "list": [1, None, True]}

PAST_THE_FIELD = "the library reads and writes the column in SQL, without its field"


def json_flaw(field: Any) -> str | None:
    """Return the flaw of a JSON field, "" for one without a flaw, and None for another field."""
    kinds = [(base.__module__, base.__name__) for base in type(field).__mro__]
    flaws = {kind: flaw for dialect in DIALECTS for kind, flaw in dialect.json_fields.items()}
    flaw = next((flaws[kind] for kind in kinds if kind in flaws), None)
    return _conversion_flaw(field) if flaw == "" else flaw


def _conversion_flaw(field: Any) -> str:
    """Return how the field converts JSON in Python, as one that encrypts does. "" for a plain one."""
    method = overridden(field, *CONVERSIONS)
    if method is not None:
        return f"whose class overrides {method}: {PAST_THE_FIELD}"
    return "" if _is_plain(field) else f"whose dumps or loads are not those of plain JSON: {PAST_THE_FIELD}"


def _is_plain(field: Any) -> bool:
    """Return whether the `dumps` and `loads` of the field are those of JSON."""
    dumps, loads = ([getattr(field, name, None) for name in names] for names in (DUMPS, LOADS))
    try:
        written = [json.loads(function(EXAMPLE)) for function in dumps if function is not None]
        read = [function(json.dumps(EXAMPLE)) for function in loads if function is not None]
    except Exception:
        return False
    return all(value == EXAMPLE for value in (*written, *read))
