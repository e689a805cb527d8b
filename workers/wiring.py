"""From settings to adapters to activities: the one place that knows which class stands behind which port."""

from activities.adapters.docker_captures import DockerCaptures
from activities.adapters.docker_client import Daemon
from activities.adapters.docker_images import DockerImages
from activities.adapters.docker_sandbox import LABEL_HOST, LABEL_NAMESPACE
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.s3_store import S3Settings
from activities.adapters.stores import open_store as open_store_url
from activities.ports.images import Images
from activities.ports.sandbox import Sandboxes
from activities.ports.snapshots import SnapshotEngine
from activities.ports.store import ObjectStore
from activities.snapshots.engine import Engine
from activities.transcript import Transcript
from workers.settings import HostSettings, Settings
from workers.watchdog.folder import HostFolder


def docker(settings: HostSettings) -> Daemon:
    """This host's Docker daemon."""
    return Daemon(settings.docker_host)


def host_folder(settings: HostSettings) -> HostFolder:
    """What this host's workers and its watchdog share."""
    return HostFolder(settings.home, settings.host_id)


def open_store(settings: Settings) -> ObjectStore:
    """The object store of this deployment."""
    secret = settings.s3_secret_access_key
    s3 = S3Settings(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key_id,
        secret_key=secret.get_secret_value() if secret is not None else None,
    )
    return open_store_url(settings.store, s3=s3)


def snapshot_engine(settings: Settings, store: ObjectStore, daemon: Daemon) -> SnapshotEngine:
    """The snapshot engine, over this host's Docker daemon."""
    spool = settings.home / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    return Engine(store, DockerCaptures(daemon, marks=host_folder(settings)), spool=spool)


def sandboxes(daemon: Daemon, host_id: str, namespace_id: str) -> Sandboxes:
    """The sandboxes of this host's Docker daemon; closing them closes the daemon's connections."""
    return DockerSandboxes(daemon, {LABEL_HOST: host_id, LABEL_NAMESPACE: namespace_id})


def images(daemon: Daemon) -> Images:
    """The base images of this host's Docker daemon."""
    return DockerImages(daemon)


def transcript(store: ObjectStore) -> Transcript:
    """The transcripts in a store, with a cache of their segments."""
    return Transcript(store)
