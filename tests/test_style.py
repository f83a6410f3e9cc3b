"""The code keeps to one style, by the configuration in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["ruff check", "ruff format"])
def test_ruff_has_nothing_to_say(command: list[str]) -> None:
    found = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_papers_own_ideas_can_be_read_in_an_evening() -> None:
    ideas = ("features", "augment", "masking", "experts", "router", "mamba", "simba", "model")
    said = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"`{name}`" in said for name in ideas)
    assert sum(len((ROOT / "hmoe" / f"{name}.py").read_text().splitlines()) for name in ideas) < 700
