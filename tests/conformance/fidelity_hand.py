"""A hand inside a container that changes files at random, as any program of an agent's might.

It is one process that stays, since what it holds open and mapped into memory outlives a snapshot.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.boxes import Box

# Every operation may fail, for example since its path does not exist: then it has changed nothing, or a part.
_PROGRAM = r"""
import builtins, ctypes, json, mmap, os, shutil, struct, sys
maps, opened = [], {}

# A pipe that nobody reads is not waited for.
def open(path, mode): return builtins.open(path, mode, opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK, 0o666))
def body(seed, size):
    return (b"%d " % seed * (size // 2 + 1))[:size]
def write(path, seed, size):
    with open(path, "wb") as file: file.write(body(seed, size))
def append(path, seed, size):
    with open(path, "ab") as file: file.write(body(seed, size))
def overwrite(path, seed, size, at):
    with open(path, "r+b") as file: file.seek(at); file.write(body(seed, size))
def overwrite_unseen(path, seed, size, at):
    status = os.stat(path)
    overwrite(path, seed, min(size, max(0, status.st_size - at)), at)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
def hold(path, seed):
    file = opened[path] = open(path, "ab"); file.write(body(seed, 9)); file.flush()
def write_held(path, seed):
    opened[path].write(body(seed, 11)); opened[path].flush()
def map_write(path, seed):
    with open(path, "r+b") as file: maps.append(mmap.mmap(file.fileno(), 0))
    maps[-1][seed % len(maps[-1])] = seed % 251
def map_again(which, seed):
    found = maps[which % len(maps)]; at = seed % len(found)
    # The file may be shorter by now: a store behind its end ends the process.
    if at >= found.size(): raise OSError
    found[at] = seed % 241
def map_sync(which): maps[which % len(maps)].flush()
def replace(path, other, seed):
    write(path, seed, seed % 5000); os.rename(path, other)
def exchange(path, other):
    if ctypes.CDLL(None).renameat2(-100, os.fsencode(path), -100, os.fsencode(other), 2): raise OSError
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path): shutil.rmtree(path)
    else: os.unlink(path)
def to_directory(path, seed): remove(path); os.makedirs(path); write(path + "/in", seed, 30)
def to_file(path, seed): remove(path); write(path, seed, 40)
def to_link(path, other): remove(path); os.symlink(other, path)
def punch(path, at, size):
    with open(path, "r+b") as file:
        if ctypes.CDLL(None).fallocate(file.fileno(), 3, ctypes.c_long(at), ctypes.c_long(size)): raise OSError
def capability(path, bit):
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << bit, 0, 0, 0))
def acl(path, kind, user):
    each = [(1, 6, 0xFFFFFFFF), (2, 5, user), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in each)
    os.setxattr(path, "system.posix_acl_" + kind, value)
def times(path, ns): os.utime(path, ns=(ns, ns), follow_symlinks=False)
def attribute(path, name, seed): os.setxattr(path, "user." + name, body(seed, seed % 300), follow_symlinks=False)
def no_attribute(path, name): os.removexattr(path, "user." + name, follow_symlinks=False)
def link(path, other): os.link(path, other, follow_symlinks=False)
def device(path, kind, number): os.mknod(path, kind | 0o644, number)
def owner(path, user, group): os.lchown(path, user, group)
def copy(path, other):
    if (other + "/").startswith(path + "/"): raise ValueError("into itself")
    if os.path.isdir(path): shutil.copytree(path, other, symlinks=True)
    elif os.path.isfile(path): shutil.copy2(path, other)
    else: raise ValueError("neither")

known = dict(globals(), truncate=os.truncate, rename=os.rename, mkdir=os.mkdir, chmod=os.chmod, symlink=os.symlink)
os.umask(0o022)
print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        known[name](*arguments)
        answer = "done"
    except (OSError, KeyError, IndexError, ValueError, ZeroDivisionError, shutil.Error) as error:
        answer = type(error).__name__
    print(answer, flush=True)
"""


class Hand:
    """Runs in a container until it is closed."""

    def __init__(self, box: Box) -> None:
        argv = ["docker", "exec", "--interactive", "--user=0", "--workdir=/", box.id, "python3", "-c", _PROGRAM]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        # A container that is frozen while a program starts in it stays as it is for minutes.
        assert self._answer() == "ready\n"

    def do(self, name: str, *arguments: object) -> bool:
        """Make one change; whether it was possible."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        return self._answer() == "done\n"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the hand is dead"
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=20)
