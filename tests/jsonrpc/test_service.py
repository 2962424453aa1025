"""Service classes: what is sent for a call, what a result becomes, what is said of a class that cannot work."""
# ruff: noqa: A002, A006 - the names of parameters are part of the interface

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipwright.jsonrpc.service import Service, methods_of, remote
from sipwright.jsonrpc.typed import decoder_for


class User(msgspec.Struct):
    id: int
    name: str = ""


class Recorder:
    """A client without a network, for plain methods: it keeps what it is asked and answers with `text`."""

    def __init__(self, text: bytes = b"null") -> None:
        self.text = text
        self.asked: list[tuple[str, Any, dict[str, Any]]] = []

    def call(self, method: str, params: Any = None, /, *, result: Any = Any, **options: Any) -> Any:
        self.asked.append((method, params, options))
        return decoder_for(result)(self.text, method)

    def notify(self, method: str, params: Any = None, /, **options: Any) -> None:
        self.asked.append((method, params, {"notify": True, **options}))


class AsyncRecorder:
    """The same for async methods."""

    def __init__(self, text: bytes = b"null") -> None:
        self._recorder = Recorder(text)
        self.asked = self._recorder.asked

    async def call(self, method: str, params: Any = None, /, **options: Any) -> Any:
        return self._recorder.call(method, params, **options)

    async def notify(self, method: str, params: Any = None, /, **options: Any) -> None:
        self._recorder.notify(method, params, **options)


class Users(Service):
    def get_user(self, id: int, *, full: bool = False) -> User:
        raise NotImplementedError

    def list_users(self, limit: int = 10, **filters: str) -> list[User]:
        raise NotImplementedError

    def delete(self, id: int) -> None: ...

    def anything(self) -> Any: ...

    @remote(notify=True)
    def seen(self, id: int) -> None: ...


class AsyncUsers(Service, prefix="users.", group="users"):
    async def get_user(self, id: int) -> User | None:
        raise NotImplementedError

    async def delete(self, id: int) -> None: ...

    @remote(method="find", idempotent=True, timeout=0.25, retry=2, hedge=0.1, group="search", params="array")
    async def search(self, name: str, limit: int = 10, offset: int = 0) -> list[User]:
        raise NotImplementedError

    @remote(notify=True, timeout=1.5)
    async def seen(self, id: int) -> None: ...


def test_arguments_are_sent_by_name_and_the_result_is_what_the_annotation_says() -> None:
    client = Recorder(b'{"id":7,"name":"Petros"}')
    users = Users(client)
    assert users.get_user(7) == User(7, "Petros")
    assert users.get_user(id=7, full=True) == User(7, "Petros")
    assert client.asked == [("get_user", {"id": 7}, {}), ("get_user", {"id": 7, "full": True}, {})]


def test_a_default_is_not_sent_unless_it_is_given() -> None:
    client = Recorder(b"[]")
    users = Users(client)
    users.list_users()
    users.list_users(10)
    users.list_users(city="Prague")
    assert [params for _, params, _ in client.asked] == [None, {"limit": 10}, {"city": "Prague"}]


def test_any_result_is_taken_and_dropped_where_none_is_wanted() -> None:
    users = Users(Recorder(b'{"deleted":1}'))
    assert users.delete(7) is None  # type: ignore[func-returns-value]
    assert users.anything() == {"deleted": 1}


def test_a_notification_is_sent_as_one() -> None:
    client = Recorder()
    Users(client).seen(7)
    assert client.asked == [("seen", {"id": 7}, {"notify": True})]


def test_async_methods_are_awaited_with_their_options() -> None:
    client = AsyncRecorder(b"null")
    users = AsyncUsers(client)

    async def main() -> None:
        assert await users.get_user(7) is None
        assert await users.delete(7) is None  # type: ignore[func-returns-value]
        await users.seen(id=7)

    asyncio.run(main())
    assert client.asked == [
        ("users.get_user", {"id": 7}, {"group": "users"}),
        ("users.delete", {"id": 7}, {"group": "users"}),
        ("users.seen", {"id": 7}, {"group": "users", "notify": True, "timeout": 1.5}),
    ]


