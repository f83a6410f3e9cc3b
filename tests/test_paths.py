"""A file is written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hmoe.base.errors import StoreError
from hmoe.base.files import atomic_write, cache_dir, results_dir

FULL_DISK = """
import resource, sys
from hmoe.base.errors import StoreError
from hmoe.base.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the system refuses what goes beyond, as a full disk does
try:
    atomic_write(sys.argv[1], "x" * 100_000)
except StoreError as error:
    sys.exit(str(error))
"""


def test_directories_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "b"))
    assert (cache_dir(), results_dir()) == (tmp_path / "a", tmp_path / "b")


def test_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.csv"
    atomic_write(target, "old")
    atomic_write(target, "new 情感".encode())
    assert target.read_text("utf-8") == "new 情感"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "record.csv"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, target], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{target}: cannot be written") and "free some space" in done.stderr
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_path_that_cannot_be_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/record.csv: cannot be written .*; free some space or choose"):
        atomic_write(tmp_path / "file" / "record.csv", "x")
