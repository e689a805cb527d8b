"""The page on the spec has every field, and what its example says is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from hibernaut._explain import parse_spec
from hibernaut.models import AgentSpec, IsolationSpec, Network, SandboxSpec, SnapshotSpec

PAGE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
PARTS = [part.split("\n## ")[0] for part in re.split(r"^## `", PAGE, flags=re.MULTILINE)]
MODELS = (AgentSpec, SandboxSpec, SnapshotSpec, IsolationSpec, Network)


@pytest.mark.parametrize(("model", "part"), list(zip(MODELS, PARTS, strict=True)))
def test_every_field_is_on_the_page(model: type[BaseModel], part: str) -> None:
    assert re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE) == list(model.model_fields)


def test_the_example_is_a_spec() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    spec = parse_spec(yaml.safe_load(example))
    assert spec.sandbox.snapshots.exclude == ("/tmp", "/home/*/.cache", "/srv/**/node_modules")
    assert spec.sandbox.snapshots.max_bytes == 10_000_000_000
