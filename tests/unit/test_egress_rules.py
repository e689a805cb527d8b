"""What a rule of an allowlist means, and which addresses no name may lead to."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from activities.egress.addresses import Reach, is_own
from activities.egress.journal import KEPT, NAME, EgressLog
from activities.egress.policy import Policy, Refused
from activities.ports.egress import EgressEvent, Tenant
from hibernaut.cli.options import build_spec
from hibernaut.errors import InvalidSettings, InvalidSpec
from hibernaut.models import Network
from hibernaut.models.network import DEFAULT_PORTS, HostRule, as_host
from workers.settings import HostSettings


@pytest.mark.parametrize(
    ("text", "host", "wildcard", "ports"),
    [
        ("example.com", "example.com", False, DEFAULT_PORTS),
        ("Example.COM.", "example.com", False, DEFAULT_PORTS),
        ("example.com:8443", "example.com", False, {8443}),
        ("*.example.com", "example.com", True, DEFAULT_PORTS),
        ("*.example.com:65535", "example.com", True, {65535}),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", False, DEFAULT_PORTS),
        ("my_host", "my_host", False, DEFAULT_PORTS),
        ("10.0.0.7", "10.0.0.7", False, DEFAULT_PORTS),
        ("10.0.0.7:1", "10.0.0.7", False, {1}),
        ("2001:DB8::0:7", "2001:db8::7", False, DEFAULT_PORTS),
        ("[2001:db8::7]", "2001:db8::7", False, DEFAULT_PORTS),
        ("[2001:db8::7]:8443", "2001:db8::7", False, {8443}),
    ],
)
def test_a_rule_is_read(text: str, host: str, wildcard: bool, ports: set[int]) -> None:  # noqa: FBT001  # a table
    assert HostRule.parse(text) == HostRule(host, wildcard, frozenset(ports))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "https://example.com",
            "example.com/path",
            "user@example.com",
            "exa mple.com",
            "a..b",
            ".example.com",
        ),
        *("*", "*.", "*.com", "*.*.example.com", "a.*.com", "*example.com", "*.10.0.0.7", "bücher.example"),
        *("example.com:", "example.com:0", "example.com:65536", "example.com:https", "example.com:080", "a:1:2"),
        *("2130706433", "127.1", "0x7f.1", "0x7f000001", "example.1", "256.1.1.1", "010.0.0.7"),
        *("[::1", "::1]", "[::1]x", "[example.com]:1", "fe80::1%eth0", "[fe80::1%25eth0]", "-a.com", "a-.com"),
        *(
            "a" * 64 + ".com",
            "a." * 127 + "com",
            "example.com\n",
            "exam\0ple.com",
            "\uff11\uff12\uff17.0.0.1",
            "\u212aelvin.example",
        ),
    ],
)
def test_what_is_no_rule_is_refused_in_the_spec(text: str) -> None:
    with pytest.raises(ValidationError):
        Network(mode="allowlist", allow=(text,))


@pytest.mark.parametrize(
    ("rule", "host", "meant"),
    [
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "example.com.evil.org", False),
    ],
)
def test_which_hosts_a_rule_is_about(rule: str, host: str, *, meant: bool) -> None:
    assert HostRule.parse(rule).names(host) is meant


def test_a_host_has_one_spelling() -> None:
    assert [as_host(text) for text in ("EXAMPLE.com.", "[::1]", "::FFFF:1.2.3.4", "1.2.3.4", "1.2.3")] == [
        "example.com",
        "::1",
        "::ffff:102:304",
        "1.2.3.4",
        None,
    ]


def test_rules_are_for_the_allowlist_alone_and_bounded() -> None:
    for data in ({"allow": ["a.b"]}, {"mode": "open", "max_bytes": 5000}, {"allow_private": ["10.0.0.0/8"]}):
        with pytest.raises(ValidationError, match="are for the mode allowlist"):
            Network.model_validate(data)
    with pytest.raises(ValidationError, match="at most 200"):
        Network(mode="allowlist", allow=("a.b",) * 201)
    with pytest.raises(ValidationError, match="is no network such as"):
        Network(mode="allowlist", allow_private=("10.0.0.1/8",))


GUARDED = [
    *("127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fe80::1", "0.0.0.5", "168.63.129.16", "100.100.100.200"),
    *("192.0.0.192", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
    *("2002:7f00:1::1", "2002:a9fe:a9fe::"),
]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "198.18.0.1", "192.0.2.1", "240.0.0.1"),
    *("203.0.113.9", "192.0.0.8", "192.88.99.1", "fd12::1", "fec0::1", "2001:db8::1", "100::1", "::ffff:10.0.0.1"),
    *("64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::1", "2001::1", "3fff::1", "::1.2.3.4"),
]
NO_HOST = ["0.0.0.0", "::", "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255", "::ffff:224.0.0.1"]  # noqa: S104  # refused
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"]


def reach(private: str = "", reachable: str = "") -> Reach:
    nets = [[ipaddress.ip_network(text) for text in part.split()] for part in (private, reachable)]
    return Reach(private=nets[0], reachable=nets[1], own=lambda address: str(address) == "93.184.216.99")


def fault(within: Reach, text: str, *, named: bool = False) -> str | None:
    return within.fault(ipaddress.ip_address(text), named=named)


@pytest.mark.parametrize("text", [*GUARDED, *PRIVATE, *NO_HOST, "93.184.216.99"])
def test_by_default_a_name_leads_to_public_addresses_of_others_only(text: str) -> None:
    assert fault(reach(), text)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_within_reach(text: str) -> None:
    assert fault(reach(), text) is None


@pytest.mark.parametrize("text", [*GUARDED, *NO_HOST, "93.184.216.99"])
def test_a_spec_alone_reaches_nothing_of_the_host_its_link_and_its_cloud(text: str) -> None:
    assert fault(reach(private="0.0.0.0/0 ::/0"), text, named=True)


def test_a_spec_reaches_what_it_names_and_the_operator_what_he_opens() -> None:
    assert fault(reach(), "10.0.0.7", named=True) is None
    assert fault(reach(private="10.0.0.0/8"), "10.0.0.7") is None
    assert fault(reach(private="10.0.0.0/8"), "::ffff:10.0.0.7") is None
    assert fault(reach(private="10.0.0.0/8"), "192.168.0.7")
    assert fault(reach(private="127.0.0.0/8", reachable="127.0.0.0/8"), "127.0.0.1") is None
    assert fault(reach(reachable="127.0.0.0/8"), "127.0.0.1")


def test_the_machines_own_addresses_are_known() -> None:
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("192.0.2.77"))


async def test_a_name_that_does_not_resolve_is_told_as_such() -> None:
    async def nothing(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    policy = Policy(Network(mode="allowlist", allow=("a.example",)), resolver=nothing)
    with pytest.raises(Refused, match=r"a\.example does not resolve") as caught:
        await policy.way("a.example", 443)
    assert (caught.value.blocked, int(caught.value.status)) == (False, 502)


def event(number: int) -> EgressEvent:
    return EgressEvent(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        tenant=Tenant("a", "uid", 1, "box"),
        kind="decided",
        connection=number,
        method="CONNECT",
        host="é\n" * 50,
        port=443,
        allowed=False,
        reason="x",
    )


def test_the_log_is_lines_of_json_in_files_of_bounded_size_and_number(tmp_path: Path) -> None:
    log = EgressLog(tmp_path, max_bytes=2_000)
    for number in range(100):
        log(event(number))
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted([NAME, *(f"{NAME}.{number}" for number in range(1, KEPT + 1))])
    kept = [path.read_text().splitlines() for path in (tmp_path / f"{NAME}.1", tmp_path / NAME)]
    numbers = [json.loads(line)["connection"] for lines in kept for line in lines]
    assert numbers == list(range(numbers[0], 100))
    assert all(path.stat().st_size < 3_000 for path in tmp_path.iterdir())


def test_a_link_in_the_logs_folder_leads_root_nowhere(tmp_path: Path) -> None:
    """The folder is the proxy's, which is nobody; the log is opened by root, before rights are given up."""
    other = tmp_path / "other"
    other.write_text("untouched")
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / NAME).symlink_to(other)
    log = EgressLog(folder)
    log(event(1))
    log.close()
    assert other.read_text() == "untouched"
    assert json.loads((folder / NAME).read_text())["connection"] == 1


