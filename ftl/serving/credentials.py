"""Certificates, the scoring key and the client token: made once, found by name afterwards.

Two authorities keep two questions apart. The one for *servers* says which party a score server belongs to. The one for
*gateways* says who may ask: score servers trust nobody else as a client, so that one party cannot question another.
"""

import re
import secrets
import shutil
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ftl.collect import normalised, normalised_text
from ftl.consortium import Folder, Node
from ftl.crypto import Certificate, KeyStore, create_authority, issue, pseudonym, pseudonyms
from ftl.errors import CipherError, InvalidRequest, ServiceError
from ftl.registry import Identifier
from ftl.serving.clients import provision_clients

SCORING_KEY = "scoring.key"
METERING_KEY = "metering.key"
CLIENT_TOKEN = "client.token"  # noqa: S105 - a file's name
GATEWAY = "gateway"
CLIENTS = "clients.pem"


def provision_scoring(folder: Folder, now: datetime) -> None:
    """Make what scoring needs, as far as it is missing or about to expire. Repeating it changes nothing.

    On one machine it fills every node. In a deployment the coordinator runs it and hands each party its own
    ``keys/scoring`` folder.

    Args:
        folder: the consortium.
        now: with its zone.

    Raises:
        CipherError: a file cannot be written, or others may read a secret.
    """
    ours, name = folder.coordinator / "keys", folder.consortium.name
    servers, gateways = ours / "servers", ours / "gateways"
    create_authority(servers, f"{name} servers", now=now)
    create_authority(gateways, f"{name} gateways", now=now)
    issue(gateways, ours / "scoring", GATEWAY, [GATEWAY], now=now)
    _copy(servers / "authority.pem", ours / "scoring" / "servers.pem")
    store = KeyStore(ours)
    key = store.key(SCORING_KEY)
    store.key(METERING_KEY)
    if not (ours / CLIENT_TOKEN).exists():
        store.keep(CLIENT_TOKEN, secrets.token_urlsafe(32).encode())
    provision_clients(folder, client_token(folder))
    for party in folder.consortium.parties:
        node = folder.node(party)
        hosts = [server_name(party), "localhost", folder.consortium.coordinator.host]
        issue(servers, node.keys / "scoring", party, hosts, now=now)
        _copy(gateways / "authority.pem", node.keys / "scoring" / CLIENTS)
        KeyStore(node.keys / "scoring").keep(SCORING_KEY, key)


def server_name(party: str) -> str:
    """The name in a party's server certificate: the gateway checks *who* answers, not only that somebody may."""
    return f"{party.replace('_', '-')}.score.internal"


def party_certificate(node: Node) -> tuple[Certificate, Path]:
    """A score server's certificate, and the authority of the gateways that may ask it.

    Args:
        node: the party's own installation.

    Returns:
        both.

    Raises:
        ServiceError: it has not been provisioned.
    """
    place = node.keys / "scoring"
    files = Certificate(place / f"{node.name}.pem", place / f"{node.name}.key", place / "authority.pem")
    _require(files.certificate, files.key, place / CLIENTS)
    return files, place / CLIENTS


def gateway_tls(folder: Folder) -> ssl.SSLContext:
    """How the gateway connects to score servers.

    Args:
        folder: the consortium, as the coordinator has it.

    Returns:
        a client context.

    Raises:
        ServiceError: it has not been provisioned.
    """
    place = folder.coordinator / "keys" / "scoring"
    certificate, key, servers = place / f"{GATEWAY}.pem", place / f"{GATEWAY}.key", place / "servers.pem"
    _require(certificate, key, servers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(servers)
    context.load_cert_chain(certificate, key)
    return context


def scoring_key(folder: Folder) -> bytes:
    """The key of the pseudonyms that gateway and parties share."""
    return _secret(KeyStore(folder.coordinator / "keys"), SCORING_KEY)


def metering_key(folder: Folder) -> bytes:
    """The coordinator's own key for metered subjects; the parties do not have it."""
    return _secret(KeyStore(folder.coordinator / "keys"), METERING_KEY)


def client_token(folder: Folder) -> str:
    """Secret of the default client, which may also show it as ``Authorization: Bearer …``."""
    return _secret(KeyStore(folder.coordinator / "keys"), CLIENT_TOKEN).decode().strip()


def client_token_file(folder: Folder) -> Path:
    """Where :func:`client_token` is kept, mode 0600."""
    return folder.coordinator / "keys" / CLIENT_TOKEN


def node_pseudonyms(node: Node) -> Callable[[str], bytes]:
    """Joined identifiers to pseudonym, as a party computes it.

    Args:
        node: the party's own installation.

    Returns:
        the function.

    Raises:
        ServiceError: it has not been provisioned.
    """
    key = _secret(KeyStore(node.keys / "scoring"), SCORING_KEY)
    return lambda text: pseudonym(key, text)


def pseudonymise(key: bytes, identifiers: Sequence[Identifier], texts: Sequence[str]) -> bytes:
    """The pseudonym of an applicant: identifiers normalised as the mapping normalises them, joined by ``"|"``.

    Args:
        key: as :func:`scoring_key` returns.
        identifiers: of the bundle.
        texts: as sent, in their order.

    Returns:
        32 bytes.
    """
    return pseudonym(key, "|".join(_normalised(one, text) for one, text in zip(identifiers, texts, strict=True)))


def pseudonymise_all(key: bytes, identifiers: Sequence[Identifier], texts: Sequence[pa.Array]) -> list[bytes]:
    """As :func:`pseudonymise`, of many applicants.

    Args:
        key: as :func:`scoring_key` returns.
        identifiers: of the bundle.
        texts: string, a column per identifier.
    """
    columns = [_column(one, column) for one, column in zip(identifiers, texts, strict=True)]
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "|")
    return pseudonyms(key, joined.to_pylist())


def _column(identifier: Identifier, texts: pa.Array) -> pa.Array:
    if identifier.type == "int64":
        return pa.array([_normalised(identifier, text) for text in texts.to_pylist()], pa.string())
    normal = normalised(texts, identifier.normalise, identifier.country_code).values
    if normal.null_count:
        _normalised(identifier, texts[normal.is_null().index(True).as_py()].as_py())
    return normal


def _normalised(identifier: Identifier, text: str) -> str:
    """One spelling per identifier, as the mapping makes it and its cast to a whole number.

    Raises:
        InvalidRequest: the text is none of the identifier's kind, for example a wrong check digit.
    """
    normal = normalised_text(text, identifier.normalise, identifier.country_code)
    if normal is None:
        raise InvalidRequest(
            f"{identifier.name} is no {identifier.normalise}.", cure="Check the identifier.", field=identifier.name
        )
    if identifier.type == "int64" and re.fullmatch(r"\s*[+-]?[0-9]+(\.0*)?\s*", normal):
        return str(int(normal.split(".")[0]))
    return normal


def _require(*files: Path) -> None:
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise ServiceError(f"{missing[0]} is missing.", cure="Provision the consortium first: `ftl up` does.")


def _secret(store: KeyStore, name: str) -> bytes:
    try:
        return store.read(name)
    except CipherError as exc:
        raise ServiceError(exc.message, cure=exc.cure) from exc


def _copy(source: Path, target: Path) -> None:
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(source, target)
