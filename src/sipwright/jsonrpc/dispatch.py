"""The methods of a server (L0): names to functions, with what each of them may use.

That parameters fit a function's signature is checked before it is called (`convert`): so a TypeError inside a function
is never mistaken for wrong parameters.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from msgspec import Raw, UnsetType

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.convert import Function, Signature
from sipwright.jsonrpc.limits import NO_LIMITS, Limits, Places, TokenBucket
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND
from sipwright.jsonrpc.service import Service, methods_of

F = TypeVar("F", bound=Callable[..., Any])


class Method(Signature):
    """A function, its parameters and its limits.

    `is_plain` is True when calling it needs nothing but its parameters.
    """

    __slots__ = ("bucket", "in_thread", "is_plain", "name", "places", "timeout")

    def __init__(
        self, function: Function, name: str = "", limits: Limits = NO_LIMITS, injected: type | None = None
    ) -> None:
        super().__init__(function, injected)
        self.name = name
        self.bucket = None if limits.rate is None else TokenBucket(limits.rate)
        self.places = None if limits.concurrency is None else Places(limits.concurrency)
        self.timeout = limits.timeout
        self.in_thread = limits.thread and not is_async(function)
        self.is_plain = not (self.bucket or self.places or self.timeout or self.in_thread)


class Dispatcher:
    """The table of methods.

    `find(name)` returns a Method or None. `injected` is the class whose instances a function gets for a parameter of
    that annotation.
    """

    __slots__ = ("_builtin", "_injected", "_methods", "find")

    find: Callable[[str], Method | None]

    def __init__(self, injected: type | None = None) -> None:
        self._methods: dict[str, Method] = {}
        self._builtin: set[str] = set()
        self._injected = injected
        # 40 ns less than a method that looks it up.
        self.find = self._methods.get

    def add(self, name: str, function: Function, limits: Limits = NO_LIMITS, *, is_builtin: bool = False) -> None:
        """Make a function callable under a name. One that is built in is not listed, and can be replaced.

        Raises ArgumentError when the name is taken or empty or an annotation cannot be used, TypeError when `function`
        cannot be called.
        """
        if not callable(function):
            raise TypeError(f"method {name!r} is not callable: {function!r}")
        if not name:
            raise ArgumentError("a method must have a name")
        if name in self._methods and name not in self._builtin:
            raise ArgumentError(f"there is a method {name!r} already")
        self._methods[name] = Method(function, name, limits, self._injected)
        (self._builtin.add if is_builtin else self._builtin.discard)(name)

    def decorate(self, function_or_name: F | str | None, limits: Limits = NO_LIMITS) -> F | Callable[[F], F]:
        """Add a function under its own name and return it; given a name or None, return a decorator that does so."""
        if function_or_name is not None and not isinstance(function_or_name, str):
            self.add(function_or_name.__name__, function_or_name, limits)
            return function_or_name
        name = function_or_name

        def register(function: F) -> F:
            self.add(name or function.__name__, function, limits)
            return function

        return register

    def add_service(self, service: object, prefix: str = "", limits: Limits = NO_LIMITS) -> None:
        """Make the public methods of an object callable, each under `prefix` and its own name. Raises as `add` does.

        Public are the functions of its class and of the classes that it is made from, without a leading underscore. An
        implementation of a `Service` has the methods and names that this declares.
        """
        if isinstance(service, Service):
            methods = methods_of(service)
        else:
            names = [name for name in dir(type(service)) if not name.startswith("_")]
            methods = {name: getattr(service, name) for name in names if _is_function(type(service), name)}
        if not methods:
            raise ArgumentError(f"{service!r} has no public methods")
        for name, function in methods.items():
            self.add(prefix + name, function, limits)

    def call(self, name: str, params: Raw | UnsetType, connection: Any = None) -> Any:
        """Call a method with the params member as it was read; return what the function returns, maybe a coroutine.

        Limits are not looked at. Raises RpcAnswerError -32601 for an unknown method, -32602 for parameters that do not
        fit; whatever the function raises.
        """
        method = self.find(name)
        if method is None:
            raise not_found()
        return method.invoke(params, connection)

    def methods(self) -> list[Method]:
        """Return the methods that are not built in, in the order in which they were added."""
        return [method for name, method in self._methods.items() if name not in self._builtin]

    def __iter__(self) -> Iterator[str]:
        return (method.name for method in self.methods())


def not_found() -> RpcAnswerError:
    """Return the error for a method that there is not."""
    return RpcAnswerError(METHOD_NOT_FOUND, "Method not found")


def is_async(function: Function) -> bool:
    """Tell whether calling a function gives a coroutine, as far as that can be known before."""
    inner = getattr(function, "func", function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(vars(type(inner)).get("__call__"))


def _is_function(kind: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(kind, name), types.FunctionType | staticmethod | classmethod)
