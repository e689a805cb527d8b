"""Key rings of files and the environment, and the command that makes keys."""

from __future__ import annotations

import base64
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hibernaut.errors import InvalidSettings
from workers.keys.ring import FILE_VARIABLE, VARIABLE, keys_from, line
from workers.settings import CHECKOUT, Settings

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
STORE = {"HIBERNAUT_STORE": "file:///tmp/store"}


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def refusal(env: dict[str, str]) -> str:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(STORE | env)
    return str(caught.value)


def test_no_key_seals_nothing() -> None:
    assert Settings.load(STORE).snapshot_keys.key_id is None


def test_lines_and_commas_mean_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, f"# newest first\n\n {line('b', TWO)}  # since May\n{line('a', ONE)}\n")
    by_file = Settings.load(STORE | {FILE_VARIABLE: str(path)}).snapshot_keys
    by_text = Settings.load(STORE | {VARIABLE: f"{line('b', TWO)},{line('a', ONE)}"}).snapshot_keys
    assert list(by_file.names.values()) == ["b", "a"]
    assert by_file.names == by_text.names
    assert by_file.key_id == by_text.key_id == next(iter(by_file.names))
    assert by_text.open(by_file.seal(b"x", b"c"), b"c") == b"x"


def test_all_that_is_wrong_is_told_at_once_and_no_secret_with_it(tmp_path: Path) -> None:
    hush = "aHVzaCBodXNoIGh1c2g="
    secrets = {
        "just-a-key": hush,
        "swapped": f"{hush}: name",
        "no-base64": "a: ?" + hush,
        "short": f"b: {hush}",
        "weak": f"c: {base64.b64encode(bytes(32)).decode()}",
        "good": line("d", ONE),
        "same-name": line("d", TWO),
        "same-key": line("e", ONE),
    }
    path = written(tmp_path, "\n".join(secrets.values()))
    text = refusal({FILE_VARIABLE: str(path), "HIBERNAUT_MAX_UPLOAD_MB": "many"})
    for part in (
        str(path),
        "line 1: must be `name: base64 of 32 bytes`",
        "line 2: the name must be",
        "line 3: what follows the colon is not base64",
        "line 4: the key must have 32 bytes, not 14",
        "line 5: the key is one byte again and again",
        "line 7: another key has the name 'd' already",
        "line 8: 'e' is the same key as 'd'",
        "python -m workers.keys new",
        "HIBERNAUT_MAX_UPLOAD_MB",
    ):
        assert part in text, text
    assert "line 6" not in text
    assert hush not in text
    assert base64.b64encode(ONE).decode() not in text
    assert base64.b64encode(TWO).decode() not in text


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o777])
def test_a_file_that_everybody_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, line("a", ONE), mode)
    assert f"chmod 600 {path}" in refusal({FILE_VARIABLE: str(path)})


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_a_file_of_owner_and_group_is_taken(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, line("a", ONE), mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert keys_from({FILE_VARIABLE: str(link)}).key_id


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal({FILE_VARIABLE: str(tmp_path / "none")})
    assert "is no file" in refusal({FILE_VARIABLE: str(tmp_path)})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no file" in refusal({FILE_VARIABLE: str(pipe)})
    assert "there is no key in it" in refusal({FILE_VARIABLE: str(written(tmp_path, "# empty\n\n"))})
    assert "not UTF-8" in refusal({FILE_VARIABLE: str(written(tmp_path, b"\xff\xfe"))})
    assert "65,536 bytes" in refusal({FILE_VARIABLE: str(written(tmp_path, "#" * 70_000))})
    path = written(tmp_path, line("a", ONE))
    assert "are both set" in refusal({FILE_VARIABLE: str(path), VARIABLE: line("a", ONE)})


def test_settings_show_no_key(caplog: pytest.LogCaptureFixture) -> None:
    encoded = base64.b64encode(ONE).decode()
    settings = Settings.load(STORE | {VARIABLE: line("a", ONE)})
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("workers").info("%s %r", settings, settings)
    for shown in (caplog.text, settings.model_dump_json(exclude={"connection"}), str(settings.model_dump())):
        assert encoded not in shown
        assert repr(ONE)[2:20] not in shown


def _command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.keys", *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_makes_keys_and_lists_them() -> None:
    made = [_command("new", name) for name in ("2026-11", "2026-12")]
    assert all(run.returncode == 0 for run in made)
    keys = {VARIABLE: ",".join(run.stdout.strip() for run in reversed(made))}
    ring = keys_from(keys)
    assert list(ring.names.values()) == ["2026-12", "2026-11"]
    listed = _command("list", env=keys)
    lines = listed.stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f]{16}  seals  2026-12", lines[0])
    assert re.fullmatch(r"[0-9a-f]{16}  opens  2026-11", lines[1])
    for run in made:
        assert run.stdout.split(": ")[1].strip() not in listed.stdout + listed.stderr
    assert _command("new", "a b").returncode == 1
    none = _command("list")
    assert (none.returncode, none.stdout) == (1, "")
    assert "not sealed" in none.stderr
