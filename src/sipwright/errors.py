"""The whole exception tree. Each class carries what its catcher needs.

SipwrightError
├── ParseError                 bytes from the network that are not what they should be
│   ├── FramingParseError      the stream has no frames that can be told apart: its connection must be closed
│   │   └── NetstringParseError    the same, of netstrings
│   ├── JsonParseError         text that is not JSON (strict or lenient): `offset` into the text
│   ├── JsonRpcParseError      JSON that is not a JSON-RPC message: `code` to answer with
│   ├── RespParseError         what a Redis server does not say: its connection must be closed
│   └── SipParseError          `status` and `reason` to answer with, where an answer is allowed
├── ArgumentError              a value in a script is wrong: `offset` into it, `suggestion`
├── ConfigError                one fault of a script: `file`, `line`, `column`, `source`, `suggestion`
├── ConfigErrors               all faults of a script: `errors`
├── ScriptError                a running script asked for something impossible
│   └── StoreError             a shared table could not be read or written: it is full, for one
├── StartError                 the server cannot start: a busy port, an unknown host
├── CommandError               a command cannot do what it was asked
├── RpcError                   a call has no result
│   ├── RpcAnswerError         the server answered with an error: `code`, `message`, `data`
│   ├── RpcResultError         the server answered with another result than was expected: `method`, `path`, `result`
│   ├── RpcTimeoutError        no answer within the deadline (also a TimeoutError)
│   └── RpcConnectionError     nobody could be asked, or the connection was lost (also a ConnectionError)
│       └── RpcClosedError     the client was closed before or during the call
└── RedisError                 a command of Redis has no result
    ├── RedisAnswerError       the server answered with an error: its first word is `code`
    └── RedisAwayError         the server cannot be reached, or did not answer in time

The `args` of those whose constructor has several required arguments are these, so that they can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SipwrightError(Exception):
    """The root of every exception that sipwright raises on purpose."""


class ParseError(SipwrightError):
    """Bytes or text that came from outside are malformed."""


class FramingParseError(ParseError):
    """A stream of frames that cannot be followed any further: its connection must be closed.

    `payloads` are those that were complete before the fault and that no earlier call returned.
    """

    def __init__(self, message: str, payloads: Sequence[bytes] = ()) -> None:
        super().__init__(message)
        self.payloads = payloads


class NetstringParseError(FramingParseError):
    """A bad netstring."""


class JsonParseError(ParseError):
    """Text that is not JSON. `offset` is the index of the first character that cannot be understood."""

    def __init__(self, message: str, offset: int, text: str = "") -> None:
        super().__init__(message, offset, text)
        self.message = message
        self.offset = offset
        self.text = text

    def __str__(self) -> str:
        """Return the message with the text around the offset and a mark before the offending character."""
        if not self.text:
            return f"{self.message} at character {self.offset + 1}"
        start, end = max(0, self.offset - 30), self.offset + 30
        before, after = self.text[start : self.offset], self.text[self.offset : end]
        return f"{self.message} at character {self.offset + 1}: {before!r} <here> {after!r}"


class JsonRpcParseError(ParseError):
    """A payload that is not a JSON-RPC 2.0 message.

    `code` is the error code to answer with (-32700 or -32600), `request_id` the id, None when it cannot be told.
    """

    def __init__(self, message: str, code: int = -32600, request_id: int | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id


class RespParseError(ParseError):
    """Bytes that are not RESP: the stream cannot be followed any further, so its connection must be closed.

    `replies` are those that were complete before the fault and that no earlier call returned.
    """

    def __init__(self, message: str, replies: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.replies = replies


class SipParseError(ParseError):
    """A datagram or stream that is not a SIP message. `status` and `reason` say how to answer a request.

    `request` is a `sipwright.sip.message.Request` with as much of the request as a reply needs, or None when it must
    not or cannot be answered; `sipwright.sip.build.refusal` makes the reply.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.request: Any = None


