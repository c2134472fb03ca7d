"""Certificates, judged by real TLS handshakes on loopback."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ftl.crypto import Certificate, create_authority, issue
from ftl.errors import CipherError

NOW = datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    create_authority(tmp_path / "authority", "taiwan", now=NOW)
    return tmp_path / "authority"


def context(files: Certificate, purpose: ssl.Purpose, trust: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=str(trust or files.authority))
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(files.certificate, files.key)
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str, str]:
    """Names that server and client saw of each other; raises what the client's side raised."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            plain, _ = listener.accept()
            try:
                with server.wrap_socket(plain, server_side=True) as tls:
                    seen.append(common_name(tls))
                    tls.sendall(tls.recv(5))
            except (ssl.SSLError, OSError):
                plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                client.wrap_socket(plain, server_hostname=host) as tls,
            ):
                name = common_name(tls)
                tls.sendall(b"hello")
                if tls.recv(5) != b"hello":
                    raise ConnectionResetError
        finally:
            thread.join()
    return seen[0], name


def common_name(tls: ssl.SSLSocket) -> str:
    certificate = tls.getpeercert()
    assert certificate
    return dict(pair[0] for pair in certificate["subject"])["commonName"]  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_gateway_and_score_server_prove_who_they_are_to_each_other(authority: Path, tmp_path: Path, host: str) -> None:
    partner = issue(authority, tmp_path / "partner", "partner", ["127.0.0.1", "localhost"], now=NOW)
    gateway = issue(authority, tmp_path / "gateway", "gateway", [], now=NOW)
    server, client = context(partner, ssl.Purpose.CLIENT_AUTH), context(gateway, ssl.Purpose.SERVER_AUTH)
    assert handshake(server, client, host) == ("gateway", "partner")


def test_a_server_of_another_authority_is_refused(authority: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "foreign", "taiwan", now=NOW)
    impostor = issue(tmp_path / "foreign", tmp_path / "x", "partner", ["127.0.0.1"], now=NOW)
    gateway = issue(authority, tmp_path / "gateway", "gateway", [], now=NOW)
    server, client = context(impostor, ssl.Purpose.CLIENT_AUTH), context(gateway, ssl.Purpose.SERVER_AUTH)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(server, client, "127.0.0.1")


def test_a_client_of_another_authority_gets_no_answer(authority: Path, tmp_path: Path) -> None:
    foreign = create_authority(tmp_path / "foreign", "taiwan", now=NOW)
    partner = issue(authority, tmp_path / "partner", "partner", ["127.0.0.1"], now=NOW)
    impostor = issue(tmp_path / "foreign", tmp_path / "x", "gateway", [], now=NOW)
    client = context(impostor, ssl.Purpose.SERVER_AUTH, trust=partner.authority)
    assert foreign.exists()
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"alert unknown ca|EOF occurred|reset"):
        handshake(context(partner, ssl.Purpose.CLIENT_AUTH), client, "127.0.0.1")


def test_a_server_at_another_address_is_refused(authority: Path, tmp_path: Path) -> None:
    partner = issue(authority, tmp_path / "partner", "partner", ["10.0.0.7"], now=NOW)
    gateway = issue(authority, tmp_path / "gateway", "gateway", [], now=NOW)
    server, client = context(partner, ssl.Purpose.CLIENT_AUTH), context(gateway, ssl.Purpose.SERVER_AUTH)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(server, client, "127.0.0.1")


def test_keys_are_for_their_owner_and_certificates_for_everybody(authority: Path, tmp_path: Path) -> None:
    files = issue(authority, tmp_path / "partner", "partner", ["localhost"], now=NOW)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (files.key, files.certificate, files.authority)]
    assert modes == [0o600, 0o644, 0o644]
    assert stat.S_IMODE((authority / "authority.key").stat().st_mode) == 0o600
    assert not (tmp_path / "partner" / "authority.key").exists()


def test_issuing_again_changes_nothing_until_something_changed(authority: Path, tmp_path: Path) -> None:
    into = tmp_path / "partner"
    create_authority(authority, "taiwan", now=NOW + timedelta(days=1))
    files = issue(authority, into, "partner", ["localhost"], now=NOW)
    first, key = files.certificate.read_bytes(), files.key.read_bytes()
    issue(authority, into, "partner", ["localhost"], now=NOW + timedelta(days=300))
    assert files.certificate.read_bytes() == first
    issue(authority, into, "partner", ["localhost", "10.0.0.7"], now=NOW)
    moved = files.certificate.read_bytes()
    assert moved != first
    issue(authority, into, "partner", ["localhost", "10.0.0.7"], now=NOW + timedelta(days=380))
    renewed = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert renewed.not_valid_after_utc > NOW + timedelta(days=700)
    assert files.key.read_bytes() == key


def test_a_leaf_never_outlives_its_authority(authority: Path, tmp_path: Path) -> None:
    late = NOW + timedelta(days=3600)
    files = issue(authority, tmp_path / "partner", "partner", [], now=late)
    ends = [x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
            for path in (files.certificate, files.authority)]  # fmt: skip
    assert ends[0] == ends[1]


def test_a_leaf_cannot_sign(authority: Path, tmp_path: Path) -> None:
    files = issue(authority, tmp_path / "partner", "partner", [], now=NOW)
    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(CipherError, match=r"authority\.pem is not a certificate that can be read"):
        issue(tmp_path / "none", tmp_path / "x", "partner", [], now=NOW)


def test_a_name_too_long_for_a_certificate_is_refused(authority: Path, tmp_path: Path) -> None:
    with pytest.raises(CipherError, match="Use 1 to 64 characters"):
        issue(authority, tmp_path / "x", "p" * 65, [], now=NOW)
