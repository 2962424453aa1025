"""A JSON-RPC service that answers after a while and counts its calls, for scenarios to run in a process of its own.

Prints `listening PORT` when it serves.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from sipwright.jsonrpc import Server

server = Server()
asked: Counter[str] = Counter()


@server.method
async def decide(call: str, delay: int) -> str:
    """Count a call, and answer after `delay` milliseconds."""
    asked[call] += 1
    if delay:
        await asyncio.sleep(delay / 1000)
    return "decided"


@server.method
def get_asked() -> dict[str, int]:
    """Return how often each call has been asked for."""
    return asked


async def main(port: int) -> None:
    """Serve until the process is ended."""
    await server.start("127.0.0.1", port)
    print(f"listening {server.port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
