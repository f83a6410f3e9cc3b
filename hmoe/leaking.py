"""Augment first, then split: the mistake that chapter 17 measures, and nothing else in this project makes.

Many papers write augmented copies into the folder of the recordings and deal the files into folds afterwards. Copies
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
from hmoe.inputs import Inputs
from hmoe.protocols import PROTOCOLS, Protocol, Split

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
class Leak(Protocol):
    """A protocol over the unrolled corpus; `scored` says which rows of a test fold count, given n."""

    scored: Callable[[np.ndarray, int], np.ndarray] = lambda test, n: test

    def splits(self, corpus: Corpus, seed: int) -> list[Split]:
        dealt = PROTOCOLS["stratified-5"].splits(unrolled(corpus), seed)
        return [replace(split, test=self.scored(split.test, len(corpus))) for split in dealt]


LEAKING = {
    leak.name: leak
    for leak in (
        Leak("augment-then-split-5", "copies on both sides, all copies scored", (), None),
        Leak(
            f"augment-then-split-5{CLEAN}", "copies on both sides, clean ones scored", (), None, lambda t, n: t[t < n]
        ),
    )
}
"""Known to the experiment "protocols" alone."""
