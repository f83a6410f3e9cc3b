"""The claims as a chapter and the page "Claims" show them: `hmoe.study.claims` judges, this lays out."""

from __future__ import annotations

import pandas as pd

from hmoe.base import markdown
from hmoe.study.claims import Evidence, Records, claims, judged, recorded
from hmoe.study.report import MEANING
from hmoe_book import prose, runs
from hmoe_book.exhibit import Table

HEAD = ("measured", "the paper", "ours, 95 % interval", "detectable")


def table(chapter: str, records: Records) -> Table:
    """The claims that a chapter measures: a line for each measurement, the verdict with the first of a claim."""
    lines = []
    for claim in claims(chapter):
        verdict, measurements = judged(claim, records)
        for k, each in enumerate(measurements or [Evidence("–", "–", "–")]):
            cells = dict(zip(HEAD, (each.what, each.paper, each.ours, each.detectable), strict=True))
            named = {"claim": f"{claim.id}: {claim.short}" * (not k), "verdict": prose.marked(verdict) * (not k)}
            lines.append(named | cells)
    caption = "The claims that this chapter measures, each with its verdict and the measurements that it follows from."
    return Table(pd.DataFrame(lines), caption, recorded(claims(chapter), records), folded=True).hide(axis="index")


def verdicts(chapter: str, records: Records) -> prose.Said:
    """The claims that a chapter measures as a list: the mark and the word, the claim in short, why."""
    found = [(claim, judged(claim, records)[0]) for claim in claims(chapter)]
    return prose.Said(prose.page("verdicts", found=found))


def page(records: Records) -> str:
    """The generated part of the page "Claims": a line for each, its details behind it."""
    found = [(each, *judged(each, records), runs.linked(recorded([each], records))) for each in claims()]
    counted = [(word, text, sum(each[1].word == word for each in found)) for word, text in MEANING.items()]
    return prose.page("claims-list", found=found, counted=counted, table=_measured)


def _measured(measurements: list[Evidence]) -> str:
    return markdown.table(HEAD, ((each.what, each.paper, each.ours, each.detectable) for each in measurements))
