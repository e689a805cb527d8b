"""Templates: images of the checkout's `deploy/sandbox`, asked for by name."""

import re

PREFIX = "template:"
BASE = "base"
"""The template that is the default image."""

_IMAGE = "hibernaut/sandbox"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def template_of(image: str) -> str | None:
    """The template that an image of a spec names; None when it is an image's own name.

    Raises:
        ValueError: It is no name for a template.
    """
    if not image.startswith(PREFIX):
        return None
    name = image.removeprefix(PREFIX)
    if _NAME.fullmatch(name) is None or name == "latest":
        raise ValueError(
            f"must be {PREFIX} and a name of small letters, digits, `.`, `_` and `-`, such as {PREFIX}python; "
            f"not {image!r}"
        )
    return name


def image_name(image: str) -> str:
    """The name that Docker knows an image of a spec by."""
    name = template_of(image)
    if name is None:
        return image
    return f"{_IMAGE}:{'latest' if name == BASE else name}"
