"""Secrets: what a spec may ask for, where values come from, and what never shows one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from activities.adapters import egress_wire as wire
from activities.adapters.secret_values import SecretValues
from activities.adapters.trust import environment
from activities.egress.authority import KEPT, Authority
from activities.errors import SandboxRefused, SandboxUnavailable
from activities.ports.egress import Tenant
from activities.ports.secrets import Grant
from hibernaut._explain import parse_spec
from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec, SandboxSpec, SecretSpec
from hibernaut.models.base import Lenient
from hibernaut.models.secrets import SecretHost, placeholder
from workers.devstack.settings import gateway_environment, server_environment, worker_environment

VALUE = "long-enough-value"


def spec(secrets: dict[str, object], *allow: str, mode: str = "allowlist", **sandbox: object) -> AgentSpec:
    network = {"mode": mode, **({"allow": allow} if allow else {})}
    return AgentSpec.model_validate({"model": "m", "sandbox": {"network": network, "secrets": secrets, **sandbox}})


@pytest.mark.parametrize(
    ("host", "allow"),
    [
        ("api.example.com", "api.example.com"),
        ("api.example.com", "*.example.com:443"),
        ("*.example.com", "*.example.com"),
        ("*.api.example.com", "*.example.com"),
        ("*.example.org:8443", "*.example.org:8443"),
        ("http://10.0.0.7", "10.0.0.7:80"),
        ("API.Example.com.", "api.example.com"),
    ],
)
def test_a_host_of_a_secret_that_the_network_allows_is_one(host: str, allow: str) -> None:
    assert spec({"KEY": {"hosts": [host]}}, allow).sandbox.secrets["KEY"].hosts == (host,)


@pytest.mark.parametrize(
    ("host", "allow"),
    [
        ("api.example.com", "api.example.com:8443"),
        ("example.com", "*.example.com"),
        ("*.example.com", "example.com"),
        ("*.example.com", "*.api.example.com"),
        ("http://api.example.com", "api.example.com:443"),
    ],
)
def test_a_host_that_the_network_does_not_allow_is_told(host: str, allow: str) -> None:
    with pytest.raises(ValidationError, match=r"KEY is for .* which network.allow does not allow; add it there"):
        spec({"KEY": {"hosts": [host]}}, allow)


def test_a_rule_that_was_taken_away_while_the_agent_lives_makes_no_spec_unreadable() -> None:
    made = spec({"KEY": {"hosts": ["a.example"]}}, "a.example", "b.example")
    network = made.sandbox.network.model_copy(update={"allow": ("b.example",)})
    later = made.model_copy(update={"sandbox": made.sandbox.model_copy(update={"network": network})})
    assert AgentSpec.model_validate_json(later.model_dump_json()) == later
    assert parse_spec(json.loads(later.model_dump_json()), carried=True) == later
    with pytest.raises(InvalidSpec, match=r"KEY is for a\.example"):
        parse_spec(json.loads(later.model_dump_json()))
    assert TypeAdapter(Lenient[AgentSpec]).validate_json(later.model_dump_json()) == later


@pytest.mark.parametrize("mode", ["none", "open"])
def test_secrets_need_an_allowlist(mode: str) -> None:
    with pytest.raises(ValidationError, match=f"needs network.mode allowlist, and it is {mode}"):
        spec({"KEY": {"hosts": ["a.example"]}}, mode=mode)


@pytest.mark.parametrize("name", ["", "1KEY", "A-B", "K" * 65, "PATH", "https_proxy", "CURL_CA_BUNDLE", "SET"])
def test_names_that_cannot_be_are_told(name: str) -> None:
    with pytest.raises(ValidationError, match=r"sandbox\.secrets"):
        spec({name: {"hosts": ["a.example"]}}, "a.example", env={"SET": "x"})


@pytest.mark.parametrize("hosts", [[], ["https://a.example"], ["a.example/path"], ["*"], ["a.example:0"]])
def test_hosts_that_are_none_are_told(hosts: list[str]) -> None:
    with pytest.raises(ValidationError):
        SecretSpec.model_validate({"hosts": hosts})


def test_a_secret_is_for_tls_unless_its_host_says_http() -> None:
    secret = SecretSpec(hosts=("*.example.com", "http://10.0.0.7:8080"))
    asked = [("a.example.com", 443, True), ("10.0.0.7", 8080, False)]
    assert all(secret.is_for(host, port, tls=tls) for host, port, tls in asked)
    assert not any(secret.is_for(host, port, tls=not tls) for host, port, tls in asked)
    assert not secret.is_for("a.example.com", 80, tls=False)
    assert SecretHost.parse("http://a.example").rule.ports == {80}


def test_a_placeholder_is_an_agents_own_and_the_same_after_every_wake() -> None:
    sandbox = spec({"KEY": {"hosts": ["a.example"]}}, "a.example").sandbox
    given = environment("uid-1", sandbox)
    assert given["KEY"] == placeholder("uid-1", "KEY") != placeholder("uid-2", "KEY")
    assert given["KEY"].startswith("hbn-secret-KEY-")
    assert given["HIBERNAUT_SECRETS"] == "KEY"
    assert given["NODE_EXTRA_CA_CERTS"] != given["SSL_CERT_FILE"] == given["GIT_SSL_CAINFO"]
    assert environment("uid-1", SandboxSpec()) == {}


def test_values_come_from_a_file_a_folder_and_the_environment(tmp_path: Path) -> None:
    file, folder = tmp_path / "secrets.yaml", tmp_path / "secrets"
    file.write_text("A: value-of-the-file\nB:\n  value: value-for-some\n  agents: [weekly-*, ops]\n")
    folder.mkdir()
    (folder / "A").write_text("not looked at\n")
    (folder / "C").write_text("value-of-the-folder\n")
    (folder / "C.agents").write_text("ops\nnight-*\n")
    environ = {
        "HIBERNAUT_SECRETS_FILE": str(file),
        "HIBERNAUT_SECRETS_DIR": str(folder),
        "HIBERNAUT_SECRET_D": "value-of-the-variable",
    }
    values = SecretValues.of(environ)
    assert values.values("ABCD", "ops") == {
        "A": "value-of-the-file",
        "B": "value-for-some",
        "C": "value-of-the-folder",
        "D": "value-of-the-variable",
    }
    assert values.known() == values.values("ABCD")
    assert values.values("B", "weekly-report") == {"B": "value-for-some"}
    for name in "BC":
        with pytest.raises(SandboxRefused, match=rf"secret {name} is not for the agent daily: .*secrets"):
            values.values(name, "daily")
    # As they are now: a file that was changed needs no restart.
    file.write_text("A: value-that-was-changed\n")
    assert values.values("A") == {"A": "value-that-was-changed"}


@pytest.mark.parametrize(
    "value", ["brief", "a" * 5_000, "line\nbreak-value", " space-before", "ümlaut-value", "tab\there-it-is"]
)
def test_a_value_that_cannot_be_used_is_refused_and_not_shown(value: str) -> None:
    source = SecretValues(environ={"HIBERNAUT_SECRET_KEY": value})
    with pytest.raises(SandboxRefused) as refused:
        source.values(["KEY"])
    assert str(refused.value).startswith("the value of the secret KEY in the variable HIBERNAUT_SECRET_KEY ")
    assert value not in str(refused.value)
    assert source.known() == {}


@pytest.mark.parametrize(
    "text", ["KEY: [1]", "- a", "KEY: {value: 5}", "KEY: {value: aaaaaaaaaa, agent: [x]}", "KEY: {"]
)
def test_a_file_that_cannot_be_read_is_told_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    source = SecretValues(tmp_path / "s.yaml")
    with pytest.raises(SandboxUnavailable, match=r"s\.yaml") as unavailable:
        source.values(["KEY"])
    assert "aaaa" not in str(unavailable.value)


def test_a_name_without_a_value_says_where_it_is_wanted() -> None:
    with pytest.raises(SandboxRefused, match="set HIBERNAUT_SECRET_KEY for its worker, or put KEY into the file of"):
        SecretValues().values(["KEY"])


def test_a_message_to_the_proxy_shows_no_value_where_it_is_printed_or_wrong() -> None:
    grant = Grant("KEY", placeholder("u", "KEY"), VALUE, SecretSpec(hosts=("a.example",)))
    request = wire.Request(op="open", tenant=Tenant("a", "u", 1, "s"), secrets=(grant,))
    assert VALUE not in repr(request)
    data = wire.encode(request)
    assert wire.request_of(data) == request
    with pytest.raises(ValueError, match="op: Input should be") as wrong:
        wire.request_of(data.replace(b'"open"', b'"sesame"'))
    with pytest.raises(ValueError, match="placeholder: ") as missing:
        wire.request_of(data.replace(b'"placeholder"', b'"value2"'))
    reply = wire.Reply(given=(grant,))
    assert VALUE not in repr(reply)
    told = wire.encode(reply)
    assert wire.reply_of(told) == reply
    with pytest.raises(ValueError, match="placeholder: ") as replied:
        wire.reply_of(told.replace(b'"placeholder"', b'"value2"'))
    assert VALUE not in f"{wrong.value} {missing.value} {replied.value}"


def test_the_largest_secrets_that_a_spec_may_have_fit_into_a_message() -> None:
    hosts = tuple(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 40}.{n}.e.example:65535" for n in range(5))
    secrets: dict[str, object] = {f"KEY_{n:02}": {"hosts": hosts} for n in range(20)}
    made = spec(secrets, "*.e.example:65535", *(f"{'x' * 60}.{'y' * 60}.{n}.example" for n in range(199))).sandbox
    grants = tuple(Grant(name, placeholder("u", name), "v" * 4_096, one) for name, one in made.secrets.items())
    assert wire.encode(wire.Request(op="open", network=made.network, secrets=grants))
    with pytest.raises(ValidationError, match="more than 100 hosts in all"):
        spec(secrets | {"KEY_00": {"hosts": (*hosts, hosts[0])}}, "*.e.example:65535")


def test_of_the_development_stack_the_worker_alone_has_values() -> None:
    environ = {"HIBERNAUT_SECRET_KEY": VALUE, "HIBERNAUT_SECRETS_FILE": "/f"}
    assert worker_environment(environ) == environ
    assert server_environment(environ) == gateway_environment(environ) == {"HIBERNAUT_SECRETS_FILE": "/f"}


def test_certificates_are_kept_for_so_many_hosts_and_no_more() -> None:
    authority = Authority()
    first = authority.context("0.example")
    assert authority.context("0.example") is first
    for number in range(1, KEPT + 1):
        authority.context(f"{number}.example")
    assert authority.context("0.example") is not first
