"""Tables of the page of datasheets (Gebru et al. 2021): counted from the manifest and from the recipe, or published."""

from __future__ import annotations

import pandas as pd

from hmoe import corpora
from hmoe.base.markdown import table
from hmoe.corpora import synthetic
from hmoe.use import card


def casia() -> str:
    """Mean seconds for each speaker and emotion, and what they add up to, from the committed manifest."""
    manifest = corpora.manifest("casia")
    parts = manifest.index.str.split("-", expand=True).to_frame(index=False, name=["speaker", "emotion", "sentence"])
    seconds = manifest["seconds"]
    known = parts.assign(seconds=seconds.to_numpy())
    means = known.pivot_table("seconds", "speaker", "emotion", sort=False)[list(synthetic.EMOTIONS)]
    counted = ", ".join(f"{known[name].nunique()} {name}s" for name in ("speaker", "emotion", "sentence"))
    each = " or ".join(map(str, known.groupby(["speaker", "emotion"]).size().unique()))
    return (
        f"{len(known)} utterances: {counted}, {each} utterances of each speaker in each emotion; "
        f"{seconds.sum() / 60:.0f} minutes in all, {seconds.min():.1f} to {seconds.max():.1f} s each. "
        f"Mean length in seconds:\n\n{table(['speaker', *means.columns], _lines(means))}"
    )


def recipe() -> str:
    """Typical cues of each emotion of the synthetic corpus, and the spread of a single utterance about them."""
    cues = pd.DataFrame([*synthetic.TYPICAL.values(), synthetic.SPREAD], columns=synthetic.Cues._fields)
    cues.index = [*synthetic.TYPICAL, "*deviation of an utterance*"]
    voices, emotions, sentences = len(synthetic.VOICES), len(synthetic.EMOTIONS), len(synthetic.sentences())
    return (
        f"{voices * emotions * sentences} utterances: {voices} voices, {emotions} emotions, {sentences} sentences; "
        f"{100 * synthetic.CONFLICT:.0f} % of the cues are those of another emotion.\n\n"
        f"{table(['emotion', *cues.columns], _lines(cues))}"
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
    return [[str(name), *(f"{value:g}" for value in row.round(2))] for name, row in numbers.iterrows()]
