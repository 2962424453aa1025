"""Lua scripts that a Redis server runs as one step (L0): their source and the hash by which it knows them."""

from __future__ import annotations

from hashlib import sha1


class LuaScript:
    """A script; `name` is for people and for fakes, the server knows it by `sha`."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<LuaScript {self.name}>"
