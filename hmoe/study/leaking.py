"""Batches of a corpus whose augmented copies are dealt as utterances of their own (`protocols.LEAKING`)."""

from __future__ import annotations

from hmoe.inputs.batches import Indices, Inputs


class UnrolledInputs(Inputs):
    """Batches of the unrolled corpus: a row is one copy of one utterance, and has no copies of its own."""

    def places(self, rows: Indices, copies: Indices) -> tuple[Indices, Indices]:
        return rows % len(self.bank.ids), rows // len(self.bank.ids)
