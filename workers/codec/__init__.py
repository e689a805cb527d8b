"""The codec server: opens and seals payloads for Temporal's web UI and command line."""
