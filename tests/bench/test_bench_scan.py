"""The benchmark compares things that compute the same, and reports them as ratios to ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pandas as pd
import pytest
import torch

from hmoe.bench import scan as bench_scan

PEERS = ["transformers", *(["c-loop"] if shutil.which("gcc") else []), *(["mambapy"] if find_spec("mambapy") else [])]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def both_ways(implementation: str) -> list[torch.Tensor]:
    prepare = bench_scan._c_loop if implementation == "c-loop" else bench_scan._torch
    forward, backward = prepare(implementation, bench_scan._inputs(2, 6, 5, 3, "cpu"))
    return [forward().detach(), *backward()]


@pytest.mark.parametrize("implementation", ["cpu", *PEERS])
def test_what_is_timed_is_the_same_scan(implementation: str) -> None:
    for found, wanted in zip(both_ways(implementation), both_ways("reference"), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def measured(N: int) -> dict[str, float]:
    """In a process of its own, as the benchmark does: this one may hold memory that earlier tests have freed."""
    command = [sys.executable, "-m", "hmoe.bench.scan", json.dumps(["reference", 4, 30, 64, N])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_measurement_is_of_the_size_asked_for() -> None:
    small, large = measured(1), measured(64)
    assert all(value > 0 for value in small.values())
    kept = 4 * 4 * 30 * 64 * 64 / 2**20  # MB of one (B, L, D, N)
    assert large["peak_mb"] > 2 * kept


def test_ratios_are_to_ours_at_the_same_size() -> None:
    rows = [("cpu", 16, 1.0, 10.0), ("mambapy", 16, 7.0, 50.0), ("cpu", 64, 2.0, 20.0), ("mambapy", 64, 6.0, None)]
    times = ["forward_s", "backward_s", "forward_processor_s", "backward_processor_s"]
    table = pd.DataFrame(
        [
            {"implementation": name, "L": 5, "D": 4, "N": N, **dict.fromkeys(times, s), "peak_mb": mb}
            for name, N, s, mb in rows
        ]
    )
    found = bench_scan._compared(table)
    assert found["times"].tolist() == [1, 7, 1, 3]
    assert found["processor_times"].tolist() == [1, 7, 1, 3]
    assert found["memory_times"].tolist()[:3] == [1, 5, 1]
    assert found["memory_times"].isna().tolist() == [False, False, False, True]


def test_what_would_not_fit_in_memory_is_not_tried() -> None:
    row = bench_scan._measured("mambapy", 10**6, 10**4, 512)
    assert row["note"] == "not run: too little free memory"
    assert "forward_s" not in row
