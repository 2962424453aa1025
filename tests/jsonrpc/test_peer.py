"""The peer: each answer finds its call once; everything else is counted and harms nothing."""

from __future__ import annotations

import json

from sipwright.errors import JsonRpcParseError
from sipwright.jsonrpc.messages import Message, request_head
from sipwright.jsonrpc.peer import MAX_ABANDONED, Peer


class Call:
    id = 0


class World:
    def __init__(self, serves: bool = False) -> None:
        self.answers: list[int] = []
        self.requests: list[tuple[list[Message | JsonRpcParseError], bool]] = []
        requested = (lambda messages, is_batch: self.requests.append((messages, is_batch))) if serves else None
        self.peer: Peer[Call] = Peer(self.answered, requested)

    def answered(self, call: Call, message: Message) -> None:
        self.answers.append(call.id)

    def ask(self) -> Call:
        call = Call()
        self.peer.request(call, request_head("m"), None)
        return call

    def counts(self) -> tuple[int, int, int, int]:
        return self.peer.late, self.peer.doubled, self.peer.unknown, self.peer.malformed


def test_a_request_has_its_members_in_the_order_of_the_contract() -> None:
    peer = World().peer
    payload = peer.request(Call(), request_head("get_user"), b'{"id":1234}')
    assert payload == b'{"id":1,"jsonrpc":"2.0","method":"get_user","params":{"id":1234}}'
    assert peer.request(Call(), request_head("get_user"), None) == b'{"id":2,"jsonrpc":"2.0","method":"get_user"}'


def test_a_method_name_is_written_as_json() -> None:
    payload = World().peer.request(Call(), request_head('a"b'), None)
    assert json.loads(payload)["method"] == 'a"b'


def test_answers_find_their_calls_in_any_order() -> None:
    world = World()
    first, second, third = world.ask(), world.ask(), world.ask()
    for call in (third, first, second):
        world.peer.receive(b'{"result":1,"id":%d}' % call.id)
    assert world.answers == [third.id, first.id, second.id]
    assert not world.peer.pending
    assert world.counts() == (0, 0, 0, 0)


def test_an_id_that_comes_back_as_a_string_finds_its_call() -> None:
    world = World()
    world.ask()
    world.peer.receive(b'{"result":1,"id":"1"}')
    assert len(world.answers) == 1


def test_late_doubled_and_unknown_answers_are_counted_and_dropped() -> None:
    world = World()
    answered, abandoned = world.ask(), world.ask()
    world.peer.receive(b'{"result":1,"id":%d}' % answered.id)
    world.peer.abandon(abandoned)
    world.peer.abandon(abandoned)
    world.peer.receive(b'{"result":1,"id":%d}' % answered.id)
    world.peer.receive(b'{"result":1,"id":%d}' % abandoned.id)
    world.peer.receive(b'{"result":1,"id":%d}' % abandoned.id)
    for text in (b"99", b"0", b"-1", b"null", b'"x"'):
        world.peer.receive(b'{"result":1,"id":%b}' % text)
    assert world.counts() == (1, 2, 5, 0)
    assert len(world.answers) == 1


def test_only_so_many_abandoned_ids_are_remembered() -> None:
    world = World()
    calls = [world.ask() for _ in range(MAX_ABANDONED + 1)]
    for call in calls:
        world.peer.abandon(call)
    world.peer.receive(b'{"result":1,"id":1}')
    world.peer.receive(b'{"result":1,"id":2}')
    assert world.counts() == (1, 1, 0, 0)


def test_a_batch_of_answers_is_taken_one_by_one() -> None:
    world = World()
    world.ask(), world.ask()
    world.peer.receive(b'[{"result":1,"id":2},{"error":{"code":1,"message":"m"},"id":1},{"result":1,"id":9}]')
    assert world.answers == [2, 1]
    assert world.counts() == (0, 0, 1, 0)


def test_a_pending_call_that_is_answered_with_neither_member_is_answered() -> None:
    for serves in (False, True):
        world = World(serves)
        world.ask()
        world.peer.receive(b'{"id":1}')
        assert len(world.answers) == 1
        assert not world.requests


def test_rubbish_is_counted() -> None:
    world = World()
    world.ask()
    for payload in (b"", b"x", b"1", b"[]", b'{"id":', b'{"id":true,"result":1}'):
        world.peer.receive(payload)
    assert world.counts() == (0, 0, 0, 6)
    assert len(world.peer.pending) == 1


def test_requests_of_the_other_end_are_handed_over_and_do_not_answer_calls() -> None:
    world = World(serves=True)
    world.ask()
    world.peer.receive(b'{"jsonrpc":"2.0","method":"m","id":1}')
    world.peer.receive(b'{"jsonrpc":"2.0","method":"m"}')
    world.peer.receive(b'{"foo":"boo"}')
    world.peer.receive(b"x")
    world.peer.receive(b'[{"jsonrpc":"2.0","method":"m","id":1},{"result":1,"id":1},1]')
    assert [(len(messages), is_batch) for messages, is_batch in world.requests] == [
        (1, False),
        (1, False),
        (1, False),
        (1, False),
        (2, True),
    ]
    assert len(world.answers) == 1


def test_the_calls_of_a_lost_connection_come_back_in_their_order() -> None:
    world = World()
    calls = [world.ask() for _ in range(3)]
    assert world.peer.take_all() == calls
    assert world.peer.take_all() == []
