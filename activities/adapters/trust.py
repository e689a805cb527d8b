"""What a sandbox with secrets has of them: placeholders, and the authority of its own proxy, which it trusts.

The certificates lie in the journal's volume: no snapshot holds them, and under every runtime they are seen inside.
"""

import io
import ssl
import tarfile
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from activities.adapters.docker_client import Daemon, translated
from hibernaut.models import SandboxSpec
from hibernaut.models.secrets import placeholder

VOLUME = "/run/hibernaut"
FOLDER = "trust"
AUTHORITY = f"{VOLUME}/{FOLDER}/ca.pem"
"""The proxy's certificate alone."""
BUNDLE = f"{VOLUME}/{FOLDER}/bundle.pem"
"""The image's certificates, and the proxy's."""
NAMES = "HIBERNAUT_SECRETS"
"""The variable with the names of the secrets."""
TRUST_ENV = {
    **dict.fromkeys(
        (
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "PIP_CERT",
            "AWS_CA_BUNDLE",
        ),
        BUNDLE,
    ),
    "NODE_EXTRA_CA_CERTS": AUTHORITY,
}
_OF_IMAGES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_MAX_BUNDLE = 8 * 1024 * 1024
_LINKS = 4


def environment(agent_uid: str, spec: SandboxSpec) -> dict[str, str]:
    """Variables of a sandbox with secrets."""
    if not spec.secrets:
        return {}
    return TRUST_ENV | {NAMES: " ".join(spec.secrets)} | {name: placeholder(agent_uid, name) for name in spec.secrets}


def plant(daemon: Daemon, sandbox_id: str, authority: str) -> None:
    """Have a container trust this authority beside those of its image.

    Raises:
        SandboxLost: It is gone.
        SandboxUnavailable: The daemon does not answer.
    """
    own = authority.encode("ascii")
    with translated():
        known = _of_image(daemon, sandbox_id) or _of_host()
        daemon.api.put_archive(
            sandbox_id, VOLUME, _archive({"ca.pem": own, "bundle.pem": known.rstrip() + b"\n" + own})
        )


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo(FOLDER)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _of_image(daemon: Daemon, sandbox_id: str) -> bytes:
    """The certificates that the container's own programs know; none when it has no such file."""
    for path in _OF_IMAGES:
        content = _file(daemon, sandbox_id, path)
        if b"BEGIN CERTIFICATE" in content:
            return content
    return b""


def _file(daemon: Daemon, sandbox_id: str, path: str) -> bytes:
    """What a file in a container has; nothing when it has none, or too much."""
    for _ in range(_LINKS):
        try:
            pieces, found = daemon.api.get_archive(sandbox_id, path)
        except NotFound as error:
            if "No such container" in str(error.explanation):
                raise
            return b""
        except APIError:
            return b""
        about: dict[str, Any] = found
        if target := str(about.get("linkTarget") or ""):
            pieces.close()
            path = target
            continue
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) > _MAX_BUNDLE:
                pieces.close()
                return b""
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                member = archive.next()
                content = archive.extractfile(member) if member is not None and member.isfile() else None
                return content.read() if content is not None else b""
        except tarfile.TarError:
            return b""
    return b""


def _of_host() -> bytes:
    path = ssl.get_default_verify_paths().cafile
    return Path(path).read_bytes() if path and Path(path).is_file() else b""
