from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.cli.send import target_of
from sipwright.sip.message import Request

Command = Callable[..., Any]


def test_a_2xx_is_status_0_and_the_reply_goes_to_stdout(command: Command, make_uas: Any) -> None:
    with make_uas(lambda request: [(200, "Fine")]) as uas:
        output = command("send", "OPTIONS", f"sip:alice@127.0.0.1:{uas.port}")
    assert output.status == 0
    assert output.out.startswith("SIP/2.0 200 Fine\n")
    assert f"> OPTIONS sip:alice@127.0.0.1:{uas.port} from 127.0.0.1:" in output.err
    assert "< 200 Fine after " in output.err


def test_any_other_final_reply_is_status_1(command: Command, make_uas: Any) -> None:
    with make_uas(lambda request: [(404, "Not Found")]) as uas:
        output = command("send", "message", f"sip:alice@127.0.0.1:{uas.port}")
    assert output.status == 1
    assert uas.methods == ["MESSAGE"]


def test_a_reply_that_nobody_reads_ends_the_wait(make_uas: Any) -> None:
    with make_uas(lambda request: [(200, "Fine")]) as uas:
        command = [sys.executable, "-m", "sipwright", "send", "OPTIONS", f"sip:alice@127.0.0.1:{uas.port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.close()
            try:
                assert process.wait(10) == 1
            finally:
                process.kill()


def test_headers_body_and_addresses_are_as_asked(command: Command, make_uas: Any) -> None:
    with make_uas(lambda request: [(200, "OK")]) as uas:
        command(
            *("send", "MESSAGE", f"sip:alice@127.0.0.1:{uas.port}"),
            *("--header", "X-One: 1", "--header", "X-Two:2", "--body", "hello", "--content-type", "text/x"),
            *("--from", '"Bob" <sip:bob@example.org>', "--to", "sip:carol@example.org"),
        )
    (request,) = uas.requests
    assert (request.header("X-One"), request.header("X-Two")) == ("1", "2")
    assert (request.body, request.header("Content-Type")) == (b"hello", "text/x")
    assert request.from_.uri == "sip:bob@example.org"
    assert request.from_tag
    assert request.to.uri == "sip:carol@example.org"


def test_an_accepted_invite_is_acknowledged_and_hung_up(command: Command, make_uas: Any) -> None:
    def answer(request: Request) -> list[tuple[int, str]]:
        return {"INVITE": [(100, "Trying"), (180, "Ringing"), (200, "OK")], "BYE": [(200, "OK")]}.get(
            request.method, []
        )

    with make_uas(answer) as uas:
        output = command("send", "INVITE", f"sip:alice@127.0.0.1:{uas.port}")
    assert output.status == 0
    assert [line.split()[1] for line in output.err.splitlines()[1:]] == ["100", "180", "200"]
    assert uas.methods == ["INVITE", "ACK", "BYE"]
    invite, ack, bye = uas.requests
    assert invite.header("Contact")
    assert ack.to_tag == bye.to_tag == "uas"
    assert (ack.cseq_number, bye.cseq_number) == (1, 2)
    assert ack.branch != invite.branch


def test_a_refused_invite_is_acknowledged_in_its_own_transaction(command: Command, make_uas: Any) -> None:
    with make_uas(lambda request: [] if request.method == "ACK" else [(486, "Busy Here")]) as uas:
        output = command("send", "INVITE", f"sip:alice@127.0.0.1:{uas.port}")
    assert output.status == 1
    assert uas.methods == ["INVITE", "ACK"]
    assert uas.requests[1].branch == uas.requests[0].branch
    assert uas.requests[1].to_tag == "uas"


def test_a_request_without_reply_is_repeated_and_given_up(command: Command, make_uas: Any) -> None:
    with make_uas(lambda request: []) as uas:
        output = command("send", "OPTIONS", f"sip:127.0.0.1:{uas.port}", "--timeout", "0.7")
    assert output.status == 1
    assert f"sipwright: no final reply from 127.0.0.1:{uas.port} within 0.7 s" in output.err
    assert uas.methods == ["OPTIONS", "OPTIONS"]
    assert uas.requests[0].data == uas.requests[1].data


def test_an_invite_that_only_rings_is_cancelled(command: Command, make_uas: Any) -> None:
    def answer(request: Request) -> list[tuple[int, str]]:
        return {"INVITE": [(180, "Ringing")], "CANCEL": [(200, "OK")]}.get(request.method, [])

    with make_uas(answer) as uas:
        output = command("send", "INVITE", f"sip:127.0.0.1:{uas.port}", "--timeout", "0.2")
    assert output.status == 1
    assert "no final reply" in output.err
    assert uas.methods == ["INVITE", "CANCEL"]
    assert uas.requests[1].branch == uas.requests[0].branch


def test_a_port_where_nobody_listens_is_noticed_at_once(command: Command, free_port: int) -> None:
    output = command("send", "OPTIONS", f"sip:127.0.0.1:{free_port}")
    assert output.status == 1
    assert f"sipwright: nothing listens on udp:127.0.0.1:{free_port}\n" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OPTIONS", "alice@127.0.0.1"], "did you mean sip:alice@127.0.0.1?"),
        (["OPTIONS", "127.0.0.1:5060"], "did you mean sip:127.0.0.1:5060?"),
        (["OPTIONS", "sips:alice@127.0.0.1"], "only sip: URIs can"),
        (["OPTIONS", "sip:127.0.0.1;transport=tcp"], "transport 'tcp' is not supported yet"),
        (["OPTIONS", "sip:127.0.0.1:70000"], "Port out of range"),
        (["OPTIONS", "sip:host.invalid"], "unknown host 'host.invalid'"),
        (["TWO WORDS", "sip:127.0.0.1"], "'TWO WORDS' is not a SIP method"),
        (["ACK", "sip:127.0.0.1"], "an ACK is never answered"),
        (["OPTIONS", "sip:127.0.0.1", "--timeout", "0"], "--timeout is a number of seconds"),
        (["OPTIONS", "sip:127.0.0.1", "--timeout", "nan"], "--timeout is a number of seconds"),
        (["OPTIONS", "sip:127.0.0.1", "--header", "none"], "is not of the form 'Name: value'"),
        (["OPTIONS", "sip:127.0.0.1", "--header", "A: b\r\nC: d"], "is not of the form 'Name: value'"),
        (["OPTIONS", "sip:127.0.0.1", "--header", "CSeq: 1 X"], "the request would be malformed"),
        (["OPTIONS", "sip:127.0.0.1", "--from", "bob"], "--from 'bob' is not a SIP address"),
        (["OPTIONS", "sip:127.0.0.1", "--to", "<sip:"], "--to '<sip:' is not a SIP address"),
        (["OPTIONS", "sip:127.0.0.1", "-l", "1.2.3.4:70000"], "port 70000 is out of range"),
        (["OPTIONS", "sip:127.0.0.1", "-l", "192.0.2.1"], "cannot send from udp:192.0.2.1: "),
        (["OPTIONS", "sip:127.0.0.1", "-l", "host.invalid"], "cannot send from udp:host.invalid: "),
    ],
)
def test_a_mistake_is_explained(command: Command, arguments: list[str], message: str) -> None:
    output = command("send", *arguments)
    assert output.status == 1
    assert message in output.err


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:alice@192.0.2.1", ("192.0.2.1", 5060)),
        ("sip:alice@192.0.2.1:5080;transport=UDP", ("192.0.2.1", 5080)),
        ("sip:[2001:db8::1]:5070", ("2001:db8::1", 5070)),
        ("sip:alice@example.org;maddr=192.0.2.9", ("192.0.2.9", 5060)),
    ],
)
def test_a_request_goes_where_its_uri_says(uri: str, target: tuple[str, int]) -> None:
    assert target_of(uri) == target
