"""Finds or starts the development stack, and decides which model its worker is to ask."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from activities.providers import DEFAULT_PROVIDER, ProviderSettings, ProviderSettingsInvalid, read_settings
from examples.demo.errors import DemoError
from examples.demo.script import script
from examples.scripted_model import ScriptedModel
from workers.devstack.home import ConnectionFile, HomeLock
from workers.devstack.providers import SCRIPTED_PROVIDER
from workers.devstack.settings import CHECKOUT, LOOPBACK, default_home, is_free

DEFAULT_MODEL = "gpt-5.5"
SCRIPTED_MODEL = "scripted"


@dataclass(frozen=True, slots=True)
class Model:
    """The model the agent is given, and the provider by which the stack's worker reaches it."""

    provider: str
    name: str
    base_url: str
    key_file: Path | None = None
    """The key a scripted model is asked with."""

    @property
    def scripted(self) -> bool:
        """Whether it is the demo's own script."""
        return self.provider == SCRIPTED_PROVIDER


def ensure_stack(environ: Mapping[str, str] = os.environ) -> ConnectionFile:
    """The stack of this home: the one that runs, else one started now, which goes on when the demo has ended.

    Raises:
        DemoError: there is none, or one without a worker.
    """
    home = default_home(environ)
    connection = ConnectionFile.read(home) if HomeLock(home).holder() else None
    if connection is None:
        up = subprocess.run(
            [sys.executable, "-m", "workers.devstack", "up", "--detach"], cwd=CHECKOUT, env=dict(environ), check=False
        )
        connection = ConnectionFile.read(home)
        if up.returncode != 0 or connection is None:
            raise DemoError("The development stack did not start.", hint=f"Its logs are in {home / 'logs'}.")
    if not connection.providers:
        raise DemoError("The development stack that runs has no worker.", hint="Stop it (`make down`) and try again.")
    return connection


def choose_model(connection: ConnectionFile, environ: Mapping[str, str] = os.environ) -> Model:
    """The model of the provider `default` when OPENAI_API_KEY is set, else the script.

    Raises:
        DemoError: the worker of the stack that runs cannot reach it, and how to mend that.
    """
    file = Path(connection.providers)
    try:
        providers = read_settings(file)
    except ProviderSettingsInvalid as error:
        raise DemoError(str(error)) from error
    if environ.get("OPENAI_API_KEY", "").strip():
        default = providers.get(DEFAULT_PROVIDER)
        if default is None or not (default.api_key_env or default.api_key_file):
            raise DemoError(
                "OPENAI_API_KEY is set here, but the stack that runs was started without it.",
                hint="Stop the stack (`make down`) and try again, or unset OPENAI_API_KEY.",
            )
        return Model(DEFAULT_PROVIDER, environ.get("HIBERNAUT_MODEL") or DEFAULT_MODEL, default.base_url)
    scripted = providers.get(SCRIPTED_PROVIDER)
    if scripted is None or not _local(scripted):
        raise DemoError(
            f"{file} (HIBERNAUT_PROVIDERS) names no provider {SCRIPTED_PROVIDER!r} at {LOOPBACK}.",
            hint="Set OPENAI_API_KEY for a real model, or start the stack without HIBERNAUT_PROVIDERS.",
        )
    return Model(SCRIPTED_PROVIDER, SCRIPTED_MODEL, scripted.base_url, scripted.api_key_file)


@asynccontextmanager
async def served(model: Model) -> AsyncGenerator[None]:
    """Serve the script at its provider's address, when it is the model; else nothing is to be done.

    Raises:
        DemoError: somebody else listens there.
    """
    if not model.scripted:
        yield
        return
    port = urlsplit(model.base_url).port or 0
    if not is_free(port):
        raise DemoError(
            f"Port {port} of {LOOPBACK}, where the scripted model is to be served, is used by another program.",
            hint="Does another demo run? Else choose another port with HIBERNAUT_SCRIPTED_PORT and restart the stack.",
        )
    key = model.key_file.read_text(encoding="utf-8").strip() if model.key_file else ""
    async with ScriptedModel(script, model=model.name, api_key=key, port=port):
        yield


def _local(settings: ProviderSettings) -> bool:
    parts = urlsplit(settings.base_url)
    return parts.hostname == LOOPBACK and parts.port is not None and settings.api_key_file is not None
