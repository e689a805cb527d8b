"""Which images a host allows: a setting of its worker, whatever a spec asks for."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from activities.errors import SandboxRefused

_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9*?._/:@-]{0,254}")
_IMPLIED = ("docker.io/library/", "docker.io/")


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Patterns of names, such as `hibernaut/*` or `python:3.*`; none: every image is allowed.

    `*` stands for any characters, `?` for one. A name without a tag is meant with `latest`; `docker.io/library/` and
    `docker.io/` are left out, in names and in patterns. An image that is asked for by its id or digest is allowed by
    a pattern for that.
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
        name = _full(image)
        return not self.patterns or any(fnmatchcase(name, _full(pattern)) for pattern in self.patterns)

    def check(self, image: str) -> None:
        """SandboxRefused when it is not allowed."""
        if not self.allows(image):
            raise SandboxRefused(
                f"image {image} is not allowed on this host; allowed are {', '.join(self.patterns)} (HIBERNAUT_IMAGES "
                "of its worker); start an agent with one of these, or have the setting changed"
            )


ANY_IMAGE = ImagePolicy()


def _full(name: str) -> str:
    for prefix in _IMPLIED:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    last = name.rpartition("/")[2]
    whole = ":" in last or "@" in name or last.endswith("*")
    return name if whole else f"{name}:latest"
