from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.modules.janssonrpcc.servers import Server, groups_of, parse_server
from sipwright.script.rpc import parse_retry_codes


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("conn=a;addr=localhost;port=8080", Server("a", ServerAddress("localhost", 8080))),
        (
            "conn=a;addr=10.0.0.1;port=1;priority=10;weight=20;hwm=5",
            Server("a", ServerAddress("10.0.0.1", 1), 10, 20, 5),
        ),
        (" conn = a ; addr = h ;port=1;proto=tcp;", Server("a", ServerAddress("h", 1))),
        ("conn=a;addr=::1;port=5", Server("a", ServerAddress("::1", 5))),
        ("conn=a;addr=[::1];port=5", Server("a", ServerAddress("::1", 5))),
        ("conn=a;addr=h;port=1;weight=0;hwm=0", Server("a", ServerAddress("h", 1), 0, 0, 0)),
        ("conn=a;srv=_rpc._tcp.example.net", Server("a", ServerAddress("_rpc._tcp.example.net", 0, "srv"))),
        (
            "srv=_rpc._tcp.example.net;hwm=7;conn=a",
            Server("a", ServerAddress("_rpc._tcp.example.net", 0, "srv"), hwm=7),
        ),
    ],
)
def test_a_server_is_read(text: str, server: Server) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("addr=h;port=1", "a server needs the name of its connection", "addr"),
        ("conn=a;port=1", "a server needs 'addr', or 'srv'", "a;port"),
        ("conn=a;addr=h", "a server needs 'port', or 'srv'", "a;addr"),
        ("conn=a;addr=h;port=0", "port 0 is out of range", "0"),
        ("conn=a;addr=h;port=x", "'port' is a number from 0 to 65535, not 'x'", "x"),
        ("conn=a;addr=h;port=70000", "'port' is a number from 0 to 65535, not '70000'", "70000"),
        ("conn=a;addr=h;port=1;priority=-1", "'priority' is a number from 0 to 65535, not '-1'", "-1"),
        ("conn=a;addr=h;port=1;weight= 99999", "'weight' is a number from 0 to 65535", "99999"),
        ("conn=a;addr=h;port=1;hwm=-5", "'hwm' is a number from 0", "-5"),
        ("conn=a;addr=h;port=1; hvm=5", "unknown key 'hvm' of a server", "hvm"),
        ("conn=a;addr=h;port=1;proto=udp", "'proto' can only be tcp, not 'udp'", "udp"),
        ("conn=a;conn=b;addr=h;port=1", "'conn' is given twice", "conn=b"),
        ("conn=;addr=h;port=1", "'conn' has no value", ";addr"),
        ("conn=a;addr;port=1", "'addr' has no value", "addr"),
        ("conn=a;addr=a b;port=1", "'a b' is not a host name", " b"),
        ("conn=a;addr=::g;port=1", "'::g' is not an IPv6 address", "::g"),
        ("conn=a;srv=example.net", "'example.net' is not the name of SRV records", "example.net"),
        ("conn=a;srv=_a._tcp.b.c;weight=2", "'weight' cannot be given with 'srv'", "2"),
        ("conn=a;srv=_a._tcp.b.c;addr=h", "'addr' cannot be given with 'srv'", "h"),
    ],
)
def test_each_mistake_in_a_server_is_told_with_its_place(text: str, message: str, at: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_server(text)
    assert caught.value.message.startswith(message)
    assert caught.value.offset is not None
    assert text[caught.value.offset :].startswith(at)


def test_a_key_that_is_misspelt_has_a_suggestion() -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_server("conn=a;addr=h;port=1;wieght=1")
    assert caught.value.suggestion == "weight"


def spec(port: int, priority: int, weight: int = 1, max_pending: int | None = None) -> ServerSpec:
    return ServerSpec(ServerAddress("h", port), priority, weight, max_pending)


def groups(*texts: str) -> dict[str, list[ServerSpec]]:
    return groups_of([parse_server(f"{text};addr=h") for text in texts])


def test_servers_are_grouped_by_their_connection_and_lower_priorities_come_first() -> None:
    assert groups("conn=a;port=1;priority=5;weight=7", "conn=ab;port=2", "conn=a;port=3;priority=1;hwm=4") == {
        "a": [spec(1, -5, 7), spec(3, -1, 1, 4)],
        "ab": [spec(2, 0)],
    }


def test_a_server_without_weight_comes_behind_the_others_of_its_priority() -> None:
    (found,) = groups(
        "conn=a;port=1;priority=1;weight=0", "conn=a;port=2;priority=1;weight=3", "conn=a;port=3;priority=2"
    ).values()
    assert sorted(found, key=lambda one: -one.priority) == [spec(2, -2, 3), spec(1, -3), spec(3, -4)]


def test_servers_that_are_all_without_weight_are_alike() -> None:
    assert groups("conn=a;port=1;weight=0", "conn=a;port=2;weight=0") == {"a": [spec(1, 0), spec(2, 0)]}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("-32603, -32000..-32099", [range(-32603, -32602), range(-32099, -31999)]),
        ("5", [range(5, 6)]),
        ("-32099 .. -32000,+7,", [range(-32099, -31999), range(7, 8)]),
        ("", []),
    ],
)
def test_retry_codes_are_numbers_and_ranges_from_either_end(text: str, codes: list[range]) -> None:
    assert list(parse_retry_codes(text)) == codes


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("abc", "abc"),
        ("1, 5x", "5x"),
        ("1..", ""),
        ("..5", "..5"),
        ("1..2..3", "2..3"),
        ("1.2", "1.2"),
        ("1, --5", "--5"),
    ],
)
def test_each_mistake_in_retry_codes_is_told_with_its_place(text: str, at: str) -> None:
    with pytest.raises(ArgumentError, match="expected an error code, or a range of them") as caught:
        parse_retry_codes(text)
    assert caught.value.offset is not None
    assert text[caught.value.offset :] == at
