"""The life of a fake server with real sockets: in the event loop of the test, or in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class FakeServer(ABC):
    """Runs from `start` to `stop` in `async with`, and in code without an event loop in `with`, in a thread."""

    _own_loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    @abstractmethod
    async def start(self) -> None:
        """Listen, in the running event loop."""

    @abstractmethod
    async def stop(self) -> None:
        """Listen no more."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._own_loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result()
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._own_loop is not None
        try:
            asyncio.run_coroutine_threadsafe(self.stop(), self._own_loop).result()
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        assert self._own_loop is not None
        assert self._thread is not None
        self._own_loop.call_soon_threadsafe(self._own_loop.stop)
        self._thread.join()
        self._own_loop.close()
