"""What a spec and the worker's file say of MCP servers."""

import sys
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from activities.mcp_errors import McpSettingsInvalid
from activities.mcp_pool import McpPool
from activities.mcp_settings import Server, ServerSettings, load_servers
from hibernaut.models import AgentSpec
from hibernaut.models.mcp import MAX_NAMES_CHARACTERS, McpSpec, offered_name, server_of

SECRET = "s3cr3t-of-the-server"


def agent(*servers: dict[str, JsonValue], **more: JsonValue) -> AgentSpec:
    return AgentSpec.model_validate({"model": "m", "mcp": list(servers), **more})


def test_names_lead_back_to_the_server() -> None:
    assert offered_name("git-hub", "repos.list/all") == "git-hub__repos_list_all"
    assert server_of("git-hub__repos__list") == "git-hub"
    assert server_of("sleep") == ""


def test_flags_hold_for_all_tools_or_for_those_named() -> None:
    one = McpSpec(server="a", approval=True, retry_safe=("x.y",))
    assert one.asks("a__anything")
    assert (one.is_retry_safe("a__x_y"), one.is_retry_safe("a__other")) == (True, False)


@pytest.mark.parametrize(("wrong", "why"), [
    ({"server": "a__b"}, "pattern"),
    ({"server": "a_"}, "pattern"),
    ({"server": "x" * 33}, "32"),
    ({"server": "a", "command": ["rm"]}, "command"),
    ({"server": "a", "url": "https://example.com"}, "url"),
    ({"server": "a", "tools": ["x"], "approval": ["y"]}, "not among"),
    ({"server": "a", "tools": ["x"], "retry_safe": ["y"]}, "not among"),
    ({"server": "a", "timeout": 0}, "timeout"),
])  # fmt: skip
def test_a_spec_that_cannot_work_is_refused(wrong: dict[str, JsonValue], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        agent(wrong)


def test_servers_stand_beside_each_other_and_functions() -> None:
    function: JsonValue = {"name": "a__x", "description": "d", "task_queue": "q"}
    assert len(agent({"server": "a"}, {"server": "b"}).mcp) == 2
    assert agent({"server": "b"}, functions=[function]).functions
    with pytest.raises(ValidationError, match="twice"):
        agent({"server": "a"}, {"server": "a"})
    with pytest.raises(ValidationError, match="function 'a__x'"):
        agent({"server": "a"}, functions=[function])
    names: list[JsonValue] = [f"{number:0100d}" for number in range(MAX_NAMES_CHARACTERS // 100 + 1)]
    with pytest.raises(ValidationError, match="name fewer"):
        agent({"server": "a", "tools": names})


def load(tmp_path: Path, text: str, **environ: str) -> dict[str, Server]:
    path = tmp_path / "mcp.yaml"
    path.write_text(text)
    return load_servers({"HIBERNAUT_MCP_SERVERS": str(path), **environ})


def test_secrets_come_from_the_environment_and_from_files_and_are_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    servers = load(
        tmp_path,
        f"""
servers:
  files: {{command: [npx, files], env: {{TOKEN: {{from_env: TOKEN}}, MODE: read}}, cwd: /srv}}
  hub:
    url: https://hub.example.com/mcp
    headers: {{Authorization: {{from_file: {tmp_path}/key, prefix: "Bearer "}}}}
""",
        TOKEN='another"secret',
    )
    files, hub = servers["files"], servers["hub"]
    assert files.env["TOKEN"].get_secret_value() == 'another"secret'
    assert files.env["MODE"].get_secret_value() == "read"
    assert hub.headers["Authorization"].get_secret_value() == f"Bearer {SECRET}"
    assert SECRET not in repr(servers)
    assert hub.hide(f"token {SECRET}!") == "token [redacted]!"
    # As it stands in JSON.
    assert "secret" not in files.hide(r'{"token": "another\"secret"}')


def test_a_worker_without_the_file_has_no_servers() -> None:
    assert load_servers({}) == {}


@pytest.mark.parametrize(("text", "why"), [
    ("servers: {a: {}}", "server 'a': give command"),
    ("servers: {a: {command: [x], url: 'http://x'}}", "server 'a': give command"),
    ("servers: {a: {url: 'ftp://x'}}", "field 'url': must be an http"),
    ("servers: {a: {url: 'https://me:pw@x'}}", "without credentials"),
    ("servers: {a: {url: 'https://x/mcp?key=1'}}", "belongs into `headers`"),
    ("servers: {a: {url: 'http://x', env: {A: b}}}", "for servers with a command"),
    ("servers: {a: {command: [x], headers: {A: b}}}", "for servers with a url"),
    ("servers: {a: {command: [x], shell: true}}", "field 'shell': there is no such field"),
    ("servers: {a: {command: [x], env: {A: {from_env: MISSING}}}}", "field 'env.A': variable MISSING is not set"),
    ("servers: {a: {command: [x], env: {A: {from_file: /nowhere/x}}}}", "cannot be read"),
    ("servers: {a: {command: [x], env: {A: {}}}}", "one of the two"),
    ("servers: {a__b: {command: [x]}}", "cannot be a server's name"),
    ("servers: [", "not valid YAML at line"),
    ("nothing", "The file of MCP servers"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(McpSettingsInvalid, match=why) as caught:
        load(tmp_path, text)
    assert "pw" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(McpSettingsInvalid, match=r"/nowhere/mcp\.yaml"):
        load_servers({"HIBERNAUT_MCP_SERVERS": "/nowhere/mcp.yaml"})


def test_a_worker_without_the_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    for module in ("mcp_session", "mcp_wire"):
        monkeypatch.delitem(sys.modules, f"activities.adapters.{module}", raising=False)
    server = Server(name="a", settings=ServerSettings(command=("x",)))
    with pytest.raises(McpSettingsInvalid, match=r"pip install 'hibernaut\[mcp\]'"):
        McpPool({"a": server})
    McpPool({})
