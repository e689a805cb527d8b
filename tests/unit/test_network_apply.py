"""network.apply: whose rules are given to which container, and what an older release does with rules it cannot read."""

import pytest
from temporalio.testing import ActivityEnvironment

from activities.errors import SandboxUnavailable
from activities.network import NetworkActivities
from activities.ports.egress import Tenant
from hibernaut.contracts import ApplyNetworkRequest
from hibernaut.models import LeaseStatus, Network
from hibernaut.models.network_change import NetworkReport

LEASE = LeaseStatus(generation=3, host_id="h", task_queue="q", sandbox_id="c3", image_id="i", started_at="s")
NETWORK = Network(mode="allowlist", allow=("a.example",))


class Ways:
    """A host's ways out, which notes what it is told."""

    def __init__(self) -> None:
        self.given: list[tuple[Tenant, Network, int]] = []

    def check(self, runtime: str) -> None:
        del runtime

    def admit(self, tenant: Tenant, network: Network, number: int = 0) -> None:
        self.given.append((tenant, network, number))

    def readmit(self, sandbox_id: str) -> None:
        del sandbox_id

    def dismiss(self, sandbox_id: str) -> None:
        del sandbox_id

    def blocked(self, sandbox_id: str, since: float) -> tuple[str, ...]:
        del sandbox_id, since
        return ()

    def report(self, sandbox_id: str, mark: str) -> NetworkReport:
        del sandbox_id
        return NetworkReport(mark=mark)


async def test_the_container_of_the_lease_is_given_the_rules_under_their_number() -> None:
    ways = Ways()
    request = ApplyNetworkRequest(agent_id="a", agent_uid="u", lease=LEASE, network=NETWORK, number=7)
    sent = ApplyNetworkRequest.model_validate_json(request.model_dump_json())
    assert sent == request
    result = await ActivityEnvironment().run(NetworkActivities(ways).apply, sent)
    assert (result.number, ways.given) == (7, [(Tenant("a", "u", 3, "c3"), NETWORK, 7)])


async def test_rules_of_a_later_release_are_not_given_in_part() -> None:
    ways = Ways()
    fields = ApplyNetworkRequest(agent_id="a", agent_uid="u", lease=LEASE, network=NETWORK, number=7).model_dump()
    later = ApplyNetworkRequest.model_validate({**fields, "network": {**fields["network"], "only_on": "mondays"}})
    with pytest.raises(SandboxUnavailable, match=r"too old for network\.only_on"):
        await ActivityEnvironment().run(NetworkActivities(ways).apply, later)
    assert ways.given == []
