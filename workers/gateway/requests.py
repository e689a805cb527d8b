"""What is read from a request: ids, paths, numbers; each refused with a sentence when it cannot be."""

import posixpath
import re
from urllib.parse import parse_qsl

from starlette.requests import Request

from hibernaut._ids import check_agent_id
from hibernaut.errors import InvalidPath, InvalidRequest

ITEM_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
MAX_PATH_BYTES = 4096
MAX_MODE = 0o7777
MAX_DIGITS = 18
"""What a 64-bit number can have."""
MAX_NUMBER = 10**MAX_DIGITS - 1


def agent_id(request: Request) -> str:
    """The agent's id in the URL."""
    name = str(request.path_params["agent_id"])
    check_agent_id(name)
    return name


def item_id(request: Request, name: str) -> str:
    """An id of something that the engine named."""
    value = str(request.path_params[name])
    if ITEM_ID.fullmatch(value) is None or set(value) == {"."}:
        raise InvalidRequest(f"{value[:80]!r} is no id.")
    return value


def query(request: Request) -> dict[str, str]:
    """The query parameters; bytes that are not UTF-8 are kept as surrogates, as file names may have them."""
    raw = request.scope["query_string"].decode("ascii", "replace")
    return dict(parse_qsl(raw, keep_blank_values=True, errors="surrogateescape"))


def path(parameters: dict[str, str], default: str | None = None) -> str:
    """The absolute, normalised path of the parameter `path`."""
    value = parameters.get("path", default)
    if not value:
        raise InvalidRequest("The parameter path is missing.")
    if not value.startswith("/"):
        raise InvalidPath(f"The path {value!r} is not absolute.", hint="Write it from the root.")
    if "\0" in value:
        raise InvalidPath("A path cannot hold a NUL character.")
    if len(value.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise InvalidPath(f"A path has at most {MAX_PATH_BYTES} bytes.")
    return "/" + posixpath.normpath(value).lstrip("/")


def mode(parameters: dict[str, str]) -> int:
    """Permission bits in octal; 0644 by default."""
    text = parameters.get("mode", "0644")
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= MAX_MODE:
        raise InvalidRequest(f"The mode {text[:20]!r} is no octal number up to 7777.")
    return value


def since(parameters: dict[str, str]) -> int:
    """A sequence number of an event; 0 by default."""
    return number(parameters, "since", 0)


def number(parameters: dict[str, str], name: str, default: int, *, most: int = MAX_NUMBER) -> int:
    """A parameter that counts something."""
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > MAX_DIGITS or int(text) > most:
        raise InvalidRequest(f"The parameter {name} is a number up to {most}, not {text[:20]!r}.")
    return int(text)


def flag(parameters: dict[str, str], name: str) -> bool:
    """A parameter that is true or false; false by default."""
    text = parameters.get(name, "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise InvalidRequest(f"The parameter {name} is true or false, not {text[:20]!r}.")
    return text in {"true", "1"}
