"""The SIP client of soak.py: starts transactions of all kinds at a rate, each of which has to end with an answer.

Requests are repeated as RFC 3261 17.1 has it (T1 0.5 s, T2 4 s, given up after 64*T1), but an INVITE also after a
provisional answer: the worker that sent it may be killed, and then nobody but the client knows of the call. A 2xx is
acknowledged each time it comes, and a BYE follows the first; a negative answer likewise. Besides, there is noise that
nobody has to answer: malformed datagrams, stray responses, requests that the script drops.

    python benchmarks/soak_client.py HOST PORT --rate 1000 --seconds 60 --seed 1

prints one JSON object in the end: what was answered how, and what went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import random
import re
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

T1, T2 = 0.5, 4.0
TIMEOUT = 64 * T1
# How long the final answers of an INVITE are acknowledged: the server repeats them for less (soak.cfg).
LINGER = 8.0
SOCKETS = 16
DRAIN = 64
# No more than what is started in so many seconds is left without an answer at once. Where a machine cannot keep up, the
# repetitions of ever more transactions would keep it from ever catching up.
MOST_AT_ONCE = 2.0
# A client that was held up does not make up for more than this (seconds).
CATCH_UP = 0.1
# What a report lists at most of one kind of fault.
LISTED = 20

# A service that is down, and one that is slow or held up.
UNAVAILABLE, TIMED_OUT = 503, 504


@dataclass(frozen=True)
class Kind:
    """A kind of transaction: the user part is what soak.cfg goes by, `statuses` are the answers that may come.

    `wait` is for how long the service is to be asked to wait (milliseconds, from and to). With `is_cancelled` a CANCEL
    follows the first provisional answer. `weight` is how many there are of it among a hundred.
    """

    name: str
    method: str
    user: str
    weight: int
    statuses: frozenset[int]
    wait: tuple[int, int] | None = None
    is_cancelled: bool = False
    has_cookie: bool = True

    @property
    def told(self) -> frozenset[int]:
        """The statuses of answers that tell which call the service was asked for."""
        return self.statuses & {200, 404} if UNAVAILABLE in self.statuses else frozenset()


def asking(*statuses: int) -> frozenset[int]:
    """Return the statuses of a kind whose script asks the service."""
    return frozenset((*statuses, UNAVAILABLE, TIMED_OUT))


KINDS = (
    Kind("plain", "OPTIONS", "plain", 9, frozenset((200,))),
    Kind("ask", "OPTIONS", "ask", 22, asking(200)),
    Kind("ask, RFC 2543", "OPTIONS", "ask", 3, asking(200), has_cookie=False),
    Kind("slow", "OPTIONS", "slow", 5, asking(200), wait=(100, 1200)),
    Kind("error", "OPTIONS", "error", 5, asking(404)),
    # A worker that was held up finds the answer, and not that it came too late.
    Kind("timeout", "OPTIONS", "timeout", 4, asking(200)),
    Kind("chain", "OPTIONS", "chain", 10, asking(200)),
    Kind("in place", "OPTIONS", "place", 7, asking(200)),
    Kind("register", "REGISTER", "ask", 10, asking(200)),
    Kind("invite", "INVITE", "ask", 10, asking(200)),
    Kind("invite, slow", "INVITE", "slow", 4, asking(200), wait=(300, 1500)),
    Kind("invite, refused", "INVITE", "error", 3, asking(404)),
    # Answered before the CANCEL came, or anew after a worker that knew it was killed: 200.
    Kind("invite, refused at once", "INVITE", "refuse", 3, frozenset((403,))),
    Kind("invite, cancelled", "INVITE", "slow", 5, asking(200, 487), wait=(1500, 1800), is_cancelled=True),
)
CANCEL = Kind("cancel", "CANCEL", "slow", 0, frozenset((200, 481)))
BYE = Kind("bye", "BYE", "ask", 0, frozenset((200,)))
NOISE_SHARE = 0.03
DOUBLED_SHARE = 0.02

_status = re.compile(rb"SIP/2\.0 ([1-6]\d\d) ").match
_key = re.compile(rb"\r\nCall-ID: ([^\r]+)\r\nCSeq: \d+ (\w+)").search
_to = re.compile(rb"\r\nTo: ([^\r]+)").search
_call = re.compile(rb"\r\nX-Call: ([^\r]+)").search


class Transaction:
    """A client transaction; `key` is its Call-ID and method."""

    __slots__ = ("began", "final", "interval", "is_cancelling", "key", "kind", "link", "number", "request")

    def __init__(self, kind: Kind, number: int, link: socket.socket, request: bytes, now: float) -> None:
        self.kind = kind
        self.number = number
        self.link = link
        self.request = request
        self.key = (b"%d@soak" % number, kind.method.encode())
        self.began = now
        self.interval = T1
        self.final = 0
        self.is_cancelling = False


class Client:
    """All transactions of one run."""

    def __init__(self, server: tuple[str, int], seed: int) -> None:
        self._random = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._links = [self._open(server) for _ in range(SOCKETS)]
        self._uri = f"{server[0]}:{server[1]}"
        self._table: dict[tuple[bytes, bytes], Transaction] = {}
        self._timers: list[tuple[float, int, Callable[[Transaction], None], Transaction]] = []
        self._entries = 0
        self._number = 0
        self._unended = 0
        self._mark = f"{self._random.getrandbits(32):08x}"
        self._kinds = [kind for kind in KINDS for _ in range(kind.weight)]
        self.answers: dict[str, Counter[int]] = {kind.name: Counter() for kind in (*KINDS, CANCEL, BYE)}
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self.faults: dict[str, list[str]] = {}

    def _open(self, server: tuple[str, int]) -> socket.socket:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 << 20)
        link.connect(server)
        link.setblocking(False)
        self._selector.register(link, selectors.EVENT_READ, link)
        return link

    # ---- the run

    def run(self, rate: float, seconds: float) -> None:
        """Start transactions for so long, then wait for the last of them to end."""
        began = due = time.monotonic()
        until = began + seconds
        while (now := time.monotonic()) < until or self._unended:
            due = max(due, now - CATCH_UP)
            while due <= now < until:
                due += 1 / rate
                if self._unended < rate * MOST_AT_ONCE:
                    self._start_one(now)
                else:
                    self.counts["held back"] += 1
            wake = min(due if now < until else now + 1, self._timers[0][0] if self._timers else now + 1)
            for key, _events in self._selector.select(max(0.0, wake - now)):
                self._readable(key.data)
            self._expire(time.monotonic())

    def _expire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _when, _entry, function, transaction = heapq.heappop(self._timers)
            function(transaction)

    def _after(self, delay: float, function: Callable[[Transaction], None], transaction: Transaction) -> None:
        self._entries += 1
        heapq.heappush(self._timers, (time.monotonic() + delay, self._entries, function, transaction))

    # ---- requests

    def _start_one(self, now: float) -> None:
        if self._random.random() < NOISE_SHARE:
            self._send(self._random.choice(self._links), self._noise())
            self.counts["noise"] += 1
            return
        self._number += 1
        kind = self._random.choice(self._kinds)
        link = self._random.choice(self._links)
        self._start(Transaction(kind, self._number, link, self._build(kind, self._number, link), now))
        if self._random.random() < DOUBLED_SHARE:
            self._send(link, self._table[b"%d@soak" % self._number, kind.method.encode()].request)
            self.counts["doubled"] += 1

    def _start(self, transaction: Transaction) -> None:
        self._table[transaction.key] = transaction
        self._unended += 1
        self.counts["started"] += 1
        self._send(transaction.link, transaction.request)
        self._after(T1, self._repeat, transaction)

    def _build(self, kind: Kind, number: int, link: socket.socket, to_tag: str = "", method: str = "") -> bytes:
        """Write a request; `method` when it is another one in place of the kind's, with the same branch (17.1.1.3)."""
        host, port = link.getsockname()
        branch = f"z9hG4bK-{self._mark}-{number}" if kind.has_cookie else f"{self._mark}.{number}"
        wait = f"X-Wait: {self._wait(kind.wait)}\r\n" if kind.wait else ""
        return (
            f"{method or kind.method} sip:{kind.user}@{self._uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch={branch};rport\r\n"
            f"From: <sip:user{number % 1000}@example.org>;tag={number}\r\n"
            f"To: <sip:{kind.user}@example.org>{to_tag}\r\n"
            f"Call-ID: {number}@soak\r\n"
            f"CSeq: {2 if kind is BYE else 1} {method or kind.method}\r\n"
            f"Contact: <sip:user@{host}:{port}>\r\n"
            f"Max-Forwards: 70\r\n"
            f"{wait}"
            f"Content-Length: 0\r\n\r\n"
        ).encode()

    def _wait(self, limits: tuple[int, int]) -> int:
        return self._random.randint(*limits)

    def _noise(self) -> bytes:
        """Return a datagram that nobody has to answer."""
        rnd = self._random
        self._number += 1
        request = self._build(KINDS[1], self._number, self._links[0])
        kind = rnd.randrange(8)
        if kind == 0:
            return rnd.randbytes(rnd.randint(1, 400))
        if kind == 1:
            return request[: rnd.randint(1, len(request) - 5)]
        if kind == 2:
            return request.replace(b"Content-Length: 0", b"Content-Length: 4711")
        if kind == 3:
            return request.replace(b"CSeq: 1 OPTIONS", rnd.choice((b"CSeq: 1 INVITE", b"CSeq: one OPTIONS", b"X: y")))
        if kind == 4:
            return b"\r\n\r\n"
        if kind == 5:
            return request.replace(request.partition(b"\r\n")[0], b"SIP/2.0 200 OK")
        if kind == 6:
            place = rnd.randrange(len(request))
            return request[:place] + rnd.randbytes(3) + request[place + 3 :]
        return request.replace(b"sip:ask@", b"sip:silent@")

    def _send(self, link: socket.socket, data: bytes) -> None:
        # What the system does not take, or says of an earlier one, is lost as if it were on the way.
        with contextlib.suppress(OSError):
            link.send(data)

    def _repeat(self, transaction: Transaction) -> None:
        if transaction.final:
            return
        now = time.monotonic()
        if now - transaction.began >= TIMEOUT:
            transaction.final = -1
            self._ended(transaction)
            self._fault("without an answer", f"{transaction.kind.name} {transaction.key[0].decode()}")
            return
        self.counts["retransmissions"] += 1
        self._send(transaction.link, transaction.request)
        transaction.interval = min(2 * transaction.interval, T2)
        self._after(transaction.interval, self._repeat, transaction)

    def _cancel(self, invite: Transaction) -> None:
        if not invite.final:
            request = self._build(invite.kind, invite.number, invite.link, method="CANCEL")
            self._start(Transaction(CANCEL, invite.number, invite.link, request, time.monotonic()))

    # ---- answers

    def _readable(self, link: socket.socket) -> None:
        for _ in range(DRAIN):
            try:
                data = link.recv(65535)
            except OSError:
                return
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        status, key = _status(data), _key(data)
        transaction = self._table.get((key[1], key[2])) if key else None
        if status is None or transaction is None:
            # Answers to noise, and second answers to what had ended.
            self.counts["strays"] += 1
            return
        code = int(status[1])
        if code >= 200:
            self._answered(transaction, code, data)
        elif transaction.kind.is_cancelled and not transaction.is_cancelling:
            transaction.is_cancelling = True
            self._after(self._random.uniform(0.02, 0.6), self._cancel, transaction)

    def _answered(self, transaction: Transaction, code: int, data: bytes) -> None:
        kind = transaction.kind
        to = _to(data)
        if kind.method == "INVITE" and to is not None:
            self._acknowledge(transaction, code, to[1].decode())
        if transaction.final:
            self.counts["repeated answers"] += 1
            return
        transaction.final = code
        self._ended(transaction)
        self.answers[kind.name][code] += 1
        self.slowest = max(self.slowest, time.monotonic() - transaction.began)
        call = _call(data)
        if code not in kind.statuses:
            self._fault("with a wrong answer", f"{kind.name} {transaction.key[0].decode()}: {code}")
        elif code in kind.told and (call is None or call[1] != transaction.key[0]):
            got = "nothing" if call is None else call[1].decode("utf-8", "replace")
            self._fault("with another's answer", f"{kind.name} {transaction.key[0].decode()}: {got}")

    def _acknowledge(self, invite: Transaction, code: int, to: str) -> None:
        _address, semicolon, parameters = to.partition(">;")
        to_tag = f";{parameters}" if semicolon else ""
        ack = self._build(invite.kind, invite.number, invite.link, to_tag, method="ACK")
        if code < 300:
            # A transaction of its own, with a branch of its own (17.1.1.3, 13.2.2.4).
            ack = ack.replace(b";rport", b".ack;rport", 1)
        self._send(invite.link, ack)
        self.counts["acks"] += 1
        if code < 300 and not invite.final:
            bye = self._build(BYE, invite.number, invite.link, to_tag).replace(b";rport", b".bye;rport", 1)
            self._start(Transaction(BYE, invite.number, invite.link, bye, time.monotonic()))

    def _ended(self, transaction: Transaction) -> None:
        self._unended -= 1
        self.counts["ended"] += 1
        if transaction.kind.method == "INVITE":
            self._after(LINGER, self._forget, transaction)
        else:
            self._forget(transaction)

    def _forget(self, transaction: Transaction) -> None:
        del self._table[transaction.key]

    def _fault(self, what: str, which: str) -> None:
        self.counts[what] += 1
        listed = self.faults.setdefault(what, [])
        if len(listed) < LISTED:
            listed.append(which)

    def report(self) -> dict[str, Any]:
        """Return what happened."""
        return {
            "answers": {name: dict(sorted(answers.items())) for name, answers in self.answers.items()},
            "counts": dict(self.counts),
            "slowest": self.slowest,
            "faults": self.faults,
        }


def main() -> int:
    """Run the client; return the exit status."""
    parser = argparse.ArgumentParser(description="SIP transactions of all kinds, each of which has to be answered")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=1000.0, help="transactions a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    client = Client((options.host, options.port), options.seed)
    client.run(options.rate, options.seconds)
    print(json.dumps(client.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
