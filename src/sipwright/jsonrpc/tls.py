"""TLS for both ends of a connection (L2): files with certificates to `ssl.SSLContext`; knows no sockets.

A context is kept, and made anew when one of its files has changed; new connections then have it, those that are open
keep what they began with. TLS 1.2 is the oldest version; there is no ALPN, since JSON-RPC has no name in its registry.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from typing import Literal, NoReturn

from sipwright.errors import ArgumentError

logger = logging.getLogger("sipwright.jsonrpc.tls")

Stamp = tuple[tuple[int, int, int], ...]


class Tls:
    """What is used and demanded in TLS, by a client, a server, or both.

    `certfile` and `keyfile` are this end's certificate (with the intermediate ones behind it) and its key, in PEM; the
    key may be in `certfile` too, and be encrypted with `password`. A server must have them, a client only where it is
    asked for them. `cafile` has the authorities that the other end's certificate is checked with, in PEM; None takes
    the system's.

    A client checks the server's certificate and that it is made out to the host it connects to, or to `server_name`,
    which is also the name that it asks for (SNI, RFC 6066 section 3). With `verify=False` it checks nothing: anybody
    in between can read and change what is said.

    A server asks its clients for certificates where there is a `cafile`: `verify=True`, the default then, lets in only
    those that have one, `"optional"` also those that have none, and `False` does not ask. Without a `cafile` it does
    not ask, and `verify=True` or `"optional"` is refused: a certificate of an authority that signs for everybody
    proves nothing.

    The files are looked at whenever a context is wanted, and read again when they have changed. Raises ArgumentError,
    with the file and what is wrong with it.
    """

    def __init__(
        self,
        *,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        password: str | None = None,
        cafile: str | os.PathLike[str] | None = None,
        verify: bool | Literal["optional"] | None = None,
        server_name: str | None = None,
    ) -> None:
        if keyfile is not None and certfile is None:
            raise ArgumentError("a keyfile without a certfile: whose key is it?")
        if verify not in (None, True, False, "optional"):
            raise ArgumentError(f"verify is True, False or 'optional', not {verify!r}")
        self.certfile = None if certfile is None else os.fspath(certfile)
        self.keyfile = None if keyfile is None else os.fspath(keyfile)
        self.cafile = None if cafile is None else os.fspath(cafile)
        self.verify = verify
        self.server_name = server_name
        self._password = password
        self._client = _Kept(self._files(), self._make_client_context)
        self._server = _Kept(self._files(), self._make_server_context)
        # Faults of the files are told now, whichever role this will have.
        self._client.get()

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client: `server_name` or the host is to be given with each connection."""
        return self._client.get()

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server. Raises ArgumentError when there is no certificate.

        A listener may keep it: its later connections have the certificates that are in the files then.
        """
        return self._server.get()

    def _files(self) -> list[str]:
        return [file for file in (self.certfile, self.keyfile, self.cafile) if file is not None]

    def _make_client_context(self) -> ssl.SSLContext:
        context = _new_context(ssl.PROTOCOL_TLS_CLIENT)
        if self.verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._load_authorities(context)
        self._load_certificate(context)
        return context

    def _make_server_context(self) -> ssl.SSLContext:
        if self.certfile is None:
            raise ArgumentError("a TLS server needs a certfile")
        if self.cafile is None and self.verify:
            raise ArgumentError("to check the certificates of clients, a TLS server needs a cafile")
        context = _new_context(ssl.PROTOCOL_TLS_SERVER)
        if self.cafile is not None and self.verify is not False:
            context.verify_mode = ssl.CERT_OPTIONAL if self.verify == "optional" else ssl.CERT_REQUIRED
            self._load_authorities(context)
        self._load_certificate(context)
        # A ticket would let a client in again whose certificate is no longer good. Connections live long anyway.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.sni_callback = self._hello
        return context

    def _hello(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Take the certificates that are in the files now (called by ssl for each connection, with or without SNI)."""
        connection.context = self._server.get()

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        if self.cafile is None:
            context.load_default_certs()
            return
        with _FaultsOf(self.cafile, "no certificates in PEM"):
            context.load_verify_locations(self.cafile)

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        if self.certfile is None:
            return
        # Asked for each by itself, because ssl does not say which of the two it cannot open.
        for file in (self.certfile, self.keyfile):
            if file is not None:
                with _FaultsOf(file, ""), open(file, "rb"):
                    pass
        both = self.certfile if self.keyfile is None else f"{self.certfile} with {self.keyfile}"
        otherwise = "no certificate and key in PEM" + ("" if self._password is None else ", or not with this password")
        with _FaultsOf(both, otherwise):
            # Never without a password: OpenSSL would ask the terminal.
            context.load_cert_chain(self.certfile, self.keyfile, self._password or self._no_password)

    def _no_password(self) -> NoReturn:
        raise ArgumentError(f"{self.keyfile or self.certfile}: the key is encrypted, and there is no password")


def _new_context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _FaultsOf:
    """Turns what opening and reading a file raises into ArgumentError with its name."""

    def __init__(self, file: str, otherwise: str) -> None:
        self._file = file
        self._otherwise = otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):  # SSLError is one
            raise ArgumentError(f"{self._file}: {self._text(error)}") from None

    def _text(self, error: OSError) -> str:
        if not isinstance(error, ssl.SSLError):
            return error.strerror or str(error)
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not that of the certificate"
        return f"{self._otherwise} ({error.reason or error})"


def check_tls(tls: Tls | None) -> None:
    """Raise ArgumentError for what is no Tls: a context of `ssl`, say, cannot read its files again."""
    if tls is not None and not isinstance(tls, Tls):
        raise ArgumentError(f"tls is a Tls, such as Tls(cafile='ca.pem'), not {tls!r}")


class _Kept:
    """A context that is made anew when its files have changed; while they are broken, the last good one is kept."""

    __slots__ = ("_context", "_files", "_make", "_stamp")

    def __init__(self, files: list[str], make: Callable[[], ssl.SSLContext]) -> None:
        self._files = files
        self._make = make
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = ()

    def get(self) -> ssl.SSLContext:
        # Taken before the files are read: a change meanwhile is seen the next time.
        stamp = tuple(map(_stamp, self._files))
        if self._context is None:
            self._context = self._make()
        elif stamp != self._stamp:
            try:
                self._context = self._make()
            except ArgumentError as error:
                logger.error("TLS goes on with the certificates that it had: %s", error)
            else:
                logger.info("TLS has read %s again", ", ".join(self._files))
        self._stamp = stamp
        return self._context


def _stamp(file: str) -> tuple[int, int, int]:
    try:
        status = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
