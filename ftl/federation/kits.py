"""NVFlare startup kits: certificates, addresses and what each site permits. Made again when the parties change.

A site's own `local/` folder says where its node is and which classes a job may name. Jobs bring no code and no paths.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import msgspec

from ftl.consortium import Consortium, Folder
from ftl.errors import ConsortiumError, FederationError
from ftl.federation.parts import write_atomically
from ftl.federation.ports import ports

log = logging.getLogger(__name__)

FORMAT = 2
"""Raised when a change here makes existing kits unusable."""
SERVER = "server"
"""What NVFlare calls the server's place in a job; no party may have that name."""
LOCALHOST = "localhost"
"""A server of this name listens on the loopback interface only."""
ADMIN = "admin@coordinator.local"
SCHEME = "tcp"
"""Transport below mutual TLS. NVFlare also offers grpc and http."""
CERTIFICATE_DAYS = 3650
HEARTBEAT_TIMEOUT = 60
"""Seconds without a heartbeat (one every 10) after which the server strikes a site off; a connection that is lost for
half as long is ridden out."""
LOOPBACK_HOSTS = (LOCALHOST, "127.0.0.1", "::1")

CONTROLLER = "ftl.federation.nvflare_app.RunController"
EXECUTOR = "ftl.federation.nvflare_app.PartyExecutor"
SERVER_LAUNCHER = "ftl.federation.launcher.ServerJobs"
SITE_LAUNCHER = "ftl.federation.launcher.SiteJobs"
SITE_SIGN = "ftl.federation.site_sign.SiteSign"
SERVER_CLASSES = (CONTROLLER,)
SITE_CLASSES = (EXECUTOR,)
INJECTED_CLASSES = (
    "nvflare.app_common.logging.job_log_receiver.JobLogReceiver",
    "nvflare.app_common.logging.job_log_streamer.JobLogStreamer",
    "nvflare.app_common.widgets.convert_to_fed_event.ConvertToFedEvent",
)
"""What NVFlare itself puts into a job."""

SITE_PERMISSIONS = {"submit_job": "any", "manage_job": "any", "view": "any", "download_job": "any"}
"""What the coordinator may do at a site: neither bring code (byoc) nor run shell commands nor stop the site."""
SERVER_PERMISSIONS = {**SITE_PERMISSIONS, "clone_job": "any", "operate": "any"}


class LocalNode(msgspec.Struct, frozen=True):
    """`local/node.json` of a site: whose installation it is. Written here, never by a job."""

    folder: str
    party: str


class LocalCoordinator(msgspec.Struct, frozen=True):
    """`local/coordinator.json` of the server: where runs are recorded and who takes part."""

    runs: str
    parties: list[str]


def server_kit(folder: Folder) -> Path:
    """Workspace of the federation server."""
    return folder.coordinator / "nvflare" / "server"


def admin_kit(folder: Folder) -> Path:
    """Startup kit with which the coordinator submits jobs."""
    return folder.coordinator / "nvflare" / "admin"


def site_kit(folder: Folder, party: str) -> Path:
    """Workspace of a party's site."""
    return folder.node(party).home / "nvflare"


def provision(folder: Folder) -> bool:
    """Make the startup kits unless they fit already.

    Returns:
        whether kits were made.

    Raises:
        ConsortiumError: a party has a name that NVFlare reserves.
        FederationError: NVFlare could not make the kits.
    """
    for reserved in (SERVER, LOCALHOST):
        if reserved in folder.consortium.parties:
            raise ConsortiumError(f"A party may not be called {reserved!r}.", cure="Give it another name.")
    stamp, mark = _stamp(folder), folder.coordinator / "nvflare" / "kits.sha256"
    if mark.exists() and mark.read_text() == stamp and all(kit.is_dir() for kit in _kits(folder).values()):
        return False
    mark.unlink(missing_ok=True)
    made = _build(folder)
    for name, kit in _kits(folder).items():
        _install(made / name, kit)
    shutil.rmtree(made)
    _adapt_server(folder)
    for party in folder.consortium.parties:
        _adapt_site(folder, party)
    write_atomically(mark, stamp.encode())
    log.info("federation.provisioned", extra={"parties": list(folder.consortium.parties)})
    return True


def _kits(folder: Folder) -> dict[str, Path]:
    sites = {party: site_kit(folder, party) for party in folder.consortium.parties}
    return {_server_name(folder): server_kit(folder), ADMIN: admin_kit(folder), **sites}


def _stamp(folder: Folder) -> str:
    """Hash of all that goes into the kits."""
    chosen = ports(folder)
    homes = {name: str(kit.resolve()) for name, kit in _kits(folder).items()}
    content = (FORMAT, SCHEME, _host(folder.consortium), chosen["federation"], chosen["admin"], homes)
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def _host(consortium: Consortium) -> str:
    host = consortium.coordinator.host
    return LOCALHOST if host in LOOPBACK_HOSTS else host


