"""Who a client is (L2): the first call of a connection, `rpc.auth {"token": "..."}`, and what is refused before it.

A client whose certificate was checked need not call it. A wrong token ends the connection, so that guessing takes a
connection per guess.
"""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.connection import CALLBACK_FAULTS
from sipwright.jsonrpc.convert import Signature
from sipwright.jsonrpc.limits import UNAUTHENTICATED
from sipwright.jsonrpc.messages import Message
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.serving import Batch, Serving, is_cancelled

METHOD: Final = "rpc.auth"

Check = Callable[[str], Any]
"""Given a token, returns who has it, or None or False when nobody has; a plain function or an async one."""
Auth = str | Mapping[str, Any] | Check


def same_token(given: str, expected: str) -> bool:
    """Compare two tokens in a time that does not tell how much of them is the same."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


def make_check(auth: Auth) -> Check:
    """Return the check for the only token, for tokens with whom they belong to, or the function itself.

    Raises ArgumentError for what is none of these, and for an empty token: it comes from a setting that is not there.
    """
    if isinstance(auth, str):
        auth = {auth: True}
    if not isinstance(auth, Mapping):
        if not callable(auth):
            raise ArgumentError(f"auth is a token, a dict of tokens or a function, not {auth!r}")
        return auth
    if not all(isinstance(token, str) and token for token in auth):
        raise ArgumentError("auth has a token that is empty, or no text: anybody would be let in")
    tokens = dict(auth)

    def check(given: str) -> Any:
        # All of them, so that the time does not tell which.
        found = [who for token, who in tokens.items() if same_token(given, token)]
        return found[0] if found else None

    return check


class TokenGate:
    """Lets no call of a connection through until it has authenticated itself."""

    def __init__(self, check: Check, serving: Serving, remote: RpcConnection) -> None:
        self._check = check
        self._serving = serving
        self._remote = remote

    def __call__(self, message: Message, batch: Batch | None) -> bool:
        """Deal with a request, when it is rpc.auth or not allowed (the `gate` of a Serving)."""
        if message.method == METHOD:
            self._authenticate(message, batch)
        elif self._remote.identity is None:
            error = RpcAnswerError(UNAUTHENTICATED, "Not authenticated", f"call {METHOD} first")
            self._serving.fail(message, error, batch)
        else:
            return False
        return True

    def _authenticate(self, message: Message, batch: Batch | None) -> None:
        try:
            found = self._check(_TOKEN.invoke(message.params))
        except CALLBACK_FAULTS as error:  # the boundary to the user's check
            self._refuse(message, error, batch)
            return
        if inspect.isawaitable(found):
            # What comes behind it waits for what it says.
            self._serving.is_held = True
            self._serving.executor.run(self._wait(found, message, batch))
        else:
            self._decide(found, message, batch)

    async def _wait(self, found: Awaitable[Any], message: Message, batch: Batch | None) -> None:
        try:
            # Meanwhile the connection may be lost, or the server be closed (this is cancelled).
            identity = await found
        except CALLBACK_FAULTS as error:  # the boundary to the user's check
            if is_cancelled():
                self._serving.give_up(batch)
                raise
            self._refuse(message, error, batch)
        else:
            self._decide(identity, message, batch)
        self._serving.is_held = False
        self._serving.go_on()

    def _decide(self, identity: Any, message: Message, batch: Batch | None) -> None:
        if identity is None or identity is False:
            self._refuse(message, RpcAnswerError(UNAUTHENTICATED, "Not authenticated", "wrong token"), batch)
        else:
            self._remote.identity = identity
            self._serving.succeed(message, True, batch)

    def _refuse(self, message: Message, error: BaseException, batch: Batch | None) -> None:
        self._remote.identity = None
        self._serving.fail(message, error, batch)
        self._remote.close()


def _token(token: str) -> str:
    return token


_TOKEN = Signature(_token)
