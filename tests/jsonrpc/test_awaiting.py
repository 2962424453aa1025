"""Calls that tasks wait for: they are woken, cancelled and timed as with any future of asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from sipwright.errors import RpcTimeoutError
from sipwright.jsonrpc.client import Client
from sipwright.testing.fakerpc import FakeRpcServer, after, never, result

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME")


def test_each_task_keeps_its_context() -> None:
    async def main() -> None:
        async with FakeRpcServer(hold=20) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("echo", result(lambda params: params))

            async def task(name: str) -> None:
                NAME.set(name)
                assert await client.call("echo", [name]) == [name]
                assert NAME.get() == name

            await asyncio.gather(*(task(str(number)) for number in range(20)))

    asyncio.run(main())


@pytest.mark.parametrize("is_debug", [False, True])
def test_timeouts_shields_and_groups_of_asyncio_work_with_calls(is_debug: bool) -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("never", never())
            rpc.on("slow", after(0.03, result(1)))
            await client.connected(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.call("never"), 0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.call("never")
            assert client.pending == 0
            task = asyncio.create_task(client.call("slow"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), 0.01)
            assert await task == 1
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.call("slow")) for _ in range(3)]
            assert [one.result() for one in tasks] == [1, 1, 1]
            outcomes: Any = await asyncio.gather(
                client.call("slow"), client.call("never", timeout=0.01), return_exceptions=True
            )
            assert outcomes[0] == 1
            assert isinstance(outcomes[1], RpcTimeoutError)

    asyncio.run(main(), debug=is_debug)


def test_a_task_is_cancelled_before_it_waits_while_it_waits_and_after_the_answer() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", never(), result(1))
            await client.connected(1)

            async def cancels_itself() -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel("mine")
                await client.call("get")

            before = asyncio.create_task(cancels_itself())
            with pytest.raises(asyncio.CancelledError):
                await before
            assert client.pending == 0

            during = asyncio.create_task(client.call("get"))
            await asyncio.sleep(0)
            during.cancel("mine")
            with pytest.raises(asyncio.CancelledError):
                await during
            assert client.pending == 0

            finished = asyncio.Event()

            async def waits() -> Any:
                answer = await client.call("get")
                finished.set()
                await asyncio.sleep(1)
                return answer

            later = asyncio.create_task(waits())
            await finished.wait()
            later.cancel()
            with pytest.raises(asyncio.CancelledError):
                await later

    asyncio.run(main())


def test_an_answer_and_a_cancellation_in_the_same_turn_end_the_task_once() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            await client.connected(1)
            task = asyncio.create_task(client.call("get"))
            # Told when the call has ended, before the task is woken.
            client.watch = lambda event, *_: task.cancel() if event == "ok" else None
            with pytest.raises(asyncio.CancelledError):
                await task
            client.watch = None
            assert client.results == 1
            assert client.pending == 0
            assert await client.call("get") == 1

    asyncio.run(main())


def test_what_an_answer_leads_to_is_sent_in_the_turn_in_which_it_came() -> None:
    async def main() -> None:
        async with FakeRpcServer() as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            await client.call("get")
            # Here the task goes on in the turn of the loop that has read the answer.
            [connection] = client._pool.connections()
            before, then = connection._written, list[int]()
            asyncio.get_running_loop().call_soon(lambda: then.append(connection._written))
            await client.call("get")
            assert then[0] > before

    asyncio.run(main())


def test_a_task_that_ends_the_program_does_not_lose_the_others() -> None:
    async def main() -> None:
        async with FakeRpcServer(hold=2) as rpc, Client(rpc.address + ",1") as client:
            rpc.on("get", result(1))
            await client.connected(1)

            async def ends_the_program() -> None:
                await client.call("get")
                raise SystemExit(3)

            # Answers come in reverse order: the program's end is woken first.
            other = asyncio.create_task(client.call("get"))
            end = asyncio.create_task(ends_the_program())
            try:
                assert await other == 1
            finally:
                with pytest.raises(SystemExit):
                    await end

    with pytest.raises(SystemExit):
        asyncio.run(main())


def test_a_client_that_was_not_started_says_so() -> None:
    async def main() -> None:
        client = Client("127.0.0.1:1,1")
        with pytest.raises(RuntimeError, match="not started"):
            await client.call("get")
        with pytest.raises(RuntimeError, match="not started"):
            await client.connected()
        await client.close()
        client.start()
        with pytest.raises(RuntimeError, match="started before"):
            client.start()
        await client.close()

    asyncio.run(main())
