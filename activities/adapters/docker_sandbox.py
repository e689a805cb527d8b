"""Sandboxes as Docker containers: created hardened from a spec, found by their labels, destroyed completely."""

import io
import tarfile
import threading
from collections.abc import Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any

from docker.errors import APIError, ImageNotFound as DockerImageNotFound, NotFound

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_quota import DiskQuota
from activities.adapters.docker_runtimes import STANDARD, check_runtime
from activities.adapters.hardening import limits
from activities.adapters.image_policy import ANY_IMAGE, ImagePolicy
from activities.adapters.trust import environment
from activities.errors import ImageNotFound, SandboxRefused, SandboxUnavailable
from activities.ports.egress import PROXY_ENV
from activities.ports.sandbox import Container, SandboxIdentity
from hibernaut.models import SandboxSpec
from hibernaut.models.templates import image_name, template_of

LABEL_AGENT = "hibernaut.agent"
LABEL_UID = "hibernaut.agent-uid"
LABEL_GENERATION = "hibernaut.generation"
LABEL_USER = "hibernaut.user"
"""Who runs the commands, as Docker writes it: `name`, `uid` or `user:group`; empty for root."""
LABEL_HOST = "hibernaut.host"
LABEL_NAMESPACE = "hibernaut.namespace"
"""The id, not the name, of the Temporal namespace: several deployments may share one daemon."""
LABEL_DISK = "hibernaut.disk-mb"
"""What the watch lets the container write, in MiB; absent: any amount."""

JOURNAL = "/run/hibernaut"
"""A volume: no snapshot sees it, and it outlives a restart of the container under every runtime."""
STATE = "/var/lib/hibernaut"
"""Working directory and exported variables; in the root file system, so that snapshots hold them."""

DIRECTORIES = {
    # Whoever runs the commands may pass through and read the scripts, and list or change nothing.
    JOURNAL: 0o711,
    f"{JOURNAL}/exec": 0o700,
    f"{JOURNAL}/try": 0o700,
    f"{JOURNAL}/in": 0o711,
    # Written by the commands' own user, whoever that is.
    STATE: 0o1777,
}


