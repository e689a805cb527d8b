"""The egress proxy of a sandbox host: a process of its own, which the worker starts and which outlives it.

It serves the sandboxes whose network is an allowlist. The worker listens for it inside each container's network
namespace and hands it the listener with the rules (`activities/adapters/egress_desk.py`); what connects to that
listener is that sandbox. So the proxy needs no right of root, no Docker, no store and no secret: it gives all of that
up before it reads the first byte of a sandbox. It ends by itself when it has had nothing to serve for a minute.
"""
