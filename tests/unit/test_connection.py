import json
from pathlib import Path

import pytest

from hibernaut.connection import resolve
from hibernaut.errors import InvalidSettings


def write(folder: Path, **changes: object) -> Path:
    path = folder / ".hibernaut" / "connection.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "temporal_address": "127.0.0.1:17233",
        "temporal_namespace": "stack",
        "gateway_url": "http://127.0.0.1:18484",
        "gateway_token": "stack-token",
        "ui_url": "http://127.0.0.1:18233",
        "something_newer": 1,
    }
    path.write_text(json.dumps(content | changes))
    return path


def token(connection: object) -> str | None:
    secret = getattr(connection, "gateway_token", None)
    return secret.get_secret_value() if secret is not None else None


def test_defaults(tmp_path: Path) -> None:
    found = resolve(environ={}, directory=tmp_path)
    assert (found.address, found.namespace) == ("127.0.0.1:7233", "hibernaut")
    assert found.gateway_url is None


def test_the_nearest_file_going_up_is_used(tmp_path: Path) -> None:
    write(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = resolve(environ={}, directory=deep)
    assert (found.address, found.namespace) == ("127.0.0.1:17233", "stack")
    assert (found.gateway_url, token(found)) == ("http://127.0.0.1:18484", "stack-token")
    assert found.ui_url == "http://127.0.0.1:18233"
    write(tmp_path / "a", temporal_address="127.0.0.1:5")
    assert resolve(environ={}, directory=deep).address == "127.0.0.1:5"


def test_home_says_where_the_file_is(tmp_path: Path) -> None:
    path = write(tmp_path / "elsewhere")
    found = resolve(environ={"HIBERNAUT_HOME": str(path.parent)}, directory=tmp_path)
    assert found.namespace == "stack"


def test_environment_goes_before_the_file_and_arguments_before_both(tmp_path: Path) -> None:
    write(tmp_path)
    env = {"TEMPORAL_ADDRESS": "127.0.0.1:17233", "TEMPORAL_NAMESPACE": "env", "HIBERNAUT_GATEWAY_TOKEN": "env-token"}
    found = resolve(environ=env, directory=tmp_path)
    assert (found.namespace, token(found)) == ("env", "env-token")
    found = resolve(environ=env, directory=tmp_path, namespace="argument", gateway_token="argument")
    assert (found.namespace, token(found)) == ("argument", "argument")


def test_another_server_gets_neither_the_stacks_gateway_nor_its_token(tmp_path: Path) -> None:
    write(tmp_path)
    found = resolve(environ={"TEMPORAL_ADDRESS": "far.example:7233"}, directory=tmp_path)
    assert (found.namespace, found.gateway_url, token(found)) == ("hibernaut", None, None)
    found = resolve(environ={"HIBERNAUT_GATEWAY_URL": "http://far.example"}, directory=tmp_path)
    assert (found.gateway_url, token(found)) == ("http://far.example", None)


def test_the_environments_api_key_is_not_sent_to_the_stack(tmp_path: Path) -> None:
    write(tmp_path)
    found = resolve(environ={"TEMPORAL_API_KEY": "secret"}, directory=tmp_path)
    assert found.address == "127.0.0.1:17233"
    assert "secret" not in str(found.connect_config())


def test_temporals_own_profile_is_read_when_named(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.prod]\naddress = "prod.example:7233"\nnamespace = "prod"\n')
    env = {"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "prod"}
    found = resolve(environ=env, directory=tmp_path)
    assert (found.address, found.namespace) == ("prod.example:7233", "prod")
    with pytest.raises(InvalidSettings, match="nosuch"):
        resolve(environ=env | {"TEMPORAL_PROFILE": "nosuch"}, directory=tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"temporal_address": 1}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path)
    path.write_text(text)
    with pytest.raises(InvalidSettings, match=r"connection\.json is not a connection file"):
        resolve(environ={}, directory=tmp_path)


def test_an_address_without_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="has no port"):
        resolve(environ={"TEMPORAL_ADDRESS": "temporal.example"}, directory=tmp_path)


def test_the_token_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path)
    assert "stack-token" not in repr(resolve(environ={}, directory=tmp_path))
