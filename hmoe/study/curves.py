"""Was a row trained out? A row whose loss still falls has a number, and no verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hmoe.study.store import KEY, Store

FLAT = 0.02  # of all that the loss fell: what the last tenth of the epochs may still bring


def last_tenth(loss: np.ndarray) -> float:
    """Which share of its whole fall a loss (epochs,) still made from the last tenth but one to the last tenth."""
    tenth = max(1, len(loss) // 10)
    whole = loss[0] - loss.min()
    if len(loss) < 2 * tenth or whole <= 0:
        return 0.0
    return float((loss[-2 * tenth : -tenth].mean() - loss[-tenth:].mean()) / whole)


def still_falling(store: Store, trials: pd.DataFrame) -> bool | None:
    """Whether the loss of some trials of a row still falls, or where an epoch was chosen, it was mostly one of the last
    tenth. None where no curve is recorded: of a model without epochs, and in the first records."""
    kept = trials.merge(store.curves(trials["experiment"].iloc[0]), on=KEY)
    if kept.empty:
        return None
    losses = [np.array(text.split(), float) for text in kept["loss"]]
    chosen = (kept["selection"] != "last").to_numpy()
    if chosen.any():
        late = [best > 0.9 * len(loss) for best, loss in zip(kept["best_epoch"], losses, strict=True)]
        return bool(np.mean(np.array(late)[chosen]) > 0.5)
    return bool(np.mean([last_tenth(loss) for loss in losses]) > FLAT)
