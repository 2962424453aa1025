"""The echo service of `rpc.py`: answers each request with its params, in the framing that a client speaks.

It reads no more of a request than it must, so that it is not what is measured. With `hold`, answers are kept until that
many are there.
"""

from __future__ import annotations

import asyncio

import msgspec

from sipwright import netstring

HOST = "127.0.0.1"


class Request(msgspec.Struct):
    """What the service reads of a request."""

    id: msgspec.Raw
    params: msgspec.Raw


decode_request = msgspec.json.Decoder(Request).decode


def answer(payload: bytes) -> bytes:
    """Return the response whose result is the request's params."""
    request = decode_request(payload)
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (bytes(request.params), bytes(request.id))


class Echo(asyncio.Protocol):
    """A connection of the service."""

    def __init__(self, hold: int) -> None:
        self.hold = hold
        self.held: list[bytes] = []
        self.buffer = b""
        self.decoder = netstring.Decoder()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, answers: list[bytes]) -> None:
        """Send answers, in one write, once enough are there."""
        if self.hold:
            self.held += answers
            if len(self.held) < self.hold:
                return
            answers, self.held = self.held, []
        self.transport.write(b"".join(answers))


class NetstringEcho(Echo):
    """Framed by netstrings."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.send([netstring.encode(answer(one)) for one in self.decoder.feed(data)])


class LineEcho(Echo):
    """One message per line."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.send([answer(line) + b"\n" for line in lines])


class HttpEcho(Echo):
    """HTTP/1.1, one request at a time on each connection."""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self.buffer = body[length:]
            text = answer(body[:length])
            fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(text)
            self.send([b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (fields, text)])


FRAMINGS: dict[str, type[Echo]] = {"netstring": NetstringEcho, "line": LineEcho, "http": HttpEcho}


async def run_service(framing: str, hold: int) -> None:
    """Serve until killed, after printing the port."""
    server = await asyncio.get_running_loop().create_server(lambda: FRAMINGS[framing](hold), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
