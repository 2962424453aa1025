"""The notices that workers put up for one another: owns what one worker knows of them, and who in it is told.

A notice is a name and some bytes. Who carries them from worker to worker sets `send`, and gives what others have put
up to `take`; without it they stay in this worker.
"""

from __future__ import annotations

from collections.abc import Callable

Handler = Callable[[str, bytes | None], object]


class Notices:
    """The notices as a worker sees them. `stamp` is the number of the command that is being carried out, or 0."""

    __slots__ = ("_followers", "_seen", "_stamps", "send", "stamp")

    def __init__(self) -> None:
        self._seen: dict[str, bytes] = {}
        # Of those that commands have put up: the number of the last one.
        self._stamps: dict[str, int] = {}
        self._followers: list[tuple[str, Handler]] = []
        # `send(name, value, is_lasting, stamp)`.
        self.send: Callable[[str, bytes | None, bool, int], object] | None = None
        self.stamp = 0

    def post(self, name: str, value: bytes | None, *, lasting: bool = False) -> None:
        """Put up a notice, or with None take it away."""
        if self.send is not None:
            self.send(name, value, lasting, self.stamp)
        self.take(name, value, self.stamp)

    def follow(self, prefix: str, handler: Handler) -> None:
        """Tell a handler of the notices that there are, and of those to come."""
        self._followers.append((prefix, handler))
        for name, value in list(self._seen.items()):
            if name.startswith(prefix):
                handler(name, value)

    def take(self, name: str, value: bytes | None, stamp: int = 0) -> None:
        """Take note of a notice, and tell whoever follows it.

        One that changes nothing is not told, nor one of an earlier command than the last one that this worker knows of.
        """
        if stamp:
            if stamp < self._stamps.get(name, 0):
                return
            self._stamps[name] = stamp
        if value == self._seen.get(name):
            return
        if value is None:
            del self._seen[name]
        else:
            self._seen[name] = value
        for prefix, handler in list(self._followers):
            if name.startswith(prefix):
                handler(name, value)
