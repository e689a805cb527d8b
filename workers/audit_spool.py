"""Where the processes of a host put down what its audit chain is to tell."""

from activities.adapters.audit_spool import AuditSpool
from workers.settings import HostSettings


def spool_of(settings: HostSettings) -> AuditSpool:
    """`hosts/<host id>/audit` in the home."""
    return AuditSpool(settings.home.absolute() / "hosts" / settings.host_id / "audit")
