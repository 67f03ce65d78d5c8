"""The process-wide state of litellm: its clients end with their event loop, and forked children renew it.

litellm itself keeps its clients indefinitely. Two processes that use one connection read each other's
replies. A lock that another thread held during the fork stays locked in the child, and a thread pool of the
parent has no threads there.
"""

from __future__ import annotations

import os
import sys
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from inspect import isawaitable, signature
from types import ModuleType
from typing import Any

PACKAGES = ("litellm", "openai", "httpcore", "tiktoken")
"""Packages whose modules a request may import: the first request imports some that `import litellm` omits."""

CLIENTS = ("module_level_client", "module_level_aclient")
"""Clients in litellm's module. litellm makes them again when they are missing."""

importing = threading.RLock()
"""Held while litellm is imported and while a process forks: a child could not finish a half-done import."""

_parent_state: list[object] = []
"""Objects that a child must not use. They are kept, because closing an asynchronous client of the parent
changes the epoll object of the parent's event loop."""

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_has_stale_locks = False

_closings: dict[AbstractEventLoop, AsyncGenerator[None]] = {}
"""A generator for each event loop with clients. It closes them when the loop ends."""


def keep(values: object) -> None:
    """Keep objects of the parent, so that they are never finalized."""
    _parent_state.append(values)


def renew_locks() -> None:
    """Give litellm's modules unlocked locks and empty thread pools, once in each forked child.

    This takes up to 0.2 s, so a child does it before its first request and not during the fork.
    """
    global _has_stale_locks
    if not _has_stale_locks:
        return
    _has_stale_locks = False
    fresh: dict[int, Any] = {}
    for holder in _holders():
        for name, value in [*vars(holder).items()]:
            if isinstance(value, (_LOCK, _RLOCK)):
                keep(value)
                make = threading.Lock if isinstance(value, _LOCK) else threading.RLock
                _replace(holder, name, fresh.setdefault(id(value), make()))
            elif isinstance(value, ThreadPoolExecutor) and id(value) not in fresh:
                fresh[id(value)] = value
                _restart(value)


def _holders() -> Iterator[Any]:
    """Yield what may hold a lock: litellm's modules, and the classes and objects of litellm in them."""
    for module in _modules("litellm"):
        yield module
        for value in [*vars(module).values()]:
            kind = value if isinstance(value, type) else type(value)
            if kind.__module__.startswith("litellm") and hasattr(value, "__dict__"):
                yield value


def _replace(holder: Any, name: str, value: object) -> None:
    """Set an attribute, also of a frozen object."""
    if isinstance(holder, type):
        type.__setattr__(holder, name, value)
    else:
        vars(holder)[name] = value


def _restart(executor: ThreadPoolExecutor) -> None:
    """Initialize an executor again in place, since other modules refer to it, with its own arguments."""
    state = vars(executor)
    keep(dict(state))
    names = [name for name in signature(type(executor)).parameters if f"_{name}" in state]
    type(executor).__init__(executor, **{name: state[f"_{name}"] for name in names})


def _modules(*packages: str) -> Iterator[ModuleType]:
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in packages and isinstance(module, ModuleType):
            yield module


def _before_fork() -> None:
    """Wait for imports that other threads have begun."""
    importing.acquire()
    for module in _modules(*PACKAGES):
        if getattr(module.__spec__, "_initializing", False):
            with suppress(Exception):
                import_module(module.__name__)


def _forget_connections() -> None:
    """Make litellm forget the clients that it keeps. It is not imported here."""
    state = _names_in("litellm")
    for name in CLIENTS:
        keep(state.pop(name, None))
    clients = state.get("in_memory_llm_clients_cache")
    _reset(clients)
    _reset(getattr(clients, "evicted_client_closer", None))
    _reset(_names_in("litellm.litellm_core_utils.logging_worker").get("GLOBAL_LOGGING_WORKER"))


def _names_in(module: str) -> dict[str, Any]:
    """Return the names that a module has defined so far. litellm's `__getattr__` would make missing ones."""
    return vars(sys.modules[module]) if module in sys.modules else {}


def _reset(value: Any) -> None:
    """Put an object back into the state of a new one, in place."""
    if value is not None:
        keep(dict(vars(value)))
        vars(value).update(vars(type(value)()))


def _forget_loops() -> None:
    """Forget the event loops of the parent, none of which runs in the child."""
    keep(dict(_closings))
    _closings.clear()


def _after_in_child() -> None:
    global _has_stale_locks
    _has_stale_locks = "litellm" in sys.modules
    try:
        _forget_loops()
        _forget_connections()
    finally:
        importing.release()


async def close_with_the_loop(clients: Any, worker: Any) -> None:
    """Have `loop.shutdown_asyncgens()`, which `asyncio.run` calls, close the clients of the running loop.

    `clients` is litellm's cache. `worker` runs the user's callbacks.
    """
    loop = get_running_loop()
    if loop in _closings:
        return
    for other in [*_closings]:
        if other.is_closed():
            _closings.pop(other, None)
    _closings[loop] = _closing(loop, clients, worker)
    await anext(_closings[loop])


async def _closing(loop: AbstractEventLoop, clients: Any, worker: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        _closings.pop(loop, None)
        if worker._bound_loop is loop:
            await worker.clear_queue()
        await _close(clients)


async def _close(clients: Any) -> None:
    """Close the clients of the running loop, and remove them from the cache.

    litellm's own function closes the clients of all loops and leaves them in the cache, where a later loop
    with the same id would find them closed. The cache appends a mark of the running loop to its keys.
    """
    mark = clients.update_cache_key_with_event_loop("")
    for key in [key for key in [*clients.cache_dict] if key.endswith(mark)]:
        client = clients.cache_dict.get(key)
        clients.delete_cache(key)
        for name in ("aclose", "close"):
            if close := getattr(client, name, None):
                closed = close()
                if isawaitable(closed):
                    await closed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=importing.release, after_in_child=_after_in_child
    )
