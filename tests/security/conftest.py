"""Sandboxes to attack."""

from collections.abc import AsyncIterator

import pytest

from tests.security.cell import Cell, Cells, cells


@pytest.fixture
async def prison() -> AsyncIterator[Cells]:
    """Makes sandboxes under runc, on the machine's own daemon."""
    async with cells() as made:
        yield made


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Cell]:
    """One sandbox as it is by default, for attacks that leave it as it was."""
    async with cells() as made:
        yield await made.make()
