"""Set-up: the parts that decide something, and what it says when it cannot go on."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deploy.setup import apt, console, docker, sandbox
from deploy.setup.archive import image_settings, write_image
from deploy.setup.console import SetupError
from deploy.setup.venv import uv_requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIBERNAUT_CACHE", str(tmp_path / "cache"))


def put_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def test_uv_is_taken_from_the_lock_file_with_its_hashes() -> None:
    before, uv = (
        "uvloop==2.0 \\\n    --hash=sha256:aa\n",
        "uv==0.13.9 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n",
    )
    assert uv_requirement(f"{before}{uv}    # via x\n") == uv


def test_a_lock_file_without_uv_is_refused() -> None:
    with pytest.raises(SetupError, match="make lock"):
        uv_requirement("urllib3==2.0 \\\n    --hash=sha256:aa\n")


def test_a_failing_program_is_quoted_with_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('disk is full'); raise SystemExit(7)"]
    with pytest.raises(SetupError, match=r"(?s)exit code 7.*cache/logs/doing-something.log.*disk is full"):
        console.run(argv, doing="doing something", cwd=tmp_path)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(SetupError, match="'no-such-program' is not installed"):
        console.run(["no-such-program"], doing="trying")


def test_a_question_nobody_answers_does_not_hang() -> None:
    assert console.probe(["sleep", "60"], timeout=0.1).returncode == 124
    assert console.probe(["no-such-program"]).returncode == 127


def test_the_daemon_that_docker_host_names_must_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(SetupError, match=r"DOCKER_HOST is unix:.*nobody\.sock, but no Docker daemon answers"):
        docker.ensure_docker()


def test_a_user_without_access_to_the_daemon_is_told_the_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "docker", "echo 'permission denied while trying to connect' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with pytest.raises(SetupError, match="usermod -aG docker"):
        docker.ensure_docker()


def test_without_root_a_missing_daemon_is_a_clear_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "is_root", lambda: False)
    with pytest.raises(SetupError, match="Install Docker Engine, start it, and repeat"):
        docker.ensure_docker()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the daemon is meant to outlive set-up
def test_as_root_a_missing_engine_is_installed_and_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The programs are stand-ins: apt-get installs a docker that answers once its dockerd has run."""
    folder = tmp_path / "bin"
    answering = f"test -e {tmp_path}/running && echo 99.0"
    install = (
        f'echo "$*" >> {tmp_path}/apt.log; case "$*" in *docker.io*) '
        f"printf '#!/bin/sh\\n{answering}\\n' > {folder}/docker; "
        f"printf '#!/bin/sh\\ntouch {tmp_path}/running\\n' > {folder}/dockerd; "
        f"chmod +x {folder}/docker {folder}/dockerd;; esac"
    )
    put_program(folder, "apt-get", install)
    put_program(folder, "apt-cache", "exit 100")
    for name in ("sh", "chmod", "touch"):
        (folder / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    for module in (docker, apt):
        monkeypatch.setattr(module, "is_root", lambda: True)
    monkeypatch.setattr(apt, "is_debian", lambda: True)
    monkeypatch.setattr(docker, "_SYSTEMD", tmp_path / "no-systemd")
    monkeypatch.setattr(docker, "_LOG", tmp_path / "dockerd.log")
    apt.update.cache_clear()

    docker.ensure_docker()

    called = (tmp_path / "apt.log").read_text(encoding="utf-8")
    assert called.index("update") < called.index("install --yes --no-install-recommends docker.io iptables")
    assert (tmp_path / "running").exists()


def test_without_root_packages_are_named_and_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "can_install", lambda: False)
    with pytest.raises(SetupError, match="apt-get install mmdebstrap"):
        apt.install(["mmdebstrap"], why="building the image")


def test_a_registry_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "docker", 'test "$1" = pull && exec sleep 60; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(sandbox, "_REGISTRY_SECONDS", 0.2)
    assert not sandbox._registry_answers()


def test_a_registry_that_answers_is_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "12-slim: Pulling from library/debian"
    put_program(tmp_path / "bin", "docker", f"test \"$1\" = pull || exit 1; echo '{said}'; exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert sandbox._registry_answers()


def test_the_image_has_the_settings_of_the_dockerfile() -> None:
    settings = image_settings((ROOT / "deploy/sandbox/Dockerfile").read_text(encoding="utf-8"))
    env = settings["Env"]
    assert isinstance(env, list)
    assert "LANG=C.UTF-8" in env
    assert "PIP_BREAK_SYSTEM_PACKAGES=1" in env
    assert settings["WorkingDir"] == "/home/agent"
    assert settings["User"] == "root"
    assert settings["Cmd"] == ["/bin/bash"]


def test_the_same_files_give_the_same_image_archive(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    archives = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for archive in archives:
        write_image(layer, archive, tag="some:tag", architecture="amd64", settings={"Env": ["A=1"]})
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
        assert entry["RepoTags"] == ["some:tag"]
        assert tar.extractfile(entry["Config"]) is not None


def test_an_old_python_is_refused_with_the_versions_that_serve(tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "python3", "exit 1")
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHON": "python3"}
    done = subprocess.run([str(ROOT / "deploy/setup/run")], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr


def test_make_alone_lists_what_there_is() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "demo", "test", "check", "up", "down", "bench"):
        assert f"make {target} " in done.stdout


def test_templates_are_made_from_the_default_image_and_packages_of_their_own() -> None:
    found = sandbox.templates()
    assert {"base", "node", "python"} <= set(found)
    base, python = found["base"], found["python"]
    assert (base.image, python.image) == ("hibernaut/sandbox:latest", "hibernaut/sandbox:python")
    assert set(base.packages) < set(python.packages)
    assert base.hash != python.hash
    assert not set(base.old_archives) & set(python.old_archives)
    labels = python.settings["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.title"] == "Hibernaut sandbox: Python"
    assert python.settings["WorkingDir"] == "/home/agent"


def test_a_template_changes_with_its_own_files_and_with_those_of_the_default(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "data"):
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text("FROM x\n", encoding="utf-8")
    recipe = sandbox.Recipe(tmp_path / "data", tmp_path)
    hashes = [recipe.hash]
    for file in (tmp_path / "Dockerfile", tmp_path / "data" / "Dockerfile"):
        file.write_text("FROM y\n", encoding="utf-8")
        hashes.append(recipe.hash)
    assert len(set(hashes)) == 3
    assert not recipe.packaged


def test_a_template_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SetupError, match="no template 'rust'; deploy/sandbox has base, node, python"):
        sandbox.ensure_template("rust")
