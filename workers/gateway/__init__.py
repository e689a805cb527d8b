"""The HTTP gateway: everything bulk of an agent, running, sleeping or closed. See docs/gateway.md."""

from workers.gateway.app import Gateway

__all__ = ["Gateway"]
