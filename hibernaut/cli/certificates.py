"""`hibernaut certificate`: what a deletion removed, what it looked for afterwards, what is kept and why."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from hibernaut.cli.console import Format, session, size
from hibernaut.cli.options import Output, connected
from hibernaut.client import AgentClient
from hibernaut.errors import InvalidRequest
from hibernaut.models.deletion import Certificate, CertificateFound, Deletion, written

app = typer.Typer(help="Certificates of deleted agents.", no_args_is_help=True)
CertificateFile = Annotated[
    Path | None, typer.Option("--certificate", metavar="FILE", help="Write the certificate there, as JSON.")
]


@app.callback()
def certificates() -> None:
    """Certificates of deleted agents."""


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="UID|AGENT", help="A deleted agent's uid, or an id that it had.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Write it there as well, as JSON.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show the certificate of a deletion; of an id that several agents had, the newest one."""
    del output

    async def work(client: AgentClient) -> CertificateFound:
        return await client.certificate(name)

    found = connected(work)
    if file is not None:
        write_certificate(file, found)
    if session.json:
        session.data(found.model_dump(mode="json", exclude_unset=True))
        return
    for line in certificate_lines(found):
        session.out.print(line, markup=False, highlight=False)


def check_place(path: Path) -> None:
    """See that a certificate can be written to a file, before there is one.

    Raises:
        InvalidRequest: It cannot.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "it is a folder" if path.is_dir() else "its folder does not exist"
    elif not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        why = "this user may not write there"
    else:
        return
    raise InvalidRequest(f"The certificate cannot be written to {path}: {why}.", hint="Nothing was done.")


def write_certificate(path: Path, found: CertificateFound) -> None:
    """Write a certificate to a file, as it lies in the store; what the file had stays when that fails.

    Raises:
        InvalidRequest: The file cannot be written.
    """
    text = written(found.certificate)
    special = path.exists() and not path.is_file()
    place = path if special else path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        try:
            place.write_text(text, encoding="utf-8")
            if not special:
                place.replace(path)
        except OSError:
            if not special:
                place.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidRequest(
            f"The certificate cannot be written to {path}: {error.strerror}.",
            hint=f"It is in the store: `hibernaut certificate show {found.certificate.agent_uid} --file FILE`.",
        ) from error


def deletion_lines(name: str, done: Deletion) -> Iterator[str]:
    """What is told when an agent was deleted."""
    yield f"Deleted agent {name}."
    if done.certificate is not None:
        yield f"Certificate: {done.certificate} (`hibernaut certificate show {done.agent_uid}`)"
    if done.retained_packs:
        yield f"Kept for others: {done.retained_packs:,} packs; the certificate lists them."
    if done.pending_packs:
        yield f"Left to the collection: {done.pending_packs:,} packs, emptied: nobody needs them."
    for remnant in done.remnants:
        yield f"Left of a sandbox: {remnant}"


def certificate_lines(found: CertificateFound) -> Iterator[str]:
    """A certificate for people."""
    one = found.certificate
    yield f"{one.agent_id}, uid {one.agent_uid}: {found.ref}"
    asked, written = f"{one.asked_at:%Y-%m-%d %H:%M:%S %Z}", f"{one.written_at:%H:%M:%S}"
    yield f"asked by {one.asked_by or 'nobody named'} at {asked}, written {written}"
    for kind, amount in one.removed.items():
        yield f"removed   {kind}: {amount.objects:,}, {size(amount.bytes)}"
    for kind, number in one.runs.items():
        yield f"removed   runs, {kind}: {number:,}"
    for looked in one.checked:
        yield f"checked   {looked.what}: {looked.found or 'none left'}"
    if one.rewritten.objects:
        yield f"rewritten packs: {one.rewritten.objects:,}, {size(one.rewritten.bytes)} less"
    yield from _kept(one)
    for remnant in one.remnants:
        yield f"remnant   {remnant}"
    yield f"digest    {_digest(found)}"


def _kept(one: Certificate) -> Iterator[str]:
    for pack in one.retained.packs:
        for need in pack.needed_by:
            how = "fork" if need.fork else "borrower"
            yield (
                f"retained  pack {pack.pack[:12]} ({size(pack.bytes)}): {how} {need.agent_uid} needs "
                f"{need.chunks:,} chunks, {size(need.bytes)}"
            )
        if pack.whole:
            yield f"retained  pack {pack.pack[:12]} ({size(pack.bytes)}): WHOLE, it could not be rewritten"
    if one.retained.audit.objects:
        yield f"retained  audit: {one.retained.audit.objects:,}, {size(one.retained.audit.bytes)}"
    if one.pending.packs:
        yield f"pending   empty packs: {one.pending.packs:,}, {size(one.pending.bytes)}"
    for sentence in one.retained.why:
        yield f"          {sentence}"


def _digest(found: CertificateFound) -> str:
    seal = found.certificate.digest
    if seal is None:
        return "none"
    keyed = seal.algorithm == "hmac-sha256"
    if found.intact is None:
        said = "its key is not at hand" if keyed else "no proof: made without the key that there is, as anybody could"
    elif found.intact:
        said = "intact" if keyed else "intact; without a key, which shows damage and no forgery"
    else:
        said = "WRONG: the certificate was changed"
    return f"{seal.algorithm} {seal.value} ({said})"
