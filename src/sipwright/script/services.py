"""What a running worker offers to modules: the Services Protocol. The engine implements it, and so do test drivers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sipwright.lang.namespace import Route, RouteKind
from sipwright.script.context import Context, Handling
from sipwright.script.store import Store
from sipwright.script.suspend import Continuation, Suspension, Wait
from sipwright.timerqueue import TimerQueue
from sipwright.transaction.timers import TimerSettings

if TYPE_CHECKING:
    from socket import socket


class Services(Protocol):
    """The worker, as modules see it."""

    @property
    def log(self) -> logging.Logger:
        """The log of scripts and modules."""

    def set_log_level(self, level: int) -> None:
        """Set the level of the log, a level of `logging`; at DEBUG every event is logged, too."""

    @property
    def handling(self) -> Handling:
        """What is handled now: to be set around work on a context outside of its routes, so that the log knows."""

    @property
    def timers(self) -> TimerQueue:
        """Timers of fixed delays."""

    @property
    def clock(self) -> Callable[[], float]:
        """A monotonic clock, in seconds."""

    @property
    def wall_clock(self) -> Callable[[], float]:
        """The time of day, in seconds since 1970-01-01 UTC."""

    @property
    def pid(self) -> int:
        """The process id, `$pp`."""

    @property
    def worker(self) -> int:
        """The index of this worker, from 0."""

    @property
    def trace(self) -> Callable[[str, Context | None, dict[str, Any]], None] | None:
        """Who is told what happens, `trace(event, context, detail)`; normally None."""

    def set_transaction_timers(self, timers: TimerSettings) -> None:
        """Set the delays of the transaction timers, for transactions made from now on."""

    def limit_suspensions(self, seconds: int, number: int) -> None:
        """Set how long a transaction may be suspended, and how many at once."""

    def limit_transactions(self, number: int, retry_after: tuple[int, int]) -> None:
        """Set how many transactions there may be, completed ones too; 0 for any number. Beyond it requests get a 503.

        `retry_after` is the least and the most number of seconds in the Retry-After header of a 503.
        """

    def statistics(self) -> dict[str, int]:
        """Return all counters of the server by name, `tm:live`, `core:rcv_requests`, `jsonrpc:pending` among them.

        Those of the other workers are up to a second old.
        """

    def add_statistics(self, source: Callable[[], dict[str, int]]) -> None:
        """Add a source of counters; names have the form `module:name`."""

    def new_transaction(self, context: Context) -> bool:
        """Make sure that the request has a server transaction. False: it cannot (an ACK, or answered without one)."""

    def reply(self, context: Context, status: int, reason: str) -> bool:
        """Answer within a transaction, made if there is none. False: a final reply was sent before.

        A final reply ends a suspension.
        """

    def reply_stateless(self, context: Context, status: int, reason: str) -> bool:
        """Answer without a transaction; a final reply ends the one that there is. False for an ACK."""

    def release(self, context: Context) -> bool:
        """End the request's transaction without an answer, and its suspension. False: there is none.

        One that is answered goes on to absorb retransmissions.
        """

    def cancelled_transaction(self, context: Context) -> bool:
        """Tell whether the context's request is a CANCEL whose INVITE has a transaction here."""

    def transaction_label(self, context: Context) -> tuple[int, int] | None:
        """Return the numbers under which `find_transaction` finds the context; None without a transaction."""

    def find_transaction(self, index: int, label: int) -> Context | None:
        """Return the context of a transaction that still lives here."""

    def tell_worker(self, index: int, name: str, payload: bytes) -> bool:
        """Send something to another worker of this server, for whoever there hears `name`. False: there is none.

        Nothing comes back. It is lost when that worker dies before it has read it, or when it does not read for long.
        """

    def hear(self, name: str, handler: Callable[[bytes], bool]) -> None:
        """Have what other workers send under a name given to `handler`.

        It returns False for what it knows nothing of: that goes on to the worker's successor, if there is one.
        """

    def add_command(
        self,
        name: str,
        handler: Callable[[Any], Any],
        doc: str = "",
        join: Literal["all", "sum", "first"] = "all",
        params: Sequence[str] | None = None,
    ) -> None:
        """Add a command to the server's control interface, `module.command`; call it in `child_init`.

        `handler` runs in every worker and returns what JSON can say, or an awaitable of it; ArgumentError says what is
        wrong with its parameters. It gets them as they were decoded, list, dict or None; or, with the names in `params`
        (`?` behind those that may be left out), as a dict by name. `join` says how the workers' answers become one:
        `all` is a list of them, `sum` adds the numbers of objects, `first` is for answers that are the same everywhere.
        `doc` is for a person: a first line, and more. ArgumentError: the name is taken.
        """

    def post(self, name: str, value: bytes | None, *, lasting: bool = False) -> None:
        """Put up a notice that all workers see, also those that are started later; None takes it away.

        It goes with the process that has put it up; one that is `lasting` stays, also for a worker that is started in
        place of one that died, until the script is read anew. Names have the form `module:name`. Put up by a command,
        it is not undone by one of an earlier command that another worker has carried out later.
        """

    def follow(self, prefix: str, handler: Callable[[str, bytes | None], object]) -> None:
        """Have `handler(name, value)` told of the notices whose names begin with `prefix`, this worker's own too.

        It is called for those that there are, before this returns, and for each that is put up, changed or (None)
        taken away.
        """

    @property
    def streams(self) -> Mapping[str, Sequence[socket]]:
        """The listening sockets of the addresses that modules want (`Module.listens`); all workers share them."""

    def private_directory(self) -> Path:
        """Return a directory of this server's own, mode 0700, for sockets between its workers; it goes at the end."""

    def suspend(self, suspension: Suspension) -> bool:
        """Suspend the suspension's context, with a transaction, made if there is none.

        An INVITE is answered 100 unless a provisional reply was sent. False: no transaction is possible, too many are
        suspended, or it is suspended already; then nothing has changed.
        """

    def unsuspend(self, suspension: Suspension) -> None:
        """Take a suspension back, in the script that made it: it was of no use after all, and the script goes on."""

    def hold(self, wait: Wait) -> bool:
        """Suspend a script that waits for a variable, in whatever route and with whatever message.

        The script does not see it: nothing is sent and no transaction made, but retransmissions are absorbed, and the
        CANCEL of an INVITE ends it. False: too many are suspended; then nothing has changed.
        """

    def go_on(self, wait: Wait, value: Any) -> bool:
        """Go on with a script that waits for a variable, now that its value is there. False: it ended before."""

    def resume(self, suspension: Suspension, continuation: Continuation) -> bool:
        """Go on with a suspended script: run a route, or continue in place with a value. False: it ended before."""

    def fail(self, suspension: Suspension, error: Exception) -> None:
        """End a suspension whose outcome could not be given to its script: logged, and answered 500."""

    def give_up(self, suspension: Suspension) -> None:
        """End a suspension that lasted too long: in the failure_route of its transaction, or with 408."""

    def run_event_route(self, name: str, extra: Mapping[str, Any] | None = None) -> bool:
        """Run `event_route[name]`, if the script has it, on a message of its own.

        `extra` is what modules find in its context's `extra`, also after a suspension.
        """

    def find_route(self, kind: RouteKind, name: str) -> Route | None:
        """Return a route by its name."""

    def is_myself(self, host: str, port: int) -> bool:
        """Tell whether a host and port (0: any) are addresses this server listens on, or aliases of it."""

    def listen_addresses(self) -> Iterable[tuple[str, str, int]]:
        """Return protocol, host and port of each listening socket."""

    def replace_message(self, context: Context, data: bytes) -> None:
        """Parse edited bytes and make them the context's message. SipParseError: they are no SIP request."""

    def shared_store(self, name: str) -> Store:
        """Return the store of that name, which all workers of this server share.

        Names have the form `module:name`. Nothing is opened before somebody asks.
        """

    def rpc_client(self, servers: str, **settings: Any) -> Any:
        """Make the JSON-RPC client of this worker: `sipwright.jsonrpc.Client`, or a scripted one in tests."""

    def redis_client(self, address: Any, **settings: Any) -> Any:
        """Return this worker's client of a Redis server: `sipwright.redis.client.Client`, or a fake one in tests.

        `address` is a `RedisAddress`, `settings` are those of `Client`; who uses the same shares one connection. The
        worker closes it.
        """
