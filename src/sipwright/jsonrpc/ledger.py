"""The calls of one client (L2): what becomes of each from its sending to its end, and how many there were.

A call ends by its answer, its deadline, the loss of its connection, or because it is given up. Calls are made, and
servers kept, in `caller`; further tries are `tries`, calls that wait for a server `waiting`, servers that do not
answer `health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from sipwright.jsonrpc.calls import Attempt, PendingCall, Plan, Probe
from sipwright.jsonrpc.connection import CALLBACK_FAULTS, Connection
from sipwright.jsonrpc.deadlines import Deadlines
from sipwright.jsonrpc.endpoint import Endpoint
from sipwright.jsonrpc.health import Health
from sipwright.jsonrpc.messages import Message, answer_error, encode_notification, request_head
from sipwright.jsonrpc.outcome import CLOSED, ERROR, FAILURE, OK, TIMEOUT, Status
from sipwright.jsonrpc.pool import why_not
from sipwright.jsonrpc.tries import Tries
from sipwright.jsonrpc.waiting import Waiting

# Told what a client does: the event, the call (None: nobody waits for that answer), the server "host:port" (empty: none
# was asked) and the id that the request had on its connection (None: none was sent).
Watch = Callable[[str, PendingCall | None, str, int | None], object]


class Ledger:
    """The calls of one client, and the counters of how they ended. `Caller` is made from it, and starts it.

    `cancel_method` names the notification for requests that are given up; None for none.
    """

    def __init__(self, *, cancel_method: str | None, max_waiting: int, waits_when_full: bool) -> None:
        self.calls = self.results = self.errors = self.timeouts = self.failures = self.cancelled = 0
        self.watch: Watch | None = None
        self.watch_servers: Callable[[str, str], object] | None = None
        self._cancel_method = cancel_method
        self._is_closed = False
        self._waiting = Waiting(
            limit=max_waiting,
            waits_when_full=waits_when_full,
            send=self.send,
            fail=lambda call, reason: self._end(call, FAILURE, reason),
            later=lambda *call: self._loop.call_soon(*call),
        )
        # Looked at for each answer: asking the object itself would cost 70 ns.
        self._queues = self._waiting.queues
        self._armed: asyncio.TimerHandle | None = None

    def _open(self, loop: asyncio.AbstractEventLoop, tries: Tries, make_health: Callable[..., Health]) -> None:
        """Begin, in a loop. `make_health` is given what a Health needs of the ledger."""
        self._loop = loop
        self._clock = loop.time
        self._deadlines: Deadlines[Any] = Deadlines(loop.time, self._arm, self._time_over)
        self._start_deadline: Callable[[float, Any], float] = self._deadlines.start
        self._tries = tries
        self._health = make_health(start_deadline=self._start_deadline, changed=self._tell_server)

    def _answered(self, call: PendingCall, message: Message) -> None:
        if call.plan is not None:
            ended = self._planned_answer(call, message)
            if ended is None:
                self._fill()
                return
            call = ended
        call.ended = self._clock()
        del call.table[call]
        result = message.result
        if message.error is UNSET and result is not UNSET:
            call.status = OK
            call.result = bytes(result)
            self.results += 1
        else:
            self._take_error(call, message)
        if self.watch is not None:
            self._tell_end(call)
        if self._queues:
            # Before `done`, which may make calls: those that wait come first.
            self._waiting.fill()
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except CALLBACK_FAULTS as error:  # the boundary to the caller's code
            self._report(call, error)

    def _planned_answer(self, one: PendingCall | Attempt | Probe, message: Message) -> PendingCall | None:
        """Return the call that ends with an answer; None where it ends no call."""
        if isinstance(one, Probe):
            self._health.answered(one)
            return None
        assert one.plan is not None
        call = self._tries.answered(one, one.plan, message)
        # Telling other servers that they are not waited for may have led to its being cancelled (see `send`).
        return None if call is None or call.status is not None else call

    def _take_error(self, call: PendingCall, message: Message) -> None:
        error = answer_error(message)
        if error is not None:
            call.status = ERROR
            call.error = error
            self.errors += 1
        else:
            call.status = OK
            call.result = b"null" if message.result is UNSET else bytes(message.result)
            self.results += 1

    def _end(self, call: PendingCall, status: Status, reason: str) -> None:
        """End a call without an answer."""
        if call.status is not None:
            return
        if call.queue is not None:
            call.queue.pop(call, None)
            call.queue = None
        call.ended = self._clock()
        call.table.pop(call, None)
        call.status = status
        call.reason = reason
        if status is TIMEOUT:
            self.timeouts += 1
        else:
            self.failures += 1
        if call.plan is not None:
            self._tries.end(call.plan)
        if self.watch is not None:
            self._tell_end(call)
        argument, call.argument = call.argument, None
        try:
            call.done(argument, call)
        except CALLBACK_FAULTS as error:  # the boundary to the caller's code
            self._report(call, error)

    def call_cancelled(self, call: PendingCall) -> None:
        """Take note that a call was given up (called by the call)."""
        self.cancelled += 1
        if self.watch is not None:
            self.watch("cancelled", call, call.server, None if call.connection is None else call.id)
        if call.plan is not None:
            self._tries.end(call.plan)
        if call.connection is not None:
            self.give_up(call, call.connection)
        self._fill()

    def _fill(self) -> None:
        """Send what waits, after a request has ended or was given up."""
        if self._queues:
            self._waiting.fill()

    def give_up(self, one: PendingCall | Attempt, connection: Connection) -> None:
        """Forget a request whose answer nobody wants any more, and tell the server if it is to be told."""
        if connection.peer.abandon(one) and self._cancel_method is not None and not connection.is_blocked:
            connection.write(encode_notification(self._cancel_method, b'{"id":%d}' % one.id))

    def blame(self, connection: Connection) -> None:
        """Take note that a server has not answered in time."""
        self._health.blame(connection)

    def tell(self, event: str, call: PendingCall, server: str, number: int | None) -> None:
        """Tell who watches what happens with a call."""
        if self.watch is not None:
            self.watch(event, call, server, number)

    def _tell_server(self, event: str, endpoint: Endpoint) -> None:
        if self.watch_servers is not None:
            self.watch_servers(event, endpoint.name)

    def _tell_end(self, call: PendingCall) -> None:
        assert self.watch is not None
        assert call.status is not None
        self.watch(call.status, call, call.server, None if call.connection is None else call.id)

    def _report(self, call: PendingCall, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": f"error in the callback of JSON-RPC call {call.method!r}", "exception": error}
        )

    def _time_over(self, call: PendingCall | Probe) -> None:
        if isinstance(call, Probe):
            self._health.ended(call)
            return
        plan = call.plan
        if plan is not None and plan.slices_left > 1:
            plan.slices_left -= 1
            self._start_deadline(plan.slice, call)
            if call.queue is None:
                self._tries.part_over(call, plan)
                self._fill()
        elif call.queue is not None:
            self._end(call, FAILURE, self._waiting.reason(call))
        elif call.connection is not None:
            self._no_answer(call, call.connection)

    def _no_answer(self, call: PendingCall, connection: Connection) -> None:
        """End a call whose time is over."""
        plan = call.plan
        if plan is not None and not (plan.is_sent or plan.attempts):
            self.cannot_ask(call, plan)
            return
        if plan is None or plan.is_sent:
            # Otherwise that server has answered, or is gone, and only others have not.
            self._health.blame(connection)
            self.give_up(call, connection)
        if plan is not None:
            for attempt in list(plan.attempts):
                self._health.blame(attempt.connection)
            self._tries.end(plan)
        # Before the end, whose callback may make calls: those that wait come first.
        self._fill()
        self._end(call, TIMEOUT, "")

    def cannot_ask(self, call: PendingCall, plan: Plan) -> None:
        """End a call that was to be sent again."""
        self._end(call, FAILURE, f"{call.server} could not be asked again: {why_not(plan.group)}")

    def _take_calls(self, connection: Connection, reason: str) -> None:
        """End the calls of a connection that is gone, or try them elsewhere."""
        for one in connection.peer.take_all():
            if isinstance(one, Probe):
                self._health.ended(one)
                continue
            call: PendingCall | None = one
            if one.plan is not None:
                call = one.call if isinstance(one, Attempt) else one
                if call.status is None:
                    call = call if self._is_closed else self._tries.lost(one, one.plan, connection)
            # The end of another one of them may have cancelled it.
            if call is not None and call.status is None:
                self._end(call, FAILURE, CLOSED if self._is_closed else f"{connection.server}: {reason}")

    def send(self, call: PendingCall, connection: Connection) -> None:
        """Send a call, for the first time or again.

        The writing is last: it may fill the connection, and calls that wait then end, whose callbacks may cancel this
        one. The same is true of all that is written.
        """
        call.connection = connection
        payload = connection.request(call, request_head(call.method), call.params)
        if call.plan is not None:
            self._tries.sent(call, call.plan, connection)
        if self.watch is not None:
            self.watch("request", call, connection.server, call.id)
        connection.write(payload)

    # The timer

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._deadlines.expire)
