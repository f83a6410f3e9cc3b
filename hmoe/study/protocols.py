"""Who trains and who is tested. A protocol deals a corpus into splits; every split is checked for leaks.

The seed chooses the partition too (seeds 0, 1, 2 are three different stratified 5-folds), so an interval over
seeds counts the noise of the partition. Leave-one-speaker-out has one partition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from hmoe.base.errors import ProtocolError
from hmoe.corpora import Corpus

COPIES = 2  # augmented copies beside each clean utterance, where a protocol deals copies


@dataclass(frozen=True)
class Split:
    """One fold: `train` and `test` are row numbers of the corpus table, sorted."""

    fold: str
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """A name, a sentence for the reader, the columns that no split may share, the dealing itself, and what it means.

    `deal(table, seed)` gives for each fold its name and two masks (train, test) over the table. `unit` is what an
    interval counts: a speaker who is left out counts once, whatever its folds and seeds. `copies` says that augmented
    copies are dealt as utterances of their own, `apart` from their utterance or with it; `clean` that only clean ones
    are scored. `conditions`: the test fold is heard under conditions (chapter 18). `trains_as` names the protocol with
    the same training, where two differ in what they score. A `private` protocol is for the experiments that name it.
    """

    name: str
    title: str
    disjoint: tuple[str, ...]
    deal: Callable[[pd.DataFrame, int], dict[str, tuple[np.ndarray, np.ndarray]]]
    unit: Literal["utterance", "speaker"] = "utterance"
    copies: int = 0
    apart: bool = False
    clean: bool = False
    conditions: bool = False
    trains_as: str = ""
    private: bool = False

    @property
    def training(self) -> str:
        """The name by which its training is known."""
        return self.trains_as or self.name

    def seen(self, corpus: Corpus) -> Corpus:
        """The corpus that the rows of its splits count in."""
        return unrolled(corpus, self.copies) if self.copies else corpus

    def splits(self, corpus: Corpus, seed: int) -> list[Split]:
        """All folds, each checked; copies stand behind the utterances, `copy * n + i` is that copy of utterance i."""
        n = len(corpus)
        dealt = self._dealt(self.seen(corpus) if self.apart else corpus, seed)
        if self.copies and not self.apart:
            dealt = [
                Split(one.fold, with_copies(one.train, n, self.copies), with_copies(one.test, n, self.copies))
                for one in dealt
            ]
        return [replace(one, test=one.test[one.test < n]) for one in dealt] if self.clean else dealt

    def _dealt(self, corpus: Corpus, seed: int) -> list[Split]:
        """All folds, each checked. Raises `ProtocolError` if a class has too few utterances or a split leaks.

        Corpora have recordings twice (RAVDESS has one): whoever is tested leaves its twin out of the training.
        """
        result, recording = [], corpus.table[["sha256", "speaker", "emotion", "sentence"]].apply(tuple, axis=1)
        for fold, (train, test) in self.deal(corpus.table, seed).items():
            split = Split(fold, np.flatnonzero(train & ~recording.isin(recording[test])), np.flatnonzero(test))
            check(split, corpus.table, self)
            result.append(split)
        return result


def unrolled(corpus: Corpus, copies: int = COPIES) -> Corpus:
    """The corpus as a folder would hold it after augmentation: row `copy * n + i` is that copy of utterance i."""
    parts = [
        corpus.table.assign(**{name: corpus.table[name] + f"~{copy}" for name in ("id", "sha256")})
        for copy in range(copies + 1)
    ]
    return replace(corpus, table=pd.concat(parts, ignore_index=True))


def with_copies(rows: np.ndarray, n: int, copies: int = COPIES) -> np.ndarray:
    """Utterances and all their copies, as rows of the unrolled corpus."""
    return np.concatenate([rows + n * copy for copy in range(copies + 1)])


def check(split: Split, table: pd.DataFrame, protocol: Protocol) -> None:
    """The invariant: no utterance on both sides, by id or by sound; none of the protocol's groups either.

    Augmented copies are made from training rows alone (`train.fit`), so they stand where their utterance stands.
    """
    where = f"protocol {protocol.name!r}, fold {split.fold!r}"
    if len(split.train) == 0 or len(split.test) == 0:
        raise ProtocolError(where, f"{len(split.train)} training and {len(split.test)} test utterances", "needs both")
    train, test = table.iloc[split.train], table.iloc[split.test]
    for column in ("id", "sha256", *protocol.disjoint):
        shared = set(train[column]) & set(test[column])
        if shared:
            ids = [side.loc[side[column] == min(shared), "id"].iloc[0] for side in (train, test)]
            remedy = "remove one of the two" if column == "sha256" else "choose another protocol"
            same = "samples" if column == "sha256" else column
            raise ProtocolError(where, f"{ids[0]!r} and {ids[1]!r} have the same {same}, on both sides", remedy)
    missing = set(test["emotion"]) - set(train["emotion"])
    if missing:
        raise ProtocolError(where, f"no training utterance of {sorted(missing)}", "add some or leave the class out")
    learnable(train, where)


def learnable(train: pd.DataFrame, where: str) -> None:
    """Raise ProtocolError unless every model can learn something from the rows `train` of a corpus table.

    There must be two classes, and one of them must be there thrice, as settings are chosen in three inner folds.
    """
    counts = train["emotion"].value_counts()
    if len(counts) < 2:
        raise ProtocolError(where, f"all training utterances are of {counts.index[0]!r}", "add another emotion")
    if counts.max() < 3:
        raise ProtocolError(where, f"no class has more than {counts.max()} training utterances", "add some")


def validation(train: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Q7, nested selection: a stratified share of the training rows to choose the epoch. Returns (fit, validation)."""
    from sklearn.model_selection import train_test_split  # takes a second, and who prints a table deals no folds

    _, counts = np.unique(labels[train], return_counts=True)
    if counts.min() < 2 or min(fraction, 1 - fraction) * len(train) < len(counts):
        raise ProtocolError(
            "nested selection", f"{len(train)} training utterances, the rarest class has {counts.min()}",
            "use a larger corpus or --set selection=last",
        )  # fmt: skip
    fit, held_out = train_test_split(train, test_size=fraction, stratify=labels[train], random_state=seed)
    return np.sort(fit), np.sort(held_out)