class ArgumentError(SipwrightError, ValueError):
    """A value that a script gave is wrong. `offset` is the index into the value, None when all of it is meant."""

    def __init__(self, message: str, offset: int | None = None, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.suggestion = suggestion


class ConfigError(SipwrightError):
    """One fault of a script file. `line` and `column` count from 1; `source` is the text of that line.

    A fault of the file as a whole has line and column 0.
    """

    def __init__(
        self,
        message: str,
        file: str,
        line: int,
        column: int,
        source: str = "",
        suggestion: str | None = None,
    ) -> None:
        super().__init__(message, file, line, column, source, suggestion)
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        self.source = source
        self.suggestion = suggestion

    def __str__(self) -> str:
        """Return the fault as a compiler prints it: place, message, source line, caret, suggestion."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        lines = [f"{place}: {self.message}"]
        if self.source:
            indent = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1])
            lines += [f"    {self.source}", f"    {indent}^"]
        if self.suggestion:
            lines.append(f"    did you mean '{self.suggestion}'?")
        return "\n".join(lines)


class ConfigErrors(SipwrightError):
    """Every fault that was found in a script file, in the order of the file."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__(errors)
        self.errors = list(errors)

    def __str__(self) -> str:
        """Return all faults, one after another, and their number."""
        count = len(self.errors)
        return "\n".join([*(str(e) for e in self.errors), f"{count} error{'s' if count != 1 else ''}"])


class ScriptError(SipwrightError):
    """A running script asked for something that cannot be done. The engine logs it with the script's line."""


class StoreError(ScriptError):
    """A table that workers share could not be read or written: the store has logged why, the table is as it was."""


class StartError(SipwrightError):
    """The server cannot start. The message is complete: it is shown to a person as it is."""


class CommandError(SipwrightError):
    """A command cannot do what it was asked. The message is complete: it is shown to a person as it is."""


MAX_DATA = 200
"""How much of an error answer's data its text shows, in characters."""


class RpcError(SipwrightError):
    """A JSON-RPC call ended without a result."""


class RpcAnswerError(RpcError):
    """The server answered with an error object (JSON-RPC 2.0 section 5.1).

    Raise it in a handler of `sipwright.jsonrpc.Server` to answer with that error.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        """Return the message with the code and, for a person, what of the data is short."""
        text = f"{self.message} ({self.code})"
        if self.data is None:
            return text
        data = self.data if isinstance(self.data, str) else repr(self.data)
        return f"{text}: {data if len(data) <= MAX_DATA else data[:MAX_DATA] + '...'}"


class RpcResultError(RpcError, ValueError):
    """The server answered, with a result of another shape than the caller expects: the call was carried out.

    `message` says what was expected and found, `path` where in the result ("$" is the result itself, "$[0].name" the
    member "name" of its first element), `result` is the result as JSON bytes, as it came.
    """

    def __init__(self, method: str, path: str, message: str, result: bytes) -> None:
        super().__init__(method, path, message, result)
        self.method = method
        self.path = path
        self.message = message
        self.result = result

    def __str__(self) -> str:
        """Return the method, the place in the result, and what was expected there."""
        of = f" of {self.method!r}" if self.method else ""
        return f"the result{of} is not what was expected, at {self.path}: {self.message}"


class RpcTimeoutError(RpcError, TimeoutError):
    """No answer came within the deadline of the call."""


class RpcConnectionError(RpcError, ConnectionError):
    """No server could be asked, or the connection was lost before the answer came."""


class RpcClosedError(RpcConnectionError):
    """The client was closed before or during the call."""


class RedisError(SipwrightError):
    """A command of Redis has no result."""


class RedisAnswerError(RedisError):
    """The server answered with an error. `code` is its first word: ERR, WRONGTYPE, NOSCRIPT, READONLY ..."""

    @property
    def code(self) -> str:
        """The kind of the error."""
        return str(self).partition(" ")[0]


class RedisAwayError(RedisError):
    """The server cannot be reached, was lost before it answered, or did not answer in time.

    What was asked of it may have been done all the same.
    """
