"""The claims as a chapter and the page "Claims" show them: `hmoe.study.claims` judges, this writes."""

from __future__ import annotations

import pandas as pd

from hmoe.base import markdown
from hmoe.study.claims import Claim, Evidence, Records, claims, judged, recorded
from hmoe.study.report import MEANING, Verdict
from hmoe_book import runs
from hmoe_book.exhibit import Table

HEAD = ("measured", "the paper", "ours, 95 % interval", "detectable")


def table(chapter: str, records: Records) -> Table:
    """The claims that a chapter measures: a line for each measurement, the verdict with the first of a claim."""
    lines = []
    for claim in claims(chapter):
        verdict, measurements = judged(claim, records)
        for k, each in enumerate(measurements or [Evidence("–", "–", "–")]):
            cells = dict(zip(HEAD, (each.what, each.paper, each.ours, each.detectable), strict=True))
            lines.append({"claim": claim.id * (not k), **cells, "verdict": str(verdict) * (not k)})
    caption = "The claims that this chapter measures, each with its verdict and the measurements that it follows from."
    return Table(pd.DataFrame(lines), caption, recorded(claims(chapter), records)).hide(axis="index")


def page(records: Records) -> str:
    """The generated part of the page "Claims": how many stand how, then a section for each."""
    found = {claim.id: (claim, *judged(claim, records)) for claim in claims()}
    lines = [f"Measured on {records.store.corpus}.", ""]
    counted = []
    for word, meaning in MEANING.items():
        said = [id for id, (_, verdict, _) in found.items() if verdict.word == word]
        named = [f"{{ref}}`{id} <claim-{id.lower()}>`" for id in said]
        counted.append((f"**{word}** ({len(said)})", meaning, ", ".join(named) or "none"))
    lines.append(markdown.table(("verdict", "it means", "claims"), counted))
    sections = (_section(*each, recorded([each[0]], records)) for each in found.values())
    return "\n".join([*lines, *sections])


def _section(claim: Claim, verdict: Verdict, measurements: list[Evidence], record: str) -> str:
    about = f"\n\nAbout: {claim.about}." if claim.about else ""
    never = f"\n\nIn the paper: {claim.never}" if claim.never else ""
    cells = [(each.what, each.paper, each.ours, each.detectable) for each in measurements]
    lines = markdown.table(HEAD, cells).rstrip() + "\n\n" if cells else ""
    record = f"{{.hmoe-record}}\n{runs.linked(record)}\n" if record else ""
    return (
        f"(claim-{claim.id.lower()})=\n## {claim.id} · {claim.where}\n\n> “{claim.words}” ({claim.where}){about}\n\n"
        + f"**{verdict.word}**: {verdict.why.rstrip('.')}.{never}"
        + (f"\n\n::::{{dropdown}} What was measured\n{lines}{record}::::" if lines or record else "")
        + f"\n\nChapter: {{doc}}`../{claim.chapter}`\n"
    )