def test_what_remote_says_of_a_method_goes_before_what_the_class_says() -> None:
    client = AsyncRecorder(b"[]")
    asyncio.run(_await(AsyncUsers(client).search("petros")))
    options = {"group": "search", "idempotent": True, "timeout": 0.25, "retry": 2, "hedge": 0.1}
    assert client.asked == [("users.find", ["petros"], options)]


def test_in_an_array_defaults_are_sent_only_before_what_is_given() -> None:
    client = AsyncRecorder(b"[]")
    users = AsyncUsers(client)

    async def main() -> None:
        await users.search("a", 5)
        await users.search("a", offset=3)
        await users.search(limit=2, name="a")

    asyncio.run(main())
    assert [params for _, params, _ in client.asked] == [["a", 5], ["a", 10, 3], ["a", 2]]


class Adder(Service, params="array"):
    def add(self, first: int = 0, *more: int) -> int:
        raise NotImplementedError


def test_an_array_takes_any_number_where_the_signature_does() -> None:
    client = Recorder(b"6")
    assert Adder(client).add(1, 2, 3) == 6
    Adder(client).add()
    Adder(client).add(first=1)
    assert [params for _, params, _ in client.asked] == [[1, 2, 3], None, [1]]


def test_structs_and_the_like_are_given_to_the_client_as_they_are() -> None:
    class Store(Service):
        def save(self, user: User) -> None: ...

    client = Recorder()
    Store(client).save(User(7))
    assert client.asked == [("save", {"user": User(7)}, {})]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: u.get_user(), "Users.get_user() missing a required argument: 'id'"),
        (lambda u: u.get_user(1, 2), "Users.get_user() too many positional arguments"),
        (lambda u: u.get_user(1, id=2), "Users.get_user() multiple values for argument 'id'"),
        (lambda u: u.get_user(1, fulll=True), "Users.get_user() got an unexpected keyword argument 'fulll'"),
        (lambda u: u.list_users(1, 2), "Users.list_users() too many positional arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error_and_nothing_is_sent(
    call: Callable[[Any], Any], message: str
) -> None:
    client = Recorder()
    with pytest.raises(TypeError) as caught:
        call(Users(client))
    assert str(caught.value) == message
    assert client.asked == []


def test_an_async_method_refuses_arguments_when_it_is_called_as_any_function_does() -> None:
    with pytest.raises(TypeError, match=r"^AsyncUsers.get_user\(\) missing"):
        AsyncUsers(AsyncRecorder()).get_user()  # type: ignore[call-arg, unused-coroutine]


def test_a_method_shows_its_signature_and_its_docstring() -> None:
    class Documented(Service):
        def get(self, id: int) -> Any:
            """Return it."""

    assert list(inspect.signature(Documented.get).parameters) == ["self", "id"]
    assert Documented.get.__doc__ == "Return it."


def test_types_of_a_function_are_known_to_a_class_that_is_made_in_it() -> None:
    class Local(msgspec.Struct):
        x: int

    class Locals(Service):
        def get(self) -> list[Local]:
            raise NotImplementedError

    assert Locals(Recorder(b'[{"x":1}]')).get() == [Local(1)]


class EarlyService(Service):
    def get(self) -> Late:
        raise NotImplementedError


class Late(msgspec.Struct):
    x: int


def test_a_type_may_be_made_after_the_class_that_names_it() -> None:
    assert EarlyService(Recorder(b'{"x":1}')).get() == Late(1)


def test_what_begins_with_an_underscore_is_a_method_as_any_other() -> None:
    class Mixed(Service):
        def get(self, id: int) -> int:
            raise NotImplementedError

        def _twice(self, id: int) -> int:
            return 2 * self.get(id)

        @property
        def both(self) -> int:
            return self._twice(1) + 1

        @staticmethod
        def three() -> int:
            return 3

    assert Mixed(Recorder(b"5")).both + Mixed.three() == 14


