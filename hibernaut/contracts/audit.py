"""Audit chains between the gateway and its clients."""

from hibernaut.models.base import Open


class AuditPart(Open):
    """One object of a chain, as it is in the store."""

    name: str
    """Its key without the chain's prefix."""
    text: str
    """What is not UTF-8 in it, and so no line of ours, is U+FFFD."""


class AuditChains(Open):
    """The chains that are in the store."""

    agents: tuple[str, ...] = ()
    """Uids."""
    hosts: tuple[str, ...] = ()
    """Ids."""
