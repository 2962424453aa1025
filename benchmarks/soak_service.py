"""The JSON-RPC service of soak.py. It prints `listening PORT` when it serves; SIGUSR1 resets all of its connections."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import stat
import sys

from sipwright.errors import RpcAnswerError
from sipwright.jsonrpc import Server

server = Server(max_concurrent=20_000)


@server.method
def get_user(call: str, name: str) -> dict[str, str]:
    """Answer at once."""
    return {"call": call, "name": name}


@server.method
async def wait(call: str, ms: int) -> dict[str, str]:
    """Answer after so many milliseconds."""
    await asyncio.sleep(ms / 1000)
    return {"call": call}


@server.method
def refuse(call: str) -> None:
    """Answer with an error."""
    raise RpcAnswerError(404, "no such user", {"call": call})


def reset_connections() -> None:
    """Reset every TCP connection of this process, as a firewall or a crashed machine would."""
    libc = ctypes.CDLL(None, use_errno=True)
    nowhere = (socket.AF_UNSPEC).to_bytes(2, sys.byteorder) + bytes(14)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    # Listening sockets and those of the event loop have none.
                    if connection.family == socket.AF_INET and connection.getpeername():
                        # connect(2): AF_UNSPEC dissolves the association, which TCP does with a RST.
                        libc.connect(connection.fileno(), nowhere, len(nowhere))


async def main(port: int) -> None:
    """Serve until the process is ended."""
    await server.start("127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, reset_connections)
    print(f"listening {server.port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
