"""Benchmarks: each writes a JSON file and a Markdown table of it into `benchmarks/results/`."""
