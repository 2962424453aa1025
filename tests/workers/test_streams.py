"""The listening sockets that modules want."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from sipwright.errors import StartError
from sipwright.workers.privileges import Identity
from sipwright.workers.streams import OpenStreams
from tests.scenarios.processes import HOST, free_port


def can_connect(address: str) -> bool:
    kind, _, place = address.partition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_STREAM) as client:
        try:
            client.connect(place if kind == "unix" else (HOST, int(place.rpartition(":")[2])))
        except OSError:
            return False
    return True


def test_what_stays_is_open_all_the_time_and_the_rest_is_closed(tmp_path: Path) -> None:
    stays = f"tcp:{HOST}:{free_port(socket.SOCK_STREAM)}"
    goes = f"unix:{tmp_path}/goes.sock"
    comes = f"unix:{tmp_path}/comes.sock"
    streams = OpenStreams()
    streams.open([stays, goes], Identity())
    before = streams.of([stays])
    assert stat.S_IMODE((tmp_path / "goes.sock").stat().st_mode) == 0o660
    streams.open([stays, comes], Identity())
    assert {*streams.others([stays])} == {*streams.of([goes])[goes], *streams.of([comes])[comes]}
    streams.keep([stays, comes])
    assert streams.of([stays, comes, goes]).keys() == {stays, comes}
    assert streams.of([stays]) == before
    assert [can_connect(address) for address in (stays, comes, goes)] == [True, True, False]
    streams.keep(())
    assert [can_connect(address) for address in (stays, comes)] == [False, False]
    assert list(tmp_path.iterdir()) == []


def test_when_one_cannot_be_opened_none_is(tmp_path: Path) -> None:
    good = f"unix:{tmp_path}/good.sock"
    with socket.create_server((HOST, 0)) as taken:
        bad = f"tcp:{HOST}:{taken.getsockname()[1]}"
        streams = OpenStreams()
        with pytest.raises(StartError, match=f"cannot listen on {bad}: Address already in use"):
            streams.open([good, bad], Identity())
    assert streams.of([good, bad]) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_left_is_replaced_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/a.sock"
    first, second = OpenStreams(), OpenStreams()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(f"{tmp_path}/a.sock")
    first.open([address], Identity())
    with pytest.raises(StartError, match="another server listens there"):
        second.open([address], Identity())
    (tmp_path / "b").write_text("x")
    with pytest.raises(StartError, match="no socket"):
        second.open([f"unix:{tmp_path}/b"], Identity())
    first.keep(())
