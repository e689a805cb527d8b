"""Set-up of gVisor: where its package is asked for, and what is said when there is none. The programs are stand-ins."""

import os
import re
from pathlib import Path

import pytest

from deploy.setup import apt, gvisor
from deploy.setup.console import SetupError

MIRROR = "http://mirror.example/debian"
WORKING = "#!/bin/sh\ncase $1 in --version) echo runsc version 42;; *) exit 0;; esac\n"
BROKEN = "#!/bin/sh\necho 'too old for this kernel' >&2\nexit 128\n"


def target(release: str, *, origin: str = "Debian", component: str = "main", site: str = MIRROR) -> str:
    """A stanza of `apt-get indextargets`."""
    return f"Site: {site}\nRelease: {release}\nComponent: {component}\nOrigin: {origin}\n"


class Machine:
    """A machine of stand-in programs: what apt knows, what the package holds, what was asked."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.seen = folder / "seen"
        self.seen.mkdir()
        self.listing = folder / "listing"
        self.listing.write_text(target("bookworm-security") + "\n" + target("bookworm"))
        self.package = folder / "package"
        self.package.write_text(WORKING)
        for name in ("sh", "cp", "mkdir", "cat", "chmod", "touch", "sed"):
            (self.bin / name).symlink_to(Path("/bin") / name)
        self.put(
            "apt-get",
            f'echo "$*" >>{self.seen}/asked\n'
            'case "$*" in\n'
            f"*indextargets*) cat {self.listing};;\n"
            f'*" update") cp "$APT_CONFIG" {self.seen}/apt.conf; cp "${{APT_CONFIG%/*}}/sources.list" {self.seen};;\n'
            '*"download runsc") touch runsc_42_all.deb;;\n'
            "esac",
        )
        self.put("apt-config", "echo 'Acquire::http::Proxy \"http://proxy.example\";'")
        self.put("dpkg-deb", f"mkdir -p $3/usr/bin; cp {self.package} $3/usr/bin/runsc; chmod +x $3/usr/bin/runsc")

    def put(self, name: str, script: str) -> None:
        program = self.bin / name
        program.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What apt-get was asked for."""
        return (self.seen / "asked").read_text().splitlines() if (self.seen / "asked").exists() else []

    @property
    def sources(self) -> list[str]:
        """The archives of the apt that downloads."""
        return (self.seen / "sources.list").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("HIBERNAUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setattr(apt, "is_debian", lambda: True)
    monkeypatch.setattr(apt, "os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    monkeypatch.setattr(gvisor, "is_root", lambda: True)
    apt.update.cache_clear()
    return made


def test_the_package_of_the_newer_release_comes_from_the_machines_own_mirror(machine: Machine, tmp_path: Path) -> None:
    found = gvisor.ensure_gvisor()
    assert found == tmp_path / "cache/gvisor/usr/bin/runsc"
    assert os.access(found, os.X_OK)
    (line,) = machine.sources
    assert re.fullmatch(rf"deb (\[signed-by=\S+\] )?{MIRROR} trixie main", line)
    configuration = (machine.seen / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://proxy.example"' in configuration
    for name in ("Dir::State::lists", "Dir::State::status", "Dir::Cache"):
        (value,) = re.findall(rf'^{name} "(.*)";$', configuration, flags=re.MULTILINE)
        assert not value.startswith("/var"), "the machine's own lists stay as they are"


def test_what_is_there_and_works_is_not_fetched_again(machine: Machine) -> None:
    gvisor.ensure_gvisor()
    asked = len(machine.asked)
    gvisor.ensure_gvisor()
    assert len(machine.asked) == asked


def test_an_installed_one_that_works_is_taken(machine: Machine) -> None:
    machine.put("runsc", WORKING)
    assert gvisor.ensure_gvisor() == machine.bin / "runsc"
    assert machine.asked == []


def test_an_installed_one_that_does_not_run_here_is_passed_over(machine: Machine, tmp_path: Path) -> None:
    machine.put("runsc", BROKEN)
    assert gvisor.ensure_gvisor() == tmp_path / "cache/gvisor/usr/bin/runsc"


def test_a_kernel_on_which_none_runs_is_told_with_its_reason(machine: Machine) -> None:
    machine.package.write_text(BROKEN)
    with pytest.raises(SetupError, match=r"too old for this kernel.*leave the runtime of sandboxes at runc"):
        gvisor.ensure_gvisor()


def test_a_mirror_that_lacks_it_is_told_in_the_words_of_apt(machine: Machine) -> None:
    machine.put(
        "apt-get",
        f'case "$*" in *indextargets*) cat {machine.listing};; *) echo "E: NO_PUBKEY 0123" >&2; exit 100;; esac',
    )
    with pytest.raises(SetupError, match=r"(?s)reading the package list that has gVisor: failed.*NO_PUBKEY 0123"):
        gvisor.ensure_gvisor()


def test_package_lists_never_read_are_read_first(machine: Machine) -> None:
    listing = machine.listing.read_text()
    machine.listing.write_text("")
    script = (machine.bin / "apt-get").read_text()
    fill = f"case \"$*\" in *Timeout*update) printf '{listing}' >{machine.listing}; exit;; esac"
    machine.put("apt-get", script.replace("#!/bin/sh", f"#!/bin/sh\n{fill}", 1))
    gvisor.ensure_gvisor()
    assert machine.sources


def test_ubuntu_has_it_in_its_own_archives(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "os_release", lambda: {"VERSION_CODENAME": "noble"})
    machine.listing.write_text(
        "\n".join(target("noble", origin="Ubuntu", component=name) for name in ("main", "universe"))
    )
    gvisor.ensure_gvisor()
    assert [line.split()[-2:] for line in machine.sources] == [["noble", "main"], ["noble", "universe"]]


def test_a_machine_without_apt_is_told_to_bring_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "is_debian", lambda: False)
    with pytest.raises(SetupError, match="Install runsc, put it on PATH"):
        gvisor.ensure_gvisor()
    assert machine.asked == []


def test_an_unpacking_that_fails_leaves_nothing_that_looks_whole(machine: Machine, tmp_path: Path) -> None:
    machine.put("dpkg-deb", "mkdir -p $3/usr/bin; touch $3/usr/bin/runsc; exit 2")
    with pytest.raises(SetupError, match="unpacking gVisor: failed with exit code 2"):
        gvisor.ensure_gvisor()
    assert not (tmp_path / "cache/gvisor").exists()
