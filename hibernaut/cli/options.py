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
) -> AgentSpec:
    """The spec of a file with the options over it.

    Raises:
        InvalidSpec: with every wrong field.
        InvalidRequest: neither a file nor a model was given.
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
        },
    )


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
