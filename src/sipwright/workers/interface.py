"""The commands of a running server: owns those of the server itself, and the rounds of those of the workers.

Neither sockets nor event loop: `ask` is called by the sessions of clients, by the supervisor's loop or, with `-D`, by
asyncio. What the server is like is behind the Protocol `Server`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from sipwright.engine.commands import COMMAND_FAILED, CommandInfo, invalid_params, read_params, unknown_command
from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.messages import INVALID_REQUEST
from sipwright.script.loglevels import level_of
from sipwright.timerqueue import TimerQueue
from sipwright.workers.control import Ask
from sipwright.workers.rounds import Outcome, Round, failed, failure, result

# What workers have for an answer, in seconds. One that hangs is killed after 30.
ANSWER_TIMEOUT = 5.0
# What a reload has, in seconds.
RELOAD_TIMEOUT = 60.0
# Commands under way, and reloads that are waited for.
MAX_ROUNDS = 1000

Done = Callable[[Outcome], object]


class Target(Protocol):
    """A worker that can be asked."""

    @property
    def index(self) -> int:
        """Its index."""

    @property
    def pid(self) -> int:
        """Its process id."""


class Server(Protocol):
    """The server, as its commands see it."""

    timers: TimerQueue

    def script_path(self) -> str:
        """Return the file of the script."""

    def targets(self) -> Mapping[int, Target | str]:
        """Return the worker of each index, or a text that says why there is none to ask."""

    def ask_worker(self, target: Target, message: Ask) -> None:
        """Send a worker a command; what becomes of it is told to `Interface.answered`."""

    def worker_commands(self) -> Iterable[CommandInfo]:
        """Return the commands that the workers know."""

    def processes(self) -> list[dict[str, Any]]:
        """Return what `core.ps` tells of each process."""

    def reload(self, done: Callable[[str | None], object], /) -> object:
        """Read the script anew; `done` is told what went wrong, or None. ArgumentError: this server cannot."""

    def totals(self) -> dict[str, int]:
        """Return the counters of all workers."""

    def set_log_level(self, level: int) -> None:
        """Set the level of the server's own log."""


# Commands of the workers that serve the server's own.
BEAT = "core.beat"
LOG_LEVEL = "core.log_level"


