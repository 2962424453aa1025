"""The JSON-RPC service of the demonstration, as a process of its own: `python -m sipwright.cli.demo_service`.

It takes a free port and serves the two methods of manual.cfg. Each line on stdin is what it does with calls from then
on: `answer`, `error` or `silent`. Each line on stdout tells what happened, as a JSON array: the time in seconds (on the
monotonic clock that all processes share); `ready`, `obey`, `receive` or `answer`; and the port, the line from stdin, or
the message in short.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc.server import Server

ERROR = RpcAnswerError(404, "no such user")
RESULT = {"name": "Petros"}


class Behaviour:
    """What the service does with a call."""

    def __init__(self) -> None:
        self.now = "answer"

    async def get_user(self, **params: int) -> dict[str, str]:
        """Return a user, an error, or nothing for a long time."""
        report("receive", f"get_user {_json(params)}")
        if self.now == "silent":
            await asyncio.sleep(3600)
        if self.now == "error":
            report("answer", f"error {ERROR.code}: {ERROR.message}")
            raise ERROR
        report("answer", f"result {_json(RESULT)}")
        return RESULT

    def update_user(self, **_params: int | str) -> None:
        """Take note of a user."""
        report("receive", "notify update_user")


def report(event: str, detail: str) -> None:
    """Tell the demonstration what happened."""
    print(_json([time.monotonic(), event, detail]), flush=True)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def main() -> None:
    """Serve until stdin ends."""
    behaviour = Behaviour()
    server = Server()
    server.add_method("get_user", behaviour.get_user)
    server.add_method("update_user", behaviour.update_user)
    await server.start()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    report("ready", str(server.port))
    while line := await lines.readline():
        behaviour.now = line.decode().strip()
        report("obey", behaviour.now)
    await server.close(timeout=0)


if __name__ == "__main__":
    asyncio.run(main())
