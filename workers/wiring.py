"""From settings to adapters to activities: the one place that knows which class stands behind which port."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_freeze import Freezer
from activities.adapters.docker_images import DockerImages
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_NAMESPACE
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.docker_traces import DockerTraces
from activities.adapters.image_policy import ANY_IMAGE, ImagePolicy
from activities.adapters.s3_store import S3Settings
from activities.adapters.stores import open_store as open_store_url
from activities.audit_digests import Digests
from activities.checkpoints import Checkpoints
from activities.deletion import DeletionActivities
from activities.destruction import Destruction
from activities.forking import BranchActivities
from activities.ports.audit import HostAudit
from activities.ports.images import Images
from activities.ports.sandbox import Sandboxes
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.ports.upkeep import Upkeep
from activities.snapshots.catalogue import Catalogue
from activities.snapshots.engine import Engine
from activities.snapshots.history import History
from activities.snapshots.retained import Borrowers
from activities.snapshots.upkeep import StoreUpkeep
from activities.transcript import Transcript
from workers import owner
from workers.runs import RunEraser
from workers.settings import HostSettings, Settings
from workers.watchdog.folder import HostFolder

_log = logging.getLogger(__name__)


def docker(settings: HostSettings) -> Daemon:
    """This host's Docker daemon."""
    return Daemon(settings.docker_host)


def host_folder(settings: HostSettings) -> HostFolder:
    """What this host's workers and its watchdog share."""
    return HostFolder(settings.home, settings.host_id)


def freezer(settings: HostSettings, daemon: Daemon) -> Freezer:
    """What holds this host's containers still for a moment, and knows what was left so."""
    folder = host_folder(settings)
    return Freezer(daemon, folder, folder.held)


def open_store(settings: Settings) -> ObjectStore:
    """The object store of this deployment."""
    return open_store_url(settings.store, s3=_s3(settings))


def audit_store(settings: Settings) -> ObjectStore:
    """The store of the audit log, opened anew: the deployment's, unless it has one of its own."""
    return open_store_url(settings.audit.store or settings.store, s3=_s3(settings), lock=settings.audit.retention)


def digests(settings: Settings) -> Digests:
    """What makes the digests of audit lines."""
    if not settings.audit.key:
        _log.warning("digests of the audit log have no key: short contents can be guessed (HIBERNAUT_AUDIT_KEY)")
    return Digests(settings.audit.key)


def _s3(settings: Settings) -> S3Settings:
    secret = settings.s3_secret_access_key
    return S3Settings(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key_id,
        secret_key=secret.get_secret_value() if secret is not None else None,
    )


async def take_store(settings: Settings, store: ObjectStore) -> None:
    """Make the store's prefix the owner's, or see that it is.

    Raises:
        StoreForeign: it is another owner's, or a key of its payloads is missing here.
    """
    connection = settings.connection
    await owner.take(store, settings.store, settings.owner, connection.namespace, connection.payload_keys)


async def take_audit_store(settings: Settings, store: ObjectStore) -> None:
    """The same of the audit log's store, if it has one of its own: two owners' hosts of one id share no chain.

    Raises:
        StoreForeign: it is another owner's.
    """
    if (url := settings.audit.store) is not None:
        await owner.take(store, url, settings.owner, settings.connection.namespace, None, "HIBERNAUT_AUDIT_STORE")


def snapshot_engine(settings: Settings, store: ObjectStore, daemon: Daemon) -> SnapshotEngine:
    """The snapshot engine, over this host's Docker daemon."""
    spool = settings.home / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    folder = host_folder(settings)
    return Engine(
        store,
        DockerCaptures(daemon, marks=folder, holds=folder.held),
        spool=spool,
        sealer=settings.sealer,
        cache=_cache(settings),
        timing=settings.timing,
    )


def upkeep(settings: Settings, store: ObjectStore) -> Upkeep:
    """What prunes, collects and verifies the snapshots of a store, without a host."""
    return StoreUpkeep(store, sealer=settings.sealer, timing=settings.timing, cache=_cache(settings))


def history(settings: Settings, store: ObjectStore) -> History:
    """What reads the snapshots there are, without a host."""
    return History(store, sealer=settings.sealer)


def sandboxes(daemon: Daemon, host_id: str, namespace_id: str, images: ImagePolicy = ANY_IMAGE) -> DockerSandboxes:
    """The sandboxes of this host's Docker daemon; closing them closes the daemon's connections."""
    return DockerSandboxes(daemon, {LABEL_HOST: host_id, LABEL_NAMESPACE: namespace_id}, images)


def destruction(
    settings: HostSettings, sandboxes: Sandboxes, daemon: Daemon, audit: HostAudit | None = None
) -> Destruction:
    """What removes this host's containers, and looks what is left of them."""
    spools = (settings.home / "spool", Path(tempfile.gettempdir()))
    return Destruction(sandboxes, DockerTraces(daemon, host_folder(settings).path, spools), audit)


def images(daemon: Daemon) -> Images:
    """The base images of this host's Docker daemon."""
    return DockerImages(daemon)


def transcript(store: ObjectStore) -> Transcript:
    """The transcripts in a store, with a cache of their segments."""
    return Transcript(store)


def _cache(settings: Settings) -> Path:
    """The folder for what was read of the store and may be thrown away at any time."""
    folder = settings.home / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def branching(store: ObjectStore, transcript: Transcript, engine: SnapshotEngine) -> tuple[Callable[..., Any], ...]:
    """The activities behind checkpoints, forks and rewinds."""
    branches = BranchActivities(transcript, engine)
    return Checkpoints(store).find, branches.fork, branches.rewind


def deletion(
    settings: Settings,
    store: ObjectStore,
    engine: SnapshotEngine,
    eraser: RunEraser,
    *,
    audit: ObjectStore | None = None,
    key: bytes = b"",
) -> tuple[Callable[..., Any], ...]:
    """The activities that count what an agent has, and certify that it is gone; `key` seals certificates."""
    keys = settings.sealer
    borrowers = Borrowers(store, Catalogue(store, keys, _cache(settings)), keys)
    activities = DeletionActivities(store, engine, borrowers, eraser.left, audit=audit, key=key)
    return activities.survey, activities.certify
