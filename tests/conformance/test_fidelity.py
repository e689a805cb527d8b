"""Whole computers compared with what their snapshots restore."""

from tests.conformance.fidelity_cases import FidelityCases


class TestHost(FidelityCases):
    """Captured beside the daemon."""

    kind = "host"


class TestApi(FidelityCases):
    """Captured through the Docker API alone."""

    kind = "api"
