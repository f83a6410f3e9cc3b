"""The records: one line per trial in `results/<corpus>/<experiment>.csv`, safe for many processes.

Beside it `predictions/<experiment>.csv` keeps, per trial, the predicted and the actual class of each test utterance
as one letter each, in the order of sorted ids; `predictions/utterances.csv` says who they are, and in which fold each
is tested; `curves/<experiment>.csv` keeps the loss of every epoch; `configs/<config>.json` is what the hash in column
`config` stands for. A table has a column `acc_<emotion>` for each emotion of its corpus.
Trials of a GPU are no trials of a CPU, whose bits they do not have: they are kept as `results/<corpus>-cuda/`, so that
neither stands for the other and no table mixes them.
A line is added under a file lock to a copy that then takes the old file's place: a reader, or a kill at any
moment, sees either the old file or the new one.
"""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pandas as pd
from filelock import FileLock

from hmoe.base.errors import StoreError
from hmoe.base.files import atomic_write, results_dir
from hmoe.config import Config
from hmoe.corpora.labels import COMMON

KEY = ["experiment", "row", "reading", "protocol", "selection", "seed", "fold", "config"]
EMOTION_COLUMNS = ["acc_anger", "acc_sadness", "acc_happiness", "acc_neutral", "acc_fear", "acc_surprise"]
OTHER_EMOTIONS = [name for name in (f"acc_{emotion}" for emotion in COMMON) if name not in EMOTION_COLUMNS]
"""Columns that a table has where its corpus has the emotion."""
LATER = ["features"]  # columns that the first records do not have
ALL_COLUMNS = [
    *KEY[:-1], "n_train", "n_test", "accuracy", "uar", "precision", "recall", "f1", *EMOTION_COLUMNS, *OTHER_EMOTIONS,
    "best_epoch", "parameters", "seconds", "device", "commit", "config", *LATER, "machine", "date",
]  # fmt: skip
COLUMNS = [name for name in ALL_COLUMNS if name not in OTHER_EMOTIONS]
"""What every record has. `n_train` counts the utterances that weights were fitted to (in records before `features` was
a column, those too that chose the epoch); `features` is `Bank.digest`, "" in the first records."""
SAID = ["letters", "predicted", "actual"]
PREDICTION_COLUMNS = [*KEY, *SAID]
CURVE = ["loss", "held_out_loss", "held_out_accuracy"]
CURVE_COLUMNS = [*KEY, *CURVE]
TEXT = {*KEY, *SAID, *CURVE, *LATER, "device", "commit", "machine", "date"}
MAY_BE_EMPTY = {*CURVE, *LATER}
COUNTS = {"n_train", "n_test", "best_epoch", "parameters"}


def kind(device: str) -> str:
    """ "cuda" of "cuda:1"."""
    return device.partition(":")[0]


