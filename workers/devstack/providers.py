"""The model providers of the stack's worker: what its environment names, and a place for a scripted model."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from activities.providers import DEFAULT_PROVIDER
from workers.devstack.settings import LOOPBACK, Ports, write_private

SCRIPTED_PROVIDER = "scripted"
"""A provider on this machine that answers only while somebody serves a script there."""


def providers_file(home: Path, ports: Ports, environ: Mapping[str, str]) -> Path:
    """The file of providers for a worker with this environment.

    It is the one HIBERNAUT_PROVIDERS names; without it one is written into the home, with `default`, made of
    OPENAI_API_KEY, OPENAI_BASE_URL, HIBERNAUT_WIRE and HIBERNAUT_CONTEXT_WINDOW as ever, and `scripted`. No key is
    written into it.
    """
    if named := environ.get("HIBERNAUT_PROVIDERS"):
        return Path(named).absolute()
    default: dict[str, Any] = {}
    if environ.get("OPENAI_API_KEY", "").strip():
        default["api_key_env"] = "OPENAI_API_KEY"
    for field, variable in (("base_url", "OPENAI_BASE_URL"), ("wire", "HIBERNAUT_WIRE")):
        if value := environ.get(variable):
            default[field] = value
    if window := environ.get("HIBERNAUT_CONTEXT_WINDOW"):
        default["context_window"] = int(window) if window.isdecimal() else window
    scripted = {
        "base_url": f"http://{LOOPBACK}:{ports.scripted}/v1",
        "api_key_file": str(_scripted_key(home)),
    }
    path = home / "providers.yaml"
    written = yaml.safe_dump({"providers": {DEFAULT_PROVIDER: default, SCRIPTED_PROVIDER: scripted}}, sort_keys=False)
    write_private(path, f"# Written at every start of the development stack.\n{written}")
    return path


def _scripted_key(home: Path) -> Path:
    """The file of the key by which the worker and a scripted model know each other, made once for a home."""
    path = home / "scripted.key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path
