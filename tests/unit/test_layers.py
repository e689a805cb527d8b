"""Who may import whom: the contracts of pyproject.toml hold, and they do catch an import that breaks them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hibernaut", "workflows", "activities", "workers", "deploy", "benchmarks", "examples", "tests")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def test_the_layers_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("hibernaut", "import workers"),
        ("hibernaut", "import workflows"),
        ("hibernaut", "import activities"),
        ("hibernaut", "import boto3"),
        ("workflows", "import activities"),
        ("workflows", "import docker"),
        ("activities", "import workflows"),
        ("activities", "import workers"),
        ("workers", "import tests"),
        ("workers", "import deploy"),
    ],
)
def test_an_import_against_the_layers_is_caught(tmp_path: Path, module: str, statement: str) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module / "wrong.py").write_text(f"{statement}\n", encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{module}.wrong" in done.stdout