class Store:
    """All trials of one corpus on one kind of device. `root` is the results folder, by default the project's own."""

    def __init__(self, corpus: str, root: Path | None = None, device: str = "cpu") -> None:
        self.device, self.root = kind(device), Path(root or results_dir())
        self.name = corpus  # of its folder, but for the device
        self.corpus = corpus if self.device == "cpu" else f"{corpus}-{self.device}"

    @property
    def folder(self) -> Path:
        return self.root / self.corpus

    def path(self, experiment: str) -> Path:
        return self.folder / f"{experiment}.csv"

    def read(self, experiment: str) -> pd.DataFrame:
        """Every trial recorded so far; an empty table if there is none. `COLUMNS`, and those of further emotions."""
        return _read(self.path(experiment), COLUMNS)

    def predictions(self, experiment: str) -> pd.DataFrame:
        return _read(self.folder / "predictions" / f"{experiment}.csv", PREDICTION_COLUMNS)

    def curves(self, experiment: str) -> pd.DataFrame:
        """The course of each training: `CURVE` as text, a number for each epoch, "" where nothing was held out."""
        return _read(self.folder / "curves" / f"{experiment}.csv", CURVE_COLUMNS)

    def utterances(self) -> pd.DataFrame:
        """Who was tested: indexed by id; `<protocol>.<seed>` is the fold that tests an utterance ("3"), and of a
        protocol that deals copies too ("3/0/4") that of each copy."""
        path = self.folder / "predictions" / "utterances.csv"
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col="id")
        except FileNotFoundError:
            return pd.DataFrame()
        except (OSError, ValueError) as error:
            raise StoreError(path, f"cannot be read ({error})", "restore it from git") from None

    def tested(self, protocol: str, seed: object, fold: str) -> list[str]:
        """The ids behind the letters of a prediction, in their order; `id~1` is copy 1."""
        kept = self.utterances()[f"{protocol}.{seed}"]
        if len(whole := kept.index[kept == fold]):  # the fold may be a speaker's name, and that may hold a "/"
            return list(whole)
        folds = kept.str.split("/", expand=True)
        return [f"{id}~{copy}" if copy else id for copy in folds for id in folds.index[folds[copy] == fold]]

    def introduce(self, utterances: pd.DataFrame) -> None:
        """Keep who the letters of predictions will stand for. StoreError if they stand for others already."""
        path = self.folder / "predictions" / "utterances.csv"
        utterances = utterances.astype(str)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                kept = self.utterances()
                known = utterances.columns.intersection(kept.columns)
                if len(kept) and not kept[known].equals(utterances[known]):
                    raise StoreError(
                        path,
                        "is of other utterances or folds than these",
                        "choose another HMOE_RESULTS (profile fast: HMOE_CACHE)",
                    )
                if len(known) < len(utterances.columns):
                    both = pd.concat([kept, utterances.drop(columns=known)], axis=1)
                    atomic_write(path, both.to_csv(index_label="id", lineterminator="\n"))
        except OSError as error:
            raise StoreError.unwritable(path, error, "choose another HMOE_RESULTS") from None

    def done(self, experiment: str) -> set[tuple[str, ...]]:
        """The keys of the trials that need not be run again."""
        return set(self.read(experiment)[KEY].itertuples(index=False, name=None))

    def probe(self) -> None:
        """Raise `StoreError` now if a record could not be written later."""
        folder = self.folder
        test = folder / f".{os.getpid()}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            test.write_text("a line of some hundred characters, as a record is\n" * 4)
        except OSError as error:
            raise StoreError.unwritable(folder, error, "choose another HMOE_RESULTS") from None
        finally:
            with suppress(OSError):
                test.unlink()

    def append(
        self, record: dict[str, object], said: dict[str, str], config: Config, curve: dict[str, str] | None = None
    ) -> None:
        """Write one trial: its configuration and predictions first, its line last, so a line is always complete.

        `said` holds the letters: `letters` is their legend, `predicted` and `actual` are one letter an utterance;
        `curve` the losses (`CURVE`), of a model that is trained in epochs.

        A trial that is already there is left as it was. Predictions without a line are of a run that was killed
        between the two, and are replaced. Raises `StoreError` if the disk refuses; what was there before is intact.
        """
        folder, name = self.folder, f"{record['experiment']}.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{record['experiment']}.lock"):
                key = {column: str(record[column]) for column in KEY}
                if tuple(key.values()) in self.done(str(record["experiment"])):
                    return
                config_path = self.root / "configs" / f"{record['config']}.json"
                if not config_path.exists():
                    # Every field, so that a later change of a default does not change what the record means.
                    text = json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True)
                    atomic_write(config_path, text + "\n")
                _append(folder / "predictions" / name, PREDICTION_COLUMNS, key | said)
                if curve:
                    _append(folder / "curves" / name, CURVE_COLUMNS, key | curve)
                more = [name for name in OTHER_EMOTIONS if name in record]
                _append(folder / name, [name for name in ALL_COLUMNS if name in (*COLUMNS, *more)], record)
        except OSError as error:
            raise StoreError.unwritable(folder, error, "choose another HMOE_RESULTS") from None


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table with at least these columns; those that it was written without are empty."""
    try:
        with path.open("rb") as file:  # a chapter is run again when what it opens changes, or begins to exist
            state = os.fstat(file.fileno())
    except FileNotFoundError:
        return pd.DataFrame(columns=columns)
    except OSError as error:
        raise StoreError(path, f"cannot be read ({error})", "restore it from git") from None
    return _parsed(path, (state.st_ino, state.st_mtime_ns, state.st_size), tuple(columns)).copy()


@lru_cache(maxsize=128)
def _parsed(path: Path, state: tuple[int, ...], wanted: tuple[str, ...]) -> pd.DataFrame:
    """What `_read` gives copies of, parsed once for each `state` of the file: a report asks for a table row by row."""
    columns = list(wanted)
    types = {name: str if name in TEXT else int if name in COUNTS else float for name in (*ALL_COLUMNS, *columns)}
    missing = {name: [""] for name in (*EMOTION_COLUMNS, *OTHER_EMOTIONS)}  # nothing else: a fold may be called "NA"
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=missing, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(path, f"cannot be read ({error})", "restore it from git") from None
    whole = _together(columns, list(table.columns))
    needed = [name for name in whole if name in table.columns or name not in (*LATER, *OTHER_EMOTIONS)]
    if list(table.columns) != needed:
        raise StoreError(path, f"has the columns {list(table.columns)}", "restore it from git, or move it away")
    table = table.assign(**dict.fromkeys(set(LATER) - set(table.columns), "")).reindex(columns=whole)
    cut = (table[[name for name in whole if name in TEXT - MAY_BE_EMPTY]].fillna("") == "").any(axis=1)
    if cut.any():
        raise StoreError(path, f"line {int(cut.argmax()) + 2} is incomplete", "delete the line, or restore it from git")
    return table


def _together(columns: list[str], more: list[str]) -> list[str]:
    """`columns`, and of `more` those of further emotions, in their order."""
    if not set(OTHER_EMOTIONS) & {*columns, *more}:
        return columns
    return [name for name in ALL_COLUMNS if name in columns or (name in OTHER_EMOTIONS and name in more)]


def _append(path: Path, columns: list[str], record: dict[str, object]) -> None:
    """Add a line to a table, in the place of the line of the same key if there is one."""
    table = _read(path, columns)
    same = (table[KEY] == [str(record[name]) for name in KEY]).all(axis=1)
    before = ""
    if len(table):
        before = _widened(path, list(table.columns))
        header, *lines = io.StringIO(before).readlines()
        # Records are lines: no name, machine or date has a line break in it.
        before = header + "".join(line for line, gone in zip(lines, same, strict=True) if not gone)
    buffer = io.StringIO()
    line = pd.DataFrame([record], columns=list(table.columns))
    line.to_csv(buffer, index=False, header=not before, lineterminator="\n")
    atomic_write(path, before + buffer.getvalue())


def _widened(path: Path, columns: list[str]) -> str:
    """The text of a table, with nothing in those of the `columns` that it does not have yet."""
    text = path.read_text(encoding="utf-8")
    written = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if list(written.columns) == columns:
        return text
    return written.reindex(columns=columns, fill_value="").to_csv(index=False, lineterminator="\n")
