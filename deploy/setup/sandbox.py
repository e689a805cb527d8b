"""The sandbox images, the default one and templates: by their Dockerfiles, or the same content from Debian packages."""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.setup import apt
from deploy.setup.archive import image_settings, write_image
from deploy.setup.console import ROOT, SetupError, cache_dir, is_root, probe, run, say

IMAGE = "hibernaut/sandbox:latest"
BASE = "base"
"""The name of the default image among the templates."""
_BASE_RECIPE = ROOT / "deploy" / "sandbox"
_LABEL = "org.hibernaut.recipe"
_REGISTRY_SECONDS = 8.0
_HASH = 16
_EPOCH = (
    "1767225600"  # Files that the build itself makes bear this time, so that the same packages give the same image.
)
_ARCHITECTURES = {"armhf": "arm", "i386": "386", "ppc64el": "ppc64le"}


@dataclass(frozen=True)
class Recipe:
    """What an image is made from: a folder of its own, and for a template those of the default image."""

    folder: Path
    base: Path | None = None

    @property
    def image(self) -> str:
        """The name that Docker knows it by."""
        return IMAGE if self.base is None else f"{IMAGE.partition(':')[0]}:{self.folder.name}"

    @property
    def archive(self) -> Path:
        """Where it is kept for `docker load`."""
        return cache_dir() / f"{self._stem}-{self.hash}.tar"

    @property
    def old_archives(self) -> list[Path]:
        """Those of earlier versions of it."""
        return [path for path in cache_dir().glob(f"{self._stem}-{'?' * _HASH}.tar") if path != self.archive]

    @property
    def _stem(self) -> str:
        return "sandbox" if self.base is None else f"template-{self.folder.name}"

    @property
    def hash(self) -> str:
        """Names what it is made from: hex digits over every file of the recipe."""
        digest = hashlib.sha256(_EPOCH.encode())
        for folder in filter(None, (self.base, self.folder)):
            for path in sorted(folder.iterdir()):
                if path.is_file():
                    digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()[:_HASH]

    @property
    def packaged(self) -> bool:
        """Whether Debian packages alone make it; else its Dockerfile does more, and only Docker can build it."""
        return (self.folder / "packages.txt").is_file()

    @property
    def packages(self) -> list[str]:
        """The Debian packages in it."""
        files = [folder / "packages.txt" for folder in (self.base, self.folder) if folder is not None]
        return [name for file in files for name in file.read_text(encoding="utf-8").split()]

    @property
    def settings(self) -> dict[str, object]:
        """The container settings of its Dockerfile, after those of the image it is made from."""
        files = [folder / "Dockerfile" for folder in (self.base, self.folder) if folder is not None]
        return image_settings("\n".join(file.read_text(encoding="utf-8") for file in files))


DEFAULT = Recipe(_BASE_RECIPE)


def templates() -> dict[str, Recipe]:
    """The images that can be built, by name."""
    folders = sorted(path.parent for path in _BASE_RECIPE.glob("*/Dockerfile"))
    return {BASE: DEFAULT, **{folder.name: Recipe(folder, _BASE_RECIPE) for folder in folders}}


def ensure_template(name: str) -> None:
    """Make sure that Docker holds the image of this template.

    Raises:
        SetupError: There is no such template, or it cannot be built here.
    """
    known = templates()
    if name not in known:
        raise SetupError(f"no template {name!r}; deploy/sandbox has {', '.join(known)}")
    ensure_sandbox_image()
    if name != BASE:
        ensure_sandbox_image(known[name])


def ensure_sandbox_image(recipe: Recipe = DEFAULT) -> None:
    """Make sure that Docker holds the image of this checkout's recipe.

    Raises:
        SetupError: Neither way of building it works on this machine.
    """
    if _recipe_of(recipe.image) == recipe.hash:
        say(f"sandbox image: {recipe.image} is up to date ({_size(recipe.image)})")
        return
    if not recipe.archive.exists() and (not recipe.packaged or _registry_answers()):
        try:
            _build_from_dockerfile(recipe)
        except SetupError as error:
            if not recipe.packaged:
                raise
            say(f"{error}\nsetup: building from Debian packages instead")
    if _recipe_of(recipe.image) != recipe.hash:
        if not recipe.archive.exists():
            build_from_packages(recipe.archive, recipe)
        run(["docker", "load", "--input", str(recipe.archive)], doing=f"loading {recipe.image} from {recipe.archive}")
    say(f"sandbox image: {recipe.image} is ready ({_size(recipe.image)})")


def _recipe_of(image: str) -> str:
    template = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    return probe(["docker", "image", "inspect", "--format", template, image]).stdout.strip()


def _size(image: str) -> str:
    size = probe(["docker", "image", "inspect", "--format", "{{.Size}}", image]).stdout.strip()
    return f"{int(size) / 1e6:.0f} MB" if size.isdigit() else "size unknown"


def _registry_answers() -> bool:
    """Whether the Dockerfile's base image is here or a registry offers it; never waits longer than a few seconds."""
    found = re.search(
        r"^ARG BASE=(\S+)$", (_BASE_RECIPE / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
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


def _build_from_dockerfile(recipe: Recipe) -> None:
    run(
        ["docker", "build", "--tag", recipe.image, "--label", f"{_LABEL}={recipe.hash}", str(recipe.folder)],
        doing=f"building {recipe.image} with docker build",
    )


def build_from_packages(archive: Path, recipe: Recipe) -> None:
    """Build the image from the Debian packages this machine's apt knows, into an archive for `docker load`.

    The same package versions give the same bytes, so image ids agree between machines.

    Raises:
        SetupError: This machine is no Debian, a tool is missing and cannot be installed, or the build fails.
    """
    if not apt.is_debian():
        msg = (
            "no image registry answers, and this machine is no Debian or Ubuntu from whose packages the sandbox "
            f"image could be built. Bring the image here (docker load), or build it where a registry answers: "
            f"docker build --label {_LABEL}={recipe.hash} --tag {recipe.image} {recipe.folder}"
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
            _mmdebstrap(recipe, release["VERSION_CODENAME"], layer, sources, folder),
            doing=f"building {recipe.image} from the packages of {release['PRETTY_NAME']} (about a minute)",
            env={"SOURCE_DATE_EPOCH": _EPOCH, "LC_ALL": "C.UTF-8"},
        )
        settings = recipe.settings
        labels = settings["Labels"]
        settings["Labels"] = {**(labels if isinstance(labels, dict) else {}), _LABEL: recipe.hash}
        architecture = probe(["dpkg", "--print-architecture"]).stdout.strip()
        write_image(
            layer,
            archive,
            tag=recipe.image,
            architecture=_ARCHITECTURES.get(architecture, architecture),
            settings=settings,
        )
    for old in recipe.old_archives:
        old.unlink()


def _mmdebstrap(recipe: Recipe, suite: str, layer: Path, sources: Path, folder: Path) -> list[str]:
    packages = ",".join(recipe.packages)
    excludes = (_BASE_RECIPE / "dpkg-excludes.txt").read_text(encoding="utf-8").split()
    apt_settings = folder / "apt.conf"
    apt_settings.write_text(apt.settings(), encoding="utf-8")
    script = folder / "finish.sh"
    shutil.copy(_BASE_RECIPE / "finish.sh", script)
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