class ContainerFactory:
    """Creates and removes the containers of agents on one daemon."""

    def __init__(self, daemon: Daemon, home: Mapping[str, str] | None = None, images: ImagePolicy = ANY_IMAGE) -> None:
        """Use this daemon; `home` labels every container made, `images` are those this host allows."""
        self._daemon = daemon
        self._images = images
        self._home = dict(home or {})
        self._guard = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._quota = DiskQuota(daemon)

    def acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        """Create and start a container of this generation, after removing the agent's earlier ones.

        One at a time for an agent: a thread cannot be cancelled, and the attempt that Temporal has given up may still
        be at it when the next one begins.
        """
        with self._guard:
            lock = self._making.setdefault(identity.agent_uid, threading.Lock())
        with lock:
            return self._acquire(identity, spec, image_id)

    def _acquire(self, identity: SandboxIdentity, spec: SandboxSpec, image_id: str | None) -> Container:
        self.check(spec)
        image = self._image(image_id or spec.image)
        # A container of this very generation is a half-made one of an attempt that died: nothing ran in it yet.
        self.destroy(identity.agent_uid, identity.generation)
        api = self._daemon.api
        with translated():
            try:
                defaults: dict[str, Any] = api.inspect_image(image).get("Config") or {}
                user = spec.user or str(defaults.get("User") or "")
                container_id = self._create(identity, spec, image, user)
                api.put_archive(container_id, "/", _scaffold(self._commands(container_id, user)))
                api.start(container_id)
                started_at = str(api.inspect_container(container_id)["State"]["StartedAt"])
            except NotFound as error:
                raise SandboxRefused(
                    f"the container of image {spec.image} could not be made: {error.explanation}"
                ) from error
            except APIError as error:
                if error.status_code == HTTPStatus.CONFLICT and "already in use" in str(error.explanation):
                    # Another process makes the same container: what it made is not this one's to remove.
                    raise SandboxUnavailable(f"the container is being made by somebody else: {error}") from error
                self.destroy(identity.agent_uid, identity.generation)
                if error.is_server_error() and "runtime" not in str(error.explanation):
                    raise
                raise SandboxRefused(
                    f"the container of image {spec.image} with runtime {spec.runtime} could not be started: "
                    f"{error.explanation or error}; mend the sandbox part of the spec, or what the daemon lacks"
                ) from error
        return Container(sandbox_id=container_id, image_id=image, started_at=started_at)

    def check(self, spec: SandboxSpec) -> None:
        """SandboxRefused when this host never makes a container of this spec: image not allowed, no such runtime."""
        self._images.check(spec.image)
        if spec.runtime != STANDARD:
            with translated():
                check_runtime(spec.runtime, self._daemon.api.info())

    def destroy(self, agent_uid: str, generation: int) -> list[str]:
        """Remove the agent's containers up to a generation with their volumes; their ids."""
        removed: list[str] = []
        api = self._daemon.api
        with translated():
            for found in api.containers(all=True, filters={"label": f"{LABEL_UID}={agent_uid}"}):
                labels: dict[str, str] = found.get("Labels") or {}
                if int(labels.get(LABEL_GENERATION, "0")) > generation:
                    continue
                try:
                    api.remove_container(found["Id"], v=True, force=True)
                except NotFound:
                    continue
                except APIError as error:
                    if "already in progress" not in str(error.explanation):
                        # Whatever the daemon dislikes, a container is not given up: it is tried again.
                        raise SandboxUnavailable(f"the container cannot be removed: {error.explanation}") from error
                removed.append(str(found["Id"]))
        return removed

    def _image(self, asked: str) -> str:
        client, name = self._daemon.client, image_name(asked)
        with translated():
            try:
                found: dict[str, Any] = client.images.get(name).attrs
            except DockerImageNotFound:
                pass
            else:
                names = [*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]
                self._images.check_id(str(found["Id"]), [one for one in names if not one.startswith("<none>")])
                return str(found["Id"])
            if name != asked:
                raise ImageNotFound(
                    f"{asked} is not built on this host: `make sandbox ARGS={template_of(asked)}` in a checkout there "
                    "builds those that deploy/sandbox has; or start an agent with another image"
                )
            try:
                return str(client.images.pull(*_repository(name)).id)
            except (APIError, ValueError) as error:
                why = error.explanation if isinstance(error, APIError) else error
                raise ImageNotFound(
                    f"image {name} is not on this host and cannot be pulled ({why}); build or load it there "
                    "(`make setup` builds the default one), or start an agent with another image"
                ) from error

    def _commands(self, container_id: str, user: str) -> bytes:
        """What the supervisor has to know: user, HOME where that is given, working directory; a line each."""
        config: dict[str, Any] = self._daemon.api.inspect_container(container_id)["Config"]
        environment: list[str] = config.get("Env") or []
        homes = [value for name, _, value in (entry.partition("=") for entry in environment) if name == "HOME"]
        fields = (user, (homes or [""])[0], str(config.get("WorkingDir") or "/"))
        if any("\n" in field for field in fields):
            raise SandboxRefused("user, HOME and working directory of a sandbox cannot hold a newline; mend the spec")
        return "".join(f"{field}\n" for field in fields).encode()

    def _create(self, identity: SandboxIdentity, spec: SandboxSpec, image: str, user: str) -> str:
        api = self._daemon.api
        quota = self._quota.options(spec)
        try:
            created = api.create_container(**self._config(identity, spec, image, user, quota))
        except APIError as error:
            if not self._quota.refused(error):
                raise
            created = api.create_container(**self._config(identity, spec, image, user, {}))
        return str(created["Id"])

    def _config(
        self, identity: SandboxIdentity, spec: SandboxSpec, image: str, user: str, quota: dict[str, Any]
    ) -> dict[str, Any]:
        host = self._daemon.api.create_host_config(
            network_mode="bridge" if spec.network.mode == "open" else "none",
            **limits(spec),
            **quota,
        )
        # A quota does not bound the journal, which is a volume: the watch does, at the same again.
        watched = {} if spec.disk_mb is None else {LABEL_DISK: str(spec.disk_mb * (2 if quota else 1))}
        return {
            "image": image,
            "name": f"hibernaut-{identity.agent_uid[:12]}-g{identity.generation}",
            "hostname": "sandbox",
            "entrypoint": ["tail", "-f", "/dev/null"],
            "command": [],
            "environment": {
                **(PROXY_ENV if spec.network.mode == "allowlist" else {}),
                **environment(identity.agent_uid, spec),
                **spec.env,
            },
            # Nobody in the sandbox ends PID 1; and only so a daemon gives an exec as root its capabilities.
            "user": "0:0",
            "working_dir": spec.workdir,
            "volumes": [JOURNAL],
            # An image's own check would be run for ever beside the agent's commands, and be none of them.
            "healthcheck": {"test": ["NONE"]},
            "labels": {
                **self._home,
                LABEL_USER: user,
                LABEL_AGENT: identity.agent_id,
                LABEL_UID: identity.agent_uid,
                LABEL_GENERATION: str(identity.generation),
                **watched,
            },
            "host_config": host,
        }


def _repository(name: str) -> tuple[str, str | None]:
    """Repository and tag as `pull` wants them: without a tag it would fetch every one."""
    if "@" in name or name.startswith("sha256:"):
        return name, None
    repository, _, tag = name.rpartition(":")
    return (repository, tag) if repository and "/" not in tag else (name, "latest")


def _scaffold(commands: bytes) -> bytes:
    """The supervisor and the directories it needs, as a tar archive for `/`."""
    buffer = io.BytesIO()
    scripts = resources.files("activities.adapters") / "supervisor"
    files = [(f"{JOURNAL}/{script.name}", script.read_bytes(), 0o755) for script in scripts.iterdir()]
    files.append((f"{JOURNAL}/spec", commands, 0o600))
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, mode in DIRECTORIES.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.type, member.mode = tarfile.DIRTYPE, mode
            archive.addfile(member)
        for path, content, mode in files:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
