"""A UDP client that puts load on a server, repeats its requests as RFC 3261 17.1 wants, and accounts for each of them.

It shares no code with the server. A thread of its own sends and receives; the test says what is asked, waits for
conditions, and looks at what became of every transaction.
"""

from __future__ import annotations

import heapq
import itertools
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from tests.scenarios.sip_client import SipReply
from tests.scenarios.via_forms import FORMS

T1, T2 = 0.5, 4.0
# Timers B and F: so long a request is repeated.
TIMEOUT = 64 * T1
LOAD_NUMBERS = itertools.count(1)

_STATUS = re.compile(rb"SIP/2\.0 (\d{3}) ")
_CALL_ID = re.compile(rb"\r\nCall-ID: (\S+)")
_CSEQ = re.compile(rb"\r\nCSeq: (\d+) (\w+)")
_TO = re.compile(rb"\r\nTo: ([^\r]*)")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to be sent. `form` names how its head is written (`via_forms.py`), `headers` are further lines.

    `copies` are sent besides, whatever is answered meanwhile, some hundredths of a second apart. `is_cancelled`: a
    CANCEL follows the first provisional reply. `then` is asked in the dialog that a 2xx has set up.
    """

    method: str = "OPTIONS"
    user: str = "ask"
    headers: tuple[str, ...] = ()
    form: str = "common"
    copies: int = 0
    is_cancelled: bool = False
    then: Ask | None = None


# Of a transaction: Call-ID, CSeq number and method.
Key: TypeAlias = tuple[str, int, str]


@dataclass(slots=True)
class Sent:
    """A transaction: what was sent, when, and what came back. Times are of time.monotonic()."""

    ask: Ask
    key: Key
    to: str
    began: float
    data: bytes
    sends: int = 0
    delay: float = T1
    provisionals: int = 0
    # Each final reply that came, also repetitions: status and To.
    finals: list[tuple[int, str]] = field(default_factory=list)
    # The first of them, and when it came.
    ended: float | None = None
    final: SipReply | None = None
    acks: int = 0

    @property
    def call_id(self) -> str:
        return self.key[0]

    @property
    def method(self) -> str:
        return self.key[2]

    @property
    def status(self) -> int | None:
        """Its final status; None when there is none yet, or not the same one each time."""
        statuses = {status for status, _to in self.finals}
        return statuses.pop() if len(statuses) == 1 else None

    @property
    def worker(self) -> int | None:
        """The process id of the worker that answered finally, if it told."""
        text = None if self.final is None else self.final.header("X-Worker")
        return None if text is None else int(text)

    @property
    def version(self) -> str | None:
        """The version of the script that answered finally, if it told."""
        return None if self.final is None else self.final.header("X-Version")

    @property
    def seconds(self) -> float:
        """How long it took until its final reply."""
        assert self.ended is not None
        return self.ended - self.began

    def __str__(self) -> str:
        return f"{self.key} {self.ask}: sent {self.sends} times, {self.provisionals} provisionals, finals {self.finals}"


class Load:
    """Sends `asks`, so many a second, to a server. Use it as a context manager.

    Requests go out of the first of `sockets` sockets; repetitions, CANCELs and ACKs out of all of them in turn, so that
    the addresses do not tell what belongs together.
    """

    def __init__(self, server: tuple[str, int], asks: Iterable[Ask], rate: float, sockets: int = 1) -> None:
        self.server = server
        self.transactions: dict[Key, Sent] = {}
        self.begun = 0
        # How many requests the system has taken from here, ACKs and repetitions too.
        self.datagrams = 0
        # Replies that belong to nothing, or come from elsewhere.
        self.stray: list[bytes] = []
        self._asks = iter(asks)
        self._is_asking = True
        self._interval = 1 / rate
        self._unfinished: set[Key] = set()
        self._answered: Counter[int] = Counter()
        self._due: list[tuple[float, int, Sent, bool]] = []
        self._tie = itertools.count()
        self._mark = f"{next(LOAD_NUMBERS):x}{time.monotonic_ns() & 0xFFFFFF:x}"
        # Reentrant: conditions that a test waits for may look at the transactions.
        self._changed = threading.Condition(threading.RLock())
        self._is_closing = False
        self._error: BaseException | None = None
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(sockets)]
        for client in self._sockets:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
            client.bind((server[0], 0))
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)
        self._out = itertools.cycle(self._sockets)
        host, port = self._sockets[0].getsockname()[:2]
        self._sent_by = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self._thread.join(5)
        assert not self._thread.is_alive(), "the load's thread did not end"
        self._selector.close()
        for client in self._sockets:
            client.close()
        if error is None and self._error is not None:
            raise self._error

    # ---- what a test asks

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until a condition holds; it is tried after whatever happens here, and 50 times a second."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not is_so():
                assert self._error is None, f"the load failed: {self._error!r}"
                assert time.monotonic() < deadline, f"not within {seconds:.0f} s; so far {self.statuses()}, {self.lost}"
                self._changed.wait(0.02)

    def stop(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._is_asking = False

    def finish(self, seconds: float = 10.0) -> list[Sent]:
        """Begin nothing more, and wait until every transaction has its final reply; return all transactions."""
        self.stop()
        self.wait_until(lambda: not self._unfinished, seconds)
        return list(self.transactions.values())

    def wait_for_all(self, seconds: float = 10.0) -> list[Sent]:
        """Wait until all of `asks` were asked and have their final replies; return all transactions."""
        self.wait_until(lambda: not (self._is_asking or self._unfinished), seconds)
        return list(self.transactions.values())

    def wait_for_answers(self, number: int, seconds: float = 10.0) -> None:
        """Wait until so many more transactions than now have ended."""
        wanted = self.answered + number
        self.wait_until(lambda: self.answered >= wanted, seconds)

    @property
    def answered(self) -> int:
        """How many transactions have their final reply."""
        return len(self.transactions) - len(self._unfinished)

    @property
    def lost(self) -> list[str]:
        """The transactions that have no final reply, at most ten of them."""
        return [str(self.transactions[key]) for key in list(self._unfinished)[:10]]

    def answered_by(self, worker: int) -> int:
        """How many final replies carry the process id of a worker."""
        return self._answered[worker]

    def answers_by_worker(self) -> dict[int, int]:
        """Return how many final replies each worker sent, by process id."""
        return dict(self._answered)

    def snapshot(self) -> list[Sent]:
        """Return all transactions so far."""
        with self._changed:
            return list(self.transactions.values())

    def unfinished(self) -> list[Sent]:
        """Return the transactions that have no final reply."""
        with self._changed:
            return [self.transactions[key] for key in self._unfinished]

    def statuses(self) -> Counter[str]:
        """Count the transactions by status and method; those with different final replies count as `mixed`."""
        counts: Counter[str] = Counter()
        for sent in self.snapshot():
            finals = set(sent.finals)
            status = "none" if not finals else "mixed" if len(finals) > 1 else str(sent.finals[0][0])
            counts[f"{status} {sent.method}"] += 1
        return counts

    # ---- the thread

    def _run(self) -> None:
        try:
            next_ask = time.monotonic()
            while not self._is_closing:
                now = time.monotonic()
                with self._changed:
                    while self._is_asking and next_ask <= now:
                        self._begin(now)
                        next_ask += self._interval
                    while self._due and self._due[0][0] <= now:
                        _when, _tie, sent, is_copy = heapq.heappop(self._due)
                        self._repeat(sent, now, is_copy)
                    self._changed.notify_all()
                wait = 0.02
                if self._is_asking:
                    wait = min(wait, next_ask - now)
                if self._due:
                    wait = min(wait, self._due[0][0] - now)
                for key, _events in self._selector.select(max(0.0, wait)):
                    self._drain(key.fileobj)  # type: ignore[arg-type]
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _begin(self, now: float) -> None:
        ask = next(self._asks, None)
        if ask is None:
            self._is_asking = False
            return
        self.begun += 1
        call_id = f"{self._mark}-{self.begun}"
        self._start(ask, (call_id, 1, ask.method), _plain_to(ask), now, self._sockets[0])

    def _start(self, ask: Ask, key: Key, to: str, now: float, out: socket.socket) -> None:
        sent = Sent(ask, key, to, now, self._build(ask, key, to, self._branch(key)))
        self.transactions[key] = sent
        self._unfinished.add(key)
        self._send(sent, out)
        self._at(now + T1, sent)
        if sent.method != "CANCEL":
            for copy in range(ask.copies):
                self._at(now + 0.02 * (copy + 1), sent, is_copy=True)

    @staticmethod
    def _branch(key: Key) -> str:
        """Return what a branch is made from: the same for an INVITE, its CANCEL, and the ACK of its refusal."""
        return f"{key[0]}.{key[1]}"

    def _build(self, ask: Ask, key: Key, to: str, branch: str) -> bytes:
        call_id, number, method = key
        rest = [
            f"From: <sip:load@example.test>;tag=f{call_id}",
            f"To: {to}",
            f"Call-ID: {call_id}",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
            *(ask.headers if method == ask.method else ()),
            "Content-Length: 0",
        ]
        host = f"[{self.server[0]}]" if ":" in self.server[0] else self.server[0]
        lines = [f"{method} sip:{ask.user}@{host} SIP/2.0", *FORMS[ask.form](self._sent_by, branch, rest)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _send(self, sent: Sent, out: socket.socket) -> None:
        sent.sends += 1
        self._put(sent.data, out)

    def _put(self, data: bytes, out: socket.socket) -> None:
        try:
            out.sendto(data, self.server)
        except OSError:
            # Nobody listens at the moment: the next repetition tries again.
            return
        self.datagrams += 1

    def _at(self, when: float, sent: Sent, *, is_copy: bool = False) -> None:
        heapq.heappush(self._due, (when, next(self._tie), sent, is_copy))

    def _repeat(self, sent: Sent, now: float, is_copy: bool) -> None:
        if is_copy:
            self._send(sent, next(self._out))
            return
        if sent.finals or (sent.method == "INVITE" and sent.provisionals) or now - sent.began >= TIMEOUT:
            return
        self._send(sent, next(self._out))
        sent.delay = T2 if sent.provisionals else sent.delay * 2
        if sent.method != "INVITE":
            sent.delay = min(sent.delay, T2)
        self._at(now + sent.delay, sent)

    def _drain(self, client: socket.socket) -> None:
        while True:
            try:
                data, source = client.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                # Of an earlier datagram: nobody listened.
                continue
            with self._changed:
                if source[:2] == self.server:
                    self._receive(data, time.monotonic())
                else:
                    self.stray.append(data)

    def _receive(self, data: bytes, now: float) -> None:
        status, call_id, cseq, to = (pattern.search(data) for pattern in (_STATUS, _CALL_ID, _CSEQ, _TO))
        assert status is not None
        assert call_id is not None
        assert cseq is not None
        assert to is not None
        key = (call_id[1].decode(), int(cseq[1]), cseq[2].decode())
        sent = self.transactions.get(key)
        if sent is None:
            self.stray.append(data)
            return
        code = int(status[1])
        if code < 200:
            sent.provisionals += 1
            cancel = (*key[:2], "CANCEL")
            if sent.ask.is_cancelled and cancel not in self.transactions:
                self._start(sent.ask, cancel, sent.to, now, next(self._out))
            return
        answered_to = to[1].decode()
        sent.finals.append((code, answered_to))
        if sent.method == "INVITE":
            # The ACK of a 2xx is a transaction of its own (13.2.2.4), that of another has the branch of the INVITE.
            branch = self._branch(key) + ("a" if code < 300 else "")
            sent.acks += 1
            self._put(self._build(sent.ask, (*key[:2], "ACK"), answered_to, branch), next(self._out))
        if sent.ended is None:
            self._end(sent, data, code, answered_to, now)

    def _end(self, sent: Sent, data: bytes, code: int, to: str, now: float) -> None:
        sent.ended = now
        self._unfinished.discard(sent.key)
        sent.final = SipReply(data)
        if sent.worker is not None:
            self._answered[sent.worker] += 1
        following = sent.ask.then
        if following is not None and sent.method == sent.ask.method and code < 300:
            key = (sent.call_id, sent.key[1] + 1, following.method)
            self._start(following, key, to, now, next(self._out))


def _plain_to(ask: Ask) -> str:
    return f"<sip:{ask.user}@example.test>"


def repeated_share(transactions: Sequence[Sent]) -> float:
    """Return what part of the transactions had to be sent more than once, because no answer came in half a second."""
    return sum(sent.sends > 1 for sent in transactions) / len(transactions)
