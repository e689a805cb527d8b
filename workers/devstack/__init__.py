"""The embedded development stack: Temporal, an S3 server, a worker and the gateway as children of one process.

`python -m workers.devstack up | down | status` is for people; tests, benchmarks and the demo use `DevStack` itself:

    async with DevStack(home, ports=Ports.free(), components=SERVERS) as stack:
        client = await Client.connect(stack.temporal_address, namespace=stack.namespace)
"""

from workers.devstack.errors import AlreadyRunning, ChildFailed, DevStackError, InvalidPort, PortInUse
from workers.devstack.settings import ALL, SERVERS, Component, Ports, default_home
from workers.devstack.stack import DevStack

__all__ = [
    "ALL",
    "SERVERS",
    "AlreadyRunning",
    "ChildFailed",
    "Component",
    "DevStack",
    "DevStackError",
    "InvalidPort",
    "PortInUse",
    "Ports",
    "default_home",
]
