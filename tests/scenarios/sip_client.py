"""A SIP client of one UDP socket, for scenarios that say exactly what is sent and look exactly at what comes back.

It has no transactions: nothing is retransmitted, nothing is acknowledged, unless the scenario says so.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CLIENT_NUMBERS = itertools.count(1)


class SipReply:
    """A parsed reply: `status`, `reason`, `headers` as (name, value) in order, `body`."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        version, status, self.reason = first.split(" ", 2)
        assert version == "SIP/2.0", f"not a SIP reply: {data!r}"
        self.status = int(status)
        self.headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def header(self, name: str) -> str | None:
        """Return the first header of that name, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def __repr__(self) -> str:
        return f"<SipReply {self.status} {self.reason}>"


class SipRequest:
    """The text of a request and what its ACK and CANCEL must repeat."""

    def __init__(self, method: str, uri: str, via: str, from_: str, to: str, call_id: str, number: int) -> None:
        self.method, self.uri, self.via, self.from_, self.to = method, uri, via, from_, to
        self.call_id, self.number = call_id, number
        self.extra: dict[str, str] = {}
        self.body = ""

    def __bytes__(self) -> bytes:
        lines = [
            f"{self.method} {self.uri} SIP/2.0",
            f"Via: {self.via}",
            f"From: {self.from_}",
            f"To: {self.to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.number} {self.method}",
            "Max-Forwards: 70",
            *(f"{name}: {value}" for name, value in self.extra.items()),
            f"Content-Length: {len(self.body.encode())}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + self.body).encode("utf-8", "surrogateescape")


class SipClient:
    """A UDP socket on loopback, connected to a server; `host` is its own address. Use it as a context manager."""

    def __init__(self, server: tuple[str, int], host: str = HOST) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect(server)
        self.server = server
        self.host = host
        self.port: int = self.socket.getsockname()[1]
        self._mark = f"{os.getpid():x}-{next(CLIENT_NUMBERS):x}-{time.monotonic_ns():x}"
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def build(
        self,
        method: str,
        user: str = "service",
        from_user: str = "alice",
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> SipRequest:
        """Make a new request outside of a dialog, with a branch, Call-ID and tag of its own."""
        mark = f"{self._mark}-{next(self._numbers)}"
        request = SipRequest(
            method,
            f"sip:{user}@{self.server[0]}:{self.server[1]}",
            f"SIP/2.0/UDP {self.host}:{self.port};branch=z9hG4bK-{mark};rport",
            f'"Alice" <sip:{from_user}@example.test>;tag=from-{mark}',
            f"<sip:{user}@example.test>",
            f"{mark}@example.test",
            1,
        )
        request.extra = {"Contact": f"<sip:{from_user}@{self.host}:{self.port}>", **(headers or {})}
        request.body = body
        return request

    def derive(self, request: SipRequest, method: str, reply: SipReply | None = None) -> SipRequest:
        """Make the CANCEL of a request, or the ACK of its non-2xx final reply (RFC 3261 sections 9.1, 17.1.1.3)."""
        to = (reply.header("To") if reply else None) or request.to
        return SipRequest(method, request.uri, request.via, request.from_, to, request.call_id, request.number)

    def send(self, message: SipRequest | bytes) -> None:
        """Send one datagram."""
        self.socket.send(bytes(message))

    def receive(self, timeout: float = 3.0) -> SipReply | None:
        """Return the next reply, or None when none came within `timeout` seconds."""
        self.socket.settimeout(timeout)
        try:
            return SipReply(self.socket.recv(65535))
        except TimeoutError:
            return None

    def replies(self, timeout: float = 3.0) -> list[SipReply]:
        """Collect replies up to and with the next final one, or until `timeout` seconds have passed."""
        deadline, collected = time.monotonic() + timeout, list[SipReply]()
        while (left := deadline - time.monotonic()) > 0:
            reply = self.receive(left)
            if reply is None:
                break
            collected.append(reply)
            if reply.status >= 200:
                break
        return collected

    def ask(self, method: str, timeout: float = 3.0, **details: object) -> SipReply:
        """Send a new request (arguments as for `build`) and return its final reply."""
        self.send(self.build(method, **details))  # type: ignore[arg-type]  # passed through
        collected = self.replies(timeout)
        assert collected, f"no reply to {method} within {timeout} s"
        assert collected[-1].status >= 200, f"no final reply to {method} within {timeout} s: {collected}"
        return collected[-1]
