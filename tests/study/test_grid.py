"""Many trials: only what is missing, the same records whatever the workers, the kills and the backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tiny
from dask.distributed import Client, Future, LocalCluster
from distributed.utils import get_mp_context
from safetensors import safe_open

from hmoe.base.errors import ConfigError, StoreError, TrainingError
from hmoe.base.files import cache_dir
from hmoe.config import Config
from hmoe.corpora import Corpus, audio
from hmoe.parrot.cached import Embeddings
from hmoe.study import grid, profiles, protocols
from hmoe.study.experiments import AUDITS, EXPERIMENTS, Experiment, Row, experiment
from hmoe.study.store import KEY, Store

ROWS = np.arange(1)


@pytest.fixture(scope="module")
def uncut(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a run in this process that nothing disturbed."""
    results = tmp_path_factory.mktemp("uncut")
    assert grid.run(tiny.wanted(tiny_corpus), tiny_corpus, Store("tiny", results), workers=1, progress=False) == 10
    return results


# Two folds; epochs enough to be killed in mid-trial, and no multiple of those between checkpoints.
LONGER = {"TINY_FOLDS": "01", "TINY_EPOCHS": "31"}


@pytest.fixture(scope="module")
def long(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of an undisturbed run of longer trials."""
    results = tmp_path_factory.mktemp("long")
    start(tiny_corpus, results, 1, **LONGER).communicate()
    return results


def in_mid_trial(process: subprocess.Popen[str]) -> Path:
    """Wait until a trial of the process has a checkpoint, and return that."""
    while not (saved := list((cache_dir() / "running").glob("*.safetensors"))):
        assert process.poll() is None
        time.sleep(0.005)
    return saved[0]


def kill(process: subprocess.Popen[str]) -> None:
    """A grid and its workers, all at once."""
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def lines(results: Path) -> int:
    return sum(len(path.read_text().splitlines()) - 1 for path in (results / "tiny").glob("*.csv"))


def start(corpus: Corpus, results: Path, workers: int, *more: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(tiny.__file__)), str(corpus.root), str(results), str(workers), *more]
    environment = {**os.environ, **environment}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    return process


@contextmanager
def cluster(workers: int, threads: int = 1) -> Iterator[LocalCluster]:
    """Worker processes of Dask, forked from one that has imported all they need: they start at once, and again."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "hmoe.study.grid"])
        with LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as started:
            yield started


def test_every_trial_is_recorded_once_and_twins_are_computed_once(tiny_corpus: Corpus, uncut: Path) -> None:
    wanted = tiny.wanted(tiny_corpus)
    assert len(wanted) == 15  # of which 10 are computed
    store = Store("tiny", uncut)
    assert store.done("first") | store.done("twin") == {trial.key() for trial in wanted}
    full, twin = store.read("first").query("row == 'full'"), store.read("twin")
    same = [column for column in full if column not in ("experiment", "row")]
    assert full[same].sort_values("fold").to_csv(index=False) == twin[same].sort_values("fold").to_csv(index=False)
    assert len(store.predictions("twin")) == 5


def test_started_again_it_computes_nothing_and_writes_nothing(tiny_corpus: Corpus, uncut: Path) -> None:
    before = {path: path.read_bytes() for path in uncut.rglob("*.csv")}
    assert grid.run(tiny.wanted(tiny_corpus), tiny_corpus, Store("tiny", uncut), workers=1, progress=False) == 0
    assert {path: path.read_bytes() for path in uncut.rglob("*.csv")} == before


def test_who_was_tested_is_read_from_the_store_alone(uncut: Path) -> None:
    store = Store("tiny", uncut)
    for said in store.predictions("first").to_dict("records"):
        legend = dict(each.split("=") for each in said["letters"].split())
        tested = store.tested(said["protocol"], said["seed"], said["fold"])
        assert [legend[letter] for letter in said["actual"]] == [name.split("-")[1] for name in tested]
    assert set(store.utterances()["speaker"]) == set(tiny.SPEAKERS)


def test_records_of_another_corpus_of_the_same_name_are_not_mixed_in(tiny_corpus: Corpus, uncut: Path) -> None:
    before = {path: path.read_bytes() for path in uncut.rglob("*.csv")}
    other = tiny_corpus.subset(np.arange(len(tiny_corpus)) > 0)
    with pytest.raises(StoreError, match=r"utterances\.csv: "):
        grid.run(tiny.wanted(other), other, Store("tiny", uncut), workers=1, progress=False)
    assert {path: path.read_bytes() for path in uncut.rglob("*.csv")} == before


def test_a_computation_recorded_under_another_row_is_copied(tiny_corpus: Corpus, tmp_path: Path) -> None:
    store, wanted = Store("tiny", tmp_path), tiny.wanted(tiny_corpus)
    first = [trial for trial in wanted if trial.experiment == "first" and trial.split.fold in "01"]
    grid.run(first, tiny_corpus, store, workers=1, progress=False)
    twin = [trial for trial in wanted if trial.experiment == "twin" and trial.split.fold in "12"]
    assert [trial.split.fold for trial in grid.adopt(twin, store)] == ["2"]
    (copy,) = store.read("twin").to_dict("records")
    (original,) = store.read("first").query("row == 'full' and fold == '1'").to_dict("records")
    assert {name for name in copy if repr(copy[name]) != repr(original[name])} == {"experiment", "row"}
    for kept, column in ((store.predictions, "predicted"), (store.curves, "loss")):
        first, twin = (kept(name).query("row != 'w/o SiMBA' and fold == '1'") for name in ("first", "twin"))
        assert first[column].item() == twin[column].item()


def test_kills_at_random_moments_give_the_records_of_one_undisturbed_process(
    tiny_corpus: Corpus, uncut: Path, tmp_path: Path
) -> None:
    moments = np.random.default_rng(4)
    for workers in (2, 1):
        before, process = lines(tmp_path), start(tiny_corpus, tmp_path, workers)
        least, later = before + moments.integers(0, 3), moments.uniform(0, 0.3)
        while process.poll() is None and lines(tmp_path) < least:
            time.sleep(0.01)
        time.sleep(later)  # among features, in a trial, in a record
        kill(process)
        for name, table in tiny.records(tmp_path).items():
            assert len(table.merge(tiny.records(uncut)[name])) == len(table)  # whole lines, the right ones
    recorded = lines(tmp_path)
    computed = grid.run(tiny.wanted(tiny_corpus), tiny_corpus, Store("tiny", tmp_path), workers=1, progress=False)
    assert computed <= 15 - recorded  # what was recorded was not computed again
    assert tiny.same(tiny.records(tmp_path), tiny.records(uncut))


def test_a_trial_cut_off_in_its_middle_is_taken_up_there(tiny_corpus: Corpus, tmp_path: Path, long: Path) -> None:
    process = start(tiny_corpus, tmp_path, 1, **LONGER)
    saved = in_mid_trial(process)
    kill(process)
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["run"])["epoch"] % 10 == 0
    start(tiny_corpus, tmp_path, 1, **LONGER).communicate()
    assert not saved.exists()
    assert tiny.same(tiny.records(tmp_path), tiny.records(long))


