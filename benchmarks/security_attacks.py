"""The attacks of `tests/security`, really run, each with what became of it; and the same on a sandbox set loose.

The attacks live with the tests, which this starts: the table is that of what CI checks. What a test is called there is
what holds; what it attacks is said here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from xml.etree import ElementTree as ET

from deploy.setup.console import ROOT
from hibernaut.models.isolation import CAPABILITIES
from tests.security.attacks import ATTACKS
from tests.security.cell import cells

FOLDER: Final = "tests/security"
KERNEL: Final = "test_an_attack_is_held"
"""The test of one program of `tests/security/attacks.py`."""
GUEST: Final = "runsc"

RUNC: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "test_exhaustion": {
            "test_a_fork_bomb_is_capped_and_its_sandbox_works_again[shell]": "fork bomb",
            "test_a_fork_bomb_is_capped_and_its_sandbox_works_again[sessions]": "fork bomb in sessions of their own",
            "test_a_memory_hog_dies_alone_and_its_outcome_says_so": "memory hog",
            "test_memory_that_is_a_file_is_memory_too": "memory hog in /dev/shm",
            "test_a_cpu_hog_gets_its_share_and_no_more": "CPU hog",
            "test_open_files_run_out_for_one_process_alone": "open files used up",
            "test_what_the_container_logs_is_kept_nowhere": "log flood",
            "test_a_flood_of_output_is_ended_at_its_bound": "output flood",
            "test_zombies_are_reaped": "zombie flood",
        },
        "test_disk": {
            "test_one_file_is_bounded_by_the_kernel": "disk filler, one file",
            "test_a_disk_filler_is_ended_and_told_and_may_clean_up[files]": "disk filler, many files",
            "test_a_disk_filler_is_ended_and_told_and_may_clean_up[deleted]": "disk filler, deleted files",
            "test_a_disk_filler_is_ended_and_told_and_may_clean_up[mapped]": "disk filler, mapped files",
            "test_empty_files_use_up_the_limit_too": "inodes used up",
            "test_what_fills_the_disk_in_the_background_is_ended_and_told_with_the_next_command": (
                "disk filler in the background"
            ),
            "test_a_disk_filler_is_ended_and_told_and_may_clean_up[mounted-by-docker]": "disk filler in /etc/hosts",
            "test_the_volumes_of_an_image_are_held_to_the_limit_too": "disk filler, a volume of the image",
            "test_who_uses_up_the_hosts_reserve_is_ended_and_nobody_else": "the host's disk used up",
        },
        "test_reach": {
            "test_no_service_of_the_host_is_reached_without_a_network": "reach host ports and other networks",
            "test_no_name_is_resolved_without_a_network": "resolve names",
            "test_another_agents_files_and_journal_are_not_to_be_found": "read another agent's files and journal",
            "test_snapshots_that_lie_on_the_host_are_not_to_be_found": "read or write snapshots on the host",
            "test_no_process_of_the_host_can_be_named": "signal processes of the host",
            "test_a_disk_of_the_host_is_not_read": "read the host's disk",
            "test_a_container_has_no_mount_of_the_hosts": "use a mount of the host's",
        },
        "test_egress": {
            "test_another_host_is_blocked_and_the_model_can_read_why": "reach a host that is not allowed",
            "test_a_port_that_no_rule_names_is_blocked": "reach a port that is not allowed",
            "test_a_tunnel_carries_nothing_but_tls": "carry another protocol in a tunnel",
            "test_a_tunnel_leads_to_the_name_it_was_allowed_for": "name another host in TLS (SNI)",
            "test_an_allowed_name_does_not_lead_to_an_address_that_is_not_public": "names of private addresses",
            "test_what_was_checked_is_what_is_connected_to": "DNS rebinding",
            "test_a_host_that_a_resolver_would_read_as_an_address_is_no_host": "addresses written as names",
            "test_without_the_proxy_there_is_no_way_out": "go around the proxy",
            "test_a_plain_request_for_two_hosts_at_once_is_blocked": "request for two hosts at once",
            "test_the_limit_of_bytes_ends_what_runs_and_what_would_begin": "send more bytes than may pass",
            "test_a_sandbox_has_so_many_connections_and_no_more": "connections used up",
            "test_more_connections_than_the_log_can_remember_are_slowed_down": "egress log flood",
            "test_nonsense_is_answered_and_does_no_harm": "nonsense to the proxy",
        },
        "test_egress_proxy": {
            "test_two_agents_on_one_host_have_rules_of_their_own": "use another agent's rules",
            "test_no_rule_leads_to_a_service_of_this_host": "reach host ports and the metadata address by a rule",
            "test_an_agent_that_takes_the_port_takes_it_from_nobody_else": "take the proxy's port",
        },
        "test_egress_changes": {
            "test_a_host_is_reached_once_it_is_allowed_and_cut_off_once_it_is_denied": "keep a connection after a deny",
        },
        "test_secrets": {
            "test_a_value_is_nowhere_but_with_the_worker_and_in_the_proxys_memory": "find the value of a secret",
            "test_toward_a_host_that_it_is_not_for_a_placeholder_passes_as_it_is": "have a secret sent to another host",
            "test_no_value_is_sent_to_a_host_that_cannot_be_verified": "pretend to be the host of a secret",
            "test_an_answer_that_carries_the_value_back_has_it_taken_out": "have a secret said back",
            "test_a_host_that_speaks_no_http_is_not_repeated": "have a secret said back without HTTP",
            "test_what_cannot_be_looked_at_is_refused_and_says_why": "hide a secret in what cannot be looked at",
            "test_output_that_has_a_value_is_redacted_before_anybody_gets_it": "print the value of a secret",
        },
    }
)
GVISOR: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "test_attacks_gvisor": {
            "test_a_memory_hog_takes_no_more_than_the_limit": "memory hog",
            "test_a_disk_filler_is_ended": "disk filler, many files",
        },
        "test_egress_gvisor": {"test_an_allowlist_holds_under_gvisor": "reach a host that is not allowed"},
    }
)


@dataclass(frozen=True, slots=True)
class Tried:
    """One attack under one runtime."""

    attack: str
    runtime: str
    stopped: bool


def planned(*, gvisor: bool, all_modules: bool = True) -> dict[tuple[str, str], tuple[str, str]]:
    """Attack and runtime by module and test; a test with parameters that are not named stands for all of them."""
    found = {("test_attacks", f"{KERNEL}[{one.name}]"): (one.name, "runc") for one in ATTACKS}
    if all_modules:
        found |= {(module, test): (name, "runc") for module, tests in RUNC.items() for test, name in tests.items()}
    if gvisor:
        again = [one for one in ATTACKS if one.gvisor != ""]
        found |= {("test_attacks_gvisor", f"{KERNEL}[{one.name}]"): (one.name, GUEST) for one in again}
        found |= {(module, test): (name, GUEST) for module, tests in GVISOR.items() for test, name in tests.items()}
    return found


def run(plan: Mapping[tuple[str, str], tuple[str, str]]) -> list[Tried]:
    """Run these attacks; each was stopped when every test of it passed.

    Raises:
        RuntimeError: One of them was not run at all.
    """
    with tempfile.TemporaryDirectory(prefix="hibernaut-bench-") as folder:
        file = Path(folder) / "attacks.xml"
        nodes = [f"{FOLDER}/{module}.py::{test}" for module, test in plan]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "--timeout", "900"]
        subprocess.run([*command, f"--junitxml={file}", *nodes], cwd=ROOT, check=False)
        passed = verdicts(file)
    tried: list[Tried] = []
    for (module, test), (attack, runtime) in plan.items():
        of_it = [ended for (where, name), ended in passed.items() if where == module and _stands_for(test, name)]
        if not of_it or None in of_it:
            raise RuntimeError(f"{FOLDER}/{module}.py::{test} was not run: the table would lack {attack} on {runtime}")
        tried.append(Tried(attack, runtime, all(of_it)))
    return tried


def _stands_for(test: str, name: str) -> bool:
    return name == test or ("[" not in test and name.partition("[")[0] == test)


def verdicts(file: Path) -> dict[tuple[str, str], bool | None]:
    """By module and test, whether it passed; None when it was skipped."""
    found: dict[tuple[str, str], bool | None] = {}
    # Written by pytest just now.
    for case in ET.parse(file).getroot().iter("testcase"):  # noqa: S314
        name = (case.get("classname", "").rpartition(".")[2], case.get("name", ""))
        ended = {child.tag for child in case}
        found[name] = None if "skipped" in ended else not ended & {"failure", "error"}
    return found


LOOSENED: Final = "Docker's own seccomp profile, NET_RAW and SYS_NICE"
LOOSE: Final[dict[str, object]] = {
    "isolation": {"seccomp": "docker", "capabilities": [*CAPABILITIES, "NET_RAW", "SYS_NICE"], "nofile": 1024}
}
BREACHING: Final = frozenset({"io-uring", "raw-sockets", "larger-limits"})
"""Attacks that succeed in a sandbox that is loosened so: an attack proves nothing unless it tells when it works."""


async def controls() -> list[dict[str, object]]:
    """Those, run in such a sandbox under runc.

    Raises:
        RuntimeError: One did not succeed: what it says of other sandboxes is worth nothing.
    """
    found: list[dict[str, object]] = []
    async with cells() as prison:
        cell = await prison.make(**LOOSE)
        for attack in (one for one in ATTACKS if one.name in BREACHING):
            told = (await cell.python(attack.program)).stdout
            if "breached" not in told:
                raise RuntimeError(f"the attack {attack.name} fails in a loosened sandbox too: {told.strip()}")
            found.append({"attack": attack.name, "runtime": "runc", "loosened": LOOSENED, "stopped": False})
    return found
