"""Real servers for the conformance suites, and real packages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conformance import fidelity_packages
from tests.support.seaweed import S3Server, seaweed_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def s3_servers() -> list[str]:
    """Name the S3 servers that the suites run on: SeaweedFS always, MinIO when the environment names one."""
    return ["seaweedfs", "minio"] if os.environ.get("HIBERNAUT_TEST_MINIO_ENDPOINT") else ["seaweedfs"]


@pytest.fixture(scope="session", params=s3_servers())
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server."""
    if request.param == "minio":
        yield S3Server(
            os.environ["HIBERNAUT_TEST_MINIO_ENDPOINT"],
            os.environ["HIBERNAUT_TEST_MINIO_ACCESS_KEY"],
            os.environ["HIBERNAUT_TEST_MINIO_SECRET_KEY"],
        )
        return
    with seaweed_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of npm's."""
    return fidelity_packages.node_modules(tmp_path_factory.mktemp("node_modules"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels for Python."""
    return fidelity_packages.wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian packages."""
    return fidelity_packages.debs(tmp_path_factory.mktemp("debs"))
