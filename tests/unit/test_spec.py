from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hibernaut._explain import parse_spec
from hibernaut.errors import InvalidSpec
from hibernaut.models import AgentSpec
from hibernaut.specfile import load_spec


def refusal(data: object) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(data)
    assert caught.value.problems or not isinstance(data, dict)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "model: is required"),
        ({"model": ""}, "model: "),
        ({"model": "m", "modell": "x"}, "modell: there is no such field; known here: model, provider"),
        ({"model": "m", "sandbox": {"runtime": "docker"}}, "sandbox.runtime: must be 'runc', 'runsc' or 'kata', not"),
        ({"model": "m", "sandbox": {"disk": 3}}, "sandbox.disk: there is no such field; known here: image, runtime"),
        ({"model": "m", "sandbox": {"cpus": -1}}, "sandbox.cpus: "),
        ({"model": "m", "sandbox": {"workdir": "x"}}, "sandbox.workdir: must be an absolute path"),
        ({"model": "m", "sandbox": {"network": {"mode": "lan"}}}, "sandbox.network.mode: must be 'none', 'allow"),
        ({"model": "m", "sandbox": {"snapshots": {"compression": 20}}}, "sandbox.snapshots.compression: "),
        (
            {"model": "m", "sandbox": {"snapshots": {"exclude": ["/ok", "tmp"]}}},
            "sandbox.snapshots.exclude: 'tmp' must be an absolute path such as /tmp or /home/*/.cache",
        ),
        ({"model": "m", "sandbox": {"snapshots": {"max_bytes": 1}}}, "sandbox.snapshots.max_bytes: "),
        ({"model": "m", "sandbox": {"snapshots": {"level": 1}}}, "known here: compression, exclude, max_bytes"),
        ({"model": "m", "idle_timeout": "soon"}, "idle_timeout: "),
        ({"model": "m", "max_steps": "many"}, "max_steps: "),
        ([], "not a mapping of fields but a list"),
        (None, "not a mapping of fields but empty"),
        ("x", "not a mapping of fields but a text"),
    ],
)
def test_what_is_wrong_is_named(data: object, said: str) -> None:
    assert said in refusal(data)


def test_all_problems_are_told_at_once() -> None:
    text = refusal({"sandbox": {"runtime": "x", "pids": 1}})
    for name in ("model", "sandbox.runtime", "sandbox.pids"):
        assert f"  {name}: " in text


def test_a_long_wrong_value_is_cut() -> None:
    assert len(refusal({"model": "m", "max_steps": "x" * 10_000})) < 300


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spec.yaml", "model: m\nidle_timeout: PT2M\nsandbox:\n  image: i\n  env: {A: b}\n"),
        ("spec.json", '{"model": "m", "idle_timeout": 120, "sandbox": {"image": "i", "env": {"A": "b"}}}'),
    ],
)
def test_yaml_and_json_mean_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    spec = load_spec(path)
    assert spec.idle_timeout == timedelta(minutes=2)
    assert (spec.sandbox.image, spec.sandbox.env) == ("i", {"A": "b"})


def test_snapshots_may_be_told_about_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "model: m\nsandbox:\n  snapshots:\n    compression: 3\n    exclude:\n    - /tmp\n    - /**/*.pyc\n"
        "    max_bytes: 5_000_000\n"
    )
    snapshots = load_spec(path).sandbox.snapshots
    assert (snapshots.compression, snapshots.exclude, snapshots.max_bytes) == (3, ("/tmp", "/**/*.pyc"), 5_000_000)


def test_overrides_win_and_none_overrides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("model: m\nsandbox: {image: i, pids: 99}\n")
    overrides = {"model": None, "provider": "p", "sandbox.runtime": "runsc", "sandbox.network.mode": "open"}
    spec = load_spec(path, overrides)
    assert (spec.model, spec.provider, spec.sandbox.image, spec.sandbox.pids) == ("m", "p", "i", 99)
    assert (spec.sandbox.runtime, spec.sandbox.network.mode) == ("runsc", "open")


def test_overrides_alone_make_a_spec() -> None:
    assert load_spec(None, {"model": "m"}) == AgentSpec(model="m")


def test_a_wrong_override_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"sandbox\.runtime: must be"):
        load_spec(None, {"model": "m", "sandbox.runtime": "docker"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: [unclosed\nx: y\n", r"line 2, column"),
        (b'{"model": "m",}}', r"line 1, column"),
        (b"model: \xff\xfe", "not UTF-8"),
        (b"\x00", "neither YAML nor JSON"),
        (b"- a\n- b\n", "a list"),
        (b"", "empty"),
        (b"!!python/object/apply:os.system ['true']", "line 1, column 1"),
        (b"model: m\nsandbox: 3\n", "sandbox: must be a mapping"),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidSpec, match=said) as caught:
        load_spec(path, {"sandbox.image": "i"})
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="cannot be read"):
        load_spec(tmp_path / "none.yaml")


@pytest.mark.parametrize("spec", [AgentSpec(model="m"), AgentSpec(model="m", idle_timeout=timedelta(seconds=1.5))])
def test_a_spec_survives_json(spec: AgentSpec) -> None:
    plain: Any = spec.model_dump(mode="json")
    assert parse_spec(plain) == spec
