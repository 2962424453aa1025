"""A JSON-RPC service of users, made with the library, for scenarios to run in a process of its own.

Prints `listening PORT` when it serves. Users are known by any name but `missing`; one named `silent` takes two seconds.
"""

from __future__ import annotations

import asyncio
import sys

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc import Server

server = Server()
asked: dict[str, int] = {}


@server.method
def get_user(name: str, method: str) -> dict[str, object]:
    """Return a user; count the calls by SIP method."""
    asked[method] = asked.get(method, 0) + 1
    if name == "missing":
        raise RpcAnswerError(404, "no such user", {"name": name})
    return {"name": name, "contact": f"sip:{name}@127.0.0.1:5099"}


@server.method
async def get_user_slowly(name: str, method: str) -> dict[str, object]:
    """Return a user after two seconds."""
    asked[method] = asked.get(method, 0) + 1
    await asyncio.sleep(2)
    return {"name": name}


@server.method
def get_counts() -> dict[str, int]:
    """Return how often each SIP method has been asked for."""
    return asked


async def main(port: int) -> None:
    """Serve until the process is ended."""
    await server.start("127.0.0.1", port)
    print(f"listening {server.port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
