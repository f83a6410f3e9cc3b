"""Many trials: which are missing, running them side by side, progress, and starting again.

Trials are independent tasks on joblib: processes on this machine, or a Dask cluster. Each writes its own record
when it ends, so a grid that is killed loses the trials in flight and no more.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from tqdm import tqdm

from hmoe import experts
from hmoe.base.errors import ConfigError, HmoeError, StoreError, TrainingError
from hmoe.base.extras import need
from hmoe.base.files import cache_dir
from hmoe.base.seeds import stable_seed
from hmoe.base.stamp import commit
from hmoe.config import Augmenting, Config, Features
from hmoe.corpora import Corpus
from hmoe.inputs import bank as banks
from hmoe.inputs.bank import Bank
from hmoe.parrot import cached
from hmoe.parrot.cached import Embeddings
from hmoe.readings import READINGS
from hmoe.study import home, robustness, routing
from hmoe.study.experiments import Experiment
from hmoe.study.profiles import Profile, source_digest
from hmoe.study.protocols import PROTOCOLS, tested
from hmoe.study.store import CURVE, KEY, SAID, Store, kind
from hmoe.study.trial import Outcome, Trial, record, run_trials

log = logging.getLogger(__name__)

WAIT, CHECK = 3600, 5  # s: for the first worker of a cluster; until looking for new ones


def trials(
    experiments: Iterable[Experiment], corpus: Corpus, profile: Profile, seeds: Iterable[int] | None = None,
    rows: Iterable[str] | None = None, device: str = "cpu", folds: Iterable[str] | None = None, **overrides: Any,
) -> list[Trial]:  # fmt: skip
    """Every trial of the experiments, seed by seed, so that whole tables appear early.

    `rows` and `folds` keep those named; `overrides` change the configuration of all (`protocol` changes the protocol).
    A row that is another one then (`Profile.twins`) is left out, and refused where it is named.
    """
    protocol = overrides.pop("protocol", None)
    result = []
    for seed in profile.seeds if seeds is None else seeds:
        for experiment in experiments:
            twins = profile.twins(experiment, **overrides)
            for row in experiment.rows if rows is None else [experiment.row(name) for name in rows]:
                if row.name in twins:
                    refused = ConfigError(
                        f"row {row.name!r}", f"has become {twins[row.name]!r}: what tells them apart is set for all",
                        "--profile full, without --set of that field",
                    )  # fmt: skip
                    if rows is not None:
                        raise refused
                    log.warning("%s (left out)", refused)
                    continue
                name = protocol or row.protocol
                known = {
                    each.name: each
                    for each in PROTOCOLS.values()
                    if not each.private or (not protocol and each.name in experiment.protocols)
                }
                if name not in known:
                    raise ConfigError("protocol", f"got {name!r}", f"known: {', '.join(known)}")
                if protocol and PROTOCOLS[row.protocol].conditions:
                    raise ConfigError("--set protocol", f"got {name!r}", f"leave it out: {row.name!r} is disturbed")
                config = profile.config(row, **overrides)
                experts.check(config)
                if row.weights:
                    routing.check(config)
                splits = known[name].splits(corpus, seed)[: profile.folds]
                if unknown := set(folds or ()) - (dealt := {split.fold: None for split in splits}).keys():
                    raise ConfigError(f"row {row.name!r}", f"no fold {min(unknown)!r}", f"folds: {', '.join(dealt)}")
                for split in splits:
                    if folds is None or split.fold in folds:
                        heard = (row.condition, row.weights)
                        result.append(Trial(experiment.name, row.name, config, name, seed, split, device, *heard))
    return result


def run(
    wanted: list[Trial], corpus: Corpus, store: Store, workers: int | None = None,
    scheduler: str | None = None, progress: bool = True,
) -> int:  # fmt: skip
    """Run what the store does not hold yet; returns how many trainings that took. A trial that fails stops no other.

    Two rows with the same configuration, protocol, seed and fold (the full model stands in several tables) are one
    training and two records; so are two protocols that differ in what they score (`Protocol.trains_as`), and the last
    epoch and that which the test fold selects. `workers` defaults to the cores; `scheduler` is the address of a Dask
    cluster.
    """
    store.probe()  # before hours of work
    introduce(wanted, corpus, store)
    missing = adopt(wanted, store)
    groups = trainings(missing)
    if not groups:
        return 0
    needed = {bank_key(trial): trial for trial in missing}
    frames_first = sorted(needed.items(), key=lambda item: -item[0][3])  # theirs come with what pooled rows need
    opened = {key: open_bank(corpus, trial.config, workers, progress, trial.features_on) for key, trial in frames_first}
    if disturbed := [trial for trial in missing if trial.dealt_by.conditions]:
        robustness.prepare(disturbed, corpus, workers, progress)
    tasks = [(group, corpus, opened[bank_key(group[0])], store) for group in groups]
    results = _on_cluster(tasks, scheduler) if scheduler else _on_this_machine(tasks, workers)
    bar = tqdm(results, total=len(tasks), unit="trial", desc="trials", disable=not progress, smoothing=0.05)
    failed: list[TrainingError] = []
    for result in bar:
        if isinstance(result, TrainingError):
            failed.append(result)
            tqdm.write(str(result))
        else:
            bar.set_postfix_str(result)
    if failed:
        raise TrainingError(failed[0].where, failed[0].what, f"{failed[0].remedy} ({len(failed)} trials failed)")
    return len(tasks)


def introduce(wanted: list[Trial], corpus: Corpus, store: Store) -> None:
    """Tell the store who the trials test, so that its records can be read without this corpus or this code."""
    dealt = dict.fromkeys((trial.protocol, trial.seed) for trial in wanted)
    folds = {f"{protocol}.{seed}": tested(PROTOCOLS[protocol], corpus, seed) for protocol, seed in dealt}
    about = corpus.table.set_index("id")[["speaker", "emotion", "sentence"]]
    store.introduce(pd.concat([about, pd.DataFrame(folds)], axis=1))


def adopt(wanted: list[Trial], store: Store) -> list[Trial]:
    """The trials that are not recorded. One whose computation is recorded under another row is copied, not run, if the
    same commit made it: rows of a table are of one code."""
    missing, known = outstanding(wanted, store)
    for trial, outcome in known:
        record(trial, outcome, store)
    return missing


def outstanding(wanted: list[Trial], store: Store) -> tuple[list[Trial], list[tuple[Trial, Outcome]]]:
    """The trials that have to be run; and those that are recorded under another row alone, with what they gave."""
    if others := {kind(trial.device) for trial in wanted} - {store.device}:
        raise StoreError(
            store.folder, f"holds trials of {store.device}, not of {min(others)}", "give `store_for` the device"
        )
    done = {name: store.done(name) for name in {trial.experiment for trial in wanted}}
    known = {}
    for path in store.folder.glob("*.csv"):
        predictions = {_identity(said): said for said in store.predictions(path.stem).to_dict("records")}
        curves = {_identity(each): each for each in store.curves(path.stem).to_dict("records")}
        for columns in store.read(path.stem).to_dict("records"):
            if columns["commit"] == commit() and (said := predictions.get(identity := _identity(columns))):
                curve = {name: curves[identity][name] for name in CURVE} if identity in curves else {}
                known[identity] = Outcome(columns, {name: said[name] for name in SAID}, curve)
    missing, adopted = [], []
    for trial in wanted:
        if trial.key() in done[trial.experiment]:
            continue
        outcome = known.get(_computation(trial))
        if outcome and not trial.dealt_by.conditions:  # whose rows share a training, not an outcome
            adopted.append((trial, outcome))
        else:
            missing.append(trial)
    return missing, adopted


def trainings(missing: Iterable[Trial]) -> list[list[Trial]]:
    """Trials in groups that are one training each."""
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in missing:
        groups.setdefault(_training(trial), []).append(trial)
    return list(groups.values())


def _identity(key: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(key[name]) for name in ("config", "protocol", "seed", "fold"))


def _computation(trial: Trial) -> tuple[str, ...]:
    return _identity(dict(zip(KEY, trial.key(), strict=True)))


def _training(trial: Trial) -> tuple[str, ...]:
    """Trials in which this is equal train the same model; what they test of it may differ."""
    if trial.config.selection == "test":  # which copies are scored then says which epoch is kept
        return _computation(replace(trial, config=trial.config.replace(selection="last")))
    if trial.dealt_by.copies:
        return _computation(replace(trial, protocol=trial.dealt_by.training))
    return _computation(trial)


def bank_key(trial: Trial) -> tuple[str, str, int, int, bool, tuple[str, ...], str | None]:
    """Trials with equal keys read the same bank."""
    config = trial.config
    copies = config.copies if config.augment else 0
    augmenting = config.only(Augmenting).key() if copies else ""
    stride = config.frame_stride if READINGS[config.reading].sequence else 0
    encoders: tuple[str, ...] = ()
    if config.encoders:  # all that `cached.build` reads of a configuration
        heard = (config.layer, config.encoder_window, config.pooling, config.reading, bool(config.modalities))
        encoders = (*config.encoders, *map(str, heard))
    kinds = (stride, READINGS[config.reading].prosody, encoders)
    return config.only(Features).key(), augmenting, copies, *kinds, trial.features_on


def open_bank(
    corpus: Corpus, config: Config, workers: int | None = None, progress: bool = True, device: str | None = None
) -> Bank | Embeddings:  # fmt: skip
    """The features or embeddings that a configuration needs; what is not on disk yet is computed now.

    `device`: as for `bank.build`; encoders run on the CPU whatever it is.
    """
    if config.encoders:
        return cached.build(corpus, config, workers, progress)
    copies = config.copies if config.augment else 0
    reading = READINGS[config.reading]
    wanted = {"frames": reading.sequence, "prosody": reading.prosody}
    return banks.build(corpus, config, copies=copies, workers=workers, progress=progress, device=device, **wanted)


Task = tuple[list[Trial], Corpus, Bank | Embeddings, Store]
"""Trials that are one training, with an outcome each; what they are computed from."""


def _compute(group: list[Trial], corpus: Corpus, bank: Bank, store: Store) -> str | TrainingError:
    """Runs a task, and records it. Returns what to tell of it, or why it failed."""
    group = sorted(group, key=lambda trial: trial.config.selection != "test")  # whose training has both epochs
    first = group[0]
    saved = None if first.dealt_by.conditions else checkpoint(first, corpus, bank, store)
    try:
        if saved is None:
            outcomes = robustness.outcomes(group, corpus, bank, store)
        else:
            outcomes = run_trials(group, corpus, bank, saved)
    except StoreError:  # nor could others be recorded
        raise
    except HmoeError as error:
        return TrainingError(f"{_where(first)}, {error.where}", error.what, error.remedy)
    for trial, outcome in zip(group, outcomes, strict=True):
        record(trial, outcome, store)
    if saved is not None:
        saved.unlink(missing_ok=True)
    return f"{first.row} {first.split.fold}: {outcomes[0].columns['accuracy']:.1f}"


def _where(trial: Trial) -> str:
    return f"{trial.experiment}, row {trial.row!r}, seed {trial.seed}, fold {trial.split.fold}"


def _on_this_machine(tasks: list[Task], workers: int | None) -> Iterator[str | TrainingError]:
    """`_compute` of each task in processes of this machine; results as they come."""
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        n_jobs = workers or joblib.cpu_count()
        parallel = joblib.Parallel(n_jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
        try:
            yield from parallel(joblib.delayed(_compute)(*task) for task in tasks)
        except BrokenProcessPool:
            raise TrainingError(
                "a worker process", "was killed, perhaps for want of memory", "run again to go on, with fewer --workers"
            ) from None


def _on_cluster(tasks: list[Task], scheduler: str) -> Iterator[str | TrainingError]:
    """`_compute` of each task on the workers of a Dask cluster, by the address of its scheduler; results as they come.

    A task whose worker dies is given to another. One that was there whenever a worker died, time and again, is given up
    and stops no other: joblib's own Dask backend would wait for it for ever. Workers get one task at a time, so that
    none in a queue is blamed for a death. What has ended is let go of: a cluster makes again what a dead worker held.
    """
    need("dask.distributed", "--backend dask")  # an extra: only whoever names a cluster needs it
    from dask.distributed import Client, KilledWorker, wait

    try:
        client = Client(scheduler)
    except (OSError, ValueError):
        raise ConfigError("--scheduler", f"no Dask scheduler at {scheduler!r}", "e.g. tcp://127.0.0.1:8786") from None
    with client:
        # What tasks share is sent once, as a task's result: a cluster makes it again if its worker dies.
        several = {id(each): each for task in tasks for each in task[1:]}
        shared = {name: client.submit(_itself, each, pure=False) for name, each in several.items()}
        waiting, running = deque(tasks), {}
        while waiting or running:
            try:  # a cluster may still be waiting in a queue, or have lost all that it had
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError:
                raise ConfigError("--scheduler", f"no worker for {WAIT} s", "start some") from None
            threads = client.nthreads().values()
            if max(threads, default=1) > 1:
                raise ConfigError(
                    "--scheduler", f"workers with {max(threads)} threads",
                    "a trial seeds its whole process: start workers with --nthreads 1, and more of them",
                )  # fmt: skip
            while waiting and len(running) < len(threads):
                group, *rest = waiting.popleft()
                future = client.submit(_compute, group, *(shared[id(each)] for each in rest), pure=False)
                running[future] = group[0]
            with suppress(TimeoutError):  # workers may have joined
                wait(list(running), timeout=CHECK, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                trial = running.pop(future)
                try:
                    yield future.result()
                except KilledWorker:
                    yield TrainingError(
                        _where(trial), "killed its worker time and again, perhaps for want of memory",
                        "run again to go on, on workers with more memory",
                    )  # fmt: skip


def _itself(shared: Any) -> Any:
    return shared


def checkpoint(trial: Trial, corpus: Corpus, bank: Bank | Embeddings, store: Store) -> Path:
    """Where a trial keeps what it has trained so far: named by all that decides it, the code included.

    Labels and the split count: weights that have seen what is tested now must not be taken up.
    """
    dealt = hashlib.sha256(trial.split.train.tobytes() + b"/" + trial.split.test.tobytes()).hexdigest()
    given = (banks.content(corpus), home.digest(corpus), dealt, bank.digest(trial.config))
    identity = (*given, *_computation(trial), trial.device, source_digest(), store.root.resolve())
    return cache_dir() / "running" / f"{stable_seed(*identity):016x}.safetensors"
