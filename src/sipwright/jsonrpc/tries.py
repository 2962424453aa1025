"""The further tries of a call (L2): when another server is asked, and when a call must not be sent again.

A call is sent again only where that cannot carry it out twice: because no byte of it had left, because it is
idempotent, because the client was told to (`retry_lost`), or because a server has answered with a code that says so
(`retry_codes`). Three things lead to another try, all within the call's deadline:

- a lost connection, at once;
- an answer with one of the codes, at once, unless another server is being asked already: then its answer is awaited;
- for an idempotent call, time: either it is divided into `retry` + 1 parts, and when one is over the next server is
  asked and the former one's answer no longer counts; or, with `hedge`, after so many seconds the next server is asked
  beside the others, and the first answer counts.

Each try goes to a server that was not asked for this call yet. Where there is none the call ends; but with a
`retry_delay` it waits so long, doubled each time, and may then ask any of them again, unless none of them will ever be
connected again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sipwright.jsonrpc.calls import Attempt, PendingCall, Plan
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.messages import Message, request_head
from sipwright.jsonrpc.outcome import has_code

MAX_DOUBLINGS = 5
# Seconds between looks for another server to ask beside the first.
MIN_HEDGE = 0.01


class TryOwner(Protocol):
    """What the tries need of the client."""

    def send(self, call: PendingCall, connection: Connection) -> None:
        """Send a call on a connection."""

    def tell(self, event: str, call: PendingCall, server: str, number: int | None) -> None:
        """Tell who watches what happens."""

    def give_up(self, one: PendingCall | Attempt, connection: Connection) -> None:
        """Forget a request; its answer will be late."""

    def blame(self, connection: Connection) -> None:
        """Take note that a server has not answered in time."""

    def cannot_ask(self, call: PendingCall, plan: Plan) -> None:
        """End a call: no server will ever be there to be asked again."""


class Tries:
    """The tries of one client's calls. `retry_delay` is in seconds, `random() -> [0, 1)` varies it by a quarter."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: TryOwner, retry_delay: float, random: Callable[[], float]
    ) -> None:
        self.retries = 0
        self.hedges = 0
        self._loop = loop
        self._owner = owner
        self._retry_delay = retry_delay
        self._random = random

    def sent(self, call: PendingCall, plan: Plan, connection: Connection) -> None:
        """Take note that the call was sent."""
        plan.is_sent = True
        plan.requests += 1
        plan.asked.append(connection.server)
        if plan.hedge is not None and plan.tries_left and plan.timer is None:
            plan.timer = self._loop.call_later(plan.hedge, self._hedge, call, plan)

    def answered(self, one: PendingCall | Attempt, plan: Plan, message: Message) -> PendingCall | None:
        """Take an answer. Return the call that ends with it, or None where another answer is awaited."""
        call = one.call if isinstance(one, Attempt) else one
        self._leave_flight(one, plan)
        if plan.codes and has_code(message, plan.codes):
            if plan.is_sent or plan.attempts or self._again(call, plan):
                return None
        elif isinstance(one, Attempt) and plan.is_sent and call.connection is not None:
            self._owner.give_up(call, call.connection)
        if isinstance(one, Attempt):
            call.connection, call.id = one.connection, one.id
        self.end(plan)
        return call

    def lost(self, one: PendingCall | Attempt, plan: Plan, connection: Connection) -> PendingCall | None:
        """Take the loss of a request's connection. Return the call that ends with it, None where it goes on."""
        call = one.call if isinstance(one, Attempt) else one
        self._leave_flight(one, plan)
        if plan.is_sent or plan.attempts:
            return None
        may_repeat = plan.may_repeat or not connection.may_have_left(one.id)
        return None if may_repeat and self._again(call, plan) else call

    def part_over(self, call: PendingCall, plan: Plan) -> None:
        """Take note that a part of the time of an idempotent call is over: ask the next server, if there is one."""
        connection = call.connection
        if connection is None or not plan.tries_left:
            return
        other = plan.group.pick_other(plan.asked)
        if other is None:
            return
        if plan.is_sent:
            # Otherwise it waits for its next try, and that server owes it nothing.
            self._owner.blame(connection)
            self._owner.give_up(call, connection)
        # It may be cancelled meanwhile: by the callback of a call that waited for the server that is blamed, or for the
        # connection on which it is given up.
        if call.status is None:
            self._ask(call, plan, other)

    def end(self, plan: Plan) -> None:
        """Let go what is still under way for a call that has ended."""
        if plan.timer is not None:
            plan.timer.cancel()
            plan.timer = None
        for attempt in list(plan.attempts):
            self._owner.give_up(attempt, attempt.connection)
        plan.attempts.clear()

    def _leave_flight(self, one: PendingCall | Attempt, plan: Plan) -> None:
        if isinstance(one, Attempt):
            plan.attempts.pop(one, None)
        else:
            plan.is_sent = False

    def _again(self, call: PendingCall, plan: Plan) -> bool:
        """Ask another server, now or later. False: none is left to be asked."""
        if not plan.tries_left:
            return False
        other = plan.group.pick_other(plan.asked)
        if other is not None:
            self._ask(call, plan, other)
            return True
        if not self._retry_delay or plan.group.is_given_up:
            return False
        self._ask_later(call, plan)
        return True

    def _ask(self, call: PendingCall, plan: Plan, connection: Connection) -> None:
        if plan.timer is not None:
            # Of a hedge, which begins anew with this request, or of a delay, in which a part of the time was over.
            plan.timer.cancel()
            plan.timer = None
        plan.tries_left -= 1
        self.retries += 1
        self._owner.send(call, connection)

    def _ask_later(self, call: PendingCall, plan: Plan) -> None:
        delay = self._retry_delay * 2.0 ** min(plan.delays, MAX_DOUBLINGS) * (0.75 + self._random() / 2)
        plan.delays += 1
        if plan.timer is not None:
            plan.timer.cancel()
        plan.timer = self._loop.call_later(delay, self._ask_any, call, plan)

    def _ask_any(self, call: PendingCall, plan: Plan) -> None:
        plan.timer = None
        plan.asked.clear()
        connection = plan.group.pick()
        if connection is not None:
            self._ask(call, plan, connection)
        elif plan.group.is_given_up:
            self._owner.cannot_ask(call, plan)
        else:
            self._ask_later(call, plan)

    def _hedge(self, call: PendingCall, plan: Plan) -> None:
        plan.timer = None
        other = plan.group.pick_other(plan.asked)
        if other is not None:
            attempt = Attempt(call, plan, other)
            plan.attempts[attempt] = None
            plan.requests += 1
            plan.asked.append(other.server)
            plan.tries_left -= 1
            self.hedges += 1
        if plan.tries_left:
            assert plan.hedge is not None
            # Not at once, where there was no server: it would keep the loop busy.
            delay = plan.hedge if other is not None else max(plan.hedge, MIN_HEDGE)
            plan.timer = self._loop.call_later(delay, self._hedge, call, plan)
        if other is not None:
            payload = other.request(attempt, request_head(call.method), call.params)
            self._owner.tell("request", call, other.server, attempt.id)
            # Last, since it may lead to the call's being cancelled.
            other.write(payload)
