"""What holds a sandbox down, as the daemon is told: checked without one."""

import json
from typing import Any

import pytest
from docker.errors import APIError
from pydantic import ValidationError

from activities.adapters.docker_quota import DiskQuota, may_have_quotas
from activities.adapters.docker_runtimes import check_runtime
from activities.adapters.hardening import limits, seccomp_profile
from activities.adapters.image_policy import ImagePolicy
from activities.errors import SandboxRefused
from hibernaut.models import SandboxSpec

XFS: dict[str, Any] = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "xfs"]]}
EXT4: dict[str, Any] = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}
ID = "sha256:" + "0" * 64

NEVER = """
    io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd mount umount2 pivot_root setns
    unshare open_by_handle_at add_key keyctl request_key init_module finit_module delete_module kexec_load reboot
    iopl ioperm
    swapon settimeofday clock_settime quotactl fsopen move_mount open_tree syslog acct socketcall modify_ldt
    fanotify_init lookup_dcookie
"""


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(seccomp_profile())["syscalls"]
    return found


def test_the_profile_is_an_allowlist_without_what_breaks_out() -> None:
    assert json.loads(seccomp_profile())["defaultAction"] == "SCMP_ACT_ERRNO"
    named = {name for rule in rules() for name in rule["names"]}
    assert named.isdisjoint(NEVER.split())
    assert named >= {"read", "write", "execve", "clone", "futex", "socket", "ptrace"}


def test_what_is_allowed_in_part_is_nowhere_allowed_whole() -> None:
    for name in ("socket", "socketpair", "personality", "clone"):
        mine = [rule for rule in rules() if name in rule["names"]]
        assert mine
        assert all(rule.get("args") for rule in mine)
    for name in ("chroot", "kcmp", "pidfd_getfd", "mbind"):
        assert all(rule.get("includes") for rule in rules() if name in rule["names"])


def test_the_spec_becomes_limits() -> None:
    isolation = {"capabilities": ["KILL"], "seccomp": "docker", "nofile": 300, "swap_mb": 28, "shm_mb": 8}
    made = limits(SandboxSpec.model_validate({"memory_mb": 100, "disk_mb": 200, "isolation": isolation}))
    assert (made["mem_limit"], made["memswap_limit"], made["shm_size"]) == (100 << 20, 128 << 20, 8 << 20)
    assert (made["cap_drop"], made["cap_add"], made["security_opt"]) == (["ALL"], ["KILL"], ["no-new-privileges"])
    assert {limit["Name"]: limit["Hard"] for limit in made["ulimits"]} == {"nofile": 300, "fsize": 200 << 20}
    unlimited = limits(SandboxSpec(disk_mb=None))
    assert [limit["Name"] for limit in unlimited["ulimits"]] == ["nofile"]
    assert unlimited["memswap_limit"] == unlimited["mem_limit"]


def test_gvisor_is_given_room_for_its_own_threads() -> None:
    assert limits(SandboxSpec(runtime="runsc", pids=64))["pids_limit"] == 4096
    assert limits(SandboxSpec(pids=64))["pids_limit"] == 64


