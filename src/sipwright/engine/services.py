"""What modules get from the worker (script.services.Services): owns transactions' contexts, suspension and CANCEL.

It is where the parts of the engine meet; each method is short, and the work is done in the part that it names.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from sipwright.engine.admission import UNLIMITED, Admission
from sipwright.engine.reply import Replier
from sipwright.engine.run import Runner
from sipwright.engine.stats import Counters, Statistics
from sipwright.engine.trace import Trace
from sipwright.engine.txhost import TransactionHost
from sipwright.errors import SipParseError
from sipwright.lang.namespace import Route, RouteKind
from sipwright.script.context import Address, Context
from sipwright.script.settings import ListenAddress
from sipwright.script.store import Store
from sipwright.script.suspend import Continuation, Suspension, Suspensions
from sipwright.sip import build
from sipwright.sip.message import Request
from sipwright.sip.parse import parse
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.invite_server import InviteServerTransaction
from sipwright.transaction.table import TransactionTable
from sipwright.transaction.timers import TimerSettings

# What event routes see when they run without a message.
_NO_MESSAGE = (
    b"OPTIONS sip:event@localhost SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP localhost;branch=z9hG4bKevent%d\r\n"
    b"From: <sip:event@localhost>;tag=event\r\n"
    b"To: <sip:event@localhost>\r\n"
    b"Call-ID: event%d@localhost\r\n"
    b"CSeq: 1 OPTIONS\r\n"
    b"Content-Length: 0\r\n\r\n"
)


# Listening there is listening on every address of the machine.
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104


class NoSocket:
    """The socket of a message that never came from anywhere: what is sent to it is dropped."""

    proto = "udp"
    address = ("127.0.0.1", 0)

    def send(self, data: bytes, address: Address) -> None:
        """Drop the bytes."""


class WorkerServices:
    """The worker as modules see it. `start_runner` gives it the runner, which needs it first."""

    def __init__(
        self,
        *,
        table: TransactionTable,
        timers: TimerQueue,
        clock: Callable[[], float],
        tag_prefix: str,
        routes: dict[tuple[RouteKind, str], Route],
        listen: Iterable[ListenAddress],
        aliases: Iterable[tuple[str, int]],
        rpc_client: Callable[..., Any],
        shared_store: Callable[[str], Store],
        stats: Counters,
        log: logging.Logger,
        worker: int = 0,
    ) -> None:
        self.log = log
        self.timers = timers
        self.clock = clock
        self.wall_clock: Callable[[], float] = time.time
        self.pid = os.getpid()
        self.worker = worker
        self.trace: Trace | None = None
        self.rpc_client = rpc_client
        self.shared_store = shared_store
        self.stats = stats
        self.statistics_table = Statistics()
        self.statistics = self.statistics_table.read
        self.add_statistics = self.statistics_table.add
        self.host = TransactionHost(table, timers, log)
        self.suspensions = Suspensions(self._overdue)
        self.replier = Replier(
            tag_prefix, self.new_transaction, self._accepted, self.suspensions.abandon, self.release, stats
        )
        self.reply = self.replier.reply
        self.reply_stateless = self.replier.reply_stateless
        self.admission = Admission(self.reply, self.reply_stateless, stats, log)
        self.listen = list(listen)
        self._aliases = list(aliases)
        self._table = table
        self._create = table.create
        self._routes = routes
        self._labels: weakref.WeakValueDictionary[int, Context] = weakref.WeakValueDictionary()
        self._events = 0
        self._runner: Runner
        self.resume: Callable[[Suspension, Continuation], bool]
        self.fail: Callable[[Suspension, Exception], None]
        self.add_statistics(stats.read)
        self.add_statistics(self._read_live)

    def start_runner(self, runner: Runner) -> None:
        """Take the runner of routes."""
        self._runner = runner
        self.resume = runner.resume
        self.fail = runner.fail

    def set_trace(self, trace: Trace | None) -> None:
        """Tell everything that happens to `trace`, or nobody."""
        self.trace = self.host.trace = self.replier.trace = trace

    # ---- transactions

    def set_transaction_timers(self, timers: TimerSettings) -> None:
        """Set the delays of the transaction timers."""
        self.host.timers = timers

    def new_transaction(self, context: Context) -> bool:
        """Make sure that the request has a server transaction."""
        if context.transaction is not None:
            return True
        request = context.message
        if request.method == "ACK" or context.answered:
            return False
        peer = (context.socket, build.reply_target(request, context.source))
        transaction = self._create(self.host, request, peer)
        if transaction is None:
            return False
        transaction.user = context
        context.transaction = transaction
        return True

    def release(self, context: Context) -> bool:
        """End the request's transaction without an answer, and what it waits for."""
        if context.suspension is not None:
            self.suspensions.abandon(context.suspension)
        transaction = context.transaction
        if transaction is None:
            return False
        # One that is answered stays, to absorb retransmissions.
        if transaction.status < 200:
            transaction.terminate()
            context.transaction = None
        return True

    def transaction_label(self, context: Context) -> tuple[int, int] | None:
        """Return the numbers that `find_transaction` wants."""
        if context.transaction is None:
            return None
        if not context.label:
            self._events += 1
            context.label = self._events
            self._labels[context.label] = context
        return self.worker, context.label

    def find_transaction(self, index: int, label: int) -> Context | None:
        """Return the context of a live transaction."""
        context = self._labels.get(label) if index == self.worker else None
        return context if context is not None and context.transaction is not None else None

    def _accepted(self, request: Request, transaction: InviteServerTransaction) -> None:
        self._table.retransmit_2xx(self.host, transaction, request)

    # ---- suspension

    def suspend(self, suspension: Suspension) -> bool:
        """Suspend a context."""
        context = suspension.context
        if context.answered:
            return False
        if not self.suspensions.add(suspension):
            if context.suspension is None:
                self.admission.suspension_refused(context, self.suspensions.limit)
            return False
        if context.transaction is None and not self.new_transaction(context):
            self.suspensions.take(suspension)
            return False
        self.stats.suspended += 1
        if context.overloaded:
            context.overloaded = False
        if self.trace is not None:
            self.trace("suspend", context, {})
        transaction = context.transaction
        if context.message.method == "INVITE" and transaction is not None and transaction.status == 0:
            # Not reply(): what the script has added to its next reply is not for this one.
            transaction.respond(100, self.host.trying(transaction))
        return True

    def unsuspend(self, suspension: Suspension) -> None:
        """Take a suspension back."""
        self.suspensions.take(suspension)

    def give_up(self, suspension: Suspension) -> None:
        """End a suspension that lasted too long."""
        if self.suspensions.abandon(suspension):
            self._overdue(suspension.context)

    def limit_suspensions(self, seconds: int, number: int) -> None:
        """Set how long a transaction may be suspended (the sweep comes once a second), and how many at once."""
        self.suspensions.sweeps = seconds
        self.suspensions.limit = number

    def limit_transactions(self, number: int, retry_after: tuple[int, int]) -> None:
        """Set how many transactions there may be, 0 for any number, and the seconds in the Retry-After of a 503."""
        self.admission.set_limit(number or UNLIMITED)
        self._table.max_unacknowledged = number or UNLIMITED
        self.admission.retry_after = retry_after

    def _overdue(self, context: Context) -> None:
        self._runner.overdue(context)

    # ---- CANCEL (RFC 3261 section 9.2)

    def cancelled_transaction(self, context: Context) -> bool:
        """Tell whether a CANCEL's INVITE has a transaction here."""
        return context.message.method == "CANCEL" and self._table.match_cancel(context.message) is not None

    def cancel(self, context: Context, only_suspended: bool) -> bool:
        """Answer a CANCEL and its INVITE. False: there is no INVITE, or `only_suspended` and it is not suspended."""
        invite = self._table.match_cancel(context.message)
        if invite is None:
            return False
        # None once the INVITE has its final answer.
        cancelled: Context | None = invite.user
        if only_suspended and (cancelled is None or cancelled.suspension is None):
            return False
        # The same To tag as the INVITE's answer (9.2).
        context.to_tag = invite.to_tag if cancelled is None else self.replier.tag(cancelled)
        self.reply(context, 200, "canceling")
        if cancelled is not None:
            self.stats.cancelled += 1
            if self.trace is not None:
                self.trace("cancel", cancelled, {})
            self.reply(cancelled, 487, "Request Terminated")
        return True

    # ---- routes and names

    def find_route(self, kind: RouteKind, name: str) -> Route | None:
        """Return a route by its name."""
        return self._routes.get((kind, name))

    def run_event_route(self, name: str) -> bool:
        """Run an event route, on a message of its own."""
        route = self._routes.get((RouteKind.EVENT, name))
        if route is None:
            return False
        self._events += 1
        message = parse(_NO_MESSAGE % (self._events, self._events))
        assert isinstance(message, Request)
        event = Context(message, ("127.0.0.1", 0), NoSocket(), RouteKind.EVENT)
        self._runner.run(route, event)
        if event.transaction is not None and event.suspension is None and not event.answered:
            self.release(event)
        return True

    def is_myself(self, host: str, port: int) -> bool:
        """Tell whether a host and port are this server's: a listening address or an alias of it."""
        host = host.strip("[]").lower()
        for address in self.listen:
            if port in (0, address.port) and (
                host == address.host.lower() or (address.host in EVERY_ADDRESS and is_local(host))
            ):
                return True
            if address.advertise is not None:
                name, advertised_port = address.advertise
                if host == name.lower() and port in (0, advertised_port):
                    return True
        return any(
            host == name and (0 in (port, alias_port) or port == alias_port) for name, alias_port in self._aliases
        )

    def listen_addresses(self) -> Iterable[tuple[str, str, int]]:
        """Return protocol, host and port of each listening socket."""
        return [(address.proto, address.host, address.port) for address in self.listen]

    def replace_message(self, context: Context, data: bytes) -> None:
        """Make edited bytes the context's message."""
        message = parse(data)
        if not isinstance(message, Request):
            raise SipParseError("the edited message is no request")
        context.message = message

    def _read_live(self) -> dict[str, int]:
        table = self._table
        # Not by looking at each: a million takes 50 ms.
        completed = self.stats.tm_finals - table.ended_completed
        return {
            "tm:current": table.live,
            "tm:live": table.live - completed,
            "tm:created": table.created,
            "tm:ended": table.ended,
            "tm:absorbed": table.absorbed,
            "tm:given_up": table.given_up,
            "tm:suspended": len(self.suspensions),
        }


@lru_cache(maxsize=4096)
def is_local(host: str) -> bool:
    """Tell whether a host is an IP address of this machine: one from which it would send to itself. Names are not."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing; the port does not matter.
            probe.connect((host, 9))
            found: str = probe.getsockname()[0]
    except (ValueError, OSError):
        return False
    return found == host
