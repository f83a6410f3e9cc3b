"""Augment first, then split: the mistake that chapter 17 measures, and nothing else in this project makes.

Augmented copies are easily written into the folder of the recordings and the files dealt into folds afterwards. Copies
of one utterance then stand on both sides of a split. To the check of `protocols` nothing is wrong: no two files are
equal. So here a corpus is unrolled: each (utterance, copy) becomes an utterance of its own, and is dealt like one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import Tensor

from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.study.protocols import PROTOCOLS, Protocol, Split

CLEAN = "-clean"  # a protocol that trains as the one without, and scores clean copies alone
COPIES = 2  # augmented copies beside each clean utterance; rows that leak have this in `config.copies`


def unrolled(corpus: Corpus) -> Corpus:
    """The corpus as a folder would hold it after augmentation: row `copy * n + i` is that copy of utterance i."""
    parts = [
        corpus.table.assign(**{name: corpus.table[name] + f"~{copy}" for name in ("id", "sha256")})
        for copy in range(COPIES + 1)
    ]
    return replace(corpus, table=pd.concat(parts, ignore_index=True))


class UnrolledInputs(Inputs):
    """Batches of the unrolled corpus: a row is one copy of one utterance, and has no copies of its own."""

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return super().batch(*self._of(rows))

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return super().lengths(*self._of(rows))

    def _of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows % len(self.bank.ids), rows // len(self.bank.ids)


@dataclass(frozen=True)
class Unrolled(Protocol):
    """A protocol over the unrolled corpus, which leaks unless the copies of an utterance are kept `together`.

    `scored` says which rows of a test fold count, given n.
    """

    together: bool = False
    scored: Callable[[np.ndarray, int], np.ndarray] = lambda test, n: test

    def splits(self, corpus: Corpus, seed: int) -> list[Split]:
        n = len(corpus)
        dealt = PROTOCOLS["stratified-5"].splits(corpus if self.together else unrolled(corpus), seed)
        if self.together:
            dealt = [Split(one.fold, with_copies(one.train, n), with_copies(one.test, n)) for one in dealt]
        return [replace(split, test=self.scored(split.test, n)) for split in dealt]


def with_copies(rows: np.ndarray, n: int) -> np.ndarray:
    """Utterances and all their copies, as rows of the unrolled corpus."""
    return np.concatenate([rows + n * copy for copy in range(COPIES + 1)])


LEAKING = {
    protocol.name: protocol
    for name, where, together in (
        ("augment-then-split-5", "copies on both sides", False),
        ("split-then-augment-5", "copies on their utterance's side", True),
    )
    for protocol in (
        Unrolled(name, f"{where}, all copies scored", (), None, together),
        Unrolled(f"{name}{CLEAN}", f"{where}, clean ones scored", (), None, together, lambda test, n: test[test < n]),
    )
}
"""The mistake, and its control: as many rows to train on, and no copy of a test utterance among them. In both, copies
of one utterance may choose an epoch or a setting for each other, so that only what the test sees differs. Known to the
experiment "protocols" alone."""
