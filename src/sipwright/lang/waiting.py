"""Variables that wait: owns how a value that was fetched gets to those who cannot wait for it.

Where a variable stands in an expression, the code awaits its `fetch` there and then. Names inside of other variables,
parameters of transformations and prepared arguments are read by functions that do not wait; for these, the code awaits
`keep` before. What it leaves is kept with the context, one value for each place in the script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sipwright.lang.namespace import Fetch, Keep, Setter, Value, Variable

# The attribute of a context that has the values that are kept, by place; it is made when it is first needed.
KEPT = "fetched"

Transformation = Callable[[Any, Value], Value]


def waiting_variable(
    text: str,
    fetch: Fetch,
    setter: Setter | None = None,
    names: Sequence[Keep] = (),
    missing: str = "<null>",
) -> Variable:
    """Return a variable for one place of a script, which can be read by `get` after `await keep(context)`."""
    place = object()

    async def keep(context: Any) -> None:
        value = await fetch(context)
        kept = getattr(context, KEPT, None)
        if kept is None:
            setattr(context, KEPT, {place: value})
        else:
            kept[place] = value

    def get(context: Any) -> Value:
        try:
            value: Value = getattr(context, KEPT)[place]
        except (AttributeError, KeyError):
            raise RuntimeError(f"{text} was read before it was fetched") from None
        return value

    return Variable(text, get, setter, missing=missing, fetch=fetch, keep=keep, locate=in_order(names))


def keeps_of(parts: Iterable[object]) -> list[Keep]:
    """Return what has to be awaited before parts of a string, or an index, can be read."""
    return [part.keep for part in parts if isinstance(part, Variable) and part.keep is not None]


def in_order(keeps: Sequence[Keep]) -> Keep | None:
    """Return one function that awaits several, one after another; None: there is nothing to wait for."""
    if len(keeps) < 2:
        return keeps[0] if keeps else None

    async def keep(context: Any) -> None:
        for one in keeps:
            await one(context)

    return keep


def fetched(variable: Variable, names: Sequence[Keep]) -> Fetch:
    """Return the fetching of a variable, or of names inside of it, or of both."""
    fetch, get = variable.fetch, variable.get
    locate = in_order(names)
    if fetch is not None and locate is None:
        return fetch

    async def value(context: Any) -> Value:
        if locate is not None:
            await locate(context)
        return get(context) if fetch is None else await fetch(context)

    return value


def transformed(fetch: Fetch, steps: Sequence[tuple[Sequence[Keep], Transformation]]) -> Fetch:
    """Return the fetching of a value with transformations, each with what its parameters wait for."""
    if not steps:
        return fetch
    prepared = [(in_order(keeps), transform) for keeps, transform in steps]

    async def value(context: Any) -> Value:
        found = await fetch(context)
        for keep, transform in prepared:
            if keep is not None:
                await keep(context)
            found = transform(context, found)
        return found

    return value
