"""What is delivered: the wheel, the lock file, the size of modules."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "lock.txt"
CODE = ("hibernaut", "workflows", "activities", "workers", "deploy", "tests", "benchmarks", "examples")
LONGEST_MODULE = 300


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_sdk_alone(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    metadata = {name for name in top if name.endswith(".dist-info")}
    assert len(metadata) == 1
    assert top - metadata == {"hibernaut"}
    assert "hibernaut/contracts/__init__.py" in wheel.namelist()


def test_the_wheel_asks_for_nothing_of_the_workers(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    wanted = re.findall(r"^Requires-Dist: ([A-Za-z0-9._-]+)(?!.*extra ==)", text, flags=re.MULTILINE)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    workers = {re.split(r"[^A-Za-z0-9._-]", entry)[0] for entry in (*groups["worker"], *groups["stack"])}
    assert "temporalio" in wanted
    assert not workers & set(wanted)


def lock_entries() -> list[str]:
    """The entries of the lock file, each on one line, without comments."""
    text = re.sub(r"\\\n\s*", " ", LOCK.read_text(encoding="utf-8"))
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_every_locked_package_is_pinned_and_hashed() -> None:
    entries = lock_entries()
    assert len(entries) > 50
    for entry in entries:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+(\s+;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry), entry


def test_the_lock_file_names_no_address() -> None:
    assert "://" not in LOCK.read_text(encoding="utf-8")


def test_the_lock_file_covers_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [
        *project["project"]["dependencies"],
        *(entry for extra in project["project"]["optional-dependencies"].values() for entry in extra),
        *(entry for group in project["dependency-groups"].values() for entry in group),
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", entry)[0].lower().replace("_", "-") for entry in declared}
    locked = {entry.split("==")[0] for entry in lock_entries()}
    assert names <= locked


def test_no_module_outgrows_one_idea() -> None:
    modules = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    assert modules
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    too_long = {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > LONGEST_MODULE}
    assert too_long == {}
