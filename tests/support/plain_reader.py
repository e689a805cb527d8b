"""A second reader of snapshots, written from docs/snapshot-format.md alone: restores one over an image, as root."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class PlainReader:
    def __init__(self, get: Callable[[str], bytes], keys: Iterable[bytes] = ()) -> None:
        self.get = get
        self.keys = {blake3(key, derive_key_context="hibernaut snapshot key id").digest(length=8): key for key in keys}
        self.places: dict[str, tuple[tuple[str, int, int, int], int, int]] = {}
        self.frame: tuple[object, bytes] = (None, b"")

    def restore(self, ref: str, target: Path) -> None:
        chain = [self.read_manifest(ref, None)]
        while chain[-1]["kind"] == "delta":
            chain.append(self.read_manifest(chain[-1]["parent"], chain[-1]["parent_digest"]))
        entries: dict[bytes, dict[str, Any]] = {}
        for manifest in reversed(chain):
            for path in manifest["removed"]:
                del entries[to_bytes(path)]
            entries |= {to_bytes(entry["p"]): entry for entry in manifest["entries"]}
            for digest, number, start, length in manifest["chunks"]:
                pack, *place = manifest["frames"][number]
                self.places[digest] = ((manifest["packs"][pack], *place), start, length)
        for path, entry in sorted(entries.items()):
            names = path.split(b"/")
            assert path == b"." or not {b"", b".", b".."} & set(names), path
            assert all(entries[b"/".join(names[:n]) or b"."]["t"] == "d" for n in range(len(names))), path
            self.make(target / os.fsdecode(path), entry, target)
        for path, entry in sorted(entries.items(), reverse=True):
            if entry["t"] != "x" and "h" not in entry:
                self.dress(target / os.fsdecode(path), entry)

    def make(self, path: Path, entry: dict[str, Any], target: Path) -> None:
        kind, is_directory = entry["t"], path.is_dir() and not path.is_symlink()
        if is_directory and (kind != "d" or entry.get("o")):
            shutil.rmtree(path)
        elif not is_directory:
            path.unlink(missing_ok=True)
        if "h" in entry:
            os.link(target / os.fsdecode(to_bytes(entry["h"])), path, follow_symlinks=False)
        elif kind == "d":
            path.mkdir(exist_ok=True)
        elif kind == "l":
            path.symlink_to(os.fsdecode(to_bytes(entry["ln"])))
        elif kind in "pcb":
            os.mknod(path, {"p": 0o010000, "c": 0o020000, "b": 0o060000}[kind], os.makedev(*entry.get("d", (0, 0))))
        elif kind == "f":
            content = b"".join(map(self.read_chunk, entry.get("c", ())))
            with path.open("xb") as file:
                for offset, length in entry.get("e", [[0, entry.get("s", 0)]]):
                    assert os.pwrite(file.fileno(), content[:length], offset) == length
                    content = content[length:]
                file.truncate(entry.get("s", 0))

    def read_chunk(self, digest: str) -> bytes:
        place, start, length = self.places[digest]
        if self.frame[0] != place:
            key, offset, stored, _ = place
            self.frame = place, zstandard.decompress(self.open(self.get(key)[offset : offset + stored], b"frame"))
        assert blake3(self.frame[1][start : start + length]).hexdigest() == digest
        return self.frame[1][start : start + length]

    def read_manifest(self, ref: str, digest: str | None) -> dict[str, Any]:
        data = self.open(stored := self.get(ref), ref.encode())
        assert digest in (None, blake3(stored).hexdigest())
        assert data[:48] == b"HIBERNAUT-SNAP1\n" + blake3(data[48:]).digest()
        found = json.loads(zstandard.decompress(data[48:]))
        assert (found["format"], found["version"]) == ("hibernaut-snapshot", 1 if stored == data else 2)
        assert ref == f"agents/{found['agent_uid']}/snapshots/manifests/{found['number']:08}"
        return found

    def open(self, data: bytes, context: bytes) -> bytes:
        sealed = data[:16] == b"HIBERNAUT-SEAL1\n"
        return AESGCM(self.keys[data[16:24]]).decrypt(data[24:36], data[36:], data[:24] + context) if sealed else data

    def dress(self, path: Path, entry: dict[str, Any]) -> None:
        os.chown(path, entry.get("u", 0), entry.get("g", 0), follow_symlinks=False)
        if entry["t"] != "l":
            path.chmod(entry.get("m", 0))
            for name in os.listxattr(path):
                os.removexattr(path, name)
            for name, value in entry.get("x", ()):
                os.setxattr(path, to_bytes(name), base64.b64decode(value))
        os.utime(path, ns=(entry.get("mt", 0),) * 2, follow_symlinks=False)


def to_bytes(text: str) -> bytes:
    return base64.b64decode(text[1:]) if text.startswith("\0") else text.encode()
