"""Which worker owns a message: the rule, and that the kernel keeps to it."""

from __future__ import annotations

import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from sipwright.sip.message import Message
from sipwright.sip.parse import parse
from sipwright.transport.udp import bind
from sipwright.workers import steering as steering_module
from sipwright.workers.steering import Steering

MARK = "a1b2c3"


def request(
    branch: str | None = "z9hG4bK-1-2-3",
    *,
    method: str = "INVITE",
    via: str = "",
    first: str = "",
    to: str = "<sip:b@b>",
    call_id: str = "1@a",
) -> bytes:
    """Return a request with this branch in its top Via, or with `via` lines as they are."""
    if not via:
        parameter = "" if branch is None else f";branch={branch}"
        via = f"Via: SIP/2.0/UDP 192.0.2.1:5060{parameter};rport\r\n"
    text = f"{method} sip:b@b SIP/2.0\r\n{first}{via}From: <sip:a@a>;tag=1\r\nTo: {to}\r\nCall-ID: {call_id}\r\n"
    return f"{text}CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n".encode()


def response(branch: str) -> bytes:
    text = f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\nFrom: <sip:a@a>;tag=1\r\n"
    return f"{text}To: <sip:b@b>;tag=2\r\nCall-ID: 1@a\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n".encode()


def owner(steering: Steering, data: bytes) -> int:
    message = parse(data)
    assert isinstance(message, Message)
    return steering.owner(message)


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("method", ["INVITE", "CANCEL", "ACK"])
@pytest.mark.parametrize(
    "via",
    [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK776asdhds\r\n",
        "v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK776asdhds\r\n",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK776asdhds,SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKother\r\n",
        "Via: SIP/2.0/UDP 192.0.2.1\r\n ;branch=z9hG4bK776asdhds\r\n",
        "VIA : SIP / 2.0 / UDP 192.0.2.1 ; rport ; BRANCH = z9hG4bK776asdhds\r\n",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK776asdhds\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKother\r\n",
    ],
)
def test_the_branch_decides_however_the_via_is_written(via: str, method: str, workers: int) -> None:
    steering = Steering(workers, MARK)
    expected = owner(steering, request("z9hG4bK776asdhds"))
    assert owner(steering, request(via=via, method=method)) == expected
    assert owner(steering, request(via=via, method=method, first="Subject: z9hG4bKnone\r\n")) == expected


@pytest.mark.parametrize("branch", [None, "1", "z9hG4bK"])
def test_without_the_magic_cookie_the_call_id_decides(branch: str | None) -> None:
    steering = Steering(5, MARK)
    owners = {owner(steering, request(branch, method=method, to=to)) for method, to in RFC2543}
    assert len(owners) == 1
    others = {owner(steering, request(branch, call_id=f"{number}@a")) for number in range(50)}
    assert others == set(range(5))


RFC2543 = [("INVITE", "<sip:b@b>"), ("CANCEL", "<sip:b@b>"), ("ACK", "<sip:b@b>;tag=theirs")]


def test_the_ack_of_a_2xx_goes_to_the_worker_in_its_to_tag() -> None:
    steering = Steering(4, MARK)
    for index in range(4):
        tag = steering.tag_prefix(index) + "-1f"
        ack = request(f"z9hG4bKnew{index * 7}", method="ACK", to=f"<sip:b@b>;tag={tag}")
        assert owner(steering, ack) == index


@pytest.mark.parametrize("branch", ["z9hG4bKnew", f"z9hG4bK{MARK}003.1"])
def test_an_invite_within_a_dialog_goes_where_its_ack_will_go(branch: str) -> None:
    steering = Steering(4, MARK)
    for index in range(4):
        to = f"<sip:b@b>;tag={steering.tag_prefix(index)}-1f"
        owners = {owner(steering, request(branch, method=method, to=to)) for method in ("INVITE", "CANCEL", "ACK")}
        assert owners == {index}


def test_a_request_within_a_dialog_that_has_no_ack_goes_by_its_branch() -> None:
    steering = Steering(4, MARK)
    for index in range(4):
        to = f"<sip:b@b>;tag={steering.tag_prefix(index)}-1f"
        assert owner(steering, request(method="BYE", to=to)) == owner(steering, request(method="BYE"))


@pytest.mark.parametrize("tag", [f"{MARK}s123", f"{MARK}999x", f"{MARK}12", MARK, "other000"])
def test_an_ack_with_another_to_tag_goes_by_its_branch(tag: str) -> None:
    steering = Steering(4, MARK)
    assert owner(steering, request(method="ACK", to=f"<sip:b@b>;tag={tag}")) == owner(steering, request())


