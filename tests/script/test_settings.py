"""Global parameters: what is taken, what has no effect, and what each mistake is told."""

from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Variable
from sipwright.script.settings import ListenAddress, Settings, parse_listen, parse_log_engine, split_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp:127.0.0.1:5060", ListenAddress("udp", "127.0.0.1", 5060)),
        ("127.0.0.1:5070", ListenAddress("udp", "127.0.0.1", 5070)),
        ("127.0.0.1", ListenAddress("udp", "127.0.0.1", 5060)),
        ("udp:localhost", ListenAddress("udp", "localhost", 5060)),
        ("UDP:*:5080", ListenAddress("udp", "0.0.0.0", 5080)),
        ("udp:[::1]:5060", ListenAddress("udp", "::1", 5060)),
        ("[::1]", ListenAddress("udp", "::1", 5060)),
    ],
)
def test_listen_addresses_have_protocol_host_and_port(text: str, expected: ListenAddress) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("udp:127.0.0.1:99999", "port 99999 is out of range, 1 to 65535", 14),
        ("udp:127.0.0.1:0", "port 0 is out of range, 1 to 65535", 14),
        ("udp:127.0.0.1:sip", "'sip' is no port number", 14),
        ("udp:127.0.0.1:", "'' is no port number", 14),
        ("udp::5060", "missing host", 4),
        ("udp:[::1:5060", "missing ']' after an IPv6 address", 4),
        ("udp:[1.2.3.4]:5060", "'1.2.3.4' is no IPv6 address", 5),
        ("udp:[::1]5060", "expected ':' and a port, found '5060'", 9),
        ("tpc:127.0.0.1:5060", "unknown protocol 'tpc', expected one of udp, tcp, tls, sctp, ws, wss", 0),
        ("tcp:127.0.0.1:5060", "protocol 'tcp' is not supported yet, only udp", 0),
    ],
)
def test_each_mistake_in_a_listen_address_is_named_with_its_place(text: str, message: str, offset: int) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_listen(text)
    assert (caught.value.message, caught.value.offset) == (message, offset)


def test_a_listen_address_prints_as_it_is_written() -> None:
    assert str(parse_listen("udp:[::1]:5070")) == "udp:[::1]:5070"
    assert str(parse_listen("127.0.0.1")) == "udp:127.0.0.1:5060"


