"""The copy of a certificate that a user keeps."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hibernaut.cli.certificates import check_place, write_certificate
from hibernaut.errors import InvalidRequest
from hibernaut.models.deletion import Certificate, CertificateFound, is_intact, sealed

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MADE = sealed(Certificate(agent_id="a", agent_uid="u1", asked_at=NOW, begun_at=NOW, written_at=NOW))
FOUND = CertificateFound(ref="certificates/u1.json", certificate=MADE)


def test_it_is_written_whole_over_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text("older, and longer than what comes" * 1_000)
    write_certificate(file, FOUND)
    assert is_intact(Certificate.model_validate_json(file.read_text())) is True
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_there_stays_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.json"
    file.write_text("older")

    def full(self: Path, text: str, encoding: str) -> int:
        self.write_bytes(text.encode(encoding)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InvalidRequest, match="No space left") as caught:
        write_certificate(file, FOUND)
    assert "certificate show u1 --file" in (caught.value.hint or "")
    assert (list(tmp_path.iterdir()), file.read_text()) == ([file], "older")


def test_a_device_is_written_to_as_it_is() -> None:
    check_place(Path("/dev/null"))
    write_certificate(Path("/dev/null"), FOUND)
    assert not Path("/dev/null").is_file()


def test_a_place_that_is_none_is_refused_before(tmp_path: Path) -> None:
    check_place(tmp_path / "c.json")
    for path in (tmp_path, tmp_path / "no" / "c.json"):
        with pytest.raises(InvalidRequest, match="cannot be written"):
            check_place(path)
