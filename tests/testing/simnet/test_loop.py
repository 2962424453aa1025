"""The simulated clock: time passes only when nothing else is to be done."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from sipwright.testing.simnet import SimNetwork


def test_a_day_passes_at_once_and_timers_end_at_their_moments() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        for delay in (3600.0, 0.1, 86_400.0, 0.3):
            loop.call_later(delay, lambda: seen.append(loop.time()))
        await asyncio.sleep(200_000)
        seen.append(loop.time())
        return seen

    before = time.monotonic()
    with SimNetwork() as net:
        assert net.run(main(), limit=1e6) == [0.1, 0.3, 3600.0, 86_400.0, 200_000.0]
    assert time.monotonic() - before < 5.0


def test_moments_are_exact_after_any_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for delay in (0.1, 1 / 3, 1e-7, 1234.567, 0.7):
            for _ in range(50):
                when = loop.time() + delay
                await asyncio.sleep(delay)
                assert loop.time() == when

    with SimNetwork() as net:
        net.run(main(), limit=1e6)


def test_a_program_that_polls_gets_on() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.5
        while loop.time() < deadline:
            await asyncio.sleep(0)
        return loop.time()

    with SimNetwork() as net:
        assert 0.5 <= net.run(main()) < 0.502


def test_what_never_ends_is_ended() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with SimNetwork(seed=77) as net:
        with pytest.raises(TimeoutError) as caught:
            net.run(main(), limit=10.0)
        assert net.loop.time() == 10.0
        assert "seed 77" in caught.value.__notes__[0]


def test_a_deadlock_is_told() -> None:
    with SimNetwork() as net, pytest.raises(RuntimeError, match="deadlock"):
        net.loop.run_until_complete(asyncio.wait([net.loop.create_future()]))


def test_timeouts_and_cancelling_are_those_of_asyncio() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.sleep(6.0)
        task = asyncio.create_task(asyncio.sleep(100.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return loop.time()

    with SimNetwork() as net:
        assert net.run(main()) == 6.0
        assert net.loop.timers() == []


def test_functions_for_threads_are_called_in_this_one() -> None:
    def fail() -> None:
        raise ValueError("no")

    async def main() -> int:
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(fail)
        asyncio.get_running_loop().run_in_executor(None, fail).cancel()
        return await asyncio.to_thread(sum, [1, 2])

    with SimNetwork() as net:
        assert net.run(main()) == 3
        assert net.loop.time() == 0.0


def test_timers_that_are_left_are_told() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, print)
        loop.call_later(3.0, print)
        loop.call_later(1.0, print).cancel()

    with SimNetwork() as net:
        net.run(main())
        assert [timer.when() for timer in net.loop.timers()] == [3.0, 5.0]


def test_faults_of_callbacks_are_kept() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.call_soon(int, "rubbish")
        await asyncio.sleep(0)

    with SimNetwork() as net:
        net.run(main())
        assert [str(context["exception"]) for context in net.loop.errors] == [
            "invalid literal for int() with base 10: 'rubbish'"
        ]


def test_what_leaves_the_simulation_is_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotImplementedError, match="datagrams"):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        with pytest.raises(NotImplementedError, match="reverse"):
            await loop.getnameinfo(("127.0.0.1", 1))
        with pytest.raises(NotImplementedError):
            await asyncio.create_subprocess_exec("true")
        with socket.socket() as sock, pytest.raises(NotImplementedError, match="addresses"):
            await loop.create_server(asyncio.Protocol, sock=sock)

    with SimNetwork() as net:
        net.run(main())


def test_tasks_that_still_run_are_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def run() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            ended.append("cancelled")

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        return task

    with SimNetwork() as net:
        task = net.run(main())
        assert ended == []
    assert ended == ["cancelled"]
    assert task.cancelled()
    net.close()
