"""Deterministic code: the agent, its turn, its sandbox lease and recovery. All I/O is in activities."""
