"""The scripted name server, asked by dnspython over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import dns.asyncresolver
import dns.message
import dns.query
import dns.resolver
import pytest

from sipwright.testing.fakedns import FakeDnsServer

NAME = "_rpc._tcp.example.org"


def run(test: Callable[[FakeDnsServer, dns.asyncresolver.Resolver], Awaitable[object]]) -> None:
    async def main() -> None:
        async with FakeDnsServer() as server:
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.nameservers, resolver.port, resolver.lifetime = [server.host], server.port, 0.5
            await test(server, resolver)

    asyncio.run(main())


def texts(answer: Any) -> list[str]:
    return sorted(record.to_text() for record in answer)


def test_records_are_given_with_their_ttl_and_change_while_it_runs() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.srv(NAME, (10, 5, 9999, "a.example.org"), (20, 0, 9998, "b.example.org"), ttl=2)
        answer = await resolver.resolve(NAME, "SRV")
        assert texts(answer) == ["10 5 9999 a.example.org.", "20 0 9998 b.example.org."]
        assert answer.rrset is not None
        assert answer.rrset.ttl == 2
        server.srv(NAME, (10, 5, 9997, "a.example.org"), ttl=7)
        answer = await resolver.resolve(NAME, "SRV")
        assert texts(answer) == ["10 5 9997 a.example.org."]
        assert answer.rrset is not None
        assert answer.rrset.ttl == 7
        assert [(q.name, q.type, q.over) for q in server.questions] == [(NAME, "SRV", "udp")] * 2
        assert (server.asked(NAME), server.asked(NAME, "A")) == (2, 0)

    run(test)


def test_addresses_of_both_families_and_aliases() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1", "127.0.0.2")
        server.aaaa("a.example.org", "::1")
        server.cname("www.example.org", "A.example.org")
        assert texts(await resolver.resolve("a.example.org", "A")) == ["127.0.0.1", "127.0.0.2"]
        assert texts(await resolver.resolve("WWW.example.org", "AAAA")) == ["::1"]

    run(test)


def test_what_was_not_told_does_not_exist() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve(NAME, "SRV")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("a.example.org", "SRV")
        server.remove("a.example.org")
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("a.example.org", "A")

    run(test)


def test_an_alias_of_itself_ends() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.cname("a.example.org", "b.example.org")
        server.cname("b.example.org", "a.example.org")
        with pytest.raises(dns.resolver.NoNameservers, match="chain is too long"):
            await resolver.resolve("a.example.org", "A")

    run(test)


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_it_fails_until_it_works_again(rcode: Any) -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        server.fail("a.example.org", rcode)
        with pytest.raises(dns.resolver.NoNameservers, match=rcode):
            await resolver.resolve("a.example.org", "A")
        server.work("a.example.org")
        assert texts(await resolver.resolve("a.example.org", "A")) == ["127.0.0.1"]

    run(test)


def test_it_is_silent_and_it_is_garbled() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        server.ignore("a.example.org")
        with pytest.raises(dns.resolver.LifetimeTimeout):
            await resolver.resolve("a.example.org", "A")
        assert server.asked("a.example.org") > 0
        server.garble("a.example.org")
        with pytest.raises((dns.resolver.LifetimeTimeout, dns.resolver.NoNameservers)):
            await resolver.resolve("a.example.org", "A")

    run(test)


def test_truncated_responses_are_asked_for_over_tcp() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        server.truncate("a.example.org")
        assert texts(await resolver.resolve("a.example.org", "A")) == ["127.0.0.1"]
        assert [question.over for question in server.questions] == ["udp", "tcp"]

    run(test)


def test_what_is_too_long_for_udp_is_truncated_by_itself() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.srv(NAME, *((10, n, 9999, f"server-{n}.a-long-name.example.org") for n in range(60)))
        assert len(texts(await resolver.resolve(NAME, "SRV"))) == 60
        assert [question.over for question in server.questions] == ["udp", "tcp"]

    run(test)


def test_responses_take_their_time() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        server.delay = 0.05
        loop = asyncio.get_running_loop()
        before = loop.time()
        await resolver.resolve("a.example.org", "A")
        assert loop.time() - before >= 0.04

    run(test)


def test_it_goes_away_and_comes_back_on_its_port() -> None:
    async def test(server: FakeDnsServer, resolver: dns.asyncresolver.Resolver) -> None:
        server.a("a.example.org", "127.0.0.1")
        port = server.port
        await server.stop()
        with pytest.raises((dns.resolver.LifetimeTimeout, dns.resolver.NoNameservers)):
            await resolver.resolve("a.example.org", "A")
        await server.start()
        assert server.port == port
        assert texts(await resolver.resolve("a.example.org", "A")) == ["127.0.0.1"]

    run(test)


def test_it_runs_in_a_thread_for_code_without_a_loop() -> None:
    with FakeDnsServer() as server:
        server.a("a.example.org", "127.0.0.1")
        query = dns.message.make_query("a.example.org", "A")
        for ask in (dns.query.udp, dns.query.tcp):
            response = ask(query, server.host, port=server.port, timeout=2)
            assert [rrset[0].to_text() for rrset in response.answer] == ["127.0.0.1"]


def test_rubbish_and_answers_are_not_answered() -> None:
    with FakeDnsServer() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        query = dns.message.make_query("a.example.org", "A")
        sock.sendto(b"rubbish", (server.host, server.port))
        sock.sendto(dns.message.make_response(query).to_wire(), (server.host, server.port))
        sock.sendto(query.to_wire(), (server.host, server.port))
        response = dns.message.from_wire(sock.recv(1000))
        assert response.rcode() == dns.rcode.NXDOMAIN
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1000)
