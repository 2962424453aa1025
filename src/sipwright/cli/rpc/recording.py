"""Recordings of JSON-RPC traffic: JSON lines, one for each thing that was seen, in their order.

The first line says what it is: `{"recording":"json-rpc","version":1,"framing":"netstring","to":"127.0.0.1:9999",
"started":"2026-11-25T16:00:00Z"}`. In all others `time` is in seconds from then on, and `connection` counts the
connections from 1:

    {"time":0.0,"connection":1,"event":"opened","peer":"127.0.0.1:40312"}
    {"time":0.001,"connection":1,"from":"client","message":{"id":1,"jsonrpc":"2.0","method":"add","params":[1,2]}}
    {"time":0.002,"connection":1,"from":"server","message":{"jsonrpc":"2.0","result":3,"id":1}}
    {"time":0.100,"connection":1,"event":"closed","by":"client"}

A message stands as it came, line ends in it aside. A payload that is no JSON is `"payload"`, a string, or, when it is
no UTF-8 either, `"base64"`. Where the stream itself is wrong there is `"fault"`, what is wrong, with the bytes from
there on as `"base64"`; whatever comes later from that side is `"base64"` only, as it came. `"incomplete"` with
`"base64"` is the beginning of a message whose end never came. `event` may also be `"failed"`: the service could not be
reached; it and `closed` may have a `reason`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from sipwright.errors import CommandError, FramingParseError
from sipwright.jsonrpc.framing import FRAMINGS, NETSTRING, Framing
from sipwright.jsonrpc.messages import NOT_JSON

VERSION = 1
# What is larger is no message: the proxy passes it on, and the recording has it as bytes.
MAX_SIZE = 1 << 26


class SupportsWrite(Protocol):
    """Where a recording is written to."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


Side = Literal["client", "server"]

_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class Recorder:
    """Writes a recording. `messages` and `faults` count what was written."""

    def __init__(self, file: SupportsWrite, framing: Framing, to: str) -> None:
        self.framing = framing
        self.messages = 0
        self.faults = 0
        self._file = file
        self._began = time.monotonic()
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"recording": "json-rpc", "version": VERSION, "framing": framing.name, "to": to, "started": started}
        self._write(_json(head))

    def event(self, connection: int, event: str, **details: str) -> None:
        """Write what happened to a connection."""
        self._line(connection, _json({"event": event, **details}))

    def message(self, connection: int, side: Side, payload: bytes) -> None:
        """Write one payload."""
        self.messages += 1
        if _is_json(payload):
            # In JSON, line ends are only where blanks may be.
            content = payload.replace(b"\n", b" ").replace(b"\r", b" ").strip()
            self._line(connection, b'{"from":"%b","message":%b}' % (side.encode(), content))
            return
        self.faults += 1
        try:
            self._line(connection, _json({"from": side, "payload": payload.decode()}))
        except UnicodeDecodeError:
            self.raw(connection, side, payload)

    def raw(self, connection: int, side: Side, data: bytes, **details: str) -> None:
        """Write bytes that are no messages."""
        self._line(connection, _json({"from": side, **details, "base64": base64.b64encode(data).decode()}))

    def _line(self, connection: int, members: bytes) -> None:
        self._write(b'{"time":%.6f,"connection":%d,%b' % (time.monotonic() - self._began, connection, members[1:]))

    def _write(self, line: bytes) -> None:
        # At once: what was seen is there, however the program ends.
        self._file.write(line + b"\n")


class Tap:
    """Records what one side of a connection sends."""

    def __init__(self, recorder: Recorder, connection: int, side: Side) -> None:
        self._recorder = recorder
        self._connection = connection
        self._side = side
        self._decoder = recorder.framing.decoder(MAX_SIZE)
        # What came and is not in a complete message.
        self._rest = bytearray()
        self._is_broken = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        recorder = self._recorder
        if self._is_broken:
            recorder.raw(self._connection, self._side, data)
            return
        self._rest += data
        fault = ""
        try:
            payloads = self._decoder.feed(data)
        except FramingParseError as error:
            payloads, fault = list(error.payloads), str(error)
        self._take(payloads)
        if fault:
            self._is_broken = True
            recorder.faults += 1
            recorder.raw(self._connection, self._side, bytes(self._rest), fault=fault)
            self._rest.clear()

    def _take(self, payloads: list[bytes]) -> None:
        framing, position = self._recorder.framing, 0
        for payload in payloads:
            self._recorder.message(self._connection, self._side, payload)
            if framing is NETSTRING:
                position += len(framing.encode(payload))
            else:
                # The other framings have several ways to write one payload.
                position = self._rest.find(payload or b"\n\r\n", position) + len(payload or b"\n\r\n")
        del self._rest[:position]

    def end(self) -> None:
        """Take note that nothing more comes."""
        if self._rest.strip():
            self._recorder.faults += 1
            self._recorder.raw(self._connection, self._side, bytes(self._rest), incomplete="no end of it came")
            self._rest.clear()


class Recorded(NamedTuple):
    """A message of a recording."""

    time: float
    connection: int
    side: Side
    payload: bytes


class _Head(msgspec.Struct):
    recording: str
    version: int
    framing: str


class _Line(msgspec.Struct):
    time: float
    connection: int
    from_: Literal["client", "server"] | None = msgspec.field(default=None, name="from")
    message: msgspec.Raw = msgspec.Raw()


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def read_recording(path: Path) -> tuple[Framing, list[Recorded]]:
    """Read the messages of a recording, and the framing that they came in. Raises CommandError with file and line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    try:
        head = _decode_head(lines[0] if lines else b"")
    except NOT_JSON:
        head = _Head("", 0, "")
    if head.recording != "json-rpc":
        raise CommandError(f"{path}:1: this is no recording of `sipwright rpc proxy --record`")
    if head.version != VERSION or head.framing not in FRAMINGS:
        raise CommandError(f"{path}:1: version {head.version} with framing '{head.framing}' cannot be read")
    return FRAMINGS[head.framing], list(_read_lines(path, lines))


def _read_lines(path: Path, lines: list[bytes]) -> Iterator[Recorded]:
    for number, text in enumerate(lines[1:], 2):
        try:
            line = _decode_line(text)
        except NOT_JSON as error:
            if number == len(lines) and not text.endswith(b"}"):
                # The recording was cut off while its last line was written.
                return
            raise CommandError(f"{path}:{number}: {error}") from None
        if line.from_ is not None and line.message:
            yield Recorded(line.time, line.connection, line.from_, bytes(line.message))


def _is_json(payload: bytes) -> bool:
    try:
        _check_json(payload)
        payload.decode()
    except NOT_JSON:
        return False
    return True


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
