"""Contexts of both roles, shaken hands with in memory: who is let in, and what happens when files change."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.tls import Tls
from tests.jsonrpc.certificates import PASSWORD, Certificate, Certificates


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends after the handshake; raises what either of them raises, the client first."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    # In TLS 1.3 a client is done before the server has looked at its certificate.
    for end in ends:
        end.do_handshake()
    return ends[0], ends[1]


def tls(certificate: Certificate | None = None, **options: Any) -> Tls:
    if certificate is not None:
        options |= {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    return Tls(**options)


def subject(end: ssl.SSLObject) -> str:
    found = end.getpeercert()
    assert found
    return dict(pair for name in found["subject"] for pair in name)["commonName"]  # type: ignore[misc]


def test_a_client_takes_a_certificate_of_its_authority_that_is_made_out_to_the_host(
    certificates: Certificates,
) -> None:
    server = tls(certificates.server).server_context()
    client = tls(cafile=certificates.ca).client_context()
    for host in ("localhost", "127.0.0.1", "::1"):
        ours, theirs = shake_hands(server, client, host)
        assert subject(ours) == "localhost"
        assert theirs.getpeercert() is None
        assert ours.version() == "TLSv1.3"
        assert ours.selected_alpn_protocol() is None


@pytest.mark.parametrize(
    ("name", "why"),
    [("foreign", "self.signed certificate"), ("expired", "expired"), ("other", "Hostname mismatch")],
)
def test_a_client_refuses_a_certificate_that_is_foreign_expired_or_made_out_to_another(
    certificates: Certificates, name: str, why: str
) -> None:
    server = tls(getattr(certificates, name)).server_context()
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        shake_hands(server, tls(cafile=certificates.ca).client_context())
    # Without a cafile the system's authorities are asked, which know ours no better.
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, Tls().client_context())
    assert shake_hands(server, Tls(verify=False).client_context())


def test_a_server_with_a_cafile_lets_in_only_clients_with_a_certificate(certificates: Certificates) -> None:
    server = tls(certificates.server, cafile=certificates.ca).server_context()
    _, theirs = shake_hands(server, tls(certificates.client, cafile=certificates.ca).client_context())
    assert subject(theirs) == "alice"
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(server, tls(cafile=certificates.ca).client_context())
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(server, tls(certificates.foreign, cafile=certificates.ca).client_context())


def test_a_certificate_of_the_client_can_be_optional_or_not_be_asked_for(certificates: Certificates) -> None:
    none, alice = tls(cafile=certificates.ca), tls(certificates.client, cafile=certificates.ca)
    foreign = tls(certificates.foreign, cafile=certificates.ca)
    optional = tls(certificates.server, cafile=certificates.ca, verify="optional").server_context()
    assert shake_hands(optional, none.client_context())[1].getpeercert() is None
    assert subject(shake_hands(optional, alice.client_context())[1]) == "alice"
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(optional, foreign.client_context())
    unasked = tls(certificates.server, cafile=certificates.ca, verify=False).server_context()
    assert shake_hands(unasked, foreign.client_context())[1].getpeercert() is None


def test_tls_1_1_is_refused_by_both_ends(certificates: Certificates) -> None:
    both = tls(certificates.server, cafile=certificates.ca, verify=False)
    for context in (both.client_context(), both.server_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_may_be_in_the_certificates_file_and_may_be_encrypted(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.server.certfile.read_bytes() + certificates.server.keyfile.read_bytes())
    client = tls(cafile=certificates.ca).client_context()
    assert shake_hands(Tls(certfile=both).server_context(), client)
    assert shake_hands(tls(certificates.encrypted, password=PASSWORD).server_context(), client)


def test_what_is_wrong_with_a_file_is_said_with_its_name(certificates: Certificates, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    certfile, keyfile = certificates.server.certfile, certificates.server.keyfile
    faults: list[tuple[dict[str, Any], str]] = [
        ({"certfile": tmp_path / "none.pem"}, "none.pem: No such file"),
        ({"certfile": certfile, "keyfile": tmp_path / "none.key"}, "none.key: No such file"),
        ({"cafile": tmp_path / "none.ca"}, "none.ca: No such file"),
        ({"cafile": rubbish}, "rubbish.pem: no certificates in PEM"),
        ({"certfile": rubbish}, "rubbish.pem: no certificate and key in PEM"),
        ({"certfile": certfile}, "server.pem: no certificate and key in PEM"),
        ({"certfile": certfile, "keyfile": certificates.client.keyfile}, "client.key: the key is not that of the cert"),
        ({"certfile": certfile, "keyfile": certificates.encrypted.keyfile}, "encrypted.key: the key is encrypted, and"),
        (
            {"certfile": certfile, "keyfile": certificates.encrypted.keyfile, "password": "wrong"},
            "encrypted.key: .* or not with this password",
        ),
        ({"keyfile": keyfile}, "a keyfile without a certfile"),
        ({"verify": "never"}, "verify is True, False or 'optional', not 'never'"),
    ]
    for options, text in faults:
        with pytest.raises(ArgumentError, match=text):
            Tls(**options)


def test_a_server_needs_a_certificate_and_an_authority_for_its_clients(certificates: Certificates) -> None:
    with pytest.raises(ArgumentError, match="needs a certfile"):
        Tls().server_context()
    with pytest.raises(ArgumentError, match="needs a cafile"):
        tls(certificates.server, verify=True).server_context()


def put(source: Certificate, place: Certificate) -> None:
    for old, new in ((source.certfile, place.certfile), (source.keyfile, place.keyfile)):
        shutil.copy(old, f"{new}.new")
        os.replace(f"{new}.new", new)


def test_a_changed_file_is_read_again_also_by_a_listener_that_keeps_its_context(
    certificates: Certificates, tmp_path: Path
) -> None:
    place = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    put(certificates.server, place)
    server = tls(place)
    listener, client = server.server_context(), Tls(cafile=certificates.ca, verify=True).client_context()
    assert server.server_context() is listener
    before, _ = shake_hands(listener, client, "127.0.0.1")
    put(certificates.other, place)
    after, _ = shake_hands(listener, client, "127.0.0.1")
    assert (subject(before), subject(after)) == ("localhost", "other.example")


def test_authorities_that_are_taken_away_are_asked_no_more(certificates: Certificates, tmp_path: Path) -> None:
    cafile = tmp_path / "ca.pem"
    shutil.copy(certificates.ca, cafile)
    server, alice = tls(certificates.server, cafile=cafile), tls(certificates.client, cafile=certificates.ca)
    listener, client = server.server_context(), alice.client_context()
    assert shake_hands(listener, client)
    shutil.copy(certificates.foreign.certfile, cafile)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(listener, client)


def test_files_that_are_broken_for_a_while_are_told_once_and_the_old_ones_kept(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sipwright.jsonrpc.tls")
    place = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    put(certificates.server, place)
    server, client = tls(place), Tls(cafile=certificates.ca).client_context()
    listener = server.server_context()
    # The certificate has come, its key has not yet.
    shutil.copy(certificates.other.certfile, place.certfile)
    for _ in range(3):
        assert subject(shake_hands(listener, client)[0]) == "localhost"
    assert len(caplog.messages) == 1
    assert "key.pem: the key is not that of the certificate" in caplog.messages[0]
    shutil.copy(certificates.other.keyfile, place.keyfile)
    assert subject(shake_hands(listener, client, "127.0.0.1")[0]) == "other.example"
    assert "has read" in caplog.messages[1]
    place.certfile.unlink()
    assert subject(shake_hands(listener, client, "127.0.0.1")[0]) == "other.example"
    assert "cert.pem: No such file" in caplog.messages[2]
