"""A small SIP client: one UDP socket with client transactions on it, for `sipwright send` and the demonstration.

It sends a request, repeats it as RFC 3261 section 17.1 wants, and hands out the replies. It keeps no dialogs: an INVITE
that is accepted is acknowledged and hung up at once, and one that is not answered in time is cancelled.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sipwright.errors import CommandError, SipParseError
from sipwright.sip.build import request as build_request
from sipwright.sip.grammar import split_values
from sipwright.sip.message import Response
from sipwright.sip.parse import parse
from sipwright.timerqueue import Timer, TimerQueue
from sipwright.transaction.invite_client import InviteClientTransaction
from sipwright.transaction.key import client_key, response_key
from sipwright.transaction.noninvite_client import NonInviteClientTransaction
from sipwright.transaction.state import State
from sipwright.transaction.timers import TimerSettings

Transaction = InviteClientTransaction | NonInviteClientTransaction

# What the client tells of each datagram: "send" or "receive", and its bytes.
Watch = Callable[[str, bytes], object]

MAX_DATAGRAM = 65535
# Our own BYE or CANCEL gets this many seconds; nobody minds when it is not answered.
GOODBYE = 2.0
# Errors of bind(): the target has been resolved by then.
_LOCAL_FAULTS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EINVAL)


def new_branch() -> str:
    """Return a branch for the Via of a new transaction."""
    return f"z9hG4bK{secrets.token_hex(8)}"


@dataclass(slots=True)
class Outgoing:
    """A request to send. `from_` and `to` are whole header values, `headers` are lines without their end."""

    method: str
    uri: str
    from_: str
    to: str
    headers: Sequence[str] = ()
    body: bytes = b""
    branch: str = field(default_factory=new_branch)
    call_id: str = field(default_factory=lambda: secrets.token_hex(12))
    cseq: int = 1


@dataclass(slots=True)
class _Exchange:
    """A request with its replies: the peer of its transaction."""

    outgoing: Outgoing
    on_reply: Callable[[Response], object]
    final: asyncio.Future[Response]
    ack: bytes = b""


class SipClient:
    """Client transactions over one connected UDP socket, and the host that they need (transaction.host.ClientHost).

    `target` is where everything is sent, `local` where from (port 0: any). `timeout` is how long a final reply is
    waited for, in seconds. Make it in a running loop, and `close()` it. CommandError: there is no such address.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        local: tuple[str, int] | None = None,
        timeout: float = 32.0,
        watch: Watch | None = None,
    ) -> None:
        self.target = target
        self._limit = timeout
        self.timers = TimerSettings(fr=timeout)
        self._loop = loop = asyncio.get_running_loop()
        self._socket = _connect(target, local)
        self._watch = watch
        self._armed: asyncio.TimerHandle | None = None
        self._transactions: dict[bytes, Transaction] = {}
        self._timerqueue = TimerQueue(loop.time, self._arm)
        self.start_timer: Callable[[float, Callable[[Any], object], Any], Timer] = self._timerqueue.start
        loop.add_reader(self._socket.fileno(), self._readable)

    @property
    def sent_by(self) -> str:
        """The local address as it stands in a Via."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Let the socket go; transactions that still run are forgotten."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._armed is not None:
            self._armed.cancel()

    async def exchange(self, outgoing: Outgoing, on_reply: Callable[[Response], object]) -> Response:
        """Send a request, call `on_reply` with each of its replies, and return the final one.

        Raises CommandError when none comes in time, nobody listens there, or the request is malformed.
        """
        exchange = _Exchange(outgoing, on_reply, self._loop.create_future())
        transaction = self._start(exchange)
        try:
            # Timer F or B ends most that are not answered; an INVITE that is ringing has no timer of its own.
            async with asyncio.timeout(self._limit if outgoing.method == "INVITE" else None):
                final = await exchange.final
        except TimeoutError:
            # RFC 3261 section 9.1: no CANCEL before a provisional reply.
            if transaction.state is State.PROCEEDING:
                await self._goodbye(_Exchange(_cancel(outgoing), _ignore, self._loop.create_future()))
            raise self._no_reply() from None
        if exchange.ack:
            await self._goodbye(_Exchange(_next(outgoing, final, "BYE"), _ignore, self._loop.create_future()))
        return final

    async def _goodbye(self, exchange: _Exchange) -> None:
        self._start(exchange)
        try:
            async with asyncio.timeout(GOODBYE):
                await exchange.final
        except (TimeoutError, CommandError):
            pass

    def _start(self, exchange: _Exchange) -> Transaction:
        outgoing = exchange.outgoing
        data = self._build(outgoing)
        try:
            parse(data)
        except SipParseError as error:
            raise CommandError(f"the request would be malformed: {error.reason}") from None
        key = client_key(outgoing.branch.encode(), outgoing.method)
        make = InviteClientTransaction if outgoing.method == "INVITE" else NonInviteClientTransaction
        transaction = self._transactions[key] = make(self, key, data, exchange)
        transaction.start()
        return transaction

    def _build(self, outgoing: Outgoing) -> bytes:
        return build_request(
            outgoing.method,
            outgoing.uri,
            via=self.sent_by,
            branch=outgoing.branch,
            from_=outgoing.from_,
            to=outgoing.to,
            call_id=outgoing.call_id,
            cseq=outgoing.cseq,
            headers="".join(f"{line}\r\n" for line in outgoing.headers).encode("utf-8", "surrogateescape"),
            body=outgoing.body,
        )

    def _no_reply(self) -> CommandError:
        host, port = self.target
        return CommandError(f"no final reply from {host}:{port} within {self._limit:g} s")

    # What transactions call

    def send(self, transaction: Transaction, data: bytes) -> None:
        """Send a datagram."""
        if self._watch is not None:
            self._watch("send", data)
        try:
            self._socket.send(data)
        except OSError:
            self._loop.call_soon(transaction.transport_error)

    def ack(self, transaction: Transaction, response: Response) -> bytes:
        """Build the ACK of a negative reply: the INVITE's own branch, and the To tag of the reply (17.1.1.3)."""
        outgoing = transaction.peer.outgoing
        routes = [line for line in outgoing.headers if line.lower().startswith("route:")]
        return self._build(
            Outgoing(
                "ACK",
                outgoing.uri,
                outgoing.from_,
                response.header("To") or outgoing.to,
                routes,
                branch=outgoing.branch,
                call_id=outgoing.call_id,
                cseq=outgoing.cseq,
            )
        )

    def response(self, transaction: Transaction, response: Response) -> None:
        """Take a reply."""
        exchange: _Exchange = transaction.peer
        if exchange.outgoing.method == "INVITE" and 200 <= response.status < 300:
            # Each repetition of a 2xx is acknowledged (13.2.2.4), with the same bytes.
            exchange.ack = exchange.ack or self._build(_next(exchange.outgoing, response, "ACK"))
            self.send(transaction, exchange.ack)
            if exchange.final.done():
                return
        try:
            exchange.on_reply(response)
        except OSError as error:
            # It could not be shown, when what it is piped into has ended, say: whoever waits would wait for ever.
            if not exchange.final.done():
                exchange.final.set_exception(error)
            return
        if response.status >= 200 and not exchange.final.done():
            exchange.final.set_result(response)

    def timeout(self, transaction: Transaction) -> None:
        """Take note that no final reply came."""
        self._fail(transaction, self._no_reply())

    def transport_error(self, transaction: Transaction) -> None:
        """Take note that nobody takes what is sent."""
        host, port = self.target
        self._fail(transaction, CommandError(f"nothing listens on udp:{host}:{port}"))

    def ended(self, transaction: Transaction) -> None:
        """Forget a transaction."""
        self._transactions.pop(transaction.key, None)

    def _fail(self, transaction: Transaction, error: CommandError) -> None:
        final = transaction.peer.final
        if not final.done():
            final.set_exception(error)

    # What the loop calls

    def _readable(self) -> None:
        try:
            data = self._socket.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            # An ICMP error of an earlier datagram: the host or the port does not take them (18.4).
            for each in list(self._transactions.values()):
                each.transport_error()
            return
        if self._watch is not None:
            self._watch("receive", data)
        try:
            message = parse(data)
        except SipParseError:
            return
        if not isinstance(message, Response):
            return
        transaction = self._transactions.get(response_key(message))
        if transaction is not None:
            transaction.receive_response(message)

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._timerqueue.expire)


