"""The consortium's own certificate authority: who may connect to whom at scoring time, by mutual TLS.

ECDSA on P-256, X.509 version 3. The authority signs leaves only. A leaf serves as client and as server; its common name
is the party's (or the gateway's) name, by which the other end knows whom it speaks to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ftl.crypto.keystore import create_once, read_secret, replace
from ftl.errors import CipherError

AUTHORITY_YEARS = 10
LEAF_DAYS = 397
"""What browsers accept at most."""
RENEW_DAYS = 30
"""A leaf with less than this left is issued anew."""
SKEW = timedelta(minutes=10)
"""How far clocks may be apart."""

_PUBLIC = 0o644


@dataclass(frozen=True)
class Certificate:
    """PEM files for one end of a mutual TLS connection.

    Attributes:
        certificate: the leaf.
        key: its private key, mode 0600.
        authority: the authority's certificate, against which to verify the other end.
    """

    certificate: Path
    key: Path
    authority: Path


def create_authority(folder: Path, name: str, *, now: datetime) -> Path:
    """The authority's certificate; made with its key on the first call, left alone by later ones.

    Args:
        folder: for ``authority.pem`` and ``authority.key``; only who issues certificates may read it.
        name: of the consortium.
        now: with a time zone.

    Raises:
        CipherError: the files cannot be written or read.
    """
    key = _key(folder / "authority.key")
    subject = _subject(f"{name} authority")
    end = now + timedelta(days=365 * AUTHORITY_YEARS)
    builder = _builder(subject, subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    path = folder / "authority.pem"
    create_once(path, _pem(builder.sign(key, hashes.SHA256())), _PUBLIC)
    return path


def issue(authority: Path, into: Path, name: str, hosts: Sequence[str], *, now: datetime) -> Certificate:
    """A leaf for `name`; an existing one is kept while it is good, and renewed for the same key when it is not.

    Args:
        authority: folder of :func:`create_authority`.
        into: folder for ``<name>.pem``, ``<name>.key`` and ``authority.pem``.
        name: common name, at most 64 characters.
        hosts: host names and IP addresses that it serves at.
        now: with a time zone.

    Raises:
        CipherError: there is no authority, or a file cannot be written or read.
    """
    issuer = _load(authority / "authority.pem")
    files = Certificate(into / f"{name}.pem", into / f"{name}.key", into / "authority.pem")
    key = _key(files.key)
    if not _good(files.certificate, issuer, key, hosts, now):
        end = min(now + timedelta(days=LEAF_DAYS), issuer.not_valid_after_utc)
        leaf = _sign_leaf(authority, _builder(_subject(name), issuer.subject, key, now, end), hosts)
        replace(files.certificate, _pem(leaf), _PUBLIC)
    if not files.authority.exists() or files.authority.read_bytes() != _pem(issuer):
        replace(files.authority, _pem(issuer), _PUBLIC)
    return files


def _sign_leaf(authority: Path, builder: x509.CertificateBuilder, hosts: Sequence[str]) -> x509.Certificate:
    signer = _key(authority / "authority.key")
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(identifier, critical=False)
    if hosts:  # an empty list would make the certificate invalid
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternative_names(hosts)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _good(
    path: Path, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], now: datetime
) -> bool:
    """Whether the leaf in `path` is this authority's, for this key and these hosts, and lasts."""
    if not path.exists():
        return False
    leaf = _load(path)
    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    lasts = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - timedelta(days=RENEW_DAYS)
    return lasts and leaf.public_key() == key.public_key() and _hosts(leaf) == set(_alternative_names(hosts))


def _hosts(leaf: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as exc:
        raise CipherError(f"{name!r} cannot be a certificate's common name.", cure="Use 1 to 64 characters.") from exc


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_alternative_name(host) for host in hosts]


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in `path`, drawn when there is none."""
    if not path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        create_once(path, fresh.private_bytes(*pem))
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError) as exc:
        raise CipherError(f"{path} is not a private key in PEM form.", cure="Remove it and provision again.") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CipherError(f"{path} is not a key on an elliptic curve.", cure="Remove it and provision again.")
    return key


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise CipherError(f"{path} is not a certificate that can be read.", cure="Provision the consortium.") from exc


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
