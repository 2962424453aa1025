"""Results as the types that callers want (L0): a decoder for each type, and what is said of a result of another shape.

msgspec does the work: Structs, dataclasses, TypedDicts, NamedTuples, enums, `datetime`, lists and dicts of these,
unions and `Annotated` constraints. Which type a call wants is said by its caller; nothing is guessed from the JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

import msgspec
from msgspec import inspect as shapes

from sipwright.errors import RpcResultError
from sipwright.jsonrpc.messages import NOT_JSON

T = TypeVar("T")

# Programs name their types once; a bound is there for those that make types as they go.
MAX_DECODERS = 1024


class ResultDecoder(Generic[T]):
    """Decodes results of one type: `decode(json)` or `decode(json, method)`, the method being for what is said.

    Raises RpcResultError, when called, for a result of another shape; TypeError, when made, for a type that JSON cannot
    be decoded to.
    """

    __slots__ = ("_decode",)

    def __init__(self, type_: type[T] | Any) -> None:
        refuse_undecodable(type_)
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(type_).decode

    def __call__(self, result: bytes, method: str = "") -> T:
        """Decode a result."""
        try:
            return self._decode(result)
        except NOT_JSON as error:
            raise _other_shape(error, result, method) from None


@overload
def decoder_for(type_: type[T]) -> ResultDecoder[T]: ...
@overload
def decoder_for(type_: Any) -> ResultDecoder[Any]: ...
def decoder_for(type_: Any) -> ResultDecoder[Any]:
    """Return the decoder of a type; it is made once. Raises TypeError for a type that JSON cannot be decoded to."""
    try:
        return _kept(type_)
    except TypeError:
        # It cannot be hashed (an Annotated with a list in it), or it cannot be decoded, which is said once more.
        return ResultDecoder(type_)


_kept = lru_cache(maxsize=MAX_DECODERS)(ResultDecoder)


def refuse_undecodable(type_: Any) -> None:
    """Raise TypeError, with what is wrong, unless JSON can be decoded to a type.

    msgspec takes any class and says only at the first result that it does not know how to make one.
    """
    try:
        unknown = _unknown_class(shapes.type_info(type_), set())
    except (TypeError, NameError) as error:
        # NameError: a member of the type is annotated with a name that there is not.
        raise TypeError(f"no type that JSON can be decoded to: {error}") from None
    if unknown is not None:
        raise TypeError(f"no type that JSON can be decoded to: {_name(unknown)}")


def _unknown_class(shape: Any, seen: set[int]) -> Any:
    """Return a class in the shape of a type that msgspec knows nothing of, None when there is none."""
    if isinstance(shape, shapes.CustomType):
        # `object` and the like: what JSON is decoded to anyway.
        return None if issubclass(dict, shape.cls) or issubclass(list, shape.cls) else shape.cls
    if isinstance(shape, list | tuple):
        inner = list(shape)
    elif isinstance(shape, shapes.Type | shapes.Field) and id(shape) not in seen:
        # A type may contain itself.
        seen.add(id(shape))
        inner = [getattr(shape, name) for name in shape.__struct_fields__ if name not in ("default", "cls")]
    else:
        return None
    return next((found for one in inner if (found := _unknown_class(one, seen)) is not None), None)


def _name(type_: Any) -> str:
    return type_.__qualname__ if isinstance(type_, type) else str(type_)


def _other_shape(error: Exception, result: bytes, method: str) -> RpcResultError:
    message, path = str(error), "$"
    if isinstance(error, msgspec.ValidationError):
        # "Expected `int`, got `str` - at `$[0].id`"; for the key of a dict "at `key` in `$.names`".
        before, mark, place = message.rpartition(" - at ")
        if mark and place[:1] == place[-1:] == "`":
            message, path = before, place.rpartition(" in ")[2].strip("`")
            message = f"{message} as a key" if place.startswith("`key` in ") else message
    return RpcResultError(method, path, message, result)