def test_weights_are_not_taken_up_for_other_labels_another_split_or_other_features(tiny_corpus: Corpus) -> None:
    first, other = tiny.wanted(tiny_corpus)[:2]
    one, another = (Embeddings([], np.full((1, 1), value)) for value in (0.0, 1.0))
    store, emotions = Store("tiny"), np.roll(tiny_corpus.table["emotion"], 1)
    relabelled = replace(tiny_corpus, table=tiny_corpus.table.assign(emotion=emotions))
    dealt_anew = replace(first, split=replace(other.split, fold=first.split.fold))
    paths = [
        grid.checkpoint(first, tiny_corpus, one, store),
        grid.checkpoint(first, relabelled, one, store),
        grid.checkpoint(dealt_anew, tiny_corpus, one, store),
        grid.checkpoint(first, tiny_corpus, another, store),
    ]
    assert len(set(paths)) == 4
    assert grid.checkpoint(replace(first), tiny_corpus, one, store) == paths[0]


def test_results_that_cannot_be_written_are_said_before_any_work(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = [replace(trial, config=trial.config.replace(epochs=10**6)) for trial in tiny.wanted(tiny_corpus)]
    with pytest.raises(StoreError, match="cannot be written"):
        grid.run(wanted, tiny_corpus, Store("tiny", tmp_path / "file"), workers=1, progress=False)


def test_a_dask_worker_and_then_the_grid_itself_killed_in_mid_trial_change_no_record(
    tiny_corpus: Corpus, tmp_path: Path, long: Path
) -> None:
    with cluster(2) as found:
        process = start(tiny_corpus, tmp_path, 2, found.scheduler_address, **LONGER)
        in_mid_trial(process)
        os.kill(next(iter(found.workers.values())).pid, signal.SIGKILL)
        while process.poll() is None and lines(tmp_path) < 3:
            time.sleep(0.01)
        kill(process)
        assert (
            start(tiny_corpus, tmp_path, 2, found.scheduler_address, **LONGER).communicate()[0].endswith(" computed\n")
        )
    assert tiny.same(tiny.records(tmp_path), tiny.records(long))


def test_a_worker_that_is_killed_is_said_in_one_line(tiny_corpus: Corpus, tmp_path: Path) -> None:
    store = Suicidal("tiny", tmp_path)
    with pytest.raises(TrainingError, match="a worker process: was killed.*run again to go on"):
        grid.run(tiny.wanted(tiny_corpus), tiny_corpus, store, workers=2, progress=False)


class Suicidal(Store):
    """A store on whose machine memory runs out at the first record."""

    def append(self, *record: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_that_fails_is_named_and_stops_no_other(tiny_corpus: Corpus, tmp_path: Path) -> None:
    bad = Experiment("bad", "", (Row("wild", {**tiny.SMALL, "lr": 1e30}),))
    wanted = grid.trials([bad, tiny.TWIN], tiny_corpus, profiles.PROFILES["full"], seeds=[0])
    store = Store("tiny", tmp_path)
    with pytest.raises(TrainingError, match=r"bad, row 'wild', seed 0, fold 0, epoch.*\(5 trials failed\)"):
        grid.run(wanted, tiny_corpus, store, workers=1, progress=False)
    assert len(store.read("twin")) == 5
    assert len(store.read("bad")) == 0


def test_a_fold_without_enough_of_a_class_to_choose_an_epoch_by_stops_no_other(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    nested = Experiment("nested", "", (Row("nested", {**tiny.SMALL, "selection": "nested"}),))
    wanted = grid.trials([nested, tiny.TWIN], tiny_corpus, profiles.PROFILES["full"], seeds=[0], folds=["0"])
    labels, train = tiny_corpus.labels, wanted[0].split.train
    of_first = train[labels[train] == labels[train[0]]]
    poor = replace(wanted[0].split, train=np.setdiff1d(train, of_first[1:]))
    store = Store("tiny", tmp_path)
    with pytest.raises(TrainingError) as failed:
        grid.run([replace(wanted[0], split=poor), wanted[1]], tiny_corpus, store, workers=1, progress=False)
    assert "nested, row 'nested'" in failed.value.where
    assert (len(store.read("nested")), len(store.read("twin"))) == (0, 1)


def test_a_trial_that_kills_every_dask_worker_is_given_up_and_stops_no_other(
    tiny_corpus: Corpus, tmp_path: Path, uncut: Path
) -> None:
    wanted = tiny.wanted(tiny_corpus)
    store = SuicidalOnce("tiny", tmp_path)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        # Two die of the trial. On a busy machine they may not be started again; the third is always there.
        cluster(3) as found,
        pytest.raises(TrainingError, match=r"first, row 'full', seed 0, fold 3: .*\(1 trials failed\)"),
    ):
        grid.run(wanted, tiny_corpus, store, None, found.scheduler_address, progress=False)
    assert lines(tmp_path) == len(wanted) - 2  # the trial and its twin, which are one computation
    grid.run(wanted, tiny_corpus, Store("tiny", tmp_path), workers=1, progress=False)
    assert tiny.same(tiny.records(tmp_path), tiny.records(uncut))


class SuicidalOnce(Suicidal):
    """A store on whose machines memory runs out whenever one certain trial ends."""

    def append(self, columns: dict, *record: object) -> None:
        if (columns["row"], columns["fold"]) == ("full", "3"):
            super().append()
        Store.append(self, columns, *record)


def test_a_cluster_without_workers_is_waited_for_but_not_for_ever_and_got_what_tasks_share_once(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, submit = [], Client.submit

    def watched(client: Client, function: Callable, *given: object, **how: object) -> Future:
        sent.append(given)
        return submit(client, function, *given, **how)

    monkeypatch.setattr(Client, "submit", watched)
    monkeypatch.setattr(grid, "WAIT", 1)
    with (
        cluster(0) as found,
        pytest.raises(ConfigError, match="no worker for 1 s"),
    ):
        grid.run(tiny.wanted(tiny_corpus), tiny_corpus, Store("tiny", tmp_path), 2, found.scheduler_address, False)
    assert len(sent) == 3  # corpus, bank and store, of ten tasks


def test_a_cluster_whose_workers_have_several_threads_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """PyTorch's generator belongs to the process: two trials in one would disturb each other's draws."""
    wanted, store = tiny.wanted(tiny_corpus), Store("tiny", tmp_path)
    with (
        cluster(1, threads=2) as found,
        pytest.raises(ConfigError, match="workers with 2 threads; .*--nthreads 1"),
    ):
        grid.run(wanted, tiny_corpus, store, 2, found.scheduler_address, False)


def test_trials_come_seed_by_seed_with_the_changes_asked_for(tiny_corpus: Corpus) -> None:
    some = profiles.Profile("some", seeds=(7,), folds=3, changes={"epochs": 2})
    found = grid.trials([tiny.FIRST], tiny_corpus, some, seeds=[3, 4], rows=["full"], d_state=2)
    assert [(trial.seed, trial.split.fold) for trial in found] == [(s, str(k)) for s in (3, 4) for k in range(3)]
    assert {(trial.config.d_state, trial.config.epochs) for trial in found} == {(2, 2)}
    assert len({trial.key() for trial in found}) == 6
    assert {trial.seed for trial in grid.trials([tiny.FIRST], tiny_corpus, some)} == {7}
    speakers = grid.trials([tiny.FIRST], tiny_corpus, profiles.PROFILES["full"], seeds=[0], protocol="speaker")
    assert {trial.split.fold for trial in speakers} == {"ann", "bob"}
    some_folds = grid.trials([tiny.FIRST], tiny_corpus, some, [3], ["full"], folds=["2", "0"], d_state=2)
    assert [trial.key() for trial in some_folds] == [found[0].key(), found[2].key()]


def test_rows_that_a_profile_makes_one_are_left_out_and_refused_by_name(
    tiny_corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (Row("full", tiny.SMALL), Row("longer", {**tiny.SMALL, "epochs": 9}), Row("again", tiny.SMALL))
    study, full = Experiment("study", "", rows), profiles.PROFILES["full"]
    some = profiles.Profile("some", seeds=(0,), folds=1, changes={"epochs": 2})
    assert [trial.row for trial in grid.trials([study], tiny_corpus, some)] == ["full", "again"]
    assert "longer" in caplog.text and len(caplog.records) == 1
    with pytest.raises(ConfigError) as refused:
        grid.trials([study], tiny_corpus, some, rows=["longer"])
    assert "'longer'" in refused.value.where and "'full'" in refused.value.what
    assert {trial.row for trial in grid.trials([study], tiny_corpus, full)} == {"full", "longer", "again"}
    with pytest.raises(ConfigError):
        grid.trials([study], tiny_corpus, full, rows=["longer"], epochs=3)


@pytest.mark.parametrize("name", [*EXPERIMENTS, *AUDITS])
def test_in_no_profile_one_configuration_goes_by_two_names(name: str) -> None:
    study = experiment(name)
    for each in profiles.PROFILES.values():
        named: dict[tuple[str, str], set[str]] = {}
        twins = each.twins(study)
        for row in study.rows:
            if row.name not in twins:
                named.setdefault((each.config(row).key(), row.protocol), set()).add(row.config().key())
        assert all(len(configs) == 1 for configs in named.values())


def test_rows_differ_by_configuration_not_by_luck(tiny_corpus: Corpus) -> None:
    wanted = tiny.wanted(tiny_corpus)
    luck = {(trial.seed, trial.split.fold): set() for trial in wanted}
    for trial in wanted:
        luck[trial.seed, trial.split.fold].add(trial.randomness())
    assert all(len(numbers) == 1 for numbers in luck.values())
    assert len(set.union(*luck.values())) == 5


def test_a_key_names_all_that_tells_trials_apart(tiny_corpus: Corpus) -> None:
    trial = tiny.wanted(tiny_corpus)[0]
    key = dict(zip(KEY, trial.key(), strict=True))
    assert key == {
        "experiment": "first", "row": "full", "reading": "pooled", "protocol": "stratified-5", "selection": "last",
        "seed": "0", "fold": "0", "config": Config(**tiny.SMALL).key(),
    }  # fmt: skip


def test_what_is_unknown_is_refused(tiny_corpus: Corpus) -> None:
    full = profiles.PROFILES["full"]
    with pytest.raises(ConfigError, match="'nope'; known: stratified-5"):
        grid.trials([tiny.FIRST], tiny_corpus, full, protocol="nope")
    with pytest.raises(ConfigError, match="row .*'nope'; known: .*w/o SiMBA"):
        grid.trials([tiny.FIRST], tiny_corpus, full, rows=["nope"])
    with pytest.raises(ConfigError, match="profile: got 'nope'; known: full, fast"):
        profiles.profile("nope")


def test_only_full_runs_are_the_projects_record(own_folders: Path) -> None:
    assert profiles.store_for("tiny", profiles.PROFILES["full"]).root == own_folders / "results"
    assert own_folders / "cache" in profiles.store_for("tiny", profiles.PROFILES["fast"]).root.parents


def test_rows_that_read_the_same_features_share_a_bank(tiny_corpus: Corpus) -> None:
    def key(**changes: object) -> tuple:
        experiment = Experiment("e", "", (Row("r", changes),))
        return grid.bank_key(grid.trials([experiment], tiny_corpus, profiles.PROFILES["full"], seeds=[0])[0])

    assert key() == key(d_state=64, simba=False, frame_stride=2)
    assert len({key(), key(hop=80), key(augment=["noise"]), key(copies=3), key(augment=[])}) == 5
    assert key(augment=[]) == key(augment=[], copies=3)  # no copies at all
    assert len({key(), key(reading="frames"), key(reading="frames", frame_stride=2)}) == 3


@pytest.mark.parametrize("name", [*EXPERIMENTS, *AUDITS])
def test_rows_that_share_a_bank_hear_the_same_of_their_encoders(name: str) -> None:
    heard: dict[tuple, set[tuple]] = {}
    for row in experiment(name).rows:
        config = row.config()
        key = grid.bank_key(grid.Trial(name, row.name, config, row.protocol, 0, protocols.Split("0", ROWS, ROWS)))
        what = (config.encoders, config.layer, config.encoder_window, config.pooling)
        heard.setdefault(key, set()).add((*what, config.reading, bool(config.modalities)) if config.encoders else ())
    assert all(len(each) == 1 for each in heard.values())


def test_frames_of_an_encoder_alone_and_beside_ours_are_two_banks_of_one_run(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    read = {**tiny.SMALL, "reading": "frames", "encoders": ("resemblyzer",), "augment": (), "epochs": 1}
    rows = (Row("alone", {**read, "modalities": ()}), Row("and ours", {**read, "modalities": ("mfcc",)}))
    both = Experiment("both", "", rows)
    wanted = grid.trials([both], tiny_corpus, profiles.PROFILES["full"], seeds=[0], folds=["0"])
    store = Store("tiny", tmp_path)
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 2
    recorded = store.read("both").set_index("row")["features"]
    for trial in wanted:
        bank = grid.open_bank(tiny_corpus, trial.config, workers=1, progress=False)
        assert recorded[trial.row] == bank.digest(trial.config)
    assert recorded.nunique() == 2


def test_a_profile_takes_the_first_sentences_of_each_speaker_and_emotion(tmp_path: Path) -> None:
    """Also where no two recordings share a name, as in folders of one's own."""
    for emotion, count in ((name, n) for name in tiny.EMOTIONS for n in range(4)):
        tone = tiny.tone(emotion, "ann", count)
        audio.write(tmp_path / emotion / f"{emotion}-{count}.wav", tone, tiny.RATE)
    some = profiles.load("folder", tmp_path, replace(profiles.PROFILES["fast"], sentences=2))
    assert sorted(some.table["sentence"]) == [f"{name}-{n}" for name in sorted(tiny.EMOTIONS) for n in (0, 1)]
