"""Certificates for tests, made with the `openssl` command: an authority, what it signed, and what it did not.

`make_certificates(directory)` writes them; the fixture `certificates` of `tests/conftest.py` does it once a session.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.scenarios.processes import require_program

PASSWORD = "secret"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM."""

    certfile: Path
    keyfile: Path


@dataclass(frozen=True)
class Certificates:
    """`server` is for localhost, 127.0.0.1 and ::1, `other` for other.example and the same addresses; `client` has the
    subject CN=alice and the SAN DNS:alice.example, `expired` is a server's that ended yesterday. `ca` signed them all.
    `foreign` is for localhost and signed by nobody known. `encrypted` is `server` with its key under PASSWORD.
    """

    directory: Path
    ca: Path
    server: Certificate
    other: Certificate
    client: Certificate
    expired: Certificate
    foreign: Certificate
    encrypted: Certificate


def make_certificates(directory: Path) -> Certificates:
    _openssl(
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=ca"
        f" -keyout {directory}/ca.key -out {directory}/ca.pem"
    )
    here = "DNS:localhost,IP:127.0.0.1,IP:::1"
    server = sign(directory, "server", "localhost", here)
    encrypted = Certificate(server.certfile, directory / "encrypted.key")
    _openssl(f"ec -in {server.keyfile} -aes256 -passout pass:{PASSWORD} -out {encrypted.keyfile}")
    foreign = Certificate(directory / "foreign.pem", directory / "foreign.key")
    _openssl(
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
        f" -addext subjectAltName={here} -keyout {foreign.keyfile} -out {foreign.certfile}"
    )
    return Certificates(
        directory,
        directory / "ca.pem",
        server,
        sign(directory, "other", "other.example", "DNS:other.example,IP:127.0.0.1,IP:::1"),
        sign(directory, "client", "alice", "DNS:alice.example"),
        sign(directory, "expired", "localhost", here, days=-1),
        foreign,
        encrypted,
    )


def sign(directory: Path, name: str, subject: str, alternatives: str, days: int = 30) -> Certificate:
    """Have the directory's authority sign a new certificate with the subject `CN=...`."""
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={alternatives}\n", encoding="utf-8")
    _openssl(
        f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={subject}"
        f" -keyout {made.keyfile} -out {request}"
    )
    _openssl(
        f"x509 -req -in {request} -CA {directory}/ca.pem -CAkey {directory}/ca.key -CAcreateserial"
        f" -days {days} -extfile {extensions} -out {made.certfile}"
    )
    return made


def _openssl(arguments: str) -> None:
    subprocess.run([require_program("openssl"), *arguments.split()], check=True, capture_output=True)
