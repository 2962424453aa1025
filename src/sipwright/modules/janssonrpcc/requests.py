"""One request and its tries: owns when it is sent again, and that it ends once.

Kamailio: `timeout` is of each try. After one that timed out, could not be sent, or was answered with one of
`retry_codes` (only where no route waits), the next is sent after n * n * timeout, a minute at most, n being the number
of tries so far. A call whose connection was lost is sent again at once where there is another server (the client does
that), and otherwise as after a timeout.

# Kamailio: a server that did not answer is as likely to be asked again as any other; here it is the last to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sipwright.jsonrpc.messages import NEITHER, Error
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.lang.namespace import Route, Variable
from sipwright.modules.janssonrpcc.answers import InternalError, answer_text, internal_error, payload_of
from sipwright.modules.janssonrpcc.options import FOREVER, Options
from sipwright.script.context import Context
from sipwright.script.rpc import RpcSuspension
from sipwright.script.services import Services
from sipwright.timerqueue import Timer

# Seconds.
MAX_PAUSE = 60.0
# How often a call may be moved from lost connections within one try, where there is no other limit.
ANY_NUMBER = 1 << 30


class Waiting(RpcSuspension):
    """A transaction that waits for a request to end, and the route that it goes on in."""

    __slots__ = ("request", "route")

    def __init__(self, context: Context, services: Services, result: Variable, route: Route) -> None:
        super().__init__(context, services, result)
        self.route = route
        self.request: Request | None = None

    def abandoned(self) -> None:
        """Give the request up, with the tries that are left."""
        super().abandoned()
        if self.request is not None:
            self.request.stop()


class Requests:
    """The requests of one worker: what they need, and those of them that rest between two tries.

    When one has ended, `ended(request, text, why)` is called: `text` is what the script gets, `why` says for the log
    what went wrong, empty for a result.
    """

    __slots__ = ("ended", "resting", "retry_codes", "services", "submit")

    def __init__(
        self,
        services: Services,
        submit: Callable[..., Any],
        retry_codes: Sequence[range],
        ended: Callable[[Request, str, str], object],
    ) -> None:
        self.services = services
        self.submit = submit
        self.retry_codes = retry_codes
        self.ended = ended
        self.resting: dict[Request, None] = {}

    def close(self) -> None:
        """End those that rest: there will be no other try."""
        for request in list(self.resting):
            request.close()


class Request:
    """A request on its way. `waiting` is the transaction that wants its answer, None when the script went on."""

    __slots__ = (
        "_call",
        "_is_stopped",
        "_owner",
        "_timer",
        "_tried",
        "_tries",
        "conn",
        "context",
        "method",
        "options",
        "params",
        "waiting",
    )

    def __init__(
        self,
        owner: Requests,
        context: Context,
        conn: str,
        method: str,
        params: bytes,
        options: Options,
        waiting: Waiting | None,
    ) -> None:
        self._owner = owner
        self._call: Any = None
        self._tried: list[str] = []
        self._tries = 0
        self._timer: Timer | None = None
        self._is_stopped = False
        self.context = context
        self.conn = conn
        self.method = method
        self.params = params
        self.options = options
        self.waiting = waiting
        if waiting is not None:
            waiting.request = self

    @property
    def payload(self) -> bytes:
        """The request as it was sent last; without an id when it was not."""
        call = self._call
        return payload_of(self.method, self.params, call.id if call is not None and call.server else None)

    def send(self) -> None:
        """Make a try. ArgumentError: there is no such connection; another ValueError: the method is no text."""
        options = self.options
        left = ANY_NUMBER if options.retry == FOREVER else options.retry - self._tries
        self._call = self._owner.submit(
            self.method,
            self.params or None,
            self._answered,
            self.waiting,
            timeout=options.timeout,
            retry=max(left, 0),
            group=self.conn,
            avoid=self._tried,
        )
        if self.waiting is not None:
            self.waiting.call = self._call

    def fail(self, text: str) -> None:
        """End it without having sent it, but not in here."""
        self._rest(0.0, lambda _: self._end(text, ""))

    def stop(self) -> None:
        """Let nothing more happen."""
        self._is_stopped = True
        self._wake()
        # Or else these would hold each other.
        self._call = None
        if self.waiting is not None:
            self.waiting.request = None

    def close(self) -> None:
        """End it where it rests between two tries: there will be no other."""
        self._end(internal_error(InternalError.SEND, self.payload), "the server stops")

    def _answered(self, waiting: Waiting | None, call: Any) -> None:
        if self._is_stopped:
            return
        if waiting is not None:
            waiting.call = None
        self._tries += max(call.tries, 1)
        status = call.status
        if status in ("ok", "error"):
            why = "" if status == "ok" else f"the answer is an error: {call.error.text.decode('utf-8', 'replace')}"
            if status == "ok" or not self._is_retried(call.error) or not self._retry(call):
                self._end(answer_text(call, self.payload), why)
        elif call.reason == CLOSED:
            code = InternalError.DISCONNECTED if call.server else InternalError.SEND
            self._end(internal_error(code, self.payload), "the server stops")
        elif not self._retry(call):
            if status == "timeout":
                self._end(internal_error(InternalError.TIMEOUT, self.payload), f"no answer from {call.server}")
            else:
                code = InternalError.DISCONNECTED if call.server else InternalError.RETRY
                self._end(internal_error(code, self.payload), call.reason)

    def _is_retried(self, error: Error) -> bool:
        if self.waiting is not None or error is NEITHER:
            return False
        return any(error.code in codes for codes in self._owner.retry_codes)

    def _retry(self, call: Any) -> bool:
        """Have another try made, if one is left."""
        if self.options.retry != FOREVER and self._tries > self.options.retry:
            return False
        if call.server in self._tried:
            # All have been asked: the next round begins.
            self._tried.clear()
        if call.server:
            self._tried.append(call.server)
        self._rest(min(self._tries * self._tries * self.options.timeout, MAX_PAUSE), self._try_again)
        return True

    def _try_again(self, _argument: object) -> None:
        self._wake()
        with self._owner.services.handling.of(self.context):
            self.send()

    def _rest(self, seconds: float, then: Callable[[Any], object]) -> None:
        self._owner.resting[self] = None
        self._timer = self._owner.services.timers.start(seconds, then)

    def _wake(self) -> None:
        self._owner.resting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, text: str, why: str) -> None:
        self.stop()
        self._owner.ended(self, text, why)
