"""What can keep the development stack from running.

DevStackError
├── AlreadyRunning   another stack has this home
├── ChildFailed      a server, the worker or the gateway did not come up
├── InvalidPort      a port setting is no port
└── PortInUse        another program listens on a port we need
"""

from hibernaut.errors import HibernautError


class DevStackError(HibernautError):
    """The development stack cannot run."""

    code = "devstack"


class AlreadyRunning(DevStackError):
    """Another process runs a stack on this home.

    Attributes:
        pid: That process; 0 when it has not written it yet.
    """

    code = "devstack_already_running"

    def __init__(self, message: str, *, pid: int) -> None:
        """Names the process that holds the home."""
        self.pid = pid
        super().__init__(message, hint="Use it, or stop it with `make down`.")


class ChildFailed(DevStackError):
    """A child ended before it was ready, or was not ready in time; the message ends with its last words."""

    code = "devstack_child_failed"


class InvalidPort(DevStackError):
    """A port setting is no port."""

    code = "devstack_invalid_port"


class PortInUse(DevStackError):
    """Another program listens on a port we need."""

    code = "devstack_port_in_use"
    retryable = True
