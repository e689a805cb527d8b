from pathlib import Path

import pytest

from hibernaut.errors import InvalidSettings
from workers.detached import environment
from workers.settings import HostSettings, Settings

STORE = {"HIBERNAUT_STORE": "file:///tmp/store"}


def test_a_store_is_all_that_must_be_said() -> None:
    settings = Settings.load(STORE)
    assert settings.connection.address == "127.0.0.1:7233"
    assert settings.connection.namespace == "hibernaut"
    assert (settings.gateway_listen.host, settings.gateway_listen.port) == ("127.0.0.1", 8484)
    assert settings.gateway_listen.loopback
    assert settings.host_id


def test_everything_is_read() -> None:
    settings = Settings.load(
        {
            "TEMPORAL_ADDRESS": "temporal:1",
            "TEMPORAL_NAMESPACE": "n",
            "HIBERNAUT_STORE": "s3://bucket/prefix",
            "AWS_ENDPOINT_URL_S3": "http://s3:9000",
            "AWS_SECRET_ACCESS_KEY": "very secret",
            "HIBERNAUT_HOST_ID": "h1",
            "HIBERNAUT_GATEWAY_LISTEN": "0.0.0.0:80",
            "HIBERNAUT_GATEWAY_TOKEN": "also secret",
            "HIBERNAUT_MAX_UPLOAD_MB": "3",
        }
    )
    assert (settings.connection.address, settings.connection.namespace) == ("temporal:1", "n")
    assert settings.max_upload_bytes == 3 * 1024 * 1024
    assert not settings.gateway_listen.loopback
    assert settings.gateway_token is not None
    assert settings.gateway_token.get_secret_value() == "also secret"


def test_a_watchdog_needs_no_store_and_gets_no_secret() -> None:
    environ = {"HIBERNAUT_HOST_ID": "h1", "HIBERNAUT_LEASE_SECONDS": "7.5", "HIBERNAUT_DOCKER_HOST": "unix:///x.sock"}
    settings = HostSettings.load(environ)
    assert (settings.host_id, settings.lease_seconds, settings.docker_host) == ("h1", 7.5, "unix:///x.sock")
    given = environment(settings, {"PATH": "/bin", "DOCKER_CERT_PATH": "/c", "OPENAI_API_KEY": "k", **STORE})
    assert given.keys() == {"PATH", "DOCKER_CERT_PATH", "HIBERNAUT_HOME", "HIBERNAUT_HOST_ID", "HIBERNAUT_DOCKER_HOST"}


@pytest.mark.parametrize("seconds", ["1.9", "0", "-1", "soon", "nan", "3601"])
def test_a_lease_too_short_to_be_renewed_is_refused(seconds: str) -> None:
    with pytest.raises(InvalidSettings, match="HIBERNAUT_LEASE_SECONDS"):
        HostSettings.load({"HIBERNAUT_LEASE_SECONDS": seconds})
    with pytest.raises(InvalidSettings, match="HIBERNAUT_LEASE_SECONDS"):
        Settings.load(STORE | {"HIBERNAUT_LEASE_SECONDS": seconds})


def test_secrets_are_not_shown() -> None:
    settings = Settings.load(STORE | {"AWS_SECRET_ACCESS_KEY": "hush-1", "HIBERNAUT_GATEWAY_TOKEN": "hush-2"})
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json(exclude={"connection"})


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(
            {
                "TEMPORAL_ADDRESS": "no-port",
                "HIBERNAUT_STORE": "ftp://x",
                "HIBERNAUT_HOST_ID": "a b",
                "HIBERNAUT_GATEWAY_LISTEN": "8484",
                "HIBERNAUT_GATEWAY_TOKEN_FILE": str(tmp_path / "none"),
                "HIBERNAUT_MAX_UPLOAD_MB": "many",
                "AWS_ENDPOINT_URL_S3": "s3:9000",
            }
        )
    text = str(caught.value)
    for name in (
        "no-port",
        "HIBERNAUT_STORE: must be s3://",
        "HIBERNAUT_HOST_ID",
        "HIBERNAUT_GATEWAY_LISTEN: must be host:port",
        "HIBERNAUT_GATEWAY_TOKEN_FILE",
        "HIBERNAUT_MAX_UPLOAD_MB",
        "AWS_ENDPOINT_URL_S3",
    ):
        assert name in text, text


def test_a_missing_store_is_named() -> None:
    with pytest.raises(InvalidSettings, match="HIBERNAUT_STORE: is required"):
        Settings.load({})


def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from a file\n")
    settings = Settings.load(STORE | {"HIBERNAUT_GATEWAY_TOKEN_FILE": str(file)})
    assert settings.gateway_token is not None
    assert settings.gateway_token.get_secret_value() == "from a file"
