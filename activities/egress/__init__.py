"""The way out of a sandbox whose network is an allowlist: what the proxy on the host lets through, and how it looks.

Everything that comes in here was written by the sandbox or by the hosts it talks to: all of it is hostile input.
"""
