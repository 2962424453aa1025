"""What connections that serve have in common: tasks, threads, mapped errors, and hooks that fail."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable

import pytest

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.executor import Executor, ServerEvent


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 5))


def test_it_is_full_while_as_many_run_as_may_run() -> None:
    async def main() -> None:
        executor, gate = Executor(max_concurrent=2), asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        seen = [executor.is_full]
        tasks = []
        for _ in range(2):
            tasks.append(executor.run(wait()))
            seen.append(executor.is_full)
        gate.set()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert [*seen, executor.is_full] == [False, False, True, False]

    run(main)


def test_threads_have_the_context_of_the_task_and_are_bounded() -> None:
    async def main() -> None:
        executor = Executor(max_threads=2)
        context = contextvars.ContextVar("context", default="none")
        running, most, lock = 0, 0, threading.Lock()
        together = threading.Barrier(2)

        def work() -> str:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            together.wait(2)
            with lock:
                running -= 1
            return context.get()

        context.set("mine")
        assert await asyncio.gather(*(executor.run_in_thread(work) for _ in range(6))) == ["mine"] * 6
        assert most == 2
        await executor.finish(0)
        # Others are made when they are needed again.
        assert await executor.run_in_thread(threading.active_count) > 1
        await executor.finish(0)

    run(main)


def test_a_function_in_a_thread_may_raise_anything() -> None:
    async def main() -> None:
        executor = Executor()

        def stop() -> None:
            raise StopIteration(5)

        with pytest.raises(RuntimeError, match="StopIteration"):
            await executor.run_in_thread(stop)
        with pytest.raises(ZeroDivisionError):
            await executor.run_in_thread(lambda: 1 // 0)
        await executor.finish(0)

    run(main)


def test_finishing_cancels_what_is_not_done_in_time_also_what_has_not_begun() -> None:
    async def main() -> None:
        executor, ended = Executor(), list[str]()

        async def work(name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
                ended.append(f"{name} done")
            except asyncio.CancelledError:
                ended.append(f"{name} cancelled")
                raise

        executor.run(work("short", 0.01))
        executor.run(work("long", 60))
        now = asyncio.get_running_loop().time
        await executor.finish(now() + 0.2)
        executor.run(work("late", 60))
        await executor.finish(now())
        assert ended == ["short done", "long cancelled", "late cancelled"]

    run(main)


def test_an_exception_has_the_error_of_its_nearest_class() -> None:
    class NotThere(KeyError):
        pass

    executor = Executor()
    executor.add_error(LookupError, lambda error: RpcAnswerError(1, str(error)))
    executor.add_error(NotThere, lambda error: RpcAnswerError(2, "own"))

    def code(error: Exception) -> int | None:
        found = executor.answer_error(error)
        return None if found is None else found.code

    assert [code(e) for e in (IndexError(), NotThere(), KeyError(), ValueError())] == [1, 2, 1, None]
    # One that is meant is not looked up.
    executor.add_error(Exception, lambda error: RpcAnswerError(3, "any"))
    assert [code(e) for e in (RpcAnswerError(9, "meant"), ValueError())] == [9, 3]


def test_a_fault_in_the_making_of_an_error_is_logged_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    executor = Executor()
    executor.add_error(ValueError, lambda error: RpcAnswerError(int(str(error)), ""))
    assert executor.answer_error(ValueError("no number")) is None
    assert caplog.messages == ["error while answering an exception of the class ValueError"]


def test_hooks_are_told_in_their_order_and_the_fault_of_one_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    executor, told = Executor(), list[str]()
    was_plain = executor.is_plain

    def broken(_event: ServerEvent) -> None:
        raise RuntimeError("broken")

    executor.add_hook(lambda event: told.append(f"1 {event.kind}"))
    executor.add_hook(broken)
    executor.add_hook(lambda event: told.append(f"2 {event.kind}"))
    assert (was_plain, executor.is_plain) == (True, False)
    with caplog.at_level(logging.ERROR):
        executor.tell(ServerEvent("connected", None))
    assert told == ["1 connected", "2 connected"]
    assert caplog.messages == ["error in a hook of the JSON-RPC server"]


@pytest.mark.parametrize("wrong", [0, -1, 10_001])
def test_a_batch_has_at_most_so_many_messages_as_are_decoded(wrong: int) -> None:
    with pytest.raises(ArgumentError, match="max_batch is a number from 1 to 10000"):
        Executor(max_batch=wrong)