class Interface:
    """The methods that clients can call; `version` is that of the program."""

    def __init__(self, server: Server, version: str) -> None:
        self._server = server
        self._version_text = version
        self._started = time.time()
        self._started_clock = time.monotonic()
        self._last_number = 0
        self._rounds: dict[int, Round] = {}
        self._waiting_reloads = 0
        own: list[tuple[str, Callable[[dict[str, Any], Done], None], str, list[str] | None]] = [
            ("rpc.ping", self._ping, 'Answer "pong".', []),
            ("rpc.discover", self._discover, "List the methods, as an OpenRPC document.", []),
            ("core.version", self._version, "Tell the versions of sipwright and Python, and the script.", []),
            ("core.uptime", self._uptime, "Tell since when the server runs.", []),
            ("core.ps", self._ps, "List the processes, the supervisor first.", []),
            (
                "core.reload",
                self._reload,
                "Read the script anew, and answer once it is in use, or with what is wrong with it.",
                [],
            ),
            (
                LOG_LEVEL,
                self._log_level,
                "Tell the level of the log, or set it in all processes until the next reload: -5 to 3, as `debug`.",
                ["level?"],
            ),
            (
                "stats.get",
                self._stats,
                (
                    "Tell the counters of all workers together, or those that are named; `tm:` is all that begin so.\n"
                    'Parameters are any number of names: ["tm:", "jsonrpc:calls"].'
                ),
                None,
            ),
        ]
        self._own = {name: (CommandInfo(name, doc, "first", params), run) for name, run, doc, params in own}

    # ---- what clients ask

    def ask(self, method: str, params: bytes | None, done: Done) -> None:
        """Carry out a method; `done` is told once what became of it."""
        try:
            own = self._own.get(method)
            if own is not None:
                info, run = own
                run(read_params(info, params), done)
            else:
                self._ask_workers(self._worker_command(method), params, done)
        except RpcAnswerError as error:
            done(failure(error))
        except ArgumentError as error:
            done(failure(invalid_params(error.message)))

    def _worker_command(self, name: str) -> CommandInfo:
        commands = {info.name: info for info in self._server.worker_commands() if not _is_inner(info.name)}
        try:
            return commands[name]
        except KeyError:
            raise unknown_command(name, [*self._own, *commands]) from None

    def _ask_workers(self, info: CommandInfo, params: bytes | None, done: Done) -> None:
        if len(self._rounds) >= MAX_ROUNDS:
            raise RpcAnswerError(COMMAND_FAILED, f"{MAX_ROUNDS} commands are under way")
        self._last_number = number = self._last_number + 1
        targets = self._server.targets()
        there = [target for target in targets.values() if not isinstance(target, str)]
        asked = Round(info, {target.index: target.pid for target in there}, partial(self._round_ended, number, done))
        for index, target in targets.items():
            if isinstance(target, str):
                asked.absent(index, target)
        self._rounds[number] = asked
        self._server.timers.start(ANSWER_TIMEOUT, self._time_over, number)
        for target in there:
            self._server.ask_worker(target, Ask(number, info.name, params))
        if not there:
            asked.end_if_complete()

    # ---- what becomes of it

    def answered(self, target: Target, number: int, outcome: Outcome) -> None:
        """Take the answer of a worker; one that comes too late changes nothing."""
        asked = self._rounds.get(number)
        if asked is not None:
            asked.take(target.index, target.pid, outcome)

    def ended(self, target: Target) -> None:
        """Take note that a worker has ended: it will not answer."""
        for number, asked in list(self._rounds.items()):
            if asked.waiting.get(target.index) == target.pid:
                self.answered(target, number, failed(COMMAND_FAILED, "it ended before it answered"))

    def _time_over(self, number: int) -> None:
        asked = self._rounds.get(number)
        if asked is not None:
            asked.give_up(f"no answer within {ANSWER_TIMEOUT:g} s")

    def _round_ended(self, number: int, done: Done, outcome: Outcome) -> None:
        del self._rounds[number]
        done(outcome)

    # ---- the server's own

    def _ping(self, _params: dict[str, Any], done: Done) -> None:
        done(result("pong"))

    def _discover(self, _params: dict[str, Any], done: Done) -> None:
        infos = {info.name: info for info in self._server.worker_commands() if not _is_inner(info.name)}
        infos |= {name: info for name, (info, _) in self._own.items()}
        done(
            result(
                {
                    "openrpc": "1.3.2",
                    "info": {"title": "sipwright control interface", "version": self._version_text},
                    "methods": [_described(info) for _, info in sorted(infos.items())],
                }
            )
        )

    def _version(self, _params: dict[str, Any], done: Done) -> None:
        versions = {"sipwright": self._version_text, "python": platform.python_version()}
        done(result({**versions, "script": self._server.script_path()}))

    def _uptime(self, _params: dict[str, Any], done: Done) -> None:
        seconds = round(time.monotonic() - self._started_clock, 3)
        since = datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        done(result({"seconds": seconds, "since": since}))

    def _ps(self, _params: dict[str, Any], done: Done) -> None:
        done(result(self._server.processes()))

    def _reload(self, _params: dict[str, Any], done: Done) -> None:
        if self._waiting_reloads >= MAX_ROUNDS:
            raise RpcAnswerError(INVALID_REQUEST, "too many reloads are waited for")
        is_done = False

        def end(outcome: Outcome) -> None:
            nonlocal is_done
            if not is_done:
                is_done = True
                self._waiting_reloads -= 1
                done(outcome)

        def reloaded(wrong: str | None) -> None:
            if wrong is None:
                end(result({"script": self._server.script_path()}))
            else:
                end(failed(COMMAND_FAILED, f"the script was not reloaded, nothing has changed: {wrong}"))

        self._waiting_reloads += 1
        self._server.timers.start(
            RELOAD_TIMEOUT,
            lambda _: end(
                failed(COMMAND_FAILED, f"the reload has taken longer than {RELOAD_TIMEOUT:g} s: see the log")
            ),
        )
        try:
            self._server.reload(reloaded)
        except ArgumentError:
            is_done = True
            self._waiting_reloads -= 1
            raise

    def _log_level(self, params: dict[str, Any], done: Done) -> None:
        level = params.get("level")
        info = CommandInfo(LOG_LEVEL, join="first")
        if level is None:
            self._ask_workers(info, None, done)
            return
        if not isinstance(level, int) or isinstance(level, bool) or not -5 <= level <= 3:
            raise invalid_params(f"level is a number from -5 to 3, not {level!r}")
        self._server.set_log_level(level_of(level))
        self._ask_workers(info, b"[%d]" % level, done)

    def _stats(self, params: Any, done: Done) -> None:
        names = _counter_names(params)

        def told(outcome: Outcome) -> None:
            chosen = _choose(self._server.totals(), names)
            fault = outcome.fault
            if fault is None:
                done(_stats_of(chosen, names))
            else:
                # What is left of a worker that does not answer is what it told last.
                done(failed(fault.code, fault.message, {"result": chosen}))

        # Each worker tells its counters once a second; now they shall be those of now.
        self._ask_workers(CommandInfo(BEAT, join="first"), None, told)


def _is_inner(name: str) -> bool:
    return name in (BEAT, LOG_LEVEL)


def _described(info: CommandInfo) -> dict[str, Any]:
    """Return a method object of an OpenRPC document."""
    summary, _, more = info.doc.partition("\n")
    method: dict[str, Any] = {"name": info.name, "summary": summary}
    if more.strip():
        method["description"] = more.strip()
    method["params"] = [
        {"name": name.removesuffix("?"), "required": not name.endswith("?"), "schema": {}} for name in info.params or []
    ]
    method["result"] = {"name": "result", "schema": {}}
    return method


def _counter_names(params: Any) -> list[str]:
    if isinstance(params, dict):
        unknown = sorted(params.keys() - {"names"})
        if unknown:
            raise invalid_params(f"'stats.get' has no parameter '{unknown[0]}', it takes names")
        params = params.get("names")
    if isinstance(params, str):
        return [params]
    names: Sequence[Any] = params or []
    if any(not isinstance(name, str) for name in names):
        raise invalid_params("names of counters are strings")
    return list(names)


def _choose(counters: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    chosen = sorted(counters)
    if names:
        starts = tuple(name for name in names if name.endswith(":"))
        chosen = [name for name in chosen if name in names or (starts and name.startswith(starts))]
    return {name: counters[name] for name in chosen}


def _stats_of(chosen: dict[str, int], names: Sequence[str]) -> Outcome:
    missing = [name for name in names if not name.endswith(":") and name not in chosen]
    if missing:
        return failure(invalid_params(f"there is no counter '{missing[0]}'"))
    return result(chosen)
