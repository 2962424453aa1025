"""Services as classes (L0): methods that are only declared, and are calls of a client; knows no connection.

    class Users(Service, prefix="users."):
        async def get_user(self, id: int) -> User: ...

    users = Users(client)
    user = await users.get_user(7)

The signature of a method is the interface: its arguments are the params, its return annotation what the result is
decoded to. Its body is never run. With `async def` the class is for a `Client`, with `def` for a `SyncClient`. What
is wrong with a class is said when it is made, and when it is first constructed, since only then all names in its
annotations are known.

The same class is what a server implements: a subclass with `implementation=True` has bodies that are run.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar, get_type_hints

from sipwright.jsonrpc.binding import Binder
from sipwright.jsonrpc.typed import decoder_for

F = TypeVar("F", bound=Callable[..., Any])
ParamsAs = Literal["object", "array"]

_DECLARED: Final = "__sipwright_remote__"


class ServiceClient(Protocol):
    """What a service needs of a client; with `call` as a coroutine function it is one for `async` methods."""

    def call(self, method: str, params: Any = None, /) -> Any:
        """Call a method; further arguments are those of `Client.call`."""

    def notify(self, method: str, params: Any = None, /) -> Any:
        """Send a notification; further arguments are those of `Client.notify`."""


@dataclass(slots=True)
class _Declared:
    """What `remote` says of a method."""

    method: str | None = None
    params: ParamsAs | None = None
    notify: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def remote(
    *,
    method: str | None = None,
    params: ParamsAs | None = None,
    notify: bool = False,
    idempotent: bool = False,
    timeout: float | None = None,
    retry: int | None = None,
    group: str | None = None,
    hedge: float | None = None,
) -> Callable[[F], F]:
    """Say how a method of a `Service` is called.

    `method` is its name for the server, behind the prefix of the class; `params` how arguments are sent, `"object"` by
    name or `"array"` by position. With `notify` it is a notification, and its return annotation has to be None. The
    others are those of `Client.call`. Raises TypeError for what a notification does not have.
    """
    options: dict[str, Any] = {"timeout": timeout, "group": group}
    calling: dict[str, Any] = {"retry": retry, "hedge": hedge, "idempotent": idempotent or None}
    if notify and any(value is not None for value in calling.values()):
        raise TypeError("a notification is sent once and not answered: no retry, hedge or idempotent")
    given = {name: value for name, value in {**options, **calling}.items() if value is not None}

    def mark(function: F) -> F:
        setattr(function, _DECLARED, _Declared(method, params, notify, given))
        return function

    return mark


class Service:
    """A service of a server; subclasses declare its methods, as plain or `async` functions.

    `prefix` is put before their names, `params` ("object" unless said otherwise) is how arguments are sent, `group` the
    client's group of servers that is asked; `remote` says more for one method. A default is not sent unless it is
    given. The result is decoded to what the return annotation says, and RpcResultError is raised when it has another
    shape; with `-> None` any result is taken and dropped. Names that begin with an underscore, properties, static and
    class methods are left as they are.

    The constructor takes the client: a `Client` for `async` methods, a `SyncClient` for plain ones. Raises TypeError
    when it is the other kind, or when an annotation cannot be resolved, or a result not be decoded to it.

    With `implementation=True` a subclass has the methods that a server runs: all of them, with the parameters of the
    interface. `methods_of` an object of it is what the server offers.
    """

    _is_implementation: ClassVar[bool] = False
    _remote_methods: ClassVar[dict[str, _RemoteMethod]] = {}
    _settings: ClassVar[tuple[str, ParamsAs, str | None]] = ("", "object", None)

    def __init_subclass__(
        cls,
        *,
        prefix: str | None = None,
        params: ParamsAs | None = None,
        group: str | None = None,
        implementation: bool = False,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        former = cls._settings
        cls._settings = (
            former[0] if prefix is None else prefix,
            former[1] if params is None else params,
            former[2] if group is None else group,
        )
        if implementation or cls._is_implementation:
            cls._is_implementation = True
            _check_implementation(cls)
            return
        # Types that are made inside a function are known by their names only there.
        frame = sys._getframe(1)  # noqa: SLF001 - there is no public way that does not look at the whole stack
        names = None if frame.f_locals is frame.f_globals else dict(frame.f_locals)
        cls._remote_methods = methods = dict(cls._remote_methods)
        for name, function in list(vars(cls).items()):
            if not name.startswith("_") and inspect.isfunction(function):
                methods[name] = method = _RemoteMethod(cls._settings, function, names)
                setattr(cls, name, method.proxy)
        if len({method.is_async for method in methods.values()}) > 1:
            raise TypeError(f"{_name(cls)} has plain and async methods: a client is of one kind")

    def __init__(self, client: ServiceClient) -> None:
        cls = type(self)
        if cls._is_implementation:
            raise TypeError(f"{_name(cls)} is an implementation, which has no client")
        is_async = inspect.iscoroutinefunction(getattr(client, "call", None))
        for method in cls._remote_methods.values():
            method.resolve()
            if method.is_async != is_async:
                expected = "async methods and needs a Client" if method.is_async else "plain methods, for a SyncClient"
                raise TypeError(f"{_name(cls)} has {expected}: this is a {type(client).__qualname__}")
        self._client = client


def methods_of(implementation: Service) -> dict[str, Callable[..., Any]]:
    """Return what a server is to offer: the bound functions, by the names that clients call them by.

    Raises TypeError for what is no implementation of a service.
    """
    cls = type(implementation)
    if not cls._is_implementation:
        raise TypeError(f"{_name(cls)} is no implementation: class ...(..., implementation=True)")
    return {method.method: getattr(implementation, name) for name, method in cls._remote_methods.items()}


class _RemoteMethod:
    """One method: what its function declares, and `proxy`, which is there in its place."""

    __slots__ = ("_function", "_locals", "_options", "binder", "is_async", "is_notification", "method", "name", "proxy")

    def __init__(
        self,
        settings: tuple[str, ParamsAs, str | None],
        function: Callable[..., Any],
        names: dict[str, Any] | None,
    ) -> None:
        prefix, params, group = settings
        declared: _Declared = getattr(function, _DECLARED, None) or _Declared()
        self.name = _name(function)
        self.method = prefix + (declared.method or function.__name__)
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_notification = declared.notify
        self._function: Callable[..., Any] | None = function
        self._locals = names
        # What the client is given with each call; `result` is added when the annotations are resolved.
        self._options: dict[str, Any] = {} if group is None else {"group": group}
        self._options.update(declared.options)
        params = declared.params or params
        if params not in ("object", "array"):
            raise TypeError(f"{self.name}: params is 'object' or 'array', not {params!r}")
        self.binder = Binder(self.name, function, params == "array")
        self._check_return(function)
        self.proxy = self._make_proxy(function)

    def _check_return(self, function: Callable[..., Any]) -> None:
        annotation = inspect.signature(function).return_annotation
        if annotation is inspect.Signature.empty:
            raise TypeError(f"{self.name} does not say what its result is: it needs an annotation, -> Any for anything")
        if self.is_notification and annotation not in (None, "None"):
            raise TypeError(f"{self.name} is a notification, which has no result: -> None")

    def resolve(self) -> None:
        """Find out what the result is to be decoded to; once."""
        if self._function is None:
            return
        # Only this annotation: those of parameters may be for type checkers alone.
        annotation = SimpleNamespace(__annotations__={"return": self._function.__annotations__["return"]})
        try:
            type_ = get_type_hints(annotation, self._function.__globals__, self._locals, include_extras=True)["return"]
            if type_ is not Any and type_ is not type(None):
                decoder_for(type_)
                self._options["result"] = type_
        except (NameError, TypeError, SyntaxError, AttributeError) as error:
            raise TypeError(f"{self.name}: its return annotation: {error}") from None
        self._function = self._locals = None

    def _make_proxy(self, function: Callable[..., Any]) -> Callable[..., Any]:
        method, params, options, is_async = self.method, self.binder.params, self._options, self.is_async
        is_dropped = inspect.signature(function).return_annotation in (None, "None")

        def call(self: Service, /, *args: Any, **kwargs: Any) -> Any:
            return self._client.call(method, params(args, kwargs), **options)

        def call_and_drop(self: Service, /, *args: Any, **kwargs: Any) -> Any:
            outcome = self._client.call(method, params(args, kwargs), **options)
            return _drop(outcome) if is_async else None

        def notify(self: Service, /, *args: Any, **kwargs: Any) -> Any:
            return self._client.notify(method, params(args, kwargs), **options)

        return wraps(function)(notify if self.is_notification else call_and_drop if is_dropped else call)


def _name(thing: type[Any] | Callable[..., Any]) -> str:
    return thing.__qualname__.rpartition("<locals>.")[2]


async def _drop(call: Any) -> None:
    await call


def _check_implementation(cls: type[Service]) -> None:
    """Raise TypeError unless a class has all methods of its interface, with parameters that take what clients send."""
    missing: list[str] = []
    for name, method in cls._remote_methods.items():
        function = getattr(cls, name)
        if function is method.proxy:
            missing.append(name)
        elif unfit := method.binder.unfit(function):
            raise TypeError(f"{_name(cls)}.{name} {unfit}: {method.name} declares it otherwise")
    if missing:
        raise TypeError(f"{_name(cls)} does not implement {', '.join(missing)}")
