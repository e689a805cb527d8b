"""What an agent's work leaves in its container: text-like and random files, seeded, so that every run has the same.

Everything is written from inside a container, by its own Python. A third of the small files and half of the big one are
random (archives, images); the rest are lines made of a small vocabulary, which zstd takes to about a third, as it does
with source text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ROOT = "/root/work"
"""Where the work is, inside the container."""

_COMMON = r"""
import os, random, sys
root, seed = sys.argv[1], sys.argv[2]
rnd = random.Random("hibernaut " + seed)
letters = "eeeetttaaaooiinnsshrrdlucmfwypvbgkqjxz"
shape = random.Random("vocabulary")
words = ["".join(shape.choices(letters, k=shape.randint(2, 10))) for _ in range(2000)]
def phrase():
    picked = " ".join(words[int(2000 * shape.random() ** 3)] for _ in range(shape.randint(1, 5)))
    return (picked + shape.choice(["(", ") {\n    ", " = ", ";\n", ".\n", ", ", " ", ":\n        "])).encode()
phrases = [phrase() for _ in range(6000)]
table = [phrases[int(6000 * shape.random() ** 3)] for _ in range(1 << 16)]
mean = sum(map(len, table)) / len(table)
def text(size):
    picks = memoryview(rnd.randbytes(2 * int(size / mean * 1.3 + 64))).cast("H")
    made = b"".join([table[pick] for pick in picks])
    return made[:size] if len(made) >= size else made + text(size - len(made))
def content(size, index):
    return rnd.randbytes(size) if index % 3 == 0 else text(size)
def size_of(average):
    return max(1, min(int(rnd.lognormvariate(0, 1.1) / 1.83 * average), 60 * average))
def place(index):
    return "%s/part%02d/module%03d/file%06d.%s" % (root, index % 7, index // 100, index, "txt" if index % 3 else "bin")
def write(index, average):
    path = place(index)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content(size_of(average), index))
big = root + "/big.bin"
"""

_MAKE = (
    _COMMON
    + r"""
files, average, big_size = map(int, sys.argv[3:6])
for index in range(files):
    write(index, average)
block = 1 << 16
if big_size:
    with open(big, "wb") as file:
        for number in range(big_size // block):
            file.write(content(block, 0 if number % 2 else 1))
"""
)

_CHANGE = (
    _COMMON
    + r"""
files, average, big_size, changes, turn = map(int, sys.argv[3:8])
# Numbers are never used twice: what is deleted stays so, what is added is new.
quarter = max(changes // 4, 1)
for index in range(quarter * turn, quarter * (turn + 1)):
    os.unlink(place(index))
for index in range(files + quarter * turn, files + quarter * (turn + 1)):
    write(index, average)
for index in rnd.sample(range(quarter * (turn + 1), files + quarter * turn), 2 * quarter):
    with open(place(index), "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size // 2)
        file.write(content(min(200, size), index))
if big_size:
    with open(big, "r+b") as file:
        file.seek(big_size // 2 + turn % 64 * (1 << 18) if big_size >= 1 << 26 else 0)
        file.write(rnd.randbytes(1 << 16))
"""
)


Run = Callable[[list[str]], bytes]
"""Runs a program inside a container as root and returns its output."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much there is. The defaults are the ones that the project states its figures for: 300 MB."""

    files: int = 20_000
    average: int = 10_000
    """Bytes of a small file; they are log-normal."""
    big: int = 100_000_000
    """Bytes of the one big file; 0 when there is none."""
    changes: int = 200
    """Small files that one change touches: half of them edited, a quarter added, a quarter deleted."""
    root: str = ROOT

    def make(self, run: Run) -> None:
        """Write it all."""
        self._python(run, _MAKE, "make")

    def change(self, run: Run, turn: int) -> None:
        """Change it for the turn's time, counted from 0: the small files, and 64 KiB in the middle of the big one."""
        self._python(run, _CHANGE, f"turn {turn}", str(self.changes), str(turn))

    def _python(self, run: Run, program: str, seed: str, *rest: str) -> None:
        sizes = (str(self.files), str(self.average), str(self.big))
        run(["python3", "-c", program, self.root, seed, *sizes, *rest])
