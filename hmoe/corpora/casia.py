"""CASIA: 4 speakers x 6 emotions x the same 50 sentences (201-250), as it lies on people's disks.

That a number is one sentence, whoever says it in whatever emotion, is what its publisher says of these 50 (Institute of
Automation, Chinese Academy of Sciences: CASIA Chinese emotional corpus, part with the same texts).
"""

from __future__ import annotations

import re
from pathlib import PurePath

from hmoe.base.errors import CorpusError
from hmoe.corpora.labels import emotion
from hmoe.corpora.table import Misfit, Utterance

SPEAKERS = {name.lower(): name for name in ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang")}
SHOWN = {name: f"S{k}" for k, name in enumerate(SPEAKERS.values(), 1)}
"""The speakers as pages call them: their names stand in the folders of a copy, and have no place on a page."""


def grammar(path: PurePath) -> Utterance:
    """`<speaker>/<emotion>/<sentence>.wav` or `<emotion>/<sentence>-<emotion>-<speaker>.wav`, at any depth."""
    if match := re.fullmatch(r"(\d{3})-([a-z]+)-([a-z]+)", path.stem, re.IGNORECASE):
        sentence, label, speaker = match.groups()
        folder = path.parent.name
        if folder and emotion(folder, folder) != emotion(label, path):
            raise CorpusError(path, f"{label!r} lies in the folder {folder!r}", "move or rename it")
    elif re.fullmatch(r"\d{3}", path.stem) and len(path.parts) >= 3:
        sentence, label, speaker = path.stem, path.parts[-2], path.parts[-3]
    else:
        raise Misfit(
            path,
            "not named as CASIA is",
            "rename it to SPEAKER/EMOTION/201.wav or EMOTION/201-angry-SPEAKER.wav, or remove it",
        )
    known = SPEAKERS.get(speaker.lower())
    if known is None:
        raise CorpusError(
            path, f"unknown speaker {speaker!r}", f"known are {', '.join(SPEAKERS.values())}: rename or remove it"
        )
    name = emotion(label, path)
    return Utterance(f"{known}-{name}-{sentence}", known, name, sentence)
