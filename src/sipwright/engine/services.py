"""What modules get from the worker (script.services.Services): owns transactions' contexts, suspension and CANCEL.

It is where the parts of the engine meet; each method is short, and the work is done in the part that it names.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from sipwright.engine.admission import UNLIMITED, Admission
from sipwright.engine.commands import Commands
from sipwright.engine.notices import Notices
from sipwright.engine.reply import Replier
from sipwright.engine.run import Runner
from sipwright.engine.stats import Counters, Statistics
from sipwright.engine.trace import Trace, Traced, both
from sipwright.engine.txhost import TransactionHost
from sipwright.errors import SipParseError, StartError
from sipwright.lang.namespace import Route, RouteKind
from sipwright.script.context import Address, Context, Handling
from sipwright.script.settings import ListenAddress
from sipwright.script.store import Store
from sipwright.script.suspend import Continuation, Suspension, Suspensions, Wait
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
        stateless_prefix: str,
        routes: dict[tuple[RouteKind, str], Route],
        listen: Iterable[ListenAddress],
        aliases: Iterable[tuple[str, int]],
        rpc_client: Callable[..., Any],
        shared_store: Callable[[str], Store],
        redis_client: Callable[..., Any],
        stats: Counters,
        log: logging.Logger,
        worker: int = 0,
        first_label: int = 0,
        event_log: Trace | None = None,
    ) -> None:
        self.log = log
        self.handling = Handling()
        self.timers = timers
        self.clock = clock
        self.wall_clock: Callable[[], float] = time.time
        self.pid = os.getpid()
        self.worker = worker
        self.trace: Trace | None = None
        self._traced: list[Traced] = []
        self._told: Trace | None = None
        self._event_log = event_log
        self._make_rpc_client = rpc_client
        self._rpc_clients: list[Any] = []
        self.shared_store = shared_store
        self.redis_client = redis_client
        self.stats = stats
        self.statistics_table = Statistics()
        self.statistics = self.statistics_table.read
        self.add_statistics = self.statistics_table.add
        self.host = TransactionHost(table, timers, log)
        self.suspensions = Suspensions(self._overdue)
        self.replier = Replier(
            tag_prefix,
            stateless_prefix,
            self.new_transaction,
            self._accepted,
            self.suspensions.abandon,
            self.release,
            stats,
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
        self._last_label = first_label
        self._events = 0
        self._handlers: dict[str, Callable[[bytes], bool]] = {}
        self.commands = Commands()
        self.add_command = self.commands.add
        self.notices = Notices()
        self.post = self.notices.post
        self.follow = self.notices.follow
        # Set by whoever has opened them, and knows of one.
        self.streams: Mapping[str, Sequence[socket.socket]] = {}
        self.private_directory: Callable[[], Path] = _no_directory
        # Set by whoever knows the other workers.
        self.tell_worker: Callable[[int, str, bytes], bool] = _there_is_none
        self._runner: Runner
        self.resume: Callable[[Suspension, Continuation], bool]
        self.go_on: Callable[[Wait, Any], bool]
        self.fail: Callable[[Suspension, Exception], None]
        self.add_statistics(stats.read)
        self.add_statistics(self._read_live)

    def start_runner(self, runner: Runner) -> None:
        """Take the runner of routes."""
        self._runner = runner
        self.resume = runner.resume
        self.go_on = runner.go_on
        self.fail = runner.fail

    # ---- log and trace

    def trace_too(self, *parts: Traced) -> None:
        """Let further parts of the engine tell what happens."""
        self._traced += parts

    def set_trace(self, trace: Trace | None) -> None:
        """Tell everything that happens to `trace`, or nobody, and to the event log while the log's level is DEBUG."""
        self._told = trace
        self._start_trace()

    def set_log_level(self, level: int) -> None:
        """Set the level of the log."""
        self.log.setLevel(level)
        self._start_trace()

    def _start_trace(self) -> None:
        told = self._told
        event_log = self._event_log if self.log.isEnabledFor(logging.DEBUG) else None
        trace = told or event_log
        if told is not None and event_log is not None:
            trace = both(told, event_log)
        self.trace = self.replier.trace = trace
        self.host.set_trace(trace)
        for part in self._traced:
            part.trace = trace
        for client in self._rpc_clients:
            client.watch = None if trace is None else self._watch

    def rpc_client(self, servers: str, **settings: Any) -> Any:
        """Make a JSON-RPC client."""
        client = self._make_rpc_client(servers, **settings)
        client.watch = None if self.trace is None else self._watch
        self._rpc_clients.append(client)
        return client

    def _watch(self, event: str, call: Any, server: str, number: int | None) -> None:
        """Tell what a JSON-RPC client does; `call` is None for an answer that nobody waits for."""
        asker = None if call is None else call.argument
        context = asker.context if isinstance(asker, Suspension) else self.handling.context
        if self.trace is not None:
            self.trace(f"rpc_{event}", context, {"call": call, "server": server, "id": number})

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
            self._runner.account(context)
        transaction = context.transaction
        if transaction is None:
            return False
        # One that is answered stays, to absorb retransmissions.
        if transaction.status < 200:
            if self.trace is not None:
                self.trace("release", context, {})
            transaction.terminate()
            context.transaction = None
            self.stats.released += 1
        return True

    def transaction_label(self, context: Context) -> tuple[int, int] | None:
        """Return the numbers that `find_transaction` wants."""
        if context.transaction is None:
            return None
        if not context.label:
            self._last_label += 1
            context.label = self._last_label
            self._labels[context.label] = context
        return self.worker, context.label

    def find_transaction(self, index: int, label: int) -> Context | None:
        """Return the context of a live transaction."""
        context = self._labels.get(label) if index == self.worker else None
        return context if context is not None and context.transaction is not None else None

    # ---- other workers

    def hear(self, name: str, handler: Callable[[bytes], bool]) -> None:
        """Have what other workers send under a name given to a handler."""
        self._handlers[name] = handler

    def heard(self, name: str, payload: bytes) -> bool:
        """Take what another worker has sent. False: nobody here knows anything of it."""
        handler = self._handlers.get(name)
        return handler is not None and handler(payload)

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
        if isinstance(suspension, Wait):
            self.suspensions.take_wait(suspension)
        else:
            self.suspensions.take(suspension)

    def hold(self, wait: Wait) -> bool:
        """Suspend a script that waits for a variable."""
        context = wait.context
        if not self.suspensions.add_wait(wait):
            self.admission.suspension_refused(context, self.suspensions.limit)
            return False
        if self.trace is not None:
            self.trace("hold", context, {})
        if (
            context.transaction is None
            and not context.answered
            and context.message.method != "ACK"
            and context.kind is not RouteKind.EVENT
        ):
            key = self._table.hold(context.message, context)
            if key is not None:
                wait.table = self._table
                wait.key = key
        return True

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
        if self.trace is not None:
            self.trace("overdue", context, {})
        self._runner.overdue(context)

    # ---- CANCEL (RFC 3261 section 9.2)

    def cancelled_transaction(self, context: Context) -> bool:
        """Tell whether a CANCEL's INVITE has a transaction here."""
        return context.message.method == "CANCEL" and self._table.match_cancel(context.message) is not None

    def cancel(self, context: Context, only_suspended: bool) -> bool:
        """Answer a CANCEL and its INVITE. False: there is no INVITE, or `only_suspended` and it is not suspended."""
        invite = self._table.match_cancel(context.message)
        if invite is None:
            return self._cancel_held(context)
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

    def _cancel_held(self, context: Context) -> bool:
        """Answer a CANCEL whose INVITE waits for a variable and has no transaction yet."""
        cancelled: Context | None = self._table.held_for_cancel(context.message)
        if cancelled is None or not isinstance(cancelled.suspension, Wait):
            return False
        context.to_tag = self.replier.tag(cancelled)
        self.reply(context, 200, "canceling")
        self.stats.cancelled += 1
        if self.trace is not None:
            self.trace("cancel", cancelled, {})
        cancelled.suspension.let_go()
        self.reply(cancelled, 487, "Request Terminated")
        return True

    # ---- routes and names

    def find_route(self, kind: RouteKind, name: str) -> Route | None:
        """Return a route by its name."""
        return self._routes.get((kind, name))

    def run_event_route(self, name: str, extra: Mapping[str, Any] | None = None) -> bool:
        """Run an event route, on a message of its own."""
        route = self._routes.get((RouteKind.EVENT, name))
        if route is None:
            return False
        self._events += 1
        message = parse(_NO_MESSAGE % (self._events, self._events))
        assert isinstance(message, Request)
        event = Context(message, ("127.0.0.1", 0), NoSocket(), RouteKind.EVENT)
        event.extra = None if extra is None else dict(extra)
        with self.handling.of(event):
            self._runner.run(route, event)
            self._runner.when_ended(event, self._event_ended)
        return True

    def _event_ended(self, event: Context) -> None:
        if event.transaction is not None and event.suspension is None and not event.answered:
            self.release(event)

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
        table, stats = self._table, self.stats
        return {
            "tm:current": table.live,
            # Not by asking each: 0.14 s for the 1.4 million of 32 seconds under load, and it is asked once a second.
            "tm:live": table.created - stats.completed - stats.released,
            "tm:created": table.created,
            "tm:ended": table.ended,
            "tm:absorbed": table.absorbed,
            "tm:given_up": table.given_up,
            "tm:suspended": len(self.suspensions),
        }


def _no_directory() -> Path:
    raise StartError("this server has no directory for sockets between its workers")


def _there_is_none(_index: int, _name: str, _payload: bytes) -> bool:
    return False


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
