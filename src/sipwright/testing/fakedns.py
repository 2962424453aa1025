"""A DNS server for tests (real UDP and TCP on one port of loopback), with records that a test changes while it runs.

    async with FakeDnsServer() as dns:
        dns.srv("_rpc._tcp.example.org", (10, 5, 9999, "a.example.org"), (20, 0, 9999, "b.example.org"), ttl=2)
        dns.a("a.example.org", "127.0.0.1")
        ...
        dns.srv("_rpc._tcp.example.org", (10, 5, 9998, "a.example.org"), ttl=2)
        dns.fail("b.example.org", "SERVFAIL")
        assert dns.asked("_rpc._tcp.example.org") == 2

It knows what it was told and asks nobody. In code without an event loop it is used as `with FakeDnsServer() as dns:`
and runs in a thread of its own. Not in `sipwright.testing` itself, because dnspython, which it reads and writes
messages with, takes its time to import.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from sipwright.testing.fakeserver import FakeServer

# How often another port is tried when the one that UDP got is taken for TCP.
PORT_TRIES = 20
# What a response over UDP may have when the question does not say otherwise (RFC 1035 section 4.2.1).
MAX_UDP = 512
# The seconds for which it holds that something is not there, in the SOA record of such responses (RFC 2308).
NEGATIVE_TTL = 1

Rcode = Literal["SERVFAIL", "NXDOMAIN", "REFUSED", "FORMERR", "NOTIMP"]


@dataclass(slots=True)
class Question:
    """A question that was asked: the name as it was asked for, without the last dot, and the type, such as "SRV"."""

    name: str
    type: str
    over: Literal["udp", "tcp"]


class FakeDnsServer(FakeServer):
    """A name server with scripted records.

    `port` 0 takes one that is free for UDP and TCP, and keeps it over `stop` and `start`. Names are as in questions,
    without a dot at the end, capitals or not. What was not told is NXDOMAIN; a name that has records, but none of the
    type that is asked for, has an empty response. A response that is longer than 512 bytes, or than what the question
    allows (EDNS0), is truncated over UDP. `delay` (seconds) is how long each response takes; `questions` are all that
    were asked.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, delay: float = 0.0) -> None:
        self.host = host
        self.port = port
        self.delay = delay
        self.questions: list[Question] = []
        self._records: dict[dns.name.Name, dict[str, dns.rrset.RRset]] = {}
        self._faults: dict[dns.name.Name, str] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._listener: asyncio.Server | None = None
        self._clients: set[asyncio.Transport] = set()

    # What a test says

    def srv(self, name: str, *records: tuple[int, int, int, str], ttl: int = 60) -> None:
        """Set the SRV records of a name: (priority, weight, port, target) each; a target "." is no service."""
        self._set(name, "SRV", [f"{prio} {weight} {port} {_dotted(host)}" for prio, weight, port, host in records], ttl)

    def a(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Set the IPv4 addresses of a name."""
        self._set(name, "A", addresses, ttl)

    def aaaa(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Set the IPv6 addresses of a name."""
        self._set(name, "AAAA", addresses, ttl)

    def cname(self, name: str, target: str, ttl: int = 60) -> None:
        """Make a name another one's alias; responses have the records of that one, too."""
        self._set(name, "CNAME", [_dotted(target)], ttl)

    def remove(self, name: str) -> None:
        """Forget a name with all that was said of it: it does not exist (NXDOMAIN)."""
        self._records.pop(_name(name), None)
        self._faults.pop(_name(name), None)

    def fail(self, name: str, rcode: Rcode = "SERVFAIL") -> None:
        """Answer questions for a name with an error, until `work`."""
        self._faults[_name(name)] = rcode

    def ignore(self, name: str) -> None:
        """Do not answer questions for a name, until `work`."""
        self._faults[_name(name)] = "silent"

    def truncate(self, name: str) -> None:
        """Say over UDP that the response is too long for it, so that TCP is used, until `work`."""
        self._faults[_name(name)] = "truncated"

    def garble(self, name: str) -> None:
        """Answer questions for a name with bytes that are no DNS message, until `work`."""
        self._faults[_name(name)] = "garbled"

    def work(self, name: str) -> None:
        """Answer questions for a name as its records are."""
        self._faults.pop(_name(name), None)

    def asked(self, name: str, rdtype: str | None = None) -> int:
        """Return how often a name was asked for."""
        wanted = name.rstrip(".").lower()
        return sum(1 for asked in self.questions if asked.name.lower() == wanted and rdtype in (None, asked.type))

    def _set(self, name: str, rdtype: str, texts: Sequence[str], ttl: int) -> None:
        records = self._records.setdefault(_name(name), {})
        if texts:
            records[rdtype] = dns.rrset.from_text(_name(name), ttl, "IN", rdtype, *texts)
        else:
            records.pop(rdtype, None)

    # Life

    async def start(self) -> None:
        """Listen, in the running event loop."""
        loop = asyncio.get_running_loop()
        for tries_left in reversed(range(PORT_TRIES)):
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), (self.host, self.port))
            port = udp.get_extra_info("sockname")[1]
            try:
                self._listener = await loop.create_server(lambda: _Tcp(self), self.host, port)
            except OSError as error:
                udp.close()
                if self.port or error.errno != errno.EADDRINUSE or not tries_left:
                    raise
            else:
                self._udp, self.port = udp, port
                return

    async def stop(self) -> None:
        """Listen no more; `start` goes on, on the same port, with the same records."""
        if self._udp is not None:
            self._udp.close()
        if self._listener is not None:
            self._listener.close()
        for client in list(self._clients):
            client.abort()
        self._udp = self._listener = None
        # Sockets are closed by the loop in its next turn.
        await asyncio.sleep(0)

    # What comes

    def respond(self, wire: bytes, over: Literal["udp", "tcp"]) -> bytes | None:
        """Return the response to a message; None: there is none."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        asked = query.question[0]
        self.questions.append(
            Question(asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype), over)
        )
        fault = self._faults.get(asked.name)
        if fault == "silent":
            return None
        if fault == "garbled":
            return wire[:2] + b"\xff" * 9
        response = dns.message.make_response(query, recursion_available=True)
        if fault == "truncated":
            if over == "udp":
                response.flags |= dns.flags.TC
                return response.to_wire()
        elif fault is not None:
            response.set_rcode(dns.rcode.from_text(fault))
            return response.to_wire()
        self._fill(response, asked)
        limit = 65535 if over == "tcp" else max(query.payload, MAX_UDP)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            for section in (response.answer, response.authority):
                section.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _fill(self, response: dns.message.Message, asked: dns.rrset.RRset) -> None:
        name, seen = asked.name, {asked.name}
        records = self._records.get(name)
        while records is not None and "CNAME" in records and asked.rdtype != dns.rdatatype.CNAME:
            response.answer.append(records["CNAME"])
            name = records["CNAME"][0].target
            if name in seen:
                return
            seen.add(name)
            records = self._records.get(name)
        if not records:
            response.set_rcode(dns.rcode.NXDOMAIN)
        found = (records or {}).get(dns.rdatatype.to_text(asked.rdtype))
        if found is not None:
            response.answer.append(found)
        else:
            soa = f"ns.invalid. nobody.invalid. 1 60 60 60 {NEGATIVE_TTL}"
            response.authority.append(dns.rrset.from_text(dns.name.root, NEGATIVE_TTL, "IN", "SOA", soa))

    def client_came(self, transport: asyncio.Transport) -> None:
        """Take note of a TCP connection."""
        self._clients.add(transport)

    def client_went(self, transport: asyncio.Transport) -> None:
        """Forget a TCP connection."""
        self._clients.discard(transport)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        response = self._server.respond(data, "udp")
        if response is not None:
            _later(self._server.delay, self._send, response, address)

    def _send(self, response: bytes, address: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(response, address)


class _Tcp(asyncio.Protocol):
    """Messages with their length in two bytes before each (RFC 1035 section 4.2.2)."""

    def __init__(self, server: FakeDnsServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.client_came(self._transport)

    def connection_lost(self, _error: Exception | None, /) -> None:
        if self._transport is not None:
            self._server.client_went(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= (end := 2 + int.from_bytes(self._buffer[:2])):
            message, self._buffer = self._buffer[2:end], self._buffer[end:]
            response = self._server.respond(message, "tcp")
            if response is not None:
                _later(self._server.delay, self._send, len(response).to_bytes(2) + response)

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _later(delay: float, send: Any, *arguments: Any) -> None:
    if delay:
        asyncio.get_running_loop().call_later(delay, send, *arguments)
    else:
        send(*arguments)


def _dotted(name: str) -> str:
    return name if name.endswith(".") else name + "."


def _name(name: str) -> dns.name.Name:
    return dns.name.from_text(_dotted(name))
