"""The faults, by what they break, in the order in which they are tried."""

from tests.chaos.cases import containers, hosts, models, servers, snapshots, stores, workers
from tests.chaos.trial import CASES

__all__ = ["CASES", "containers", "hosts", "models", "servers", "snapshots", "stores", "workers"]
