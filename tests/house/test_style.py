"""The code keeps to one style, by the configuration in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hmoe.base.files import PROJECT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["ruff check", "ruff format"])
def test_ruff_has_nothing_to_say(command: list[str]) -> None:
    found = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=PROJECT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
