"""What is kept of a sandbox with secrets, and of what goes wrong around it: no value, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.adapters.docker_client import Daemon
from activities.adapters.egress_desk import EgressDesk
from activities.adapters.egress_notes import Notes
from activities.adapters.egress_secrets import EgressSecrets, Redaction, unseen
from activities.adapters.secret_values import SecretValues
from activities.errors import SandboxRefused, SandboxUnavailable
from activities.ports.egress import Tenant
from activities.ports.sandbox import CommandEnd
from hibernaut.models import Network, OutcomeKind, SecretSpec
from workers.egress import keep
from workers.interceptor import ErrorInterceptor, as_failure
from workers.unseen import Unseen

VALUE = "long-enough-value"


async def test_a_commands_end_is_told_of_the_output_as_it_was_handed_on() -> None:
    said: list[tuple[str, bytes]] = []
    output = Redaction([("KEY", VALUE)]).output(lambda stream, data: said.append((stream, data)))
    for piece in (b"it is lo", b"ng-enough-", b"value, lon"):
        await output.feed("stdout", piece)
    end = await output.ended(CommandEnd(OutcomeKind.EXIT, 0, 1, 28, 0, ("7 " + VALUE,), f"about {VALUE}"))
    assert b"".join(data for _, data in said) == b"it is [secret KEY], lon"
    assert (end.stdout_bytes, end.stderr_bytes) == (23, 0)
    assert (end.background, end.detail) == (("7 [secret KEY]",), "about [secret KEY]")


async def test_a_command_that_runs_while_the_proxy_is_given_another_value_shows_neither() -> None:
    environ = {"HIBERNAUT_SECRET_KEY": VALUE}
    secrets, tenant = EgressSecrets(SecretValues(environ=environ)), Tenant("a", "u", 1, "box")
    spec = {"KEY": SecretSpec(hosts=("a.example",))}
    secrets.grants(tenant, spec)
    said: list[bytes] = []
    output = secrets.redaction("box", spec).output(lambda _, data: said.append(data))
    await output.feed("stdout", f"{VALUE}, ano".encode())
    environ["HIBERNAUT_SECRET_KEY"] = "another-long-value"
    # The proxy died, say: the next one is given what there is now.
    secrets.grants(tenant, spec)
    await output.feed("stdout", f"ther, another-long-value, {VALUE}".encode())
    await output.ended(CommandEnd(OutcomeKind.EXIT, 0, 1, 0, 0))
    assert b"".join(said) == b"[secret KEY], another, [secret KEY], [secret KEY]"


def test_errors_and_log_lines_show_no_value() -> None:
    source = SecretValues(environ={"HIBERNAUT_SECRET_KEY": VALUE})
    failure = as_failure(SandboxRefused(f"with {VALUE}"), unseen(source))
    assert failure.message == "with [secret KEY]"
    try:
        raise RuntimeError(VALUE)
    except RuntimeError as error:
        record = logging.LogRecord(
            "n", 20, "p", 1, "%s and %s", ("a", VALUE), (RuntimeError, error, error.__traceback__)
        )
    assert Unseen(source).filter(record)
    assert logging.Formatter().format(record).startswith("a and [secret KEY]")
    assert VALUE not in logging.Formatter().format(record)


@pytest.mark.parametrize("text", ["half of a pair: \ud800", "\udfff and \ud800", "a byte: \udc80", "whole: \U0001f600"])
def test_a_text_that_is_no_unicode_is_an_error_of_nobody(text: str) -> None:
    source = SecretValues(environ={"HIBERNAUT_SECRET_KEY": VALUE})
    assert unseen(source)(f"{text} {VALUE}") == f"{text} [secret KEY]"
    assert unseen(SecretValues())(text) == text
    assert as_failure(SandboxRefused(text), unseen(source)).message == text


def test_a_line_that_cannot_be_written_is_an_error_of_nobody_and_shows_no_value() -> None:
    record = logging.LogRecord("n", 20, "p", 1, f"%d of {VALUE}", (VALUE,), None)
    assert Unseen(SecretValues(environ={"HIBERNAUT_SECRET_KEY": VALUE})).filter(record)
    said = logging.Formatter().format(record)
    assert "of [secret KEY]' cannot be written with its arguments" in said
    assert VALUE not in said


def test_a_value_that_was_changed_or_whose_file_is_broken_stays_unseen(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"KEY: {VALUE}\n")
    hide = unseen(SecretValues(file))
    file.write_text("KEY: another-long-value\n")
    assert hide(f"{VALUE} another-long-value") == "[secret KEY] [secret KEY]"
    file.write_text("KEY: [")
    assert hide(f"{VALUE} another-long-value") == "[secret KEY] [secret KEY]"


def test_what_cannot_be_read_hides_nothing_of_the_rest(tmp_path: Path) -> None:
    file, folder = tmp_path / "s.yaml", tmp_path / "folder"
    file.write_text("A: value-of-the-file\n")
    source = SecretValues(file, folder)
    # A folder that is not there hinders no sandbox.
    assert source.values("A") == source.known() == {"A": "value-of-the-file"}
    folder.mkdir()
    (folder / "B").write_text("value-of-the-folder")
    (folder / "C").write_text("not to be had, for")
    (folder / "C.agents").write_bytes(b"\xff")
    assert source.known() == {"A": "value-of-the-file", "B": "value-of-the-folder"}


@pytest.mark.parametrize("secrets", [{}, {"HIBERNAUT_SECRET_KEY": VALUE}])
async def test_what_caused_an_error_is_not_recorded_with_a_value(secrets: dict[str, str]) -> None:
    async def fails() -> None:
        try:
            raise ValueError(f"with {VALUE}")
        except ValueError as error:
            raise RuntimeError("it failed") from error

    class Next(ActivityInboundInterceptor):
        def __init__(self) -> None:
            pass

        async def execute_activity(self, input: ExecuteActivityInput) -> object:  # noqa: A002  # Temporal's name
            return await input.fn()

    inbound = ErrorInterceptor(unseen(SecretValues(environ=secrets))).intercept_activity(Next())
    with pytest.raises(ApplicationError if secrets else RuntimeError, match="it failed") as failed:
        await inbound.execute_activity(ExecuteActivityInput(fails, (), None, {}))
    assert (failed.value.__cause__ is None) == bool(secrets)


def test_a_note_that_cannot_be_read_makes_no_value_seen(tmp_path: Path) -> None:
    desk = EgressDesk(
        tmp_path, Daemon(), lambda: None, "release", SecretValues(environ={"HIBERNAUT_SECRET_KEY": VALUE})
    )
    assert desk.redaction("box") is None
    Notes(tmp_path).make()
    (tmp_path / "doors" / "box.json").write_text("{")
    hidden = desk.redaction("box")
    assert hidden is not None
    assert hidden.text(VALUE) == "[secret KEY]"
    # Changed rules do not come with secrets: those of the note would be forgotten.
    with pytest.raises(SandboxUnavailable, match=r"the note of box in .* cannot be read"):
        desk.admit(Tenant("a", "u", 1, "box"), Network(mode="allowlist"), 1)
    assert (tmp_path / "doors" / "box.json").read_text() == "{"


async def test_ways_out_are_looked_after_on_whatever_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = EgressDesk(tmp_path, Daemon(), lambda: None, "release")
    looks, again = itertools.count(), threading.Event()

    def look() -> None:
        if next(looks) == 0:
            raise RuntimeError("a mistake of ours")
        again.set()

    monkeypatch.setattr(desk, "reconcile", look)
    monkeypatch.setattr(keep, "INTERVAL_S", 0.01)
    async with keep.kept(desk):
        assert await asyncio.to_thread(again.wait, 60)
