"""Where a Redis server is and how to log in, as URLs say it (L0).

    redis://[[user]:password@]host[:port][/db]     rediss:// the same over TLS
    unix:///path/to/socket[?db=N]                  with user and password as above

`?db=N` works for all of them; `?ssl_ca_certs=FILE` and `?ssl_cert_reqs=none` say how the server is known over TLS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from sipwright.errors import ArgumentError

DEFAULT_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")
_OPTIONS = ("db", "ssl_ca_certs", "ssl_cert_reqs")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server: `path` is that of a Unix socket, empty for `host` and `port`. Written out it has no password."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str = ""
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    verify: bool = True

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}?db={self.db}" if self.db else f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def parse_url(url: str) -> RedisAddress:
    """Read the URL of a Redis server. Raises ArgumentError, which never has the password in it."""
    scheme, colon, _rest = url.partition("://")
    if not colon or scheme.lower() not in _SCHEMES:
        raise ArgumentError("a Redis server is written redis://host:port/db, rediss://... or unix:///path", 0)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ArgumentError("bad host or port in the URL of a Redis server") from None
    is_unix = parts.scheme == "unix"
    options = _options(parts.query)
    db = options.get("db", "0")
    path = parts.path
    if not is_unix and path not in ("", "/"):
        db, path = path[1:], ""
    if not (db.isascii() and db.isdecimal()):
        raise ArgumentError(f"the database of a Redis server is a number, not {db!r}")
    if is_unix and not path.strip("/"):
        raise ArgumentError("unix:// needs the path of a socket, like unix:///run/redis.sock")
    if not is_unix and not parts.hostname:
        raise ArgumentError(f"{parts.scheme}:// needs a host, like {parts.scheme}://localhost:6379/0")
    verify = options.get("ssl_cert_reqs", "required")
    if verify not in ("required", "none"):
        raise ArgumentError(f"ssl_cert_reqs is required or none, not {verify!r}")
    if parts.scheme != "rediss" and ("ssl_cert_reqs" in options or "ssl_ca_certs" in options):
        raise ArgumentError("options of TLS need a URL that begins with rediss://")
    return RedisAddress(
        host="" if is_unix else parts.hostname or "",
        port=DEFAULT_PORT if port is None else port,
        path=unquote(path) if is_unix else "",
        db=int(db),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        ca_file=options.get("ssl_ca_certs", ""),
        verify=verify == "required",
    )


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise ArgumentError(f"unknown option {name!r} of a Redis server, expected {', '.join(_OPTIONS)}")
    return options
