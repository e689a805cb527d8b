"""The demo: an agent at work on real data, whose computer is destroyed twice. `make demo` runs it."""
