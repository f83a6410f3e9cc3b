"""What a window as short as the utterance does to Whisper's embedding, and what it saves."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from tqdm import tqdm

from hmoe.base import stamp
from hmoe.base.errors import ConfigError
from hmoe.base.files import atomic_write, results_dir
from hmoe.corpora import Corpus
from hmoe.parrot.encoders import RATE, Whisper, configured
from hmoe.train import one_thread

WINDOWS = (0.0, 5.0, 10.0, 30.0)  # s at least; 0: as long as the utterance; the last is what Whisper was trained on


def bench_window(corpus: Corpus, name: str, utterances: int = 48) -> pd.DataFrame:
    """A line for each window and layer, of utterances drawn evenly from the corpus; written to the results.

    `drift`: how far the mean over time moves from that in the last window, as a share of the median distance between
    two utterances there; `own`: the same without what all utterances move by together, which no classifier sees that
    is trained on such windows. `cost`: processor time, as a share of the last window's.
    """
    if (kind := configured(name).model_type) != "whisper":
        raise ConfigError(f"encoder {name!r}", f"is of the kind {kind!r}", "give one of Whisper, which has a window")
    some = range(0, len(corpus), max(1, len(corpus) // utterances))
    heard, spent = [], []  # of each window: (n, layers, D), s
    with one_thread():
        for window in tqdm(WINDOWS, unit="window"):
            encoder = Whisper(name, window=window)
            encoder(corpus.waveform(0), RATE)  # allocates what there is
            started = time.process_time()
            heard.append(np.stack([[e.pooled for e in encoder.every_layer(corpus.waveform(i), RATE)] for i in some]))
            spent.append(time.process_time() - started)
    lines = []
    for window, found, seconds in zip(WINDOWS, heard, spent, strict=True):
        for layer in range(encoder.depth):
            moved, apart = found[:, layer] - heard[-1][:, layer], np.median(pdist(heard[-1][:, layer]))
            drift, own = (np.linalg.norm(by, axis=1).mean() / apart for by in (moved, moved - moved.mean(axis=0)))
            lines.append({"window_s": window, "layer": layer, "drift": drift, "own": own, "cost": seconds / spent[-1]})
    table = pd.DataFrame(lines)
    table = table.assign(encoder=name, corpus=corpus.name, utterances=len(some), commit=stamp.commit())
    table = table.assign(date=stamp.now(), machine=stamp.machine())
    atomic_write(results_dir() / "bench" / "window.csv", table.to_csv(index=False, float_format="%.4g"))
    return table
