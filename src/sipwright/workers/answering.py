"""Commands in a worker: owns carrying them out on its event loop, and those that every worker has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from sipwright.engine.commands import COMMAND_FAILED, command_error
from sipwright.engine.services import WorkerServices
from sipwright.jsonrpc.messages import encode_json
from sipwright.script.loglevels import level_of, number_of
from sipwright.workers.interface import BEAT, LOG_LEVEL
from sipwright.workers.rounds import Outcome, failed, failure

logger = logging.getLogger("sipwright")

# What one worker may answer, in bytes: with others it has to fit into one message to the client.
MAX_RESULT = 4 << 20
# The notice of a log level that was set.
LEVEL_NOTICE = "core:log_level"


class Answering:
    """Carries out commands in a worker."""

    def __init__(self, services: WorkerServices, loop: asyncio.AbstractEventLoop) -> None:
        self._services = services
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, number: int, name: str, params: bytes | None, done: Callable[[Outcome], object]) -> None:
        """Carry out a command and tell `done` once what became of it."""
        notices = self._services.notices
        notices.stamp = number
        try:
            value = self._services.commands.call(name, params)
            if isawaitable(value):
                task = self._loop.create_task(self._wait(name, value, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            outcome = _outcome(value)
        except Exception as error:  # the boundary to the command
            outcome = failure(command_error(name, error, logger))
        finally:
            notices.stamp = 0
        done(outcome)

    async def _wait(self, name: str, value: Awaitable[Any], done: Callable[[Outcome], object]) -> None:
        try:
            # What it posts meanwhile has no number, for other commands run in between.
            outcome = _outcome(await value)
        except Exception as error:  # the boundary to the command
            outcome = failure(command_error(name, error, logger))
        done(outcome)


def _outcome(value: Any) -> Outcome:
    result = encode_json(value)
    if len(result) > MAX_RESULT:
        return failed(COMMAND_FAILED, f"the answer is longer than {MAX_RESULT} bytes")
    return Outcome(result)


def add_worker_commands(services: WorkerServices, beat: Callable[[], object]) -> None:
    """Add what the server's own commands ask of the workers."""

    def tell_counters(_params: Any) -> None:
        beat()

    def log_level(params: Any) -> dict[str, Any]:
        if params:
            services.post(LEVEL_NOTICE, b"%d" % params[0], lasting=True)
            # Also where a script has set another one since.
            services.set_log_level(level_of(params[0]))
        level = services.log.level
        return {"level": number_of(level), "name": logging.getLevelName(level)}

    def set_level(_name: str, value: bytes | None) -> None:
        if value is not None:
            services.set_log_level(level_of(int(value)))

    services.add_command(BEAT, tell_counters)
    services.add_command(LOG_LEVEL, log_level)
    services.follow(LEVEL_NOTICE, set_level)
