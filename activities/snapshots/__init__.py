"""The snapshot engine: a container's changes over its image, kept incrementally in the object store.

`docs/snapshot-format.md` describes what is stored. Nothing in this package knows Docker: what reads and writes a
container's files is a `Capture` (`capture.py`), implemented in `activities/adapters`.
"""
