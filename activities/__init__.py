"""I/O: every activity, the ports they use and the adapters behind the ports."""
