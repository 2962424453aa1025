"""The record of one message on its way through a script: owns the script's state, does nothing with it.

A Context is made for each request that reaches the script and lives as long as its transaction: routes that go on
after a suspension run with the same Context, so every edit and variable is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sipwright.lang.namespace import Route, RouteKind, Value
from sipwright.sip.edits import Edits
from sipwright.sip.message import Request, Response
from sipwright.transaction.host import ServerTransaction

Address = tuple[str, int]


class Socket(Protocol):
    """Where a message came in, and where what answers it goes out."""

    @property
    def proto(self) -> str:
        """`udp`, `tcp`, `tls`, `ws` or `wss`."""

    @property
    def address(self) -> Address:
        """The local IP address and port."""

    @property
    def send(self) -> Callable[[bytes, Address], object]:
        """Send bytes to an address; failures are counted by the socket, never raised."""


class Handling:
    """Which context is being handled now: lines of the log carry its ids. None between messages.

    Whoever begins to work on a context sets it, and puts back what was there when that is done. On the main path that
    is written out: `of` costs ten times as much.
    """

    __slots__ = ("context",)

    def __init__(self) -> None:
        self.context: Context | None = None

    @contextmanager
    def of(self, context: Context) -> Iterator[None]:
        """Work on a context in a `with` block."""
        before, self.context = self.context, context
        try:
            yield
        finally:
            self.context = before


class Context:
    """What a script knows and has changed about one message.

    `uri` and `dst_uri` are `$ru` and `$du` once the script set them, None before. `suspension` is what the script
    waits for, None while it runs. `answered` tells that a final reply was sent or the request was passed on, `counted`
    that its end is in the counters, `overloaded` that it could not be suspended, because too many are.
    `kind` is the kind of the routes that run on it, and stays over a suspension. `rc` is `$rc`.
    `reply_headers` (lines) and `reply_body` are added to the next reply; `label` is `$T(id_label)`, 0 until asked for.
    `avps`, `xavps`, `edits` and `extra` are None until first used; `extra` is for modules, by module name. `fetched`
    has the values of variables that waited, by their place; compiled scripts make it when they need it.
    """

    __slots__ = (
        "__weakref__",
        "answered",
        "avps",
        "counted",
        "dropped",
        "dst_uri",
        "edits",
        "extra",
        "fetched",
        "flags",
        "kind",
        "label",
        "message",
        "on_branch",
        "on_failure",
        "on_reply",
        "overloaded",
        "rc",
        "reply_body",
        "reply_headers",
        "response",
        "socket",
        "source",
        "suspension",
        "to_tag",
        "transaction",
        "uri",
        "vars",
        "xavps",
    )

    # Not set here: few scripts have such variables.
    fetched: dict[object, Value]

    def __init__(self, message: Request, source: Address, socket: Socket, kind: RouteKind) -> None:
        self.message = message
        self.source = source
        self.socket = socket
        self.kind = kind
        self.transaction: ServerTransaction | None = None
        self.suspension: Any = None
        self.answered = False
        self.counted = False
        self.dropped = False
        self.overloaded = False
        self.rc = 1
        self.flags = 0
        self.label = 0
        self.vars: dict[str, Value] = {}
        self.avps: dict[str, list[Value]] | None = None
        self.xavps: dict[str, list[Any]] | None = None
        self.extra: dict[str, Any] | None = None
        self.uri: str | None = None
        self.dst_uri: str | None = None
        self.edits: Edits | None = None
        self.reply_headers: list[str] | None = None
        self.reply_body: bytes | None = None
        self.to_tag: str | None = None
        self.response: Response | None = None
        self.on_failure: Route | None = None
        self.on_reply: Route | None = None
        self.on_branch: Route | None = None