def test_the_operators_setting_is_networks() -> None:
    settings = HostSettings.load({"HIBERNAUT_EGRESS_REACHABLE": "127.0.0.0/8, fd00::/8"})
    assert list(map(str, settings.egress_reachable)) == ["127.0.0.0/8", "fd00::/8"]
    with pytest.raises(InvalidSettings, match="HIBERNAUT_EGRESS_REACHABLE"):
        HostSettings.load({"HIBERNAUT_EGRESS_REACHABLE": "here"})


def built(spec: Path | None = None, network: str | None = None, allow: list[str] | None = None) -> Network:
    return build_spec(
        spec, model="m", provider=None, image=None, runtime=None, network=network, allow=allow
    ).sandbox.network


def test_the_command_line_names_hosts(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("model: m\nsandbox: {network: {mode: allowlist, allow: [a.example], max_bytes: 5000}}\n")
    assert built(allow=["b.example"]) == Network(mode="allowlist", allow=("b.example",))
    assert built(path, allow=["b.example"]) == Network(mode="allowlist", allow=("b.example",), max_bytes=5000)
    assert built(path, allow=[]) == Network(mode="allowlist", allow=("a.example",), max_bytes=5000)
    with pytest.raises(InvalidSpec, match=r"sandbox\.network: allow, allow_private and max_bytes are for the mode"):
        built(network="open", allow=["b.example"])
    with pytest.raises(InvalidSpec, match=r"sandbox\.network\.allow: 'https://b\.example' is no rule"):
        built(allow=["https://b.example"])