@pytest.mark.parametrize(
    "isolation",
    [{"capabilities": ["SYS_ADMIN"]}, {"capabilities": ["KILL", "KILL"]}, {"seccomp": "unconfined"}, {"nofile": 1}],
)
def test_no_spec_asks_for_more_than_a_container(isolation: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SandboxSpec.model_validate({"isolation": isolation})


@pytest.mark.parametrize(
    ("patterns", "image", "allowed"),
    [
        ("", "anything:1", True),
        ("hibernaut/*", "hibernaut/sandbox:latest", True),
        ("hibernaut/*", "hibernaut.evil/sandbox", False),
        ("hibernaut/*", "evil/hibernaut/sandbox", False),
        ("python", "python", True),
        ("python", "python:latest", True),
        ("python", "docker.io/library/python", True),
        ("python", "python:3.11", False),
        ("python:3.*, node", "python:3.11", True),
        ("docker.io/library/python:3.*", "python:3.11", True),
        ("python:3.*", "docker.io/python:3.11", True),
        ("python", ID, False),
        ("sha256:0*", ID, True),
        ("registry:5000/team/*", f"registry:5000/team/box@{ID}", True),
        # Docker looks at the digest alone.
        ("python:3.*", f"python:3.11@{ID}", False),
        ("python:3.*,python@*", f"python:3.11@{ID}", True),
        (f"python:3.11@{ID}", f"python:3.11@{ID}", True),
        (f"python:3.11@{ID}", f"python:3.11@{ID[:-1]}1", False),
        ("registry:5000/team/*", f"registry:5000/team/box:1@{ID}", True),
        # A registry of this name.
        ("python*", "python.evil.example/backdoor:3", False),
        ("python*", "python:3.11-slim", True),
        ("*:stable", "registry:5000/team/box:stable", True),
    ],
)
def test_images_are_allowed_by_pattern(patterns: str, image: str, *, allowed: bool) -> None:
    policy = ImagePolicy.parse(patterns)
    assert policy.allows(image) is allowed
    if not allowed:
        with pytest.raises(SandboxRefused, match="HIBERNAUT_IMAGES"):
            policy.check(image)


@pytest.mark.parametrize(
    ("patterns", "names", "allowed"),
    [
        ("hibernaut/*", ["hibernaut/sandbox:latest"], True),
        ("hibernaut/*", ["other:1", "hibernaut/sandbox:latest"], True),
        ("hibernaut/*", ["other:1"], False),
        ("hibernaut/*", ["other:1", f"other@{ID}"], False),
        ("hibernaut/*,sha256:0*", ["other:1"], True),
        ("", ["other:1"], True),
        ("hibernaut/*", [], True),
        ("python:3.*", [f"python@{ID}"], True),
        ("registry:5000/team/*", [f"registry:5000/team/box@{ID}"], True),
        (f"python@{ID}", ["python:3.11", f"python@{ID}"], True),
    ],
)
def test_an_id_is_allowed_by_the_names_that_the_host_knows_it_by(
    patterns: str, names: list[str], *, allowed: bool
) -> None:
    policy = ImagePolicy.parse(patterns)
    assert policy.allows_any(ID, names) is allowed
    if not allowed:
        with pytest.raises(SandboxRefused, match=r"other:1.*HIBERNAUT_IMAGES"):
            policy.check_id(ID, names)


def test_a_template_is_allowed_as_the_image_that_it_stands_for() -> None:
    ImagePolicy.parse("hibernaut/sandbox:python").check("template:python")
    ImagePolicy.parse("hibernaut/sandbox").check("template:base")
    with pytest.raises(SandboxRefused, match="template:node"):
        ImagePolicy.parse("hibernaut/sandbox:python").check("template:node")


@pytest.mark.parametrize("image", ["template:", "template:../python", "template:Python", "template:latest"])
def test_a_template_has_a_plain_name(image: str) -> None:
    with pytest.raises(ValueError, match="such as template:python"):
        SandboxSpec(image=image)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="such as"):
        ImagePolicy.parse("hibernaut/*,[a-z]")


def test_a_runtime_that_is_not_offered_is_refused_with_those_that_are() -> None:
    check_runtime("runsc", {"Runtimes": {"runc": {}, "runsc": {}}})
    with pytest.raises(SandboxRefused, match=r"runtime kata, only runc, runsc; .*hibernaut doctor"):
        check_runtime("kata", {"Runtimes": {"runsc": {}, "runc": {}}})


class Api:
    def __init__(self, info: dict[str, Any]) -> None:
        self.asked = 0
        self._info = info

    def info(self) -> dict[str, Any]:
        self.asked += 1
        return self._info


class FakeDaemon:
    """A daemon's storage, whatever this machine has."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.api = Api(info)


@pytest.mark.parametrize(("info", "expected"), [(XFS, True), (EXT4, False), ({"Driver": "btrfs"}, True)])
def test_which_storage_may_have_quotas(info: dict[str, Any], *, expected: bool) -> None:
    assert may_have_quotas(info) is expected


def test_a_quota_is_asked_for_until_it_is_refused() -> None:
    daemon = FakeDaemon(XFS)
    quota = DiskQuota(daemon)  # pyright: ignore[reportArgumentType]  # the one property it reads
    assert quota.options(SandboxSpec(disk_mb=None)) == {}
    assert quota.options(SandboxSpec(disk_mb=100)) == {"storage_opt": {"size": "100M"}}
    assert not quota.refused(APIError("x", explanation="no such image"))
    assert quota.refused(APIError("x", explanation="--storage-opt is supported only for overlay over xfs with pquota"))
    assert quota.options(SandboxSpec(disk_mb=100)) == {}
    assert daemon.api.asked == 1


def test_no_quota_is_asked_for_where_none_can_be() -> None:
    quota = DiskQuota(FakeDaemon(EXT4))  # pyright: ignore[reportArgumentType]  # the one property it reads
    assert quota.options(SandboxSpec(disk_mb=100)) == {}
