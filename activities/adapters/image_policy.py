"""Which images a host allows: a setting of its worker, whatever a spec asks for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from activities.errors import SandboxRefused
from hibernaut.models.templates import image_name

_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9*?._/:@-]{0,254}")
_IMPLIED = ("docker.io/library/", "docker.io/")


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Patterns of names, such as `hibernaut/*` or `python:3.*`; none: every image is allowed.

    `*` stands for any characters, `?` for one. A name without a tag is meant with `latest`; `docker.io/library/` and
    `docker.io/` are left out, in names and in patterns. An image that is asked for by its id or digest is allowed by
    a pattern for that: Docker looks at no tag beside a digest. One without a slash is about names without one, unless
    it begins with `*`: `python*` is no other registry's.
    """

    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ImagePolicy":
        """From patterns with commas between.

        Raises:
            ValueError: One is no pattern.
        """
        patterns = tuple(part.strip() for part in text.split(",") if part.strip())
        for pattern in patterns:
            if _PATTERN.fullmatch(pattern) is None:
                raise ValueError(
                    f"must be patterns such as hibernaut/* or python:3.*, with commas between; not {pattern!r}"
                )
        return cls(patterns)

    def allows(self, image: str) -> bool:
        """Whether a container may be made of an image of this name."""
        if not self.patterns:
            return True
        name = _full(image)
        repository, at, digest = name.partition("@")
        # Docker takes what the digest says, whatever the tag beside it.
        bare = f"{_untagged(repository)}{at}{digest}" if at else name
        return any(
            _matches(bare, _full(pattern)) or ("@" in pattern and _matches(name, _full(pattern)))
            for pattern in self.patterns
        )

    def allows_any(self, image_id: str, names: Sequence[str]) -> bool:
        """Whether one may be made of the image of this id, which the host knows under these names.

        One that it knows under no name was loaded from the store, or had a tag that moved on: its names were looked at
        when it was first taken. A name with a digest is one that was pulled, under whichever tag.
        """
        if not names or self.allows(image_id):
            return True
        return any(self.allows(name) or ("@" in name and self._allows_some(name)) for name in names)

    def _allows_some(self, digest: str) -> bool:
        name = _untagged(digest)
        return any(_matches(name, _untagged(pattern)) for pattern in self.patterns)

    def check(self, image: str) -> None:
        """SandboxRefused when it is not allowed; of a template, the name of its image counts."""
        if not self.allows(image_name(image)):
            self._refuse(f"image {image}")

    def check_id(self, image_id: str, names: Sequence[str]) -> None:
        """SandboxRefused when no name that the host knows an image by is allowed: an id opens no back door."""
        if not self.allows_any(image_id, names):
            self._refuse(f"image {image_id[:19]}, which is {', '.join(names)},")

    def _refuse(self, what: str) -> None:
        raise SandboxRefused(
            f"{what} is not allowed on this host; allowed are {', '.join(self.patterns)} (HIBERNAUT_IMAGES "
            "of its worker); start an agent with one of these, or have the setting changed"
        )


ANY_IMAGE = ImagePolicy()


def _matches(name: str, pattern: str) -> bool:
    if "/" in name and "/" not in pattern and not pattern.startswith("*"):
        return False
    return fnmatchcase(name, pattern)


def _untagged(name: str) -> str:
    """A name, or a pattern, without digest and tag."""
    name = _full(name).partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def _full(name: str) -> str:
    for prefix in _IMPLIED:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    last = name.rpartition("/")[2]
    whole = ":" in last or "@" in name or last.endswith("*")
    return name if whole else f"{name}:latest"
