"""RFC 4475's and RFC 5118's torture messages (tests/sip/torture), each with what it must give."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import SipParseError
from sipwright.sip.build import refusal
from sipwright.sip.message import Message, Request, Response
from sipwright.sip.parse import parse
from sipwright.sip.uri import parse_uri

FOLDER = Path(__file__).parent / "torture"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "expected.toml").read_text("utf-8"))
VALID = [name for name, case in EXPECTED.items() if "refused" not in case]
INVALID = [name for name, case in EXPECTED.items() if "refused" in case]
SOURCE = ("192.0.2.250", 5062)


def read(name: str) -> bytes:
    return (FOLDER / f"{name}.sip").read_bytes()


def found(message: Message, key: str) -> object:
    """Return what the message has for one key of the expectation."""
    match key:
        case "via":
            return [str(via) for via in message.vias]
        case "via_count":
            return len(message.vias)
        case "branch":
            return message.branch.decode()
        case "body_length":
            return len(message.body)
        case "contacts":
            return [contact.uri for contact in message.contacts]
        case "contact_params":
            return {name: value or "" for name, value in message.contacts[0].params.items()}
        case "from_name" | "from_uri":
            return getattr(message.from_, key.removeprefix("from_"))
        case "to_name" | "to_uri":
            return getattr(message.to, key.removeprefix("to_"))
        case "uri_params" if isinstance(message, Request):
            return {name: value or "" for name, value in parse_uri(message.uri).params.items()}
        case "uri_port" if isinstance(message, Request):
            return parse_uri(message.uri).port or 0
        case "uri_scheme" | "uri_user" | "uri_password" | "uri_host" if isinstance(message, Request):
            return getattr(parse_uri(message.uri), key.removeprefix("uri_"))
        case _:
            return getattr(message, key)


def test_every_torture_file_has_an_expectation() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.glob("*.sip"))


@pytest.mark.parametrize("name", VALID)
def test_valid_torture_message_gives_the_expected_values(name: str) -> None:
    message = parse(read(name))
    case = EXPECTED[name]
    assert isinstance(message, Response if "status" in case else Request)
    for key, value in case.items():
        if key == "headers":
            assert {header: message.header(header) for header in value} == value
        elif key not in ("section", "choice"):
            assert found(message, key) == value, key


@pytest.mark.parametrize("name", INVALID)
def test_invalid_torture_message_is_refused(name: str) -> None:
    with pytest.raises(SipParseError) as caught:
        parse(read(name))
    case = EXPECTED[name]
    assert caught.value.status == case["refused"]
    answer = refusal(caught.value, SOURCE, "t1")
    assert (answer is not None) == case["answered"]
    if answer is not None:
        data, target = answer
        assert data.startswith(b"SIP/2.0 %d " % case["refused"])
        assert data.endswith(b"Content-Length: 0\r\n\r\n")
        assert target[0] == SOURCE[0]
