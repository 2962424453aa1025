"""Our TLS client and `openssl s_server` as its server: whom it believes, what it says, what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from sipwright.errors import RpcConnectionError
from sipwright.jsonrpc import Client, Tls
from tests.jsonrpc.certificates import Certificate, Certificates
from tests.scenarios.processes import free_port, require_program

pytestmark = pytest.mark.scenario


@dataclass
class OpensslServer:
    """`openssl s_server`: what the client sends comes out of it, and what is written into it goes to the client."""

    port: int
    process: asyncio.subprocess.Process

    async def read_until(self, text: bytes) -> bytes:
        assert self.process.stdout is not None
        read = b""
        async with asyncio.timeout(5):
            while text not in read:
                line = await self.process.stdout.readline()
                assert line, read
                read += line
        return read

    async def read_call(self) -> dict[str, Any]:
        line = (await self.read_until(b'"jsonrpc"')).splitlines()[-1]
        call: dict[str, Any] = json.loads(line)
        return call

    async def answer(self, call: dict[str, Any], result: Any) -> None:
        assert self.process.stdin is not None
        line = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result})
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()


@contextlib.asynccontextmanager
async def s_server(certificate: Certificate, *arguments: str) -> AsyncIterator[OpensslServer]:
    port = free_port(socket.SOCK_STREAM)
    process = await asyncio.create_subprocess_exec(
        *(require_program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}"),
        *("-cert", str(certificate.certfile), "-key", str(certificate.keyfile), "-tlsextdebug", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        server = OpensslServer(port, process)
        await server.read_until(b"ACCEPT")
        yield server
    finally:
        process.terminate()
        await process.communicate()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main

    asyncio.run(bounded())


def test_a_call_goes_through_openssl_with_our_name_and_without_alpn(certificates: Certificates) -> None:
    async def main() -> None:
        async with s_server(certificates.server) as server:
            tls = Tls(cafile=certificates.ca)
            async with Client(f"tls:localhost:{server.port},1", tls=tls, framing="newline") as client:
                call = asyncio.create_task(client.call("get_user", {"id": 1}, timeout=5))
                assert server.process.stdout is not None
                said = await server.read_until(b'"jsonrpc"')
                asked = json.loads(said.splitlines()[-1])
                assert (asked["method"], asked["params"]) == ("get_user", {"id": 1})
                assert b'TLS client extension "server name" (id=0)' in said
                assert b"localhost" in said
                assert b"application layer protocol" not in said
                assert b"TLSv1.3" in said or b"TLS_AES" in said
                await server.answer(asked, "Petros")
                assert await call == "Petros"

    run(main())


def test_a_client_certificate_is_shown_to_a_server_that_demands_one(certificates: Certificates) -> None:
    async def main() -> None:
        demand = ("-Verify", "1", "-verify_return_error", "-CAfile", str(certificates.ca))
        async with s_server(certificates.server, *demand) as server:
            own = certificates.client
            tls = Tls(cafile=certificates.ca, certfile=own.certfile, keyfile=own.keyfile)
            async with Client(f"tls:localhost:{server.port},1", tls=tls, framing="newline") as client:
                call = asyncio.create_task(client.call("get_user", timeout=5))
                said = await server.read_until(b'"jsonrpc"')
                assert b"CN = alice" in said or b"CN=alice" in said
                await server.answer(json.loads(said.splitlines()[-1]), 1)
                assert await call == 1

    run(main())


def test_nobody_is_asked_whose_certificate_does_not_hold(certificates: Certificates) -> None:
    async def main() -> None:
        tls = Tls(cafile=certificates.ca)
        for certificate, why in (
            (certificates.foreign, "self-signed"),
            (certificates.expired, "expired"),
            (certificates.other, "not valid for 'localhost'"),
        ):
            async with s_server(certificate) as server:
                servers = f"tls:localhost:{server.port},1"
                async with Client(servers, tls=tls, framing="newline") as client:
                    with pytest.raises(RpcConnectionError, match=f"its certificate is not accepted: .*{why}"):
                        await client.call("get_user", timeout=1)

    run(main())


def test_a_server_that_only_knows_old_versions_is_refused(certificates: Certificates) -> None:
    async def main() -> None:
        async with s_server(certificates.server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as server:
            tls = Tls(cafile=certificates.ca)
            async with Client(f"tls:localhost:{server.port},1", tls=tls, framing="newline") as client:
                with pytest.raises(RpcConnectionError, match=r"TLS: .*PROTOCOL"):
                    await client.call("get_user", timeout=1)

    run(main())
