"""The codec server: opens sealed payloads for Temporal's web UI and command line."""
