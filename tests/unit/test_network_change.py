"""Rules added to an allowlist and taken away; connections counted until they are told."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from activities.egress.ledger import REMEMBERED, TOLD, Ledger
from activities.ports.egress import EgressEvent, Tenant
from hibernaut.models import Network
from hibernaut.models.network_change import NetworkChange, NetworkDecision, NetworkStatus

TENANT = Tenant("agent", "uid", 1, "sandbox")


def after(rules: tuple[str, ...], *, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> tuple[str, ...]:
    return NetworkChange(allow=allow, deny=deny).over(rules)


@pytest.mark.parametrize(
    ("rules", "allow", "left"),
    [
        ((), ("a.example",), ("a.example",)),
        (("a.example",), ("A.example.", "a.example:443"), ("a.example",)),
        (("a.example",), ("a.example:8443",), ("a.example", "a.example:8443")),
        (("a.example:443",), ("a.example",), ("a.example:443", "a.example")),
        (("a.example",), ("*.a.example", "b.example"), ("a.example", "*.a.example", "b.example")),
    ],
)
def test_what_is_allowed_already_is_not_added(
    rules: tuple[str, ...], allow: tuple[str, ...], left: tuple[str, ...]
) -> None:
    assert after(rules, allow=allow) == left
    assert after(left, allow=allow) == left


@pytest.mark.parametrize(
    ("rules", "deny", "left"),
    [
        (("a.example", "b.example"), ("A.example",), ("b.example",)),
        (("a.example", "a.example:8443", "b.example"), ("a.example",), ("b.example",)),
        (("a.example",), ("a.example:443",), ("a.example:80",)),
        (("a.example", "a.example:8443"), ("a.example:8443",), ("a.example",)),
        (("*.a.example", "a.example"), ("*.a.example",), ("a.example",)),
        (("[2001:db8::7]:8443",), ("2001:db8::7",), ()),
        (("2001:db8::7",), ("[2001:db8::7]:80",), ("[2001:db8::7]:443",)),
        (("*.a.example",), ("a.example",), ("*.a.example",)),
        (("a.example",), ("other.example",), ("a.example",)),
    ],
)
def test_what_is_denied_is_gone_and_nothing_else(
    rules: tuple[str, ...], deny: tuple[str, ...], left: tuple[str, ...]
) -> None:
    assert after(rules, deny=deny) == left
    assert after(left, deny=deny) == left
    assert Network(mode="allowlist", allow=left).allow == left, "what is left is written as a spec has it"


@pytest.mark.parametrize(
    ("rules", "deny"),
    [
        (("*.example.org",), "a.example.org"),
        (("*.example.org", "a.example.org"), "a.example.org"),
        (("*.example.org",), "*.a.example.org"),
        (("*.example.org",), "a.example.org:443"),
    ],
)
def test_a_host_that_another_rule_reaches_cannot_be_denied(rules: tuple[str, ...], deny: str) -> None:
    with pytest.raises(ValueError, match=r"would still be reached by the rule \*\.example\.org"):
        after(rules, deny=(deny,))
    assert after(rules, deny=(deny, "*.example.org")) == ()


def test_the_number_of_rules_is_that_of_a_spec() -> None:
    full = tuple(f"host{number}.example" for number in range(200))
    assert after(full[:-1], allow=full[-1:]) == full
    assert after(full, deny=full[:1], allow=("one.example",))[-1] == "one.example"
    with pytest.raises(ValueError, match="it would have 201 rules, and 200 is the most"):
        after(full, allow=("one.example",))


def test_what_is_no_rule_is_told_as_of_a_spec() -> None:
    for text in ("https://a.example", "*.com", "a.example:0", "127.1"):
        with pytest.raises(ValidationError) as of_spec:
            Network(mode="allowlist", allow=(text,))
        for field in ("allow", "deny"):
            with pytest.raises(ValidationError) as found:
                NetworkChange.model_validate({field: (text,)})
            assert found.value.errors()[0]["msg"] == of_spec.value.errors()[0]["msg"]
    with pytest.raises(ValidationError, match=r"a\.example cannot be allowed and denied at once"):
        NetworkChange(allow=("a.example",), deny=("A.example",))


def test_a_status_tells_what_differs() -> None:
    status = NetworkStatus(mode="allowlist", allow=("a", "c"), of_spec=("a", "b"))
    assert (status.added, status.removed) == (("c",), ("b",))


def event(host: str, *, allowed: bool = True, kind: str = "decided", reason: str = "") -> EgressEvent:
    return EgressEvent(
        at=datetime.now(UTC), tenant=TENANT, kind="ended" if kind == "ended" else "decided", connection=1, method="",
        host=host, port=443, allowed=allowed, reason=reason,
    )  # fmt: skip


def test_connections_are_told_once_refusals_first() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.note(event("a.example"))
        ledger.note(event("a.example", kind="ended"))
    ledger.note(event("evil.example", allowed=False, reason="blocked"))
    first = ledger.since("")
    assert first.decisions == (
        NetworkDecision(host="evil.example", port=443, allowed=False, reason="blocked"),
        NetworkDecision(host="a.example", port=443, allowed=True, count=3),
    )
    assert ledger.since("").decisions == first.decisions, "an answer that was lost is given again"
    assert ledger.since(first.mark).decisions == ()
    ledger.note(event("b.example"))
    later = ledger.since(first.mark)
    assert [one.host for one in later.decisions] == ["b.example"]
    # Of another start of the container, or of the proxy: what it knows is all new.
    assert [one.host for one in Ledger().since(later.mark).decisions] == []
    assert len(ledger.since("other:99").decisions) == 3
    assert len(ledger.since(first.mark.replace(":4", ":nonsense")).decisions) == 3


def test_a_flood_is_counted_and_not_told() -> None:
    ledger = Ledger()
    for number in range(REMEMBERED + 500):
        ledger.note(event(f"host{number}.example"))
    ledger.note(event("evil.example", allowed=False))
    report = ledger.since("")
    assert len(report.decisions) == TOLD
    assert report.decisions[0].host == "evil.example"
    assert report.more == REMEMBERED + 501 - TOLD
    assert ledger.since(report.mark).more == 0
