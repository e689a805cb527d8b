"""Files of a running container: list, read, write. Paths are resolved by the container's own kernel view."""

import io
import stat
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from docker.errors import NotFound

from activities.adapters.docker_client import Daemon, translated
from activities.adapters.docker_sandbox import JOURNAL, LABEL_USER
from activities.errors import PathNotUsable, SandboxLost
from hibernaut.models import FileEntry, FileType

# The path comes with its odd bytes as escapes, since the Docker API takes text alone; the dot keeps a last newline.
_PATH = r"""
set -- "$(printf '%b.' "$1")"
set -- "${1%.}"
"""
_LIST = (
    _PATH
    + r"""
[ -e "$1" ] || [ -L "$1" ] || { echo "no such file or directory" >&2; exit 3; }
show() {
    stat -c '%f %s %u %g %Y' -- "$1" && printf '%s\0' "$1"
    if [ -L "$1" ]; then readlink -- "$1"; fi
    printf '\0'
}
if [ -d "$1" ]; then
    for path in "${1%/}"/* "${1%/}"/.*; do
        case ${path##*/} in .|..) continue;; esac
        if [ -e "$path" ] || [ -L "$path" ]; then show "$path"; fi
    done
else show "$1"; fi
"""
)
_READ = (
    _PATH
    + r"""
[ -e "$1" ] || { echo "no such file or directory" >&2; exit 3; }
[ -f "$1" ] || { echo "not a regular file" >&2; exit 3; }
exec cat -- "$1"
"""
)
_PLACE = r"""
set -e
mkdir -p -- "$(dirname -- "$2")"
if [ -d "$2" ]; then echo "is a directory" >&2; exit 3; fi
cat -- "$1" >"$2.hibernaut-part"
chmod "$3" "$2.hibernaut-part"
mv -f -- "$2.hibernaut-part" "$2"
"""
_TYPES = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}


class ContainerFiles:
    """All methods block; call them in threads."""

    def __init__(self, daemon: Daemon) -> None:
        """Use this daemon."""
        self._daemon = daemon

    def list_files(self, sandbox_id: str, path: str) -> list[FileEntry]:
        """The entries of a directory by name; anything else lists as itself."""
        output = b"".join(self._exec(sandbox_id, _LIST, path, _escaped(path)))
        fields = output.split(b"\0")
        entries = [_entry(head, target) for head, target in zip(fields[::2], fields[1::2], strict=False) if head]
        return sorted(entries, key=lambda entry: entry.path)

    def read_file(self, sandbox_id: str, path: str) -> Iterator[bytes]:
        """Stream a regular file, links followed."""
        return self._exec(sandbox_id, _READ, path, _escaped(path))

    def put_file(self, sandbox_id: str, path: str, mode: int, source: Path) -> int:
        """Write a file whole or not at all, owned by the user that runs the commands; its size in bytes."""
        size = source.stat().st_size
        name = uuid4().hex
        with source.open("rb") as content:
            # By way of the volume: what a daemon copies into a gVisor root file system cannot be seen inside.
            self._upload(sandbox_id, name, size, content)
        staged = f"{JOURNAL}/in/{name}"
        try:
            for _ in self._exec(sandbox_id, _PLACE, path, staged, path, f"{mode & 0o7777:o}"):
                pass
        finally:
            with translated():
                remover = self._daemon.api.exec_create(sandbox_id, ["rm", "-f", staged], user="0")["Id"]
                self._daemon.api.exec_start(remover)
        return size

    def _upload(self, sandbox_id: str, name: str, size: int, content: io.BufferedReader) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o644
        header = member.tobuf(tarfile.GNU_FORMAT)
        padding = b"\0" * (-size % tarfile.BLOCKSIZE) + b"\0" * 2 * tarfile.BLOCKSIZE

        def chunks() -> Iterator[bytes]:
            yield header
            while piece := content.read(1 << 20):
                yield piece
            yield padding

        with translated():
            self._daemon.streams.put_archive(sandbox_id, f"{JOURNAL}/in", chunks())

    def _exec(self, sandbox_id: str, script: str, path: str, *arguments: str) -> Iterator[bytes]:
        """Run a fixed script with arguments; what it prints, then an error for a failed one, which names the path."""
        if "\0" in path or not path.startswith("/"):
            raise PathNotUsable(f"{path!r} cannot be used: an absolute path without NUL bytes is needed")
        api = self._daemon.streams
        complaints = b""
        with translated():
            try:
                labels: dict[str, str] = self._daemon.api.inspect_container(sandbox_id)["Config"].get("Labels") or {}
                argv = ["sh", "-c", script, "files", *arguments]
                # As the user that runs the commands: a path reaches no further than theirs.
                exec_id = api.exec_create(sandbox_id, argv, user=labels.get(LABEL_USER, ""))["Id"]
            except NotFound as error:
                raise SandboxLost(f"the container is gone: {error.explanation}") from error
            for stream, data in self._daemon.frames(exec_id):
                if stream == "stdout":
                    yield data
                else:
                    complaints = (complaints + data)[-2000:]
            code = api.exec_inspect(exec_id).get("ExitCode")
        if code != 0:
            why = complaints.decode("utf-8", "replace").strip() or f"exit code {code}"
            raise PathNotUsable(f"{path} in the container: {why}")


def _escaped(path: str) -> str:
    """A path as `printf %b` reads it: every byte but plain ASCII as an octal escape."""
    plain = range(0x20, 0x7F)
    return "".join(
        chr(byte) if byte in plain and byte != ord("\\") else f"\\0{byte:03o}"
        for byte in path.encode("utf-8", "surrogateescape")
    )


def _entry(head: bytes, target: bytes) -> FileEntry:
    """One record of the listing: a line of numbers, the path, and for a link where it points."""
    numbers, _, name = head.partition(b"\n")
    raw, size, uid, gid, mtime = numbers.split()
    mode = int(raw, 16)
    kind = _TYPES.get(stat.S_IFMT(mode), FileType.DEVICE)
    link = target.decode("utf-8", "surrogateescape").removesuffix("\n")
    return FileEntry(
        path=name.decode("utf-8", "surrogateescape"),
        type=kind,
        size=int(size) if kind is FileType.FILE else 0,
        mode=stat.S_IMODE(mode),
        uid=int(uid),
        gid=int(gid),
        mtime=datetime.fromtimestamp(int(mtime), UTC),
        target=link if kind is FileType.SYMLINK else None,
    )
