"""Settings of model providers: what is accepted, and what is said when they are wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.adapters.openai_chat import ChatAdapter
from activities.adapters.openai_responses import ResponsesAdapter
from activities.errors import ModelRejected
from activities.ports.model import ModelInput
from activities.providers import Providers, ProviderSettingsInvalid, load_providers
from activities.windows import Window
from examples.scripted_model import ScriptedModel, say
from hibernaut.models import Usage

KEY = "sk-provider-key-123456"


def written(path: Path, providers: object) -> dict[str, str]:
    file = path / "providers.yaml"
    file.write_text(providers if isinstance(providers, str) else yaml.safe_dump({"providers": providers}))
    return {"HIBERNAUT_PROVIDERS": str(file), "THE_KEY": KEY}


async def answered(providers: Providers, name: str, model: str = "scripted") -> str:
    try:
        items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
        return (await providers.adapter(name).call(ModelInput(model, items, "key"), lambda _: None)).text
    finally:
        await providers.close()


async def test_without_a_file_there_is_one_provider_from_the_environment() -> None:
    async with ScriptedModel([say("hi")], api_key=KEY) as model:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": model.base_url}
        for wire, path in (("", "/v1/responses"), ("responses", "/v1/responses"), ("chat", "/v1/chat/completions")):
            providers = load_providers({**environ, "HIBERNAUT_WIRE": wire})
            assert providers.names == ("default",)
            assert await answered(providers, "default") == "hi"
            assert model.requests[-1].path == path


async def test_a_file_names_providers_of_every_wire(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    async with ScriptedModel([say("hi")], api_key=KEY) as model:
        environ = written(
            tmp_path,
            {
                "native": {"base_url": model.base_url, "api_key_env": "THE_KEY", "extra_body": {"temperature": 0.5}},
                "other": {
                    "wire": "chat",
                    "base_url": model.base_url,
                    "api_key_file": str(key_file),
                    "timeout_s": 3,
                    "developer_role": "developer",
                    "default_headers": {"x-team": "blue"},
                },
            },
        )
        assert load_providers(environ).names == ("native", "other")
        assert await answered(load_providers(environ), "native") == "hi"
        assert model.requests[-1].body["temperature"] == 0.5
        assert await answered(load_providers(environ), "other") == "hi"
        assert model.requests[-1].headers["x-team"] == "blue"


async def test_adapters_are_made_once_and_by_wire(tmp_path: Path) -> None:
    local = "http://127.0.0.1:9/v1"
    providers = load_providers(
        written(tmp_path, {"a": {"base_url": local}, "b": {"wire": "chat", "base_url": local}}),
    )
    assert isinstance(providers.adapter("a"), ResponsesAdapter)
    assert isinstance(providers.adapter("b"), ChatAdapter)
    assert providers.adapter("a") is providers.adapter("a")
    await providers.close()


async def test_an_unknown_provider_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    environ = written(tmp_path, {"red": {"api_key_env": "THE_KEY"}, "blue": {"api_key_env": "THE_KEY"}})
    with pytest.raises(ModelRejected, match=r"'green'.*blue, red"):
        load_providers(environ).adapter("green")


async def test_a_missing_key_is_told_when_it_is_needed() -> None:
    providers = load_providers({})
    with pytest.raises(ModelRejected, match="OPENAI_API_KEY"):
        providers.adapter("default")


async def test_a_local_server_needs_no_key() -> None:
    async with ScriptedModel([say("hi")], api_key="no-key") as model:
        assert await answered(load_providers({"OPENAI_BASE_URL": model.base_url}), "default") == "hi"


@pytest.mark.parametrize(
    ("providers", "told"),
    [
        ({"p": {"wire": "soap"}}, ["'p'", "'wire'", "'responses' or 'chat'"]),
        ({"p": {"base_url": "localhost:1"}}, ["'p'", "'base_url'", "http://"]),
        ({"p": {"base_url": "https://me:secret-pass@host/v1"}}, ["'p'", "'base_url'", "credentials"]),
        ({"p": {"base_url": "http://"}}, ["'p'", "'base_url'"]),
        ({"p": {"timeout_s": 0}}, ["'p'", "'timeout_s'", "greater than 0"]),
        ({"p": {"developer_role": "boss"}}, ["'p'", "'developer_role'", "'system', 'developer' or 'user'"]),
        ({"p": {"api_key": "sk-secret-in-file"}}, ["'p'", "'api_key'", "api_key_env", "api_key_file"]),
        ({"p": {"api_key_env": "A", "api_key_file": "/b"}}, ["'p'", "not both"]),
        ({"p": {"api_key_env": "UNSET_KEY"}}, ["'p'", "'api_key_env'", "UNSET_KEY is not set"]),
        ({"p": {"api_key_file": "/nowhere/key"}}, ["'p'", "'api_key_file'", "/nowhere/key"]),
        ({"p": "text"}, ["'p'"]),
        ({}, ["'providers'"]),
        ("providers: {a: [}", ["not valid YAML", "line 1"]),
        ("- a\n", ["providers.yaml"]),
        ("", ["providers.yaml"]),
        ("other: 1\n", ["'providers'"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, providers: Any, told: list[str]) -> None:  # noqa: ANN401  # anything YAML can say
    environ = written(tmp_path, providers)
    with pytest.raises(ProviderSettingsInvalid) as caught:
        load_providers(environ)
    for text in (environ["HIBERNAUT_PROVIDERS"], *told):
        assert text in str(caught.value)
    for secret in ("sk-secret-in-file", "secret-pass"):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ProviderSettingsInvalid, match=r"/nowhere/providers\.yaml.*cannot be read"):
        load_providers({"HIBERNAUT_PROVIDERS": "/nowhere/providers.yaml"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HIBERNAUT_WIRE", "soap"),
        ("OPENAI_BASE_URL", "ftp://x"),
        ("HIBERNAUT_CONTEXT_WINDOW", "large"),
        ("HIBERNAUT_CONTEXT_WINDOW", "12"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ProviderSettingsInvalid, match=name):
        load_providers({name: value})


def test_an_empty_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    environ = written(tmp_path, {"p": {"api_key_file": str(tmp_path / "key")}})
    with pytest.raises(ProviderSettingsInvalid, match="is empty"):
        load_providers(environ)


def test_a_window_is_the_models_own_or_else_the_providers(tmp_path: Path) -> None:
    one = {
        "base_url": "http://127.0.0.1:1/v1",
        "context_window": 200_000,
        "compact_at": 0.7,
        "models": {"small": {"context_window": 8_000, "compaction_model": "large"}, "large": {}},
    }
    providers = load_providers(written(tmp_path, {"main": one}))
    assert providers.window("main", "small") == Window(8_000, 0.7, "large")
    assert providers.window("main", "large") == providers.window("main", "unheard of") == Window(200_000, 0.7)
    assert providers.window("elsewhere", "small") == Window()
    variables = load_providers({"OPENAI_API_KEY": KEY, "HIBERNAUT_CONTEXT_WINDOW": "128000"})
    assert variables.window("default", "any") == Window(128_000, 0.8)


def test_a_call_is_near_the_window_by_what_it_used() -> None:
    window = Window(10_000, 0.8)
    assert not window.near(Usage(input_tokens=7_000, output_tokens=999))
    assert window.near(Usage(input_tokens=7_000, output_tokens=1_000))
    assert not Window().near(Usage(input_tokens=10**9))
