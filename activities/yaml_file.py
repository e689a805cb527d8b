"""Settings of a worker in a YAML file."""

from pathlib import Path
from typing import cast

import yaml


def load(path: Path, what: str, variable: str) -> object:
    """The content of the file that an environment variable names.

    Args:
        path: The file.
        what: What it is, for the error: `provider file`.
        variable: The variable, for the error.

    Raises:
        ValueError: It cannot be read, or is no YAML; the message says so.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The {what} {path} ({variable}) cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = cast("object", getattr(error, "problem_mark", None))
        where = f" at line {cast('int', getattr(mark, 'line', 0)) + 1}" if mark is not None else ""
        raise ValueError(f"The {what} {path} is not valid YAML{where}.") from None
