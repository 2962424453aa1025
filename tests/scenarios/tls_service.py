"""A JSON-RPC service on TLS for scenarios: `tls_service.py CERTFILE KEYFILE [CAFILE]`."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from sipwright.jsonrpc import Server, Tls
from sipwright.jsonrpc.rpc_connection import RpcConnection


async def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    certfile, keyfile, *cafile = sys.argv[1:]
    server = Server(
        tls=Tls(certfile=certfile, keyfile=keyfile, cafile=cafile[0] if cafile else None), framing="newline"
    )

    @server.method
    def whoami(client: RpcConnection) -> Any:
        return client.identity

    address = await server.listen("tls:127.0.0.1:0")
    print(f"ready on port {address.port}")
    await server.serve_forever()


asyncio.run(main())