def test_a_listen_line_may_have_several_addresses_with_options() -> None:
    settings = Settings()
    settings.set_global("listen", ["udp:127.0.0.1:5060", "name", "inside", "udp:127.0.0.2", "advertise", "10.1.1.1"])
    assert [str(address) for address in settings.listen] == ["udp:127.0.0.1:5060", "udp:127.0.0.2:5060"]
    assert settings.listen[1].advertise == ("10.1.1.1", 5060)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["adverise", "1.2.3.4"], "listen has no option 'adverise'"), (["advertise"], "needs a value after 'advertise'")],
)
def test_a_listen_option_that_is_wrong_is_told(words: list[int | str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Settings().set_global("listen", ["udp:127.0.0.1:5060", *words])


def test_an_advertised_address_is_kept_beside_the_bound_one() -> None:
    settings = Settings()
    settings.set_global("listen", ["udp:127.0.0.1:5060", "advertise", "sip.example.org:5080"])
    assert settings.listen[0].advertise == ("sip.example.org", 5080)


def test_listen_adds_up_and_the_other_parameters_keep_the_last_value() -> None:
    settings = Settings()
    settings.set_global("listen", ["udp:127.0.0.1:5060"])
    settings.set_global("listen", ["udp:127.0.0.1:5070"])
    settings.set_global("debug", [1])
    settings.set_global("debug", [3])
    settings.set_global("log_stderror", ["no"])
    settings.set_global("shm_mem_size", [64])
    assert [address.port for address in settings.listen] == [5060, 5070]
    assert settings.debug == 3
    assert settings.log_stderror is False
    assert [settings.shm_mem_size, Settings().shm_mem_size] == [64, 1024]


def test_an_alias_may_have_a_protocol_and_a_port() -> None:
    settings = Settings()
    settings.set_global("alias", ["Example.org", "udp:example.com:5070"])
    assert settings.aliases == [("example.org", 0), ("example.com", 5070)]


def test_a_parameter_without_effect_is_accepted_with_a_note() -> None:
    assert Settings().set_global("mhomed", [1]) == "global parameter 'mhomed' has no effect here"
    assert Settings().set_global("children", [2]) is None


def test_parameters_of_the_log_are_taken() -> None:
    settings = Settings()
    settings.set_global("log_engine_type", ["json"])
    assert settings.set_global("log_engine_data", ["cMj"]) is None
    settings.set_global("log_facility", ["LOG_LOCAL3"])
    settings.set_global("log_name", ["sip-5080"])
    settings.set_global("log_prefix_mode", [1])
    settings.set_text("log_prefix", ["{", Variable("$x", lambda context: context), "} "])
    assert (settings.log_engine, settings.log_engine_data, settings.log_facility) == ("json", "cMj", 19)
    assert (settings.log_name, settings.log_prefix_mode) == ("sip-5080", 1)
    assert settings.log_prefix is not None
    assert settings.log_prefix("INVITE") == "{INVITE} "
    settings.set_global("log_engine_type", [""])
    assert settings.log_engine == ""


def test_flags_of_the_log_engine_without_effect_are_noted() -> None:
    note = "log_engine_data: N, U has no effect here"
    assert Settings().set_global("log_engine_data", ["UMN"]) == note


def test_a_log_engine_is_named_with_its_flags() -> None:
    assert parse_log_engine("json") == ("json", "")
    assert parse_log_engine("json:Mj") == ("json", "Mj")


def test_an_unknown_parameter_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ArgumentError) as caught:
        Settings().set_global("chidren", [2])
    assert caught.value.message == "unknown global parameter 'chidren'"
    assert caught.value.suggestion == "children"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("children", ["many"], "global parameter 'children' is an integer, not 'many'"),
        ("children", [0], "global parameter 'children' must be from 1 to 999, not 0"),
        ("shm_mem_size", [0], "global parameter 'shm_mem_size' must be at least 1, not 0"),
        ("port", [70000], "global parameter 'port' must be from 1 to 65535, not 70000"),
        ("log_stderror", ["maybe"], "global parameter 'log_stderror' is yes or no, not 'maybe'"),
        ("debug", [1, 2], "global parameter 'debug' takes one value"),
        ("log_engine_type", ["xml"], "unknown log engine 'xml': there is 'json', and text without one"),
        (
            "log_engine_type",
            ["udp"],
            "log engine 'udp' is not supported: let syslog send the log on, or choose 'json'",
        ),
        ("log_engine_data", ["Mx"], "log engine 'json' has no flag 'x', only a, A, c, j, M, N, p and U"),
        ("log_name", ["a b"], "log_name is one word without ':', '[' and ']', not 'a b'"),
    ],
)
def test_a_wrong_value_is_an_error(name: str, value: list[int | str], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Settings().set_global(name, value)
    assert caught.value.message == message


def test_host_and_port_are_split_with_offsets_from_where_they_stand() -> None:
    assert split_host_port("example.org:5060") == ("example.org", 5060)
    assert split_host_port("example.org") == ("example.org", None)
    with pytest.raises(ArgumentError) as caught:
        split_host_port("example.org:x", offset=10)
    assert caught.value.offset == 22


def test_maxbuffer_is_the_size_of_receive_buffers() -> None:
    settings = Settings()
    assert settings.receive_buffer == 4 * 1024 * 1024
    settings.set_global("maxbuffer", [262144])
    assert settings.receive_buffer == 262144
    with pytest.raises(ArgumentError, match="'maxbuffer' must be from 1 to 2147483647, not 0"):
        settings.set_global("maxbuffer", [0])
