"""Who may dial in: the secrets of groups, from the module's parameter `token`."""

from __future__ import annotations

from hmac import compare_digest
from pathlib import Path

from sipwright.errors import ArgumentError

FILE = "file:"


class Tokens:
    """The tokens of the groups that services may serve; a group may have several, so that they can be changed."""

    def __init__(self) -> None:
        self._tokens: dict[str, list[bytes]] = {}

    def add(self, text: str) -> None:
        """Take `"group=token"`, or `"group=file:/path"` for one in a file.

        Without a group it is that of the servers of `servers`. An empty token lets everybody in. ArgumentError: it has
        not that form, or the file cannot be read; the offset is an index into the text.
        """
        group, equals, token = text.partition("=")
        if not equals:
            raise ArgumentError("no '=' between the group and its token", 0)
        at = len(group) + 1
        if token.startswith(FILE):
            token = _read(token.removeprefix(FILE), at + len(FILE))
        self._tokens.setdefault(group.strip(), []).append(token.encode("utf-8", "surrogateescape"))

    @property
    def groups(self) -> list[str]:
        """The groups that have tokens."""
        return list(self._tokens)

    def allow(self, group: str, token: str) -> bool:
        """Tell whether a service with that token may serve that group."""
        given = token.encode("utf-8", "surrogatepass")
        # Each is compared, and in a time that does not tell how much is right.
        matches = [compare_digest(given, known) or not known for known in self._tokens.get(group, [])]
        return any(matches)


def _read(path: str, offset: int) -> str:
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ArgumentError(f"cannot read the token file {path}: {error.strerror}", offset) from None
    except UnicodeDecodeError:
        raise ArgumentError(f"the token file {path} is not UTF-8", offset) from None
    if not token:
        raise ArgumentError(f"the token file {path} is empty", offset)
    return token
