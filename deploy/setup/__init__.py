"""Set-up of a fresh machine, with the standard library alone: it runs before the virtual environment exists.

`python -m deploy.setup [STEP ...]`: each step is idempotent, says what it does, and quick once done.
"""