def _server_name(folder: Folder) -> str:
    return LOCALHOST if _host(folder.consortium) == LOCALHOST else SERVER


def _project(folder: Folder) -> dict[str, Any]:
    """What NVFlare calls `project.yml`."""
    chosen = ports(folder)
    server = {
        "name": _server_name(folder),
        "type": "server",
        "org": "coordinator",
        "default_host": _host(folder.consortium),
        "fed_learn_port": chosen["federation"],
        "admin_port": chosen["admin"],
    }
    sites = [{"name": party, "type": "client", "org": party} for party in folder.consortium.parties]
    admin = {"name": ADMIN, "type": "admin", "org": "coordinator", "role": "project_admin"}
    builder = "nvflare.lighter.impl."
    return {
        "api_version": 3,
        "name": folder.consortium.name,
        "participants": [server, *sites, admin],
        "builders": [
            {"path": builder + "workspace.WorkspaceBuilder"},
            {"path": builder + "static_file.StaticFileBuilder", "args": {"config_folder": "config", "scheme": SCHEME}},
            {"path": builder + "cert.CertBuilder", "args": {"root_valid_days": CERTIFICATE_DAYS}},
            {"path": builder + "signature.SignatureBuilder"},
        ],
    }


def _build(folder: Folder) -> Path:
    """Run NVFlare's provisioner; its state (the certificate authority) stays at the coordinator."""
    from nvflare.lighter.prov_utils import prepare_builders
    from nvflare.lighter.provision import prepare_project
    from nvflare.lighter.provisioner import Provisioner

    work = folder.coordinator / "nvflare" / "provision"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    description = _project(folder)
    try:
        context = Provisioner(str(work), prepare_builders(description)).provision(
            prepare_project(description), logger=log
        )
    except Exception as exc:
        raise FederationError(f"NVFlare could not make startup kits: {exc}", cure="See docs/federation.md.") from exc
    made = context.get("current_prod_dir")
    if not made:
        raise FederationError(f"NVFlare made no startup kits in {work}.", cure=f"Remove {work} and try again.")
    return Path(made)


def _install(made: Path, kit: Path) -> None:
    """Put a kit in its place; only its owner may read it."""
    kit.parent.mkdir(parents=True, exist_ok=True)
    if kit.exists():
        shutil.rmtree(kit)
    shutil.copytree(made, kit)
    for path in (kit, *kit.rglob("*")):
        path.chmod(0o700 if path.is_dir() or path.suffix == ".sh" else 0o600)


def _adapt_server(folder: Folder) -> None:
    kit = server_kit(folder)
    resources = _resources(kit, SERVER_CLASSES)
    store = {"root_dir": str(kit / "snapshots"), "uri_root": "/"}
    resources["servers"][0]["heart_beat_timeout"] = HEARTBEAT_TIMEOUT
    resources["snapshot_persistor"]["args"]["storage"]["args"] = store
    components = _by_id(resources)
    components["job_manager"]["args"]["uri_root"] = str(kit / "jobs")
    components["process_launcher"]["path"] = SERVER_LAUNCHER
    _write_local(kit, "resources.json", resources)
    _write_local(kit, "authorization.json", _permissions(SERVER_PERMISSIONS))
    runs = str((folder.coordinator / "runs").resolve())
    _write_local(kit, "coordinator.json", LocalCoordinator(runs, list(folder.consortium.parties)))


def _adapt_site(folder: Folder, party: str) -> None:
    kit = site_kit(folder, party)
    resources = _resources(kit, SITE_CLASSES)
    resources["allow_log_streaming"] = False  # a log may quote a row; it stays at the party
    _by_id(resources)["process_launcher"]["path"] = SITE_LAUNCHER
    kept = [part for part in resources["components"] if part["id"] != "site_log_streamer"]
    resources["components"] = [*kept, {"id": "site_sign", "path": SITE_SIGN, "args": {}}]
    _write_local(kit, "resources.json", resources)
    _write_local(kit, "authorization.json", _permissions(SITE_PERMISSIONS))
    _write_local(kit, "node.json", LocalNode(str(folder.root.resolve()), party))


def _resources(kit: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    """NVFlare's default resources, in which a job may name `classes` and what NVFlare adds itself, nothing else."""
    resources: dict[str, Any] = msgspec.json.decode((kit / "local" / "resources.json.default").read_bytes())
    resources["class_list_enforcement_mode"] = "enforce"
    resources["class_allow_list"] = [*INJECTED_CLASSES, *classes]
    return resources


def _by_id(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["id"]: component for component in resources["components"]}


def _permissions(rights: dict[str, str]) -> dict[str, Any]:
    forbidden = {"clone_job": "none", "operate": "none", "shell_commands": "none", "byoc": "none"}
    return {"format_version": "1.0", "permissions": {"project_admin": {**forbidden, **rights}}}


def _write_local(kit: Path, name: str, content: object) -> None:
    write_atomically(kit / "local" / name, msgspec.json.format(msgspec.json.encode(content), indent=1))
