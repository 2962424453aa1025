"""Trace: owns the form of trace events. Off is the normal state and costs one attribute test where an event would be.

An event is `trace(event, context, detail)`: the name of the function that made it, the context (None where there is
none, or none any more), and a short dict that is made only when somebody listens. `engine/eventlog.py` has the list of
all events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from sipwright.script.context import Context

Trace: TypeAlias = Callable[[str, Context | None, dict[str, Any]], None]


class Traced(Protocol):
    """A part of the engine that tells what happens."""

    trace: Trace | None


def both(first: Trace, second: Trace) -> Trace:
    """Return a trace that tells two."""

    def tell(event: str, context: Context | None, detail: dict[str, Any]) -> None:
        first(event, context, detail)
        second(event, context, detail)

    return tell
