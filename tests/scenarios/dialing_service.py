"""A service that dials in, for scenarios to run in a process of its own: answers after a while, and counts.

Arguments: address, group, token, number of connections. Prints `serving` once all connections are. On SIGTERM it
drains, prints how many calls it was asked and how many it answered, and ends.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter

from sipwright.jsonrpc.dial import Dialer
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server

server = Server()
counts: Counter[str] = Counter()


@server.method
async def decide(client: RpcConnection, delay: int = 20) -> str:
    """Answer after `delay` milliseconds."""
    counts["asked"] += 1
    await asyncio.sleep(delay / 1000)
    counts["answered"] += 1
    counts[f"by {client.peer_address}"] += 1
    return "dialed"


async def main(address: str, group: str, token: str, connections: str) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    dialer = Dialer(server, address, group=group, token=token, connections=int(connections), reconnect_interval=0.05)
    async with dialer:
        await dialer.connected()
        print("serving", flush=True)
        await stopped.wait()
    print(f"asked {counts['asked']} answered {counts['answered']}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
