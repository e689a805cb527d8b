import pytest
from temporalio.common import VersioningBehavior
from temporalio.worker import WorkerDeploymentConfig

from hibernaut.errors import InvalidSettings
from workers.settings import Settings
from workers.versioning import PinningRunner, versioning

STORE = {"HIBERNAUT_STORE": "file:///tmp/store"}


def test_a_worker_without_a_build_id_is_unversioned() -> None:
    found = versioning(Settings.load(STORE))
    assert "deployment_config" not in found
    assert not isinstance(found["workflow_runner"], PinningRunner)


def test_a_build_id_makes_a_versioned_worker() -> None:
    settings = Settings.load({**STORE, "HIBERNAUT_BUILD_ID": "0.2.0", "HIBERNAUT_DEPLOYMENT_NAME": "ours"})
    found = versioning(settings)
    assert isinstance(found["workflow_runner"], PinningRunner)
    config = found["deployment_config"]
    assert isinstance(config, WorkerDeploymentConfig)
    assert config.version.to_canonical_string() == "ours.0.2.0"
    assert config.use_worker_versioning
    assert config.default_versioning_behavior is VersioningBehavior.PINNED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HIBERNAUT_BUILD_ID", "a:b"),
        ("HIBERNAUT_BUILD_ID", ".1"),
        ("HIBERNAUT_DEPLOYMENT_NAME", "a.b"),
        ("HIBERNAUT_DEPLOYMENT_NAME", "__a"),
        ("HIBERNAUT_SERVES", "some"),
    ],
)
def test_what_temporal_could_not_tell_apart_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        Settings.load({**STORE, name: value})
