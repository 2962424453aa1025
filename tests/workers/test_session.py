"""One client of the control interface, as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.errors import FramingParseError
from sipwright.netstring import Decoder, encode
from sipwright.workers.rounds import Outcome, failed, result
from sipwright.workers.session import Session

Asked = tuple[str, bytes | None, Callable[[Outcome], object]]


class Talk:
    """A session, with what was asked and what was answered."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._sent = bytearray()
        self.session = Session(lambda *asked: self.asked.append(asked), self._sent.extend)

    def say(self, *payloads: bytes) -> None:
        self.session.feed(b"".join(map(encode, payloads)))

    def heard(self) -> list[Any]:
        answers = [json.loads(payload) for payload in Decoder().feed(bytes(self._sent))]
        self._sent.clear()
        return answers


def test_answers_come_in_any_order_each_with_its_id() -> None:
    talk = Talk()
    talk.say(
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}',
        b'{"jsonrpc":"2.0","id":"two","method":"b"}',
    )
    assert [(method, params) for method, params, _ in talk.asked] == [("a", b"[1]"), ("b", None)]
    assert talk.session.unanswered == 2
    talk.asked[1][2](failed(-32000, "no", "why"))
    talk.asked[0][2](result({"x": 1}))
    assert talk.heard() == [
        {"jsonrpc": "2.0", "error": {"code": -32000, "message": "no", "data": "why"}, "id": "two"},
        {"jsonrpc": "2.0", "result": {"x": 1}, "id": 1},
    ]
    assert talk.session.unanswered == 0


def test_a_batch_is_answered_together_and_notifications_are_not() -> None:
    talk = Talk()
    talk.say(b'[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},7]')
    talk.asked[1][2](result(None))
    assert talk.heard() == []
    talk.asked[0][2](result(1))
    [answers] = talk.heard()
    assert {answer["id"]: answer.get("result", answer.get("error", {}).get("code")) for answer in answers} == {
        1: 1,
        None: -32600,
    }
    talk.say(b'{"jsonrpc":"2.0","method":"n"}')
    talk.asked[2][2](result(1))
    assert talk.heard() == []
    assert talk.session.unanswered == 0


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"id":1,"method":"a"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":3}', -32600),
    ],
)
def test_what_is_no_request_is_answered_with_an_error_and_not_asked(payload: bytes, code: int) -> None:
    talk = Talk()
    talk.say(payload)
    [answer] = talk.heard()
    assert answer["error"]["code"] == code
    assert talk.asked == []


def test_an_answer_of_the_client_to_nothing_harms_nothing() -> None:
    talk = Talk()
    talk.say(b'{"jsonrpc":"2.0","id":1,"result":1}')
    assert (talk.heard(), talk.asked) == ([], [])


@pytest.mark.parametrize("data", [b"x", b"01:a,", b"2000000:"])
def test_what_is_no_netstring_is_the_end(data: bytes) -> None:
    with pytest.raises(FramingParseError):
        Talk().session.feed(data)
