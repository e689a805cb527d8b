"""The sandbox image as it is: what an agent finds in it, and what it must not find."""

import subprocess

import pytest

from deploy.setup.sandbox import IMAGE


def in_sandbox(command: str, *, user: str = "root") -> str:
    argv = ["docker", "run", "--rm", "--network", "none", "--user", user, IMAGE, "sh", "-c", command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["bash", "python3", "pip", "git", "curl", "tar", "find", "ps", "xargs"])
def test_an_agent_finds_its_tools(program: str) -> None:
    assert in_sandbox(f"command -v {program}").startswith("/")


def test_there_are_no_build_tools() -> None:
    assert in_sandbox("command -v cc gcc c++ make || true") == ""


def test_python_makes_an_environment_and_installs_without_a_network() -> None:
    assert in_sandbox("python3 -m venv /tmp/env && /tmp/env/bin/python -m pip --version").startswith("pip ")


def test_tls_certificates_are_there() -> None:
    assert int(in_sandbox("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")) > 50


def test_the_agent_has_a_home_of_its_own() -> None:
    assert in_sandbox("id -u; id -un; pwd; touch ~/mine && echo written", user="agent").splitlines() == [
        "1000", "agent", "/home/agent", "written",
    ]  # fmt: skip


def test_the_settings_of_the_recipe_hold() -> None:
    assert in_sandbox("echo $LANG $PIP_BREAK_SYSTEM_PACKAGES $(id -u) $(pwd)") == "C.UTF-8 1 0 /home/agent"


def test_running_python_leaves_no_trace_in_the_image_files() -> None:
    """Otherwise every snapshot would carry byte code of the standard library."""
    command = "touch /tmp/before; python3 -c 'import json, ssl, sqlite3, pip'; find /usr -xdev -newer /tmp/before"
    assert in_sandbox(command) == ""
