"""One command that all workers are asked: owns who has answered what, and how the answers become one.

Nothing here waits: whoever asks tells of answers, of workers that have ended, and of the end of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sipwright.engine.commands import COMMAND_FAILED, NO_ANSWER, CommandInfo
from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc.messages import INTERNAL_ERROR, NOT_JSON, decode_json, encode_json
from sipwright.workers.control import Fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command: a result, which is JSON, or a fault."""

    result: bytes | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a command in one worker; `pid` is None where there was no process."""

    pid: int | None
    outcome: Outcome


@dataclass(slots=True)
class Round:
    """A command and the workers that have not answered yet: index and process id of each.

    `done` is called once, when none is left.
    """

    info: CommandInfo
    waiting: dict[int, int]
    done: Callable[[Outcome], object]
    parts: dict[int, Part] = field(default_factory=dict)

    def absent(self, index: int, why: str) -> None:
        """Take note that an index has no process that could be asked."""
        self.parts[index] = Part(None, failed(NO_ANSWER, why))

    def take(self, index: int, pid: int, outcome: Outcome) -> None:
        """Take what became of the command in a worker; it changes nothing when that worker is not waited for."""
        if self.waiting.get(index) == pid:
            del self.waiting[index]
            self.parts[index] = Part(pid, outcome)
            self.end_if_complete()

    def give_up(self, why: str) -> None:
        """Wait no longer."""
        for index, pid in list(self.waiting.items()):
            self.take(index, pid, failed(NO_ANSWER, why))

    def end_if_complete(self) -> None:
        """Call `done` when nobody is waited for."""
        if not self.waiting:
            self.done(join(self.info, self.parts))


def result(value: Any) -> Outcome:
    """Return the outcome with a result."""
    return Outcome(encode_json(value))


def failed(code: int, message: str, data: Any = None) -> Outcome:
    """Return the outcome with an error."""
    return Outcome(fault=Fault(code, message, None if data is None else encode_json(data)))


def failure(error: RpcAnswerError) -> Outcome:
    """Return the outcome with an error that was raised."""
    return failed(error.code, error.message, error.data)


def join(info: CommandInfo, parts: Mapping[int, Part]) -> Outcome:
    """Make one outcome of those of the workers, by index.

    An error of all workers alike is the error. `all` is a list with worker, pid, and result or error of each. `sum` and
    `first` need every worker: otherwise they are an error that names those that failed, with the result of the others
    in its data.
    """
    ordered = sorted(parts.items())
    faults = {index: part.outcome.fault for index, part in ordered if part.outcome.fault is not None}
    if faults and len(faults) == len(ordered):
        first = next(iter(faults.values()))
        if first.code != NO_ANSWER and all(fault == first for fault in faults.values()):
            return Outcome(fault=first)
        return _refused(ordered, None)
    if info.join == "all":
        return result([_row(index, part) for index, part in ordered])
    values = [_value(part) for _, part in ordered if part.outcome.fault is None]
    try:
        joined = values[0] if info.join == "first" else _add(values)
    except TypeError:
        return failed(INTERNAL_ERROR, "Internal error", f"the answers to '{info.name}' cannot be added")
    return _refused(ordered, joined) if faults else result(joined)


def _row(index: int, part: Part) -> dict[str, Any]:
    row: dict[str, Any] = {"worker": index, "pid": part.pid}
    if part.outcome.fault is None:
        row["result"] = _value(part)
    else:
        row["error"] = _error(part.outcome.fault)
    return row


def _error(fault: Fault) -> dict[str, Any]:
    members: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        members["data"] = decode_json(fault.data)
    return members


def _value(part: Part) -> Any:
    assert part.outcome.result is not None
    try:
        return decode_json(part.outcome.result)
    except NOT_JSON:
        # What a worker has encoded itself: a number that is too large for the reader.
        return part.outcome.result.decode("utf-8", "replace")


def _add(values: list[Any]) -> Any:
    if all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: _add([value[name] for value in values if name in value]) for name in names}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sum(values)
    raise TypeError


def _refused(parts: list[tuple[int, Part]], joined: Any) -> Outcome:
    """Return the error that names the workers which failed."""
    faulty = [(index, part, part.outcome.fault) for index, part in parts if part.outcome.fault is not None]
    said = [_said(index, part.pid, fault) for index, part, fault in faulty]
    codes = {fault.code for _, _, fault in faulty}
    code = codes.pop() if len(codes) == 1 else COMMAND_FAILED
    data: dict[str, Any] = {"workers": [_row(index, part) for index, part, _ in faulty]}
    if joined is not None:
        data["result"] = joined
    return failed(code, "; ".join(said), data)


def _said(index: int, pid: int | None, fault: Fault) -> str:
    who = f"worker {index}" if pid is None else f"worker {index} (pid {pid})"
    data = None if fault.data is None else decode_json(fault.data)
    return f"{who}: {fault.message}" + (f": {data}" if isinstance(data, str) else "")
