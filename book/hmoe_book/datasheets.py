"""Tables of the page of datasheets (Gebru et al. 2021): counted from the manifest and from the recipe, or published."""

from __future__ import annotations

import pandas as pd

from hmoe import corpora
from hmoe.base.markdown import table
from hmoe.corpora import synthetic
from hmoe.corpora.casia import SHOWN
from hmoe.use import card
from hmoe_book import prose


def casia() -> str:
    """Mean seconds for each speaker and emotion, and what they add up to, from the committed manifest."""
    manifest = corpora.manifest("casia")
    parts = manifest.index.str.split("-", expand=True).to_frame(index=False, name=["speaker", "emotion", "sentence"])
    seconds = manifest["seconds"]
    known = parts.assign(seconds=seconds.to_numpy())
    means = known.pivot_table("seconds", "speaker", "emotion", sort=False)[list(synthetic.EMOTIONS)]
    return prose.page(
        "datasheet-casia",
        utterances=len(known),
        counted={name: known[name].nunique() for name in ("speaker", "emotion", "sentence")},
        each=" or ".join(map(str, known.groupby(["speaker", "emotion"]).size().unique())),
        seconds=seconds,
        table=table(["speaker", *means.columns], _lines(means.rename(SHOWN).sort_index())),
    )


def recipe() -> str:
    """Typical cues of each emotion of the synthetic corpus, and the spread of a single utterance about them."""
    cues = pd.DataFrame([*synthetic.TYPICAL.values(), synthetic.SPREAD], columns=synthetic.Cues._fields)
    cues.index = [*synthetic.TYPICAL, "*deviation of an utterance*"]
    return prose.page(
        "datasheet-synthetic",
        counted={
            "voices": len(synthetic.VOICES),
            "emotions": len(synthetic.EMOTIONS),
            "sentences": len(synthetic.sentences()),
        },
        conflict=synthetic.CONFLICT,
        table=table(["emotion", *cues.columns], _lines(cues)),
    )


def others() -> str:
    """A line for each corpus that can be loaded, as published."""
    lines = [
        (f"{each['title']}: `{name}`", each["language"], f"{each['speakers']} {each['speech']}",
         f"{each['utterances']}, {each['rate']} kHz", ", ".join(each["emotions"]), each["terms"], each["source"])
        for name, each in card.published().items()
    ]  # fmt: skip
    header = ["corpus and its name here", "language", "voices", "utterances", "labels", "terms", "source"]
    return table(header, lines)


def _lines(numbers: pd.DataFrame) -> list[list[str]]:
    return [
        [str(name), *(f"{value:g}".replace("-", "−") for value in row.round(2))] for name, row in numbers.iterrows()
    ]
