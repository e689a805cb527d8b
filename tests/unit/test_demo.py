"""The parts of the demo that need no server: what the agent is given, what is expected, what the script decides."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from activities.providers import ProviderSettingsInvalid, load_providers, read_settings
from examples.demo import figures, material, tasks, wiring
from examples.demo.errors import DemoError
from examples.demo.script import script
from examples.scripted_model import Call, CommandResult, Conversation, Reply, Said
from workers.devstack.home import ConnectionFile
from workers.devstack.providers import providers_file
from workers.devstack.settings import Ports

CSV = """icao,country,name,elevation,tz
A,XX,First,9000,Z/One
B,XX,Second,0,Z/One
C,XX,Third,100.5,Z/Two
D,YY,Fourth,50,Z/Two
E,XX,Fifth,200,Z/One
"""
REPORT = """There are 5.
| XX | 4 | 200.0 | 9000.0 |
| YY | 1 | 50.0 | 50.0 |
"""


def connection(providers: Path) -> ConnectionFile:
    return ConnectionFile(
        temporal_address="127.0.0.1:1",
        temporal_namespace="hibernaut",
        gateway_url="http://127.0.0.1:1",
        gateway_token="t",
        ui_url="http://127.0.0.1:1",
        store="s3://b/p",
        s3_endpoint="http://127.0.0.1:1",
        pid=1,
        providers=str(providers),
    )


def asked(text: str, *calls: Call) -> Conversation:
    return Conversation("scripted", "responses", (Said("user", text), *calls), len(calls))


def ended(call: Reply, *codes: int | None, stdout: str = "") -> Call:
    commands = call.calls[0].commands
    results = tuple(CommandResult(stdout, "broken", code, timed_out=False) for code in codes)
    return Call("call", commands, results)


def reply(conversation: Conversation) -> Reply:
    return script(conversation)


def test_the_wheel_installs_and_is_the_same_every_time(tmp_path: Path) -> None:
    wheel = material.wheel()
    assert material.wheel().content == wheel.content
    path = tmp_path / wheel.name
    path.write_bytes(wheel.content)
    target = tmp_path / "target"
    uv = Path(sys.executable).with_name("uv")
    argv = [uv, "pip", "install", "--no-index", "--no-deps", "--python", sys.executable, "--target", target, path]
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (target / "tabulate" / "__init__.py").is_file()
    assert (target / "bin" / "tabulate").is_file()


def test_the_data_set_is_what_the_figures_need() -> None:
    data = material.data_set()
    computed = figures.compute(data.content)
    assert computed.airports > 20_000
    assert data.licence == "MIT"
    # Ties would make more than one answer right.
    for section in (computed.countries, computed.heights, computed.zones):
        numbers = [row.numbers[0] for row in section.rows]
        assert numbers == sorted(set(numbers), reverse=True)


def test_the_figures_leave_out_heights_nobody_knows() -> None:
    computed = figures.compute(CSV.encode())
    assert computed.countries.rows == (figures.Row("XX", (4, 200.0, 9000.0)), figures.Row("YY", (1, 50.0, 50.0)))
    assert computed.heights.total == 1
    assert computed.zones.rows == (figures.Row("Z/One", (3,)), figures.Row("Z/Two", (2,)))


@pytest.mark.parametrize(
    ("old", "new", "lacks"),
    [
        ("", "", []),
        ("200.0", "200", []),
        ("200.0", "200.2", ["a line for XX with 4 and 200 and 9000"]),
        ("| XX", "| XXX", ["a line for XX with 4 and 200 and 9000"]),
        ("are 5", "are 6", ["the number 5"]),
    ],
)
def test_a_report_with_another_figure_is_found_out(old: str, new: str, lacks: list[str]) -> None:
    section = figures.compute(CSV.encode()).countries
    assert section.missing(REPORT.replace(old, new) if old else REPORT) == lacks


@pytest.mark.parametrize("code", [252, 253, None])
def test_the_script_runs_again_what_was_lost(code: int | None) -> None:
    first = reply(asked(tasks.SECOND))
    lost = ended(first, code, code)
    again = reply(asked(tasks.SECOND, lost))
    assert again.calls[0].commands == first.calls[0].commands
    done = reply(asked(tasks.SECOND, lost, ended(first, 0, 0, stdout="155 are high; these:\n")))
    assert done.calls == ()
    assert "155 are high." in done.text
    assert reply(asked(tasks.SECOND, lost, lost, lost)).calls == ()


def test_the_script_stops_at_a_failure_and_says_which() -> None:
    failed = ended(reply(asked(tasks.FIRST)), 0, 7)
    stopped = reply(asked(tasks.FIRST, failed))
    assert stopped.calls == ()
    assert f"`head -n 3 {tasks.CSV}` ended with exit code 7: broken" in stopped.text


def test_the_script_knows_no_other_message() -> None:
    assert reply(asked("Write me a poem.")).calls == ()


def test_the_stack_names_both_providers_and_no_key(tmp_path: Path) -> None:
    ports = replace(Ports(), scripted=18_585)
    environ = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "HIBERNAUT_WIRE": "chat"}
    file = providers_file(tmp_path, ports, environ)
    assert "sk-1" not in file.read_text(encoding="utf-8")
    settings = read_settings(file)
    assert (settings["default"].base_url, settings["default"].wire) == ("http://127.0.0.1:9/v1", "chat")
    assert settings["scripted"].base_url == "http://127.0.0.1:18585/v1"
    key = (tmp_path / "scripted.key").read_text(encoding="utf-8")
    assert (tmp_path / "scripted.key").stat().st_mode & 0o777 == 0o600
    assert load_providers({**environ, "HIBERNAUT_PROVIDERS": str(file)}).names == ("default", "scripted")
    assert providers_file(tmp_path, ports, {}) == file
    assert (tmp_path / "scripted.key").read_text(encoding="utf-8") == key
    own = tmp_path / "own.yaml"
    assert providers_file(tmp_path, ports, {"HIBERNAUT_PROVIDERS": str(own)}) == own


def test_a_wire_that_is_none_is_refused_by_the_worker(tmp_path: Path) -> None:
    file = providers_file(tmp_path, Ports(), {"HIBERNAUT_WIRE": "soap"})
    with pytest.raises(ProviderSettingsInvalid, match=r"provider 'default'.*'wire'"):
        load_providers({"HIBERNAUT_PROVIDERS": str(file)})


def test_the_model_is_the_script_unless_there_is_a_key(tmp_path: Path) -> None:
    without = connection(providers_file(tmp_path, Ports(), {}))
    assert wiring.choose_model(without, {}).scripted
    with pytest.raises(DemoError, match="started without it"):
        wiring.choose_model(without, {"OPENAI_API_KEY": "sk-1"})
    having = connection(providers_file(tmp_path, Ports(), {"OPENAI_API_KEY": "sk-1"}))
    chosen = wiring.choose_model(having, {"OPENAI_API_KEY": "sk-1", "HIBERNAUT_MODEL": "m"})
    assert (chosen.scripted, chosen.provider, chosen.name) == (False, "default", "m")


def test_providers_of_ones_own_without_a_script_are_told(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("providers: {default: {}}\n", encoding="utf-8")
    with pytest.raises(DemoError, match="names no provider 'scripted'"):
        wiring.choose_model(connection(own), {})
