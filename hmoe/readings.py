"""Q1: what a time step is. The paper's eq. 2 and 3 average time away; §3.4 to §3.6 speak of sequences.

A reading says what a model is given: which blocks of columns stand side by side, and what one of its tokens is. This
is the one table of them; `config.reading` is one of its names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STATISTICS = 5  # blocks of the columns of eq. 3: mean, standard deviation, 10th, 50th and 90th percentile
PROSODY = 107  # columns: what `hmoe.inputs.prosody` measures, in its order

Block = Literal["pooled", "statistics", "prosody", "frames", "embeddings"]


@dataclass(frozen=True)
class Reading:
    """`blocks` of the features of an utterance, side by side, and what a token of them is.

    `token`: "all", every column at once (one token, or one a frame); "modality", a token for each of MFCC, mel and
    chroma; "column", a token of one channel for each column.
    """

    blocks: tuple[Block, ...]
    token: Literal["all", "modality", "column"] = "all"

    @property
    def sequence(self) -> bool:
        """An utterance has as many tokens as frames: lengths differ, and batches are padded."""
        return "frames" in self.blocks

    @property
    def prosody(self) -> bool:
        """Praat is asked too. Its columns are of no modality, so that none can be left out (Q15)."""
        return "prosody" in self.blocks

    def width(self, D: int) -> int:
        """Columns of a token where a frame, or an embedding, has `D`."""
        return sum({"statistics": STATISTICS * D, "prosody": PROSODY}.get(block, D) for block in self.blocks)


READINGS: dict[str, Reading] = {
    "pooled": Reading(("pooled",)),  # the letter of eq. 2 and 3: one 260-vector an utterance
    "frames": Reading(("frames",)),  # the intent of §3.4 to §3.6: T x 260
    "modalities": Reading(("pooled",), token="modality"),
    "features": Reading(("pooled",), token="column"),
    "statistics": Reading(("statistics",)),
    "prosody": Reading(("prosody",)),
    "statistics+prosody": Reading(("statistics", "prosody")),
    "embeddings": Reading(("embeddings",)),  # of encoders (PARROT)
    "statistics+prosody+embeddings": Reading(("statistics", "prosody", "embeddings")),
}
