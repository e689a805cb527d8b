"""The sandbox base image `hibernaut/sandbox:latest`: by its Dockerfile, or the same content from Debian packages."""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.setup import apt
from deploy.setup.archive import image_settings, write_image
from deploy.setup.console import ROOT, SetupError, cache_dir, is_root, probe, run, say

IMAGE = "hibernaut/sandbox:latest"
_RECIPE = ROOT / "deploy" / "sandbox"
_LABEL = "org.hibernaut.recipe"
_REGISTRY_SECONDS = 8.0
_EPOCH = (
    "1767225600"  # Files that the build itself makes bear this time, so that the same packages give the same image.
)
_ARCHITECTURES = {"armhf": "arm", "i386": "386", "ppc64el": "ppc64le"}


def ensure_sandbox_image() -> None:
    """Make sure that Docker holds the sandbox image of this checkout's recipe.

    Raises:
        SetupError: Neither way of building it works on this machine.
    """
    recipe = recipe_hash()
    if _recipe_of(IMAGE) == recipe:
        say(f"sandbox image: {IMAGE} is up to date ({_size(IMAGE)})")
        return
    archive = cache_dir() / f"sandbox-{recipe}.tar"
    if not archive.exists() and _registry_answers():
        try:
            _build_from_dockerfile(recipe)
        except SetupError as error:
            say(f"{error}\nsetup: building from Debian packages instead")
    if _recipe_of(IMAGE) != recipe:
        if not archive.exists():
            build_from_packages(archive, recipe)
        run(["docker", "load", "--input", str(archive)], doing=f"loading {IMAGE} from {archive}")
    say(f"sandbox image: {IMAGE} is ready ({_size(IMAGE)})")


def recipe_hash() -> str:
    """Names what the image is made from: 16 hex digits over every file of the recipe."""
    digest = hashlib.sha256(_EPOCH.encode())
    for path in sorted(_RECIPE.iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _recipe_of(image: str) -> str:
    template = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    return probe(["docker", "image", "inspect", "--format", template, image]).stdout.strip()


def _size(image: str) -> str:
    size = probe(["docker", "image", "inspect", "--format", "{{.Size}}", image]).stdout.strip()
    return f"{int(size) / 1e6:.0f} MB" if size.isdigit() else "size unknown"


def _registry_answers() -> bool:
    """Whether the Dockerfile's base image is here or a registry offers it; never waits longer than a few seconds."""
    found = re.search(r"^ARG BASE=(\S+)$", (_RECIPE / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    base = found.group(1) if found else ""
    if probe(["docker", "image", "inspect", base]).returncode == 0:
        return True
    pull = subprocess.Popen(["docker", "pull", base], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if pull.stdout is None:
            return False
        ready, _, _ = select.select([pull.stdout], [], [], _REGISTRY_SECONDS)
        answers = bool(ready) and b"Pulling from" in os.read(pull.stdout.fileno(), 4096)
    finally:
        pull.kill()
        pull.wait()
        if pull.stdout is not None:
            pull.stdout.close()
    say(f"image registry: {'answers' if answers else 'does not answer'}")
    return answers


def _build_from_dockerfile(recipe: str) -> None:
    run(
        ["docker", "build", "--tag", IMAGE, "--label", f"{_LABEL}={recipe}", str(_RECIPE)],
        doing=f"building {IMAGE} with docker build",
    )


def build_from_packages(archive: Path, recipe: str) -> None:
    """Build the image from the Debian packages this machine's apt knows, into an archive for `docker load`.

    The same package versions give the same bytes, so image ids agree between machines.

    Raises:
        SetupError: This machine is no Debian, a tool is missing and cannot be installed, or the build fails.
    """
    if not apt.is_debian():
        msg = (
            "no image registry answers, and this machine is no Debian or Ubuntu from whose packages the sandbox "
            f"image could be built. Bring the image here (docker load), or build it where a registry answers: "
            f"docker build --label {_LABEL}={recipe} --tag {IMAGE} {_RECIPE}"
        )
        raise SetupError(msg)
    if shutil.which("mmdebstrap") is None:
        apt.install(["mmdebstrap"], why="building the sandbox image from Debian packages")
    elif is_root():
        apt.update()
    with tempfile.TemporaryDirectory(prefix="hibernaut-image-", dir=cache_dir()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        release = apt.os_release()
        sources = folder / "base.list"
        archives = apt.archives(release["VERSION_CODENAME"])
        sources.write_text("".join(f"{archive.line}\n" for archive in archives), encoding="utf-8")
        layer = folder / "root.tar"
        run(
            _mmdebstrap(release["VERSION_CODENAME"], layer, sources, folder),
            doing=f"building {IMAGE} from the packages of {release['PRETTY_NAME']} (about a minute)",
            env={"SOURCE_DATE_EPOCH": _EPOCH, "LC_ALL": "C.UTF-8"},
        )
        settings = image_settings((_RECIPE / "Dockerfile").read_text(encoding="utf-8"))
        labels = settings["Labels"]
        settings["Labels"] = {**(labels if isinstance(labels, dict) else {}), _LABEL: recipe}
        architecture = probe(["dpkg", "--print-architecture"]).stdout.strip()
        write_image(
            layer,
            archive,
            tag=IMAGE,
            architecture=_ARCHITECTURES.get(architecture, architecture),
            settings=settings,
        )
    for old in cache_dir().glob("sandbox-*.tar"):
        if old != archive:
            old.unlink()


def _mmdebstrap(suite: str, layer: Path, sources: Path, folder: Path) -> list[str]:
    packages = ",".join((_RECIPE / "packages.txt").read_text(encoding="utf-8").split())
    excludes = (_RECIPE / "dpkg-excludes.txt").read_text(encoding="utf-8").split()
    apt_settings = folder / "apt.conf"
    apt_settings.write_text(apt.settings(), encoding="utf-8")
    script = folder / "finish.sh"
    shutil.copy(_RECIPE / "finish.sh", script)
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=tar",
        f"--include={packages}",
        *(f"--dpkgopt={line}" for line in excludes),
        f"--aptopt={apt_settings}",
        f"--customize-hook=copy-in {script} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/finish.sh',
        '--customize-hook=rm -f "$1/tmp/finish.sh" "$1/etc/hostname" "$1/etc/resolv.conf"',
        suite,
        str(layer),
        str(sources),
    ]
