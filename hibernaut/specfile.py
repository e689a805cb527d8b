"""Spec files: YAML or JSON, with overrides from the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from hibernaut._explain import parse_spec
from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec

MAX_BYTES = 1_000_000
_MAPPING = TypeAdapter(dict[str, Any])


def load_spec(path: Path | None, overrides: Mapping[str, object] | None = None) -> AgentSpec:
    """Read a spec file and lay overrides over it.

    Args:
        path: YAML or JSON (which is YAML); none: the overrides alone make the spec.
        overrides: Dotted field names (`sandbox.image`) and values; a value of None overrides nothing.

    Raises:
        InvalidSpec: the file cannot be read or parsed (with line and column), or a field is wrong.
    """
    source = "The spec" if path is None else f"The spec {path}"
    data: dict[str, Any] = {} if path is None else _mapping(_parse(path), source)
    for name, value in (overrides or {}).items():
        if value is not None:
            _lay(data, name.split("."), value, source)
    return parse_spec(data, source=source)


def _parse(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidSpec(f"The spec file {path} has more than {MAX_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSpec(f"The spec file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"The spec file {path} is not UTF-8 text.") from error
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidSpec(f"{path} is neither YAML nor JSON{where}: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidSpec(f"{path} is neither YAML nor JSON: {error}.") from error


def _mapping(data: object, source: str) -> dict[str, Any]:
    try:
        return _MAPPING.validate_python(data)
    except ValidationError:
        # Says the same as of a spec from anywhere else.
        parse_spec(data, source=source)
        raise


def _lay(data: dict[str, Any], path: list[str], value: object, source: str) -> None:
    *outer, last = path
    for name in outer:
        try:
            data[name] = _MAPPING.validate_python(data.get(name) or {})
        except ValidationError as error:
            problem = f"{name}: must be a mapping of fields, not {data[name]!r:.60}"
            raise InvalidSpec(f"{source} is not valid:\n  {problem}", problems=(problem,)) from error
        data = data[name]
    data[last] = value
