"""Lines of the log: owns how a log record looks, as text and as JSON, and nothing of where it goes.

Every line carries the worker and, where a message is handled, its ids. A line is never torn or forged by what it says:
control characters of a message are shown as escapes, bytes that are not UTF-8 too, and each line of a text with several
is a line of its own with the whole prefix. What is longer than the log takes is cut.
"""

from __future__ import annotations

import bisect
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from sipwright.script.context import Context, Handling
from sipwright.sip.message import Message

# Ids longer than this are only kept where the line has room for them.
LONG_ID = 256


class Format(Protocol):
    """Makes lines of records."""

    def lines(self, record: logging.LogRecord) -> list[bytes]:
        """Return the lines of a record, without their ends, none longer than the log takes."""


class Ids:
    """What lines say of the process and the message that they are about.

    `handling` tells what is handled; a record's attribute `about` is another context, a message that has none any more,
    or None for nothing. `prefix` is the script's log_prefix, a function of the context. In mode 0 it is asked at the
    first line of a message, in others at each.
    """

    __slots__ = ("_busy", "_mode", "_prefix", "handling", "has_prefix", "worker")

    def __init__(self, worker: int | None, prefix: Callable[[Context], str] | None, mode: int) -> None:
        self.worker = "main" if worker is None else f"w{worker}"
        self.handling = Handling()
        self.has_prefix = prefix is not None
        self._prefix = prefix
        self._mode = mode
        self._busy = False

    def of(self, record: logging.LogRecord) -> tuple[Message | None, Context | None]:
        """Return the message that a record is about, and its context if there is one."""
        context = record.__dict__.get("about", self.handling.context)
        if context is None:
            return None, None
        if isinstance(context, Context):
            return context.message, context
        message: Message = context
        context = self.handling.context
        return message, context if context is not None and context.message.call_id == message.call_id else None

    def prefix(self, context: Context) -> str:
        """Return the script's log_prefix for a context."""
        if self._prefix is None or self._busy:
            return ""
        if self._mode == 0 and context.extra is not None and "log_prefix" in context.extra:
            kept: str = context.extra["log_prefix"]
            return kept
        # A variable may have something to log.
        self._busy = True
        try:
            text = self._prefix(context)
        except Exception as error:  # the boundary to the variable's module
            text = f"(log_prefix: {error}) "
        finally:
            self._busy = False
        if self._mode == 0:
            if context.extra is None:
                context.extra = {}
            context.extra["log_prefix"] = text
        return text


class Clock:
    """The time of records as text, made once a second: 0.1 us where strftime costs 2. Threads may share it."""

    __slots__ = ("_format", "_made", "_to_tuple")

    def __init__(self, format_: str, *, utc: bool) -> None:
        self._format = format_
        self._to_tuple = time.gmtime if utc else time.localtime
        self._made = (-1, "")

    def second(self, now: float) -> str:
        """Return a time, in seconds since 1970, without its fraction."""
        second = int(now)
        made, text = self._made
        if second != made:
            text = time.strftime(self._format, self._to_tuple(second))
            self._made = (second, text)
        return text


class TextFormat:
    """Lines for people: `2026-11-25 13:31:02.456 INFO [w0 CALL-ID BRANCH] message`.

    The time is left out where whoever takes the lines has one. A log_prefix stands in the place of the ids, but on
    lines about messages that no script handles any more.
    """

    __slots__ = ("_clock", "_ids", "_limit")

    def __init__(self, ids: Ids, limit: int, *, has_time: bool) -> None:
        self._ids = ids
        self._limit = limit
        self._clock = Clock("%Y-%m-%d %H:%M:%S", utc=False) if has_time else None

    def lines(self, record: logging.LogRecord) -> list[bytes]:
        """Return the lines of a record."""
        message = text_of(record)
        ids = self._ids
        sip, context = ids.of(record)
        if sip is None:
            head = f"{record.levelname} [{ids.worker}] "
        elif ids.has_prefix and context is not None:
            head = f"{record.levelname} [{ids.worker}] {ids.prefix(context)}"
        else:
            head = f"{record.levelname} [{ids.worker} {sip.call_id} {sip.branch.decode('ascii', 'surrogateescape')}] "
        if self._clock is not None:
            now = record.created
            head = f"{self._clock.second(now)}.{int(now * 1000) % 1000:03d} {head}"
        line = head + message
        if line.isprintable() and len(line) * 4 <= self._limit:
            # Nearly all: nothing to escape, and short enough in whatever encoding.
            return [line.encode()]
        return [cut(plain(head + part).encode(), self._limit) for part in _split_lines(message)]


