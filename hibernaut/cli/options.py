"""Arguments and options that several commands share."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hibernaut.cli.console import Format, session
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models import AgentSpec
from hibernaut.specfile import load_spec

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's id.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="The message, or - to read it from standard input.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="What to print.", show_choices=True)]
Seconds = Annotated[float | None, typer.Option("--timeout", min=0.0, metavar="SECONDS", help="Wait at most that long.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the request is accepted.")]
Spec = Annotated[Path | None, typer.Option("--spec", "-f", metavar="FILE", help="The agent's spec, as YAML or JSON.")]
Model = Annotated[
    str | None, typer.Option("--model", envvar="HIBERNAUT_MODEL", help="The model's name; overrides the spec.")
]
Provider = Annotated[str | None, typer.Option("--provider", help="A model provider the worker knows; overrides.")]
Image = Annotated[str | None, typer.Option("--image", help="The sandbox's Docker image; overrides.")]
Runtime = Annotated[str | None, typer.Option("--runtime", help="Docker runtime: runc, runsc or kata; overrides.")]
Network = Annotated[str | None, typer.Option("--network", help="none, allowlist or open; overrides.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="HOST",
        help="A host of the allowlist: name, *.name, either with :port; once for each. Overrides, implies allowlist.",
    ),
]

Secret = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME=HOST[,HOST]",
        help="A secret of the worker, and the allowed hosts that its value is sent to; once for each. Overrides.",
    ),
]


def connected(work: Callable[[AgentClient], Awaitable[T]]) -> T:
    """Connect, do the work, disconnect."""

    async def run() -> T:
        async with await AgentClient.connect(address=session.address, namespace=session.namespace) as client:
            return await work(client)

    return asyncio.run(run())


def build_spec(
    spec: Path | None,
    *,
    model: str | None,
    provider: str | None,
    image: str | None,
    runtime: str | None,
    network: str | None,
    allow: list[str] | None = None,
    secret: list[str] | None = None,
) -> AgentSpec:
    """The spec of a file with the options over it.

    Raises:
        InvalidSpec: with every wrong field.
        InvalidRequest: neither a file nor a model was given, or a secret is not NAME=HOST.
    """
    if spec is None and model is None:
        raise InvalidRequest(
            "An agent needs a spec or at least a model.",
            hint="Give --spec FILE or --model NAME, or set HIBERNAUT_MODEL.",
        )
    return load_spec(
        spec,
        {
            "model": model,
            "provider": provider,
            "sandbox.image": image,
            "sandbox.runtime": runtime,
            "sandbox.network.mode": network or ("allowlist" if allow else None),
            "sandbox.network.allow": allow or None,
            "sandbox.secrets": _secrets(secret) if secret else None,
        },
    )


def _secrets(given: list[str]) -> dict[str, dict[str, list[str]]]:
    """From `NAME=HOST,HOST`.

    Raises:
        InvalidRequest: One is not written like that.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for text in given:
        name, equals, hosts = text.partition("=")
        if not name or not equals or not hosts or name in found:
            raise InvalidRequest(
                f"--secret {name} is not NAME=HOST[,HOST], or was given twice.",
                hint="Name a secret and its hosts, as in --secret API_KEY=api.example.com; the value is the worker's.",
            )
        found[name] = {"hosts": [host.strip() for host in hosts.split(",")]}
    return found


def read_text(text: str) -> str:
    """The message itself, or standard input for `-`.

    Raises:
        InvalidRequest: standard input is not UTF-8.
    """
    if text != "-":
        return text
    try:
        return typer.get_text_stream("stdin", encoding="utf-8", errors="strict").read()
    except UnicodeDecodeError as error:
        raise InvalidRequest("Standard input is not UTF-8 text.") from error