def _cancel(invite: Outgoing) -> Outgoing:
    return Outgoing(
        "CANCEL",
        invite.uri,
        invite.from_,
        invite.to,
        [line for line in invite.headers if line.lower().startswith("route:")],
        branch=invite.branch,
        call_id=invite.call_id,
        cseq=invite.cseq,
    )


def _next(invite: Outgoing, accepted: Response, method: str) -> Outgoing:
    """Return the ACK or the BYE of an accepted INVITE (12.2.1.1)."""
    contacts = accepted.contacts
    routes = [route for value in accepted.headers("Record-Route") for route in split_values(value)]
    return Outgoing(
        method,
        contacts[0].uri if contacts else invite.uri,
        invite.from_,
        accepted.header("To") or invite.to,
        [f"Route: {route}" for route in reversed(routes)],
        call_id=invite.call_id,
        cseq=invite.cseq + (method != "ACK"),
    )


def _connect(target: tuple[str, int], local: tuple[str, int] | None) -> socket.socket:
    host, port = target
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError):
        raise CommandError(f"unknown host '{host}'") from None
    made = socket.socket(family, kind, proto)
    made.setblocking(False)
    try:
        if local is not None:
            made.bind(local)
        # Connected, so that the system reports when nobody listens there.
        made.connect(address)
    except (OSError, UnicodeError) as error:
        made.close()
        raise CommandError(_why_not(error, target, local)) from None
    return made


def _why_not(error: OSError | UnicodeError, target: tuple[str, int], local: tuple[str, int] | None) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    local_fault = isinstance(error, UnicodeError | socket.gaierror) or error.errno in _LOCAL_FAULTS
    if local is not None and local_fault:
        return f"cannot send from udp:{local[0]}{f':{local[1]}' if local[1] else ''}: {reason}"
    return f"cannot send to udp:{target[0]}:{target[1]}: {reason}"


def _ignore(_response: Response) -> None:
    pass