def test_a_subclass_has_the_methods_of_its_base_and_more() -> None:
    class More(Users, prefix="more."):
        def count(self) -> int:
            raise NotImplementedError

    client = Recorder(b"7")
    assert More(client).count() == 7
    More(client).anything()
    assert [method for method, _, _ in client.asked] == ["more.count", "anything"]


# What cannot work


def no_annotation() -> None:
    class Bad(Service):
        def get(self, id: int):  # type: ignore[no-untyped-def]
            ...


def both_kinds() -> None:
    class Bad(Service):
        def get(self) -> Any: ...

        async def fetch(self) -> Any: ...


def kind_of_another() -> None:
    class Bad(Users):
        async def fetch(self) -> Any: ...


def notification_with_result() -> None:
    class Bad(Service):
        @remote(notify=True)
        def get(self) -> int:
            raise NotImplementedError


def notification_with_tries() -> None:
    remote(notify=True, retry=1)


def no_self() -> None:
    class Bad(Service):
        def get() -> Any:  # type: ignore[misc]
            ...


def no_name() -> None:
    class Bad(Service):
        def get(self, *ids: int) -> Any: ...


def no_name_either() -> None:
    class Bad(Service):
        def get(self, id: int, /) -> Any: ...


def no_position() -> None:
    class Bad(Service, params="array"):
        def get(self, *, id: int) -> Any: ...


def no_such_manner() -> None:
    class Bad(Service, params="list"):  # type: ignore[arg-type]
        def get(self) -> Any: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_annotation, "Bad.get does not say what its result is: it needs an annotation, -> Any for anything"),
        (both_kinds, "Bad has plain and async methods: a client is of one kind"),
        (kind_of_another, "Bad has plain and async methods: a client is of one kind"),
        (notification_with_result, "Bad.get is a notification, which has no result: -> None"),
        (notification_with_tries, "a notification is sent once and not answered: no retry, hedge or idempotent"),
        (no_self, "Bad.get has no self"),
        (no_name, "Bad.get: '*ids: int' has no name, but params are sent as an object (params='array'?)"),
        (no_name_either, "Bad.get: 'id: int' has no name, but params are sent as an object (params='array'?)"),
        (no_position, "Bad.get: 'id: int' has no position, but params are sent as an array"),
        (no_such_manner, "Bad.get: params is 'object' or 'array', not 'list'"),
    ],
)
def test_a_mistake_in_a_class_is_told_when_it_is_made(make: Callable[[], None], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    # Annotations are texts here, which `inspect` shows in quotes.
    assert str(caught.value).replace(": \\'int\\'", ": int").replace('"', "'").replace(": 'int'", ": int") == message


def test_a_client_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="Users has plain methods, for a SyncClient: this is a AsyncRecorder"):
        Users(AsyncRecorder())
    with pytest.raises(TypeError, match="AsyncUsers has async methods and needs a Client: this is a Recorder"):
        AsyncUsers(Recorder())


class Unknown(Service):
    def get(self) -> Nobody:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError


class Undecodable(Service):
    def get(self) -> Recorder:
        raise NotImplementedError


def test_an_annotation_that_is_no_type_of_a_result_is_told_when_the_service_is_constructed() -> None:
    with pytest.raises(TypeError, match=r"Unknown.get: its return annotation: name 'Nobody' is not defined"):
        Unknown(Recorder())
    with pytest.raises(TypeError, match=r"Undecodable.get: its return annotation: no type that JSON can be decoded to"):
        Undecodable(Recorder())


# Implementations


class UsersHere(Users, implementation=True):
    def __init__(self, names: dict[int, str]) -> None:
        self._names = names

    def get_user(self, id: int, *, full: bool = False, and_more: int = 0) -> User:
        return User(id, self._names[id])

    def list_users(self, limit: int = 5, **filters: str) -> list[User]:
        return [User(*item) for item in self._names.items()][:limit]

    def delete(self, id: int) -> None:
        del self._names[id]

    def anything(self) -> Any:
        return None

    def seen(self, id: int) -> None: ...


def test_an_implementation_runs_and_is_what_a_server_offers() -> None:
    here = UsersHere({7: "Petros"})
    methods = methods_of(here)
    assert list(methods) == ["get_user", "list_users", "delete", "anything", "seen"]
    assert methods["get_user"](id=7) == User(7, "Petros")


