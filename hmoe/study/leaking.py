"""Batches of a corpus whose augmented copies are dealt as utterances of their own (`protocols.LEAKING`)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hmoe.inputs.batches import Inputs


class UnrolledInputs(Inputs):
    """Batches of the unrolled corpus: a row is one copy of one utterance, and has no copies of its own."""

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return super().batch(*self._of(rows))

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return super().lengths(*self._of(rows))

    def _of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows % len(self.bank.ids), rows // len(self.bank.ids)
