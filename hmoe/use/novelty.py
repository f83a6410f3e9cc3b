"""Is a recording speech as a model has learnt from, or music, noise, something else? Training data calibrate a score.

The score is the Mahalanobis distance of a short description of the spectrum from the training utterances (Lee et al.,
NeurIPS 2018, for the idea; Ledoit and Wolf 2004 for the covariance). Its limit is what 99 of 100 training utterances
keep when their speaker is left out, so that an unseen speaker alone is no reason to warn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from hmoe.config import Features
from hmoe.corpora import Corpus
from hmoe.inputs.features_torch import Extractor

COEFFICIENTS = 12  # MFCC 1 to 12: the first, which is the level, says nothing of what is heard
FOLDS, SHARE = 5, 99  # of speakers; per cent of training utterances that are within the limit
LEAST = 20  # utterances: of fewer nothing can be said
FAR = 2.0  # limits: where speech of other corpora hardly comes (CASIA, RAVDESS)
FLATNESS, LOUDNESS = 3 * COEFFICIENTS, 3 * COEFFICIENTS + 2  # where their mean and their deviation stand
FLOOR = 1e-10
HEARD = Features(n_mels=40, n_mfcc=COEFFICIENTS + 1, window=512, deltas=False)


def describe(samples: np.ndarray, ear: Extractor) -> np.ndarray:
    """(S,) samples at the rate of a corpus -> (41,): the level does not count. `ear` is an extractor of `HEARD`.

    Of each MFCC mean, deviation and mean step from frame to frame; of the spectral flatness (in natural logarithms)
    mean and deviation; of the loudness (dB) deviation, mean step, and the share of frames 20 dB below the loudest.
    """
    wave = torch.from_numpy(np.pad(samples.astype(float), (0, max(0, 1024 - len(samples)))))[None]
    level = ear.power(wave).mean() + FLOOR**2
    wave = wave / level.sqrt()
    frames, _ = ear(wave, torch.tensor([wave.shape[1]]))
    mfcc = frames[0, :, 1 : COEFFICIENTS + 1].double().T.numpy()
    power = ear.power(wave)[0].numpy()
    audible = np.maximum(power, FLOOR)
    flatness = np.log(audible).mean(axis=0) - np.log(audible.mean(axis=0))
    loudness = 10 * np.log10(np.maximum(power.mean(axis=0), FLOOR))
    steps = np.abs(np.diff(mfcc, axis=1))
    return np.concatenate(
        [
            mfcc.mean(axis=1), mfcc.std(axis=1), steps.mean(axis=1), [flatness.mean(), flatness.std(), loudness.std()],
            [np.abs(np.diff(loudness)).mean(), (loudness < loudness.max() - 20).mean()],
        ]
    )  # fmt: skip


def calibrate(described: np.ndarray, speakers: Sequence[str]) -> dict[str, Any]:
    """What `score` needs, of training utterances (n, 41) and whose they are; {} where they are too few.

    `limit` is the score that `SHARE` per cent of them are below while their speaker is left out; or utterances of any,
    where too few would be left without a speaker.
    """
    from sklearn.model_selection import GroupKFold, KFold  # here: to predict takes none of scikit-learn

    if len(described) < LEAST:
        return {}
    several = min(len(set(speakers)), FOLDS)
    dealt = list(GroupKFold(several).split(described, groups=speakers)) if several > 1 else []
    if min((len(rest) for rest, _ in dealt), default=0) < max(LEAST, len(described) / 3):  # a speaker is nearly all
        dealt = list(KFold(FOLDS, shuffle=True, random_state=0).split(described))
    held_out = np.concatenate([_distances(_fit(described[rest]), described[some]) for rest, some in dealt])
    flat, steady = np.percentile(described[:, FLATNESS], SHARE), np.percentile(described[:, LOUDNESS], 100 - SHARE)
    limit = np.percentile(held_out, SHARE)
    return _fit(described) | {"limit": float(limit), "flat": float(flat), "steady": float(steady)}


def unlike(samples: np.ndarray, known: Mapping[str, Any], ear: Extractor) -> list[str]:
    """A line for a recording (S,) that is no speech as in training; nothing for others, or where that is not known."""
    if not known:
        return []
    described = describe(samples, ear)
    score = float(_distances(known, described[None])[0] / known["limit"])
    if score <= 1:
        return []
    kind = "another speaker, language, room or sound"
    if described[FLATNESS] > known["flat"] and described[LOUDNESS] < known["steady"]:
        kind = "noise, not speech"
    elif score > FAR:
        kind = "music or another sound, not speech"
    return [f"perhaps {kind} (score {score:.1f}; in training below 1)"]


def of(corpus: Corpus) -> dict[str, Any]:
    """`calibrate` on a corpus."""
    ear = Extractor(HEARD)
    with ThreadPoolExecutor() as pool:
        described = list(pool.map(lambda i: describe(corpus.waveform(i), ear), range(len(corpus))))
    return calibrate(np.array(described), list(corpus.table["speaker"]))


def _fit(described: np.ndarray) -> dict[str, Any]:
    from sklearn.covariance import LedoitWolf

    mean, scale = described.mean(axis=0), described.std(axis=0) + 1e-6
    precision = LedoitWolf().fit((described - mean) / scale).precision_
    return {"mean": mean.tolist(), "scale": scale.tolist(), "precision": precision.tolist()}


def _distances(known: Mapping[str, Any], described: np.ndarray) -> np.ndarray:
    z = (described - np.array(known["mean"])) / np.array(known["scale"])
    return np.sqrt(np.einsum("ni,ij,nj->n", z, np.array(known["precision"]), z))