def _stratified(table: pd.DataFrame, seed: int, k: int = 5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    counts = table["emotion"].value_counts()
    if counts.min() < k:
        raise ProtocolError(
            f"stratified {k}-fold", f"class {counts.idxmin()!r} has {counts.min()} utterances",
            f"needs at least {k} a class: add some or leave the class out",
        )  # fmt: skip
    from sklearn.model_selection import StratifiedKFold

    folds = np.empty(len(table), int)
    dealer = StratifiedKFold(k, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(dealer.split(table, table["emotion"])):
        folds[test] = number
    return {str(number): (folds != number, folds == number) for number in range(k)}


def _by_speaker(table: pd.DataFrame, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    speaker = table["speaker"].to_numpy()
    if len(set(speaker)) < 2:
        raise ProtocolError(
            "leave one speaker out", f"all utterances are of the speaker {speaker[0]!r}",
            "say who speaks: SPEAKER/EMOTION/*.wav, or a column `speaker` of the CSV file",
        )  # fmt: skip
    return {name: (speaker != name, speaker == name) for name in sorted(set(speaker))}


def _by_sentence(table: pd.DataFrame, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return _grouped(table["sentence"], seed, "different sentences")


def _by_pair(table: pd.DataFrame, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All that a speaker says in the same words, whatever the emotion, is on one side."""
    return _grouped(table["speaker"] + "/" + table["sentence"].astype(str), seed, "pairs of speaker and sentence")


def _grouped(of: pd.Series, seed: int, what: str, k: int = 5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    groups = np.array(sorted(of.unique()))
    if len(groups) < k:
        raise ProtocolError("grouped folds", f"{len(groups)} {what}", f"needs at least {k}")
    np.random.default_rng(seed).shuffle(groups)
    group = of.map({name: i % k for i, name in enumerate(groups)}).to_numpy()
    return {str(number): (group != number, group == number) for number in range(k)}


def _by_both(table: pd.DataFrame, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        f"{speaker}-{number}": (train_a & train_b, test_a & test_b)
        for speaker, (train_a, test_a) in _by_speaker(table, seed).items()
        for number, (train_b, test_b) in _by_sentence(table, seed).items()
    }


def _inner(table: pd.DataFrame, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A quarter of what fold 0 of the stratified folds trains on; what that fold tests stands on neither side."""
    from sklearn.model_selection import train_test_split

    train = np.flatnonzero(_stratified(table, seed)["0"][0])
    rest, held_out = train_test_split(train, test_size=0.25, stratify=table["emotion"].iloc[train], random_state=seed)
    rows = np.arange(len(table))
    return {"0": (np.isin(rows, rest), np.isin(rows, held_out))}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in [
        Protocol("stratified-5", "stratified 5-fold: every speaker and sentence is known", (), _stratified),
        Protocol("sentence-5", "5 folds of sentences: the words are new", ("sentence",), _by_sentence),
        Protocol("pair-5", "5 folds of pairs: what this speaker says in these words is new", (), _by_pair),
        Protocol("speaker", "leave one speaker out: the speaker is unseen", ("speaker",), _by_speaker, "speaker"),
        Protocol(
            "speaker-sentence", "speaker and sentence both held out", ("speaker", "sentence"), _by_both, "speaker"
        ),
        Protocol("inner", "a quarter of the training utterances of fold 0, to choose settings by", (), _inner),
    ]
}


def _with_copies(name: str, where: str, apart: bool) -> list[Protocol]:
    dealt = Protocol(name, f"{where}, all copies scored", (), _stratified, copies=COPIES, apart=apart, private=True)
    clean = {"name": f"{name}-clean", "title": f"{where}, clean ones scored", "clean": True, "trains_as": name}
    return [dealt, replace(dealt, **clean)]


LEAKING = [
    *_with_copies("augment-then-split-5", "copies on both sides", apart=True),
    *_with_copies("split-then-augment-5", "copies on their utterance's side", apart=False),
]
"""Augment first, then split: the mistake that chapter 17 measures, and nothing else in this project makes; and its
control, as many rows to train on, and no copy of a test utterance among them.

Augmented copies are easily written into the folder of the recordings and the files dealt into folds afterwards. Copies
of one utterance then stand on both sides of a split. To `check` nothing is wrong: no two files are equal. In both,
copies of one utterance may choose an epoch or a setting for each other, so that only what the test sees differs."""

DISTURBED = replace(
    PROTOCOLS["stratified-5"], name="stratified-5-disturbed", title="stratified 5-fold, heard under conditions",
    conditions=True, trains_as="stratified-5", private=True,
)  # fmt: skip
PROTOCOLS |= {protocol.name: protocol for protocol in (*LEAKING, DISTURBED)}


def tested(protocol: Protocol, corpus: Corpus, seed: int) -> pd.Series:
    """(n,) the fold in which an utterance is tested, "" if in none; "3/0/4" where its copies are dealt as it is."""
    n, splits = len(corpus), protocol.splits(corpus, seed)
    copies = 1 + max(split.test.max() for split in splits) // n
    fold = np.full(n * copies, "", object)
    for split in splits:
        fold[split.test] = split.fold
    return pd.Series(["/".join(each) for each in fold.reshape(copies, n).T], corpus.table["id"])


def manifest(corpus: Corpus, seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """id by (protocol, seed): the fold in which an utterance is tested. Committed for CASIA, so folds are public."""
    columns = {"id": corpus.table["id"]}
    for name in ("stratified-5", "sentence-5", "speaker", "speaker-sentence"):
        for seed in seeds if name != "speaker" else seeds[:1]:
            columns[f"{name}.{seed}"] = tested(PROTOCOLS[name], corpus, seed).to_numpy()
    return pd.DataFrame(columns)
