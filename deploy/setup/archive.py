"""A root file system tarball made into an image that `docker load` takes, with the same image id wherever it is made.

`docker import` would stamp the image with the moment of the import: two machines would then hold the same files under
two ids, and a snapshot taken over the one could not be restored over the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CREATED = "2026-01-01T00:00:00Z"


def image_settings(dockerfile: str) -> dict[str, object]:
    """The container settings (ENV, LABEL, WORKDIR, USER, CMD) of a Dockerfile, as an image's configuration has them."""
    env: list[str] = []
    labels: dict[str, str] = {}
    settings: dict[str, object] = {"Env": env, "Labels": labels}
    for word, rest in re.findall(r"^(ENV|LABEL|WORKDIR|USER|CMD)[ \t]+(.+)$", dockerfile, flags=re.MULTILINE):
        match word:
            case "ENV":
                env += shlex.split(rest)
            case "LABEL":
                labels |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "WORKDIR":
                settings["WorkingDir"] = rest.strip()
            case "USER":
                settings["User"] = rest.strip()
            case _:
                settings["Cmd"] = json.loads(rest)
    return settings


def write_image(layer: Path, archive: Path, *, tag: str, architecture: str, settings: dict[str, object]) -> None:
    """Write the one-layer image of the tarball `layer` as an archive for `docker load`, whole or not at all.

    Args:
        layer: The root file system, an uncompressed tarball.
        archive: The file to write.
        tag: The name the image is loaded under.
        architecture: In Docker's words: `amd64`, `arm64`.
        settings: The `config` part of the image's configuration.
    """
    with layer.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _CREATED,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _CREATED, "created_by": "Debian packages"}],
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as out:
        for member, content in ((name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("layer.tar")
        info.size = layer.stat().st_size
        with layer.open("rb") as data:
            out.addfile(info, data)
    partial.replace(archive)