def test_the_tag_of_every_life_of_a_worker_is_another() -> None:
    steering = Steering(4, MARK)
    assert steering.tag_prefix(1) != steering.tag_prefix(1)
    assert steering.tag_prefix(1).startswith(f"{MARK}001")
    assert not steering.tag_prefix(1).startswith(steering.stateless_prefix)


def test_a_branch_of_our_own_names_its_worker_in_requests_and_responses() -> None:
    steering = Steering(12, MARK)
    for index in range(12):
        branch = steering.branch_prefix(index) + ".1"
        assert owner(steering, response(branch)) == owner(steering, request(branch)) == index


def test_a_branch_like_ours_with_an_index_that_nobody_has_is_hashed() -> None:
    steering = Steering(2, MARK)
    assert owner(steering, request(f"z9hG4bK{MARK}002.1")) in (0, 1)
    assert owner(steering, request(f"z9hG4bK{MARK}0x1.1")) in (0, 1)


BRANCHES: dict[str, Callable[[int], str]] = {
    "decimal": lambda number: f"z9hG4bK{number}",
    "sipp": lambda number: f"z9hG4bK-4711-{number}-0",
    "hexadecimal": lambda number: f"z9hG4bK{number:08x}",
    "prefixed": lambda number: f"z9hG4bKPj{uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)}",
    "proxy": lambda number: f"z9hG4bK{number * 7919 % 65536:04x}.{number:032x}.0",
}


@pytest.mark.parametrize("workers", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("kind", BRANCHES)
def test_branches_of_every_kind_spread_evenly(kind: str, workers: int) -> None:
    steering, number = Steering(workers, MARK), 4000
    counts = Counter(owner(steering, request(BRANCHES[kind](n))) for n in range(number))
    assert len(counts) == workers
    assert max(counts.values()) <= 1.2 * number / workers
    assert min(counts.values()) >= 0.8 * number / workers


# ---- the kernel

CASES = [
    request("z9hG4bK776asdhds", first="Subject: a\r\n" * 20),
    request(via="v:SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKabc\r\n"),
    request(via="Via: SIP/2.0/UDP 192.0.2.1\r\n\t;branch=z9hG4bKabc\r\n"),
    request(via="Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKabc,SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKother\r\n"),
    request(via="Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKabc ;rport\r\n"),
    request("z9hG4bK" + "x" * 31),
    request("z9hG4bK" + "x" * 32 + "y"),
    request("z9hG4bK" + "x" * 300),
    request("z9hG4bKabc", method="CANCEL"),
    *[request(f"z9hG4bK{number * 31:x}") for number in range(40)],
]


class Group:
    """The sockets of a group, and a client."""

    def __init__(self, steering: Steering) -> None:
        self.sockets = bind("127.0.0.1", 0, steering.workers)
        self.is_steered = steering.attach(self.sockets[:1])
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.connect(self.sockets[0].getsockname())

    def chosen_for(self, data: bytes) -> int:
        self.client.send(data)
        for index, bound in enumerate(self.sockets):
            try:
                bound.recv(65535)
            except BlockingIOError:
                continue
            return index
        raise AssertionError("no socket has it")

    def close(self) -> None:
        for bound in (*self.sockets, self.client):
            bound.close()


@pytest.fixture(params=[2, 5])
def steering(request: pytest.FixtureRequest) -> Steering:
    return Steering(request.param, MARK)


@pytest.fixture
def group(steering: Steering) -> Iterator[Group]:
    made = Group(steering)
    if not made.is_steered:
        made.close()
        pytest.skip("this system's kernel does not steer")
    yield made
    made.close()


def test_the_kernel_chooses_the_owner(steering: Steering, group: Group) -> None:
    own = [steering.branch_prefix(index) + ".7" for index in range(steering.workers)]
    for data in (*CASES, *map(request, own), *map(response, own)):
        assert group.chosen_for(data) == owner(steering, data), data


def test_the_kernel_chooses_one_worker_for_all_that_it_cannot_know(group: Group) -> None:
    for data in (request(None), request("z9hG4b", call_id="x" * 700), b"", b"\r\n", b"z9hG4bK", b"z9hG4bKz9hG"):
        assert len({group.chosen_for(data) for _ in range(5)}) == 1


def test_the_program_fits_into_what_the_kernel_takes() -> None:
    instructions = len(Steering(999, MARK).program()) // 8
    assert instructions <= 4096


def test_a_system_without_the_option_is_told_by_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering_module, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        assert not Steering(2).attach([bound])