def test_an_implementation_of_async_methods_is_offered_under_their_wire_names() -> None:
    class Here(AsyncUsers, implementation=True):
        def __init__(self) -> None: ...

        async def get_user(self, id: int) -> User | None:
            return User(id)

        async def delete(self, id: int) -> None: ...

        async def search(self, name: str, limit: int = 10, offset: int = 0) -> list[User]:
            return []

        async def seen(self, id: int) -> None: ...

    assert list(methods_of(Here())) == ["users.get_user", "users.delete", "users.find", "users.seen"]


def test_a_method_that_is_not_implemented_is_told() -> None:
    with pytest.raises(TypeError, match="Half does not implement list_users, delete, anything, seen"):

        class Half(Users, implementation=True):
            def get_user(self, id: int, *, full: bool = False) -> User:
                return User(id)


@pytest.mark.parametrize(
    ("base", "function", "message"),
    [
        (Users, lambda self, id: 1, "Bad.get_user does not take 'full'"),
        (Users, lambda self, id, full, more: 1, "Bad.get_user demands 'full', 'more'"),
        (Users, lambda self, **names: 1, ""),
        (Adder, lambda self, first: 1, "Bad.add takes 1 arguments"),
        (Adder, lambda self, first, *more: 1, "Bad.add demands 1 arguments"),
        (Adder, lambda self, a=0, *b: 1, ""),
    ],
)
def test_an_implementation_takes_all_that_clients_may_send(
    base: type[Service], function: Callable[..., Any], message: str
) -> None:
    namespace = {name: lambda self, *args, **names: 1 for name in base._remote_methods}
    namespace["add" if base is Adder else "get_user"] = function
    if message:
        with pytest.raises(TypeError, match=message):
            types.new_class("Bad", (base,), {"implementation": True}, lambda made: made.update(namespace))
    else:
        types.new_class("Good", (base,), {"implementation": True}, lambda made: made.update(namespace))


def test_an_implementation_has_no_client_and_a_proxy_offers_nothing() -> None:
    class NoConstructor(Adder, implementation=True):
        def add(self, first: int = 0, *more: int) -> int:
            return first + sum(more)

    with pytest.raises(TypeError, match="NoConstructor is an implementation, which has no client"):
        NoConstructor(Recorder())
    with pytest.raises(TypeError, match=r"Users is no implementation: class ...\(..., implementation=True\)"):
        methods_of(Users(Recorder()))


# What type checkers see

CHECKED = """
from typing import Any
import msgspec
from sipwright.jsonrpc.service import Service, remote
from sipwright.jsonrpc.typed import decoder_for

class User(msgspec.Struct):
    id: int

class Users(Service, prefix="users."):
    async def get_user(self, id: int) -> User:
        raise NotImplementedError

    @remote(idempotent=True)
    async def find(self, name: str, limit: int = 10) -> list[User]:
        raise NotImplementedError

class Plain(Service):
    @remote(notify=True)
    def seen(self, id: int) -> None: ...

async def main(users: Users, plain: Plain) -> None:
    reveal_type(await users.get_user(7))
    reveal_type(await users.find("x"))
    reveal_type(decoder_for(list[User])(b""))
    await users.get_user("7")
    await users.find()
    plain.sean(7)
"""


def test_mypy_sees_the_types_of_a_service(tmp_path: Path) -> None:
    file = tmp_path / "checked.py"
    file.write_text(CHECKED)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = [line.partition("checked.py:")[2].partition(":")[2].strip() for line in done.stdout.splitlines()]
    assert said[:-1] == [
        'note: Revealed type is "checked.User"',
        'note: Revealed type is "list[checked.User]"',
        'note: Revealed type is "list[checked.User]"',
        'error: Argument 1 to "get_user" of "Users" has incompatible type "str"; expected "int"  [arg-type]',
        'error: Missing positional argument "name" in call to "find" of "Users"  [call-arg]',
        'error: "Plain" has no attribute "sean"  [attr-defined]',
    ]


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
