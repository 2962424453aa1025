"""Our TLS server and the `openssl` command as its client: who is let in, with what, and new certificates."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jsonrpc.certificates import Certificate, Certificates
from tests.scenarios.processes import PythonProcess, require_program

CLOSED = re.compile(r"unexpected eof|errno=104|^closed$", re.MULTILINE)
SERVICE = Path(__file__).parent / "tls_service.py"
CALL = '{"jsonrpc":"2.0","method":"whoami","id":1}\n'


class TlsService(PythonProcess):
    """The service, and the port it listens on."""

    @property
    def port(self) -> int:
        found = re.search(r"ready on port (\d+)", self.log)
        assert found is not None
        return int(found[1])


@contextmanager
def running(directory: Path, certificate: Certificate, *cafile: Path) -> Iterator[TlsService]:
    files = [str(file) for file in (certificate.certfile, certificate.keyfile, *cafile)]
    with TlsService(SERVICE, files, directory / "service.log", "ready on port") as service:
        yield service


def s_client(port: int, certificates: Certificates, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Shake hands, make one call, and end when it is answered or refused."""
    command = [require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(certificates.ca)]
    command += ["-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = ""
        try:
            process.stdin.write(CALL)
            process.stdin.flush()
            for line in process.stdout:
                output += line
                if line.startswith('{"jsonrpc"'):
                    break
            process.stdin.close()
        except BrokenPipeError:
            output += process.stdout.read()
        finally:
            process.terminate()
        return subprocess.CompletedProcess(command, process.wait(5), output)


def answer(done: subprocess.CompletedProcess[str]) -> object:
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"jsonrpc"')]
    assert lines, done.stdout
    return json.loads(lines[0])["result"]


def test_a_client_that_asks_for_our_name_shakes_hands_and_is_answered(
    certificates: Certificates, tmp_path: Path
) -> None:
    with running(tmp_path, certificates.server) as service:
        done = s_client(service.port, certificates)
        assert answer(done) is None
        assert "Verify return code: 0 (ok)" in done.stdout
        assert "TLSv1.3" in done.stdout
        assert "No ALPN negotiated" in done.stdout
        assert answer(s_client(service.port, certificates, "-tls1_2")) is None
        # One that offers it finds nobody who takes it, and goes on without.
        assert "No ALPN negotiated" in s_client(service.port, certificates, "-alpn", "h2").stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_of_tls_are_refused(certificates: Certificates, tmp_path: Path, version: str) -> None:
    with running(tmp_path, certificates.server) as service:
        # So that the client itself would.
        done = s_client(service.port, certificates, version, "-cipher", "ALL:@SECLEVEL=0")
        # It was the server that ended it: asyncio does so without the alert that says why.
        assert CLOSED.search(done.stdout), done.stdout
        assert "Cipher is (NONE)" in done.stdout
        assert '"jsonrpc"' not in done.stdout
        assert answer(s_client(service.port, certificates)) is None


def test_a_client_certificate_is_required_and_says_who_it_is(certificates: Certificates, tmp_path: Path) -> None:
    def with_certificate(certificate: Certificate) -> list[str]:
        return ["-cert", str(certificate.certfile), "-key", str(certificate.keyfile)]

    with running(tmp_path, certificates.server, certificates.ca) as service:
        assert answer(s_client(service.port, certificates, *with_certificate(certificates.client))) == "alice"
        for arguments in ([], with_certificate(certificates.foreign), with_certificate(certificates.expired)):
            refused = s_client(service.port, certificates, *arguments)
            assert '"jsonrpc"' not in refused.stdout
            assert CLOSED.search(refused.stdout), refused.stdout
        assert answer(s_client(service.port, certificates, *with_certificate(certificates.client))) == "alice"


def test_a_new_certificate_is_served_without_a_restart(certificates: Certificates, tmp_path: Path) -> None:
    place = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")

    def put(certificate: Certificate) -> None:
        for old, new in ((certificate.certfile, place.certfile), (certificate.keyfile, place.keyfile)):
            shutil.copy(old, f"{new}.new")
            os.replace(f"{new}.new", new)

    put(certificates.expired)
    with running(tmp_path, place) as service:
        refused = s_client(service.port, certificates)
        assert "certificate has expired" in refused.stdout
        put(certificates.server)
        assert answer(s_client(service.port, certificates)) is None
        # A broken file changes nothing but the log.
        place.certfile.write_text("rubbish")
        assert answer(s_client(service.port, certificates)) is None
        service.wait_for_log("TLS goes on with the certificates that it had")
        assert service.popen.poll() is None