class JsonFormat:
    """One JSON object a line.

    With the flag `j` a message that is a JSON object is the object, and any other the object `{"text": ...}`; with `p`
    log_prefix is further members.
    """

    __slots__ = ("_clock", "_flags", "_ids", "_limit", "_pid")

    def __init__(self, ids: Ids, limit: int, *, flags: str, pid: int) -> None:
        self._ids = ids
        self._limit = limit
        self._flags = flags
        self._pid = pid
        self._clock = Clock("%Y-%m-%dT%H:%M:%S", utc=True)

    def lines(self, record: logging.LogRecord) -> list[bytes]:
        """Return the line of a record."""
        now = record.created
        members: dict[str, Any] = {
            "time": f"{self._clock.second(now)}.{int(now * 1_000_000) % 1_000_000:06d}Z",
            "level": record.levelname,
            "worker": self._ids.worker,
            "pid": self._pid,
            "message": text_of(record),
        }
        sip, context = self._ids.of(record)
        _add_ids(members, sip, record.__dict__)
        if self._ids.has_prefix and context is not None:
            self._add_prefix(members, self._ids.prefix(context))
        if "j" in self._flags:
            members["message"] = _as_object(members["message"])
        return [self._fit(members)]

    def _add_prefix(self, members: dict[str, Any], prefix: str) -> None:
        if "p" in self._flags and prefix.startswith(","):
            try:
                found = msgspec.json.decode("{" + prefix[1:] + "}")
            except (msgspec.DecodeError, UnicodeEncodeError):
                pass  # not what was meant: shown as text
            else:
                members.update({name: value for name, value in found.items() if name not in members})
                return
        if prefix:
            members["logprefix"] = prefix

    def _fit(self, members: dict[str, Any]) -> bytes:
        line = _encode(members)
        if len(line) <= self._limit:
            return line
        for name in ("call_id", "transaction", "method", "logprefix", "file"):
            value = members.get(name)
            if isinstance(value, str) and len(value) > LONG_ID:
                members[name] = f"{value[:LONG_ID]}..."
        message = members["message"]
        text = message if isinstance(message, str) else message.get("text") or _encoder.encode(message).decode()
        text = _shorter(text, self._limit - len(_encode({**members, "message": {"text": ""}})))
        members["message"] = {"text": text} if "j" in self._flags else text
        line = _encode(members)
        if len(line) <= self._limit:
            return line
        # Members of log_prefix that are longer than a line.
        few: dict[str, Any] = {name: members[name] for name in _SHORT_MEMBERS if name in members}
        return _encode({**few, "message": "(this line would be too long)"})


def _add_ids(members: dict[str, Any], sip: Message | None, more: dict[str, Any]) -> None:
    if sip is not None:
        members["call_id"] = sip.call_id
        members["cseq"] = sip.cseq_number
        members["method"] = sip.cseq_method
        if sip.branch:
            members["transaction"] = sip.branch.decode("utf-8", "surrogateescape")
    for name in ("rpc_id", "event", "file", "line"):
        value = more.get(name)
        if value is not None:
            members[name] = value


_SHORT_MEMBERS = ("time", "level", "worker", "pid", "call_id")


def text_of(record: logging.LogRecord) -> str:
    """Return what a record says, with the traceback of its exception; what cannot be put together is shown as it is."""
    try:
        text = record.getMessage()
    except Exception as error:  # the boundary to whoever logs: nothing else may come of it than this line
        text = f"{record.msg!r} with {record.args!r} cannot be written: {error}"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}\n{_traceback.formatException(record.exc_info)}"
    return text


_traceback = logging.Formatter()

# Control characters, halves of surrogate pairs (among them what surrogateescape makes of bytes), and the marks that end
# lines or turn the direction of writing.
_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r"}


def plain(text: str, what: re.Pattern[str] = _UNPRINTABLE) -> str:
    """Return a text with control characters, and bytes that were not UTF-8, as escapes."""
    return what.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def cut(line: bytes, limit: int) -> bytes:
    """Return a line of UTF-8 that is not longer than `limit` bytes, with a note of what is missing."""
    if len(line) <= limit:
        return line
    note = b" ... (%d bytes more)"
    kept = line[: limit - len(note) - 10]
    kept = kept.decode("utf-8", "ignore").encode()
    return kept + note % (len(line) - len(kept))


def _split_lines(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _shorter(text: str, room: int) -> str:
    """Return a text, or its beginning, that has as many bytes of JSON, quotes not counted."""

    def size(length: int) -> int:
        return len(_encoder.encode(plain(text[:length], _SURROGATE))) - 2

    if size(len(text)) <= room:
        return text
    note = " ... (%d characters more)"
    kept = max(0, bisect.bisect_right(range(len(text)), room - len(note) - 10, key=size) - 1)
    return text[:kept] + note % (len(text) - kept)


_encoder = msgspec.json.Encoder()


def _encode(members: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(members)
    except UnicodeEncodeError:
        # What was not UTF-8 stays readable: a lone surrogate is nothing that readers of JSON agree on.
        texts = {name: plain(value, _SURROGATE) for name, value in members.items() if isinstance(value, str)}
        return _encoder.encode({**members, **texts})


def _as_object(text: str) -> Any:
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            pass  # a text that begins like an object
    return {"text": plain(text, _SURROGATE)}
