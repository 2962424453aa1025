"""What a server puts around its calls (L2): `async def middleware(request, call_next)`, one inside of the other.

The first that was registered is the outermost. A middleware sees unknown methods, too; it returns the result, what
`call_next` returned or another, or raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from sipwright.jsonrpc.convert import decoded
from sipwright.jsonrpc.dispatch import Method, not_found
from sipwright.jsonrpc.messages import Id, Message

if TYPE_CHECKING:  # a cycle: an executor has the middlewares
    from sipwright.jsonrpc.executor import Executor


class RpcRequest:
    """A call or notification as a middleware sees it.

    `method` is the name that was called, `connection` the RpcConnection it came on, `id` that of the request, None for
    a notification, too. `params` is an array, an object or None, as it came; another one may be put in its place. The
    `state` of the connection is the place for what middlewares tell functions.
    """

    __slots__ = ("_message", "_method", "_params", "connection")

    def __init__(self, message: Message, method: Method | None, connection: Any) -> None:
        self._message = message
        self._method = method
        # UNSET while nobody has asked: then the function's own decoder is quicker.
        self._params: Any = UNSET
        self.connection = connection

    @property
    def method(self) -> str:
        """The name of the method."""
        assert self._message.method is not None
        return self._message.method

    @property
    def id(self) -> Id:
        """The id of the request."""
        return None if self._message.id is UNSET else self._message.id

    @property
    def is_notification(self) -> bool:
        """True when nobody waits for an answer."""
        return self._message.id is UNSET

    @property
    def params(self) -> Any:
        """The parameters as Python objects. Raises RpcAnswerError when they are not Unicode."""
        if self._params is UNSET:
            self._params = decoded(self._message.params)
        return self._params

    @params.setter
    def params(self, params: Any) -> None:
        self._params = params


Next = Callable[[RpcRequest], Awaitable[Any]]
Middleware = Callable[[RpcRequest, Next], Awaitable[Any]]


async def through(executor: Executor, request: RpcRequest) -> Any:
    """Call the function of a request through all middlewares, and return its result."""
    return await _next(executor, 0)(request)


def _next(executor: Executor, index: int) -> Next:
    async def call_next(request: RpcRequest) -> Any:
        if index < len(executor.middlewares):
            return await executor.middlewares[index](request, _next(executor, index + 1))
        return await _call(executor, request)

    return call_next


async def _call(executor: Executor, request: RpcRequest) -> Any:
    method = request._method  # noqa: SLF001  same file
    if method is None:
        raise not_found()
    message, params = request._message, request._params  # noqa: SLF001  same file
    if params is UNSET:
        call = partial(method.invoke, message.params, request.connection)
    else:
        call = partial(method.call, params, request.connection)
    result = await executor.run_in_thread(call) if method.in_thread else call()
    return await result if type(result) is CoroutineType else result
