"""The event log: one line for each event of the trace, at level DEBUG, so that a call can be followed by its Call-ID.

What comes in is marked `<`, what goes out `>`. The ids of a line (worker, Call-ID, transaction) are put there by the
log itself; here it is told which message they are of where that is not the one that is handled now, and the id of a
JSON-RPC request. `EVENTS` is the list of all events, and what each line says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sipwright.errors import SipParseError
from sipwright.script.context import Context
from sipwright.sip.message import Message, Request
from sipwright.sip.parse import parse

# So many JSON-RPC requests are remembered, to tell which call a late answer would have been for.
MAX_ASKED = 4096
# Parameters and results are shown up to this many characters.
MAX_SHOWN = 512

Detail = dict[str, Any]


class EventLog:
    """A trace (engine.trace) that writes to a log. Lines have the extra attributes `event`, `rpc_id` and `about`.

    `about` is the context or message that a line is about; without it, it is about what is handled now.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._asked: dict[tuple[str, int], Message] = {}

    def __call__(self, event: str, context: Context | None, detail: Detail) -> None:
        """Write the line of an event."""
        about: Context | Message | None = context
        if about is None:
            about = detail.get("message") or _message_of(detail)
        number = detail.get("id")
        if number is not None:
            asked = self._asker(event, context, (detail["server"], number))
            about = about or asked
        more = {"event": event, "rpc_id": number}
        if about is not None:
            more["about"] = about
        self._log.debug("%s", EVENTS[event](detail), extra=more)

    def _asker(self, event: str, context: Context | None, key: tuple[str, int]) -> Message | None:
        """Return the message that a JSON-RPC request was made for: a late answer is for a call that was forgotten."""
        asked = self._asked
        if event == "rpc_request":
            if context is not None:
                asked[key] = context.message
                if len(asked) > MAX_ASKED:
                    del asked[next(iter(asked))]
            return None
        return asked.pop(key, None) if event in _LAST else asked.get(key)


# After these no further answer with the same id is expected, or it can be told no better.
_LAST = ("rpc_ok", "rpc_error", "rpc_failure", "rpc_late")


def _message_of(detail: Detail) -> Message | None:
    """Return what was sent within a transaction that has let go of its request: it has the same ids."""
    transaction = detail.get("transaction")
    data = detail.get("data") if transaction is None else transaction.last_response
    try:
        return parse(data) if data else None
    except SipParseError:
        return None


def _receive(detail: Detail) -> str:
    request = detail["request"]
    return f"< receive {request.method} {request.uri} from {_address(detail['source'])}"


def _absorb(detail: Detail) -> str:
    return f"< absorb {detail['message'].method} from {_address(detail['source'])}"


def _first_words(message: Message) -> str:
    return message.method if isinstance(message, Request) else f"{message.cseq_method} reply"


def _stray(detail: Detail) -> str:
    response = detail["message"]
    source = _address(detail["source"])
    return f"< stray {response.status} {response.cseq_method} from {source} belongs to no transaction"


def _send(detail: Detail) -> str:
    return f"> send {_status_line(detail)} to {_address(detail['address'])}"


def _reply_stateless(detail: Detail) -> str:
    return f"> reply_stateless {_status_line(detail)} to {_address(detail['address'])}"


def _ended(detail: Detail) -> str:
    status = detail["transaction"].status
    return f"ended with {status}" if status >= 200 else "ended without an answer"


def _rpc_request(detail: Detail) -> str:
    call = detail["call"]
    return f"> rpc_request {detail['id']} {_asked(call.method, call.params)} to {detail['server']}"


def _rpc_notification(detail: Detail) -> str:
    return f"> rpc_notification {_asked(detail['method'], detail['params'])}"


def _rpc_ok(detail: Detail) -> str:
    return f"< rpc_ok {_whence(detail)}: {_shown(detail['call'].result)}"


def _rpc_error(detail: Detail) -> str:
    return f"< rpc_error {_whence(detail)}: {_shown(detail['call'].error.text)}"


def _rpc_timeout(detail: Detail) -> str:
    return f"rpc_timeout {_whence(detail)}"


def _rpc_failure(detail: Detail) -> str:
    call = detail["call"]
    return f"rpc_failure {call.method if detail['id'] is None else _whence(detail)}: {call.reason}"


def _rpc_cancelled(detail: Detail) -> str:
    return f"rpc_cancelled {detail['call'].method if detail['id'] is None else detail['id']}"


def _rpc_stray(what: str) -> Callable[[Detail], str]:
    return lambda detail: f"< rpc_{what} {detail['id']} from {detail['server']}: nobody waits for it"


def _whence(detail: Detail) -> str:
    return f"{detail['id']} from {detail['server']} after {detail['call'].ms} ms"


def _asked(method: str, params: bytes | None) -> str:
    return f"{method} {_shown(params)}" if params else method


def _shown(data: bytes) -> str:
    text = data[: 4 * MAX_SHOWN].decode("utf-8", "replace")
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _status_line(detail: Detail) -> str:
    line: bytes = detail["data"].partition(b"\r\n")[0]
    return line.removeprefix(b"SIP/2.0 ").decode("utf-8", "surrogateescape")


def _address(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


EVENTS: dict[str, Callable[[Detail], str]] = {
    "receive": _receive,
    "absorb": _absorb,
    "hand_over": lambda detail: f"hand_over {_first_words(detail['message'])}, which is another worker's",
    "stray": _stray,
    "suspend": lambda _detail: "suspend",
    "rpc_request": _rpc_request,
    "rpc_notification": _rpc_notification,
    "rpc_ok": _rpc_ok,
    "rpc_error": _rpc_error,
    "rpc_timeout": _rpc_timeout,
    "rpc_failure": _rpc_failure,
    "rpc_cancelled": _rpc_cancelled,
    "rpc_late": _rpc_stray("late"),
    "rpc_doubled": _rpc_stray("doubled"),
    "rpc_unknown": _rpc_stray("unknown"),
    "hold": lambda _detail: "hold",
    "go_on": lambda _detail: "go_on",
    "resume": lambda detail: f"resume {detail['where']}",
    "overdue": lambda _detail: "overdue",
    "cancel": lambda _detail: "< cancel",
    "release": lambda _detail: "release",
    "send": _send,
    "reply_stateless": _reply_stateless,
    "ended": _ended,
}
