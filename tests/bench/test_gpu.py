"""The quarter of an hour on a GPU, rehearsed on a CPU at tiny sizes; and what is said of a GPU without one."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from hmoe.base.files import PROJECT
from hmoe.bench import gpu
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.study.experiments import TABLE_2
from hmoe.study.grid import trials
from hmoe.study.profiles import PROFILES
from hmoe.study.store import COLUMNS, Store

SMALL = Config(d_model=16, heads=2, einfft_blocks=2, d_state=4, d_selected=8, router_width=8, batch_size=4)


def rehearsal(corpus: Corpus, out: Path, *arguments: str, **more: str) -> subprocess.Popen:
    """`tools/gpu.sh` with these arguments, on the CPU and this corpus."""
    given = {"DEVICE": "cpu", "TRITON_INTERPRET": "1", "CORPUS": "synthetic", "ROOT": str(corpus.root), "OUT": str(out)}
    environment = {**os.environ, **given, "PYTHON": sys.executable, **more}
    return subprocess.Popen(
        [PROJECT / "tools" / "gpu.sh", *arguments], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_cut_loses_only_the_rest_and_records_come_home(small_corpus: Corpus, tmp_path: Path) -> None:
    out, home = tmp_path / "out", tmp_path / "results"
    boxes = ("--box", "500", "--box", "checks=0.05")
    done = rehearsal(small_corpus, out, "run", "checks", "grid", "cost", "--quick", *boxes)
    assert done.wait() == 1, done.stderr.read()
    ended = {line["stage"]: line["ended"] for line in lines(out / "stages.jsonl")}
    log = (out / "log.txt").read_text()
    assert ended == {"checks": "cut", "grid": "whole", "cost": "whole"}, log
    with zipfile.ZipFile(out / "records.zip") as archive:
        assert archive.testzip() is None
    cost = pd.read_csv(out / "paper-cuda.csv")
    assert cost["row"].iloc[-1] == "the whole paper" and cost["total_s"].iloc[-1] > 0
    assert "measured" in set(cost["how"])

    kept = rehearsal(small_corpus, out, "keep", str(out), HMOE_RESULTS=str(home))
    assert kept.wait() == 0, kept.stderr.read()
    recorded = pd.concat([Store("synthetic", home).read(path.stem) for path in (home / "synthetic").glob("*.csv")])
    assert len(recorded) == 2 and (recorded["device"] == "cpu").all()
    pd.testing.assert_frame_equal(pd.read_csv(home / "bench" / "paper-cuda.csv"), cost)


def test_what_was_recorded_at_home_since_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, away, out = (tmp_path / name for name in ("results", "away", "out"))
    for root, folds in ((home, {"a": 50.0, "b": 60.0}), (away, {"a": 70.0, "c": 80.0})):
        for fold, accuracy in folds.items():
            record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 9, "n_test": 3, "best_epoch": 1, "parameters": 7}
            record |= {
                "experiment": "table2",
                "row": "full",
                "reading": "pooled",
                "protocol": "stratified-5",
                "seed": 0,
            }
            record |= {"selection": "last", "fold": fold, "config": SMALL.key(), "device": "cuda", "commit": "0123456"}
            record |= {"features": "ab12", "machine": "a card", "date": "2026-01-01"}
            said = {"letters": "a=anger", "predicted": fold, "actual": "a"}
            Store("casia", root, "cuda").append(record, said, SMALL, {"loss": f"{accuracy:g}"})
    tool = runpy.run_path(str(PROJECT / "tools" / "gpu.py"))
    out.mkdir()
    tool["pack"](away, out / "records.zip")
    monkeypatch.setenv("HMOE_RESULTS", str(home))
    tool["keep"](out)
    kept = Store("casia", home, "cuda")
    assert dict(kept.read("table2")[["fold", "accuracy"]].to_numpy()) == {"a": 50.0, "b": 60.0, "c": 80.0}
    assert list(kept.predictions("table2")["predicted"]) == ["a", "b", "c"]
    assert list(kept.curves("table2")["loss"]) == ["50", "60", "80"]


def test_features_on_the_card_are_compared_one_by_one(small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"DEVICE": "cpu", "CORPUS": "synthetic", "ROOT": str(small_corpus.root)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    found = list(runpy.run_path(str(PROJECT / "tools" / "gpu.py"))["features"](Path(), True))
    differences = [line for line in found if "largest" in line]
    assert len(differences) == 3 and all(line["ok"] for line in differences)
    assert {line["what"] for line in found} >= {"features", "augmentation, one copy of each"}


def test_what_a_killed_stage_has_found_is_whole(small_corpus: Corpus, tmp_path: Path) -> None:
    """As when the machine goes away in the middle: no handler runs."""
    found = tmp_path / "checks.jsonl"
    running = rehearsal(small_corpus, tmp_path, "stage", "checks", "--quick")
    while not found.exists() and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() != 0
    assert lines(found)[0]["ok"]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["checks.jsonl"]


@pytest.mark.parametrize("given", [["run", "nothing"], ["run", "--box", "nothing=3"]])
def test_an_unknown_stage_is_named(small_corpus: Corpus, tmp_path: Path, given: list[str]) -> None:
    refused = rehearsal(small_corpus, tmp_path, *given)
    assert refused.wait() == 2
    assert "got 'nothing'" in refused.stderr.read()


def test_a_box_that_is_no_number_is_named(small_corpus: Corpus, tmp_path: Path) -> None:
    refused = rehearsal(small_corpus, tmp_path, "run", "--box", "checks=abc")
    assert refused.wait() == 2
    assert "'checks=abc'" in refused.stderr.read()


def test_a_step_is_counted() -> None:
    one, two = gpu.step(SMALL), gpu.step(SMALL.replace(batch_size=8))
    assert one["launches"] == two["launches"] > 100  # what a batch holds changes no launch
    assert two["operations"] == pytest.approx(2 * one["operations"], rel=0.05)
    assert one["least_bytes"] < one["bytes"] < two["bytes"]


def test_expected_times_follow_the_card(tiny_corpus: Corpus) -> None:
    wanted = trials([TABLE_2], tiny_corpus, PROFILES["fast"], rows=["HMoE-SiMBA", "SVM"], d_state=4)
    slow, fast = (gpu.expected(wanted, 16, gpu.Card(kernel=kernel)) for kernel in (3e-6, 3e-7))
    assert list(slow["row"]) == ["HMoE-SiMBA"]  # the other is no network
    assert (slow["floor_s"] < fast["trial_s"]).all() and (fast["trial_s"] < slow["trial_s"]).all()
    assert (slow["total_s"] == slow["trials"] * slow["trial_s"]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: whether a step waits for it cannot be seen")
def test_a_training_step_does_not_wait_for_the_gpu(small_corpus: Corpus, tmp_path: Path) -> None:
    running = rehearsal(small_corpus, tmp_path, "stage", "checks", "--quick", DEVICE="cuda", TRITON_INTERPRET="0")
    running.wait()
    checked = [line for line in lines(tmp_path / "checks.jsonl") if "row" in line]
    assert len(checked) == 4 and all(line["ok"] for line in checked), checked


def test_what_is_carried_is_pinned_and_enough() -> None:
    """Every package that is to be carried has a version in constraints.txt, and none is listed twice."""
    listed = [line for line in (PROJECT / "tools" / "gpu-packages.txt").read_text().split("\n") if line[:1].isalpha()]
    pinned = {line.split("==")[0] for line in (PROJECT / "constraints.txt").read_text().splitlines()}
    assert len(listed) == len(set(listed)) and set(listed) <= pinned
