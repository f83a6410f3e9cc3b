"""Every claim of the paper beside what was measured of it. What a claim needs is data: `hmoe/data/claims.yml`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import yaml

from hmoe import corpora
from hmoe.base.files import DATA
from hmoe.config import Config
from hmoe.study import report
from hmoe.study.costs import exponents, longer, measured
from hmoe.study.experiments import AUDITS, EXPERIMENTS, Row, experiment
from hmoe.study.metrics import NOTHING, Estimate, equivalent
from hmoe.study.protocols import PROTOCOLS
from hmoe.study.report import MARGIN, Difference, RowReport, Verdict, Word, differences, order, rows
from hmoe.study.store import Store


@dataclass(frozen=True)
class Claim:
    """One claim: the paper's words and where they stand, and in short; the rest as `hmoe/data/claims.yml` explains."""

    id: str
    where: str
    words: str
    chapter: str
    short: str = ""
    about: str = ""
    numbers: tuple = ()
    above: tuple = ()
    protocols: tuple = ()
    corpus: str = ""
    cost: str = ""
    beside: dict[str, Any] = field(default_factory=dict)
    never: str = ""


@dataclass(frozen=True)
class Evidence:
    """One measurement of a claim. Its `verdict` is None where it is shown for comparison and decides nothing."""

    what: str
    paper: str
    ours: str  # with interval and number of trials
    detectable: str = ""  # points that would have been seen in 80 of 100 repetitions
    verdict: Verdict | None = None
    metric: str = ""  # of a printed number: whose it is, and
    apart: Estimate = NOTHING  # how far ours lies from it


def claims(chapter: str = "") -> list[Claim]:
    """All claims, or those that a chapter measures ("notebooks/12-ablation"), in the paper's order."""
    listed = yaml.safe_load((DATA / "claims.yml").read_text(encoding="utf-8"))
    return [claim for claim in (Claim(**entry) for entry in listed) if chapter in ("", claim.chapter)]


class Records:
    """The rows of every experiment in one store, each read once, when it is first asked for."""

    def __init__(self, store: Store, config: Callable[[Row], Config] = Row.config) -> None:
        self.store, self.config = store, config
        self.found = report.Lazily(EXPERIMENTS | AUDITS, lambda name: rows(store, experiment(name), config))

    def row(self, name: str, row: str) -> RowReport | None:
        return next((each for each in self.found[name] if each.name == row), None)

    def __getitem__(self, key: tuple[str, str]) -> RowReport:
        """The row of an experiment. KeyError where it is not recorded."""
        if (found := self.row(*key)) is None:
            raise KeyError(key)
        return found


def judged(claim: Claim, records: Records) -> tuple[Verdict, list[Evidence]]:
    """The one verdict on a claim, and every measurement that it follows from; last those that are beside it.

    A claim fails if one of its measurements contradicts it, and holds if all agree with it.
    """
    lines, verdicts = _measured(claim, records)
    others, _ = _measured(Claim(claim.id, claim.where, claim.words, claim.chapter, **claim.beside), records)
    lines += [replace(line, what=f"averaged input: {line.what}", verdict=None) for line in others]
    known = [verdict for verdict in verdicts if verdict.word]
    for word in (Word.FAILS, Word.CANNOT_TELL, Word.HOLDS):
        if deciding := [verdict for verdict in known if verdict.word == word]:
            numbers = [line for line in lines if line.metric and line.verdict in deciding]
            whys = [_together(numbers, claim)] if len(numbers) > 1 else [verdict.why for verdict in deciding]
            return Verdict(word, "; ".join(dict.fromkeys(whys))), lines
    if verdicts:
        return Verdict(Word.CANNOT_TELL, "; ".join(dict.fromkeys(verdict.why for verdict in verdicts))), lines
    return Verdict(Word.NOT_TESTABLE, claim.never or "nothing is measured of it"), lines


def _together(numbers: list[Evidence], claim: Claim) -> str:
    """Several printed numbers with one verdict, in one line."""
    verdict = {Word.FAILS: "not reproduced", Word.CANNOT_TELL: "compatible", Word.HOLDS: "reproduced"}
    word = verdict[numbers[0].verdict.word]
    if not all(line.apart.n for line in numbers):
        return "not recorded yet"
    said = ", ".join(f"{line.metric} {line.apart.signed()}" for line in numbers)
    return f"{len(numbers)} of {sum(len(metrics) for *_, metrics in claim.numbers)} numbers are {word}: {said} points"


def _measured(claim: Claim, records: Records) -> tuple[list[Evidence], list[Verdict]]:
    """The lines of a claim, and the verdicts that they come to: an order has one for all of its lines."""
    lines, verdicts = [], []
    for name, row, metrics in claim.numbers:
        lines += [_number(row, metric, experiment(name).row(row), records.row(name, row)) for metric in metrics]
    for name, row, other in claim.protocols:
        stricter = " and ".join(PROTOCOLS[experiment(name).row(other).protocol].disjoint)
        lines.append(_inflated(f"{row}, over {other}", stricter, records.row(name, row), records.row(name, other)))
    if claim.corpus:
        lines += FACTS[claim.corpus]()
    if claim.cost:
        record, found = COSTS[claim.cost]
        lines += found(measured(record, records.store.root)[0])
    verdicts += [line.verdict for line in lines if line.verdict]
    for said in claim.above:
        metrics, name = said.get("metrics", ["accuracy"]), said["experiment"]
        tested = differences(records.found[name], experiment(name), said["rows"], metrics)
        verdicts.append(order(tested, said.get("sized", False)))
        lines += map(_difference, tested) if len(metrics) == 1 else [_counted(tested, metrics)]
    return lines, verdicts


def _number(what: str, metric: str, row: Row, found: RowReport | None) -> Evidence:
    name = "F1" if metric == "f1" else metric.removeprefix("acc_")
    shown = Evidence(f"{what}: {name}", f"{row.paper[metric]} %", "–", metric=name)
    if found is None:
        return replace(shown, verdict=Verdict(Word.CANNOT_TELL, "not recorded yet"))
    ours = found.estimates[metric]
    return replace(shown, ours=f"{ours} %, n = {ours.n}", verdict=found.judge(metric), apart=found.apart(metric))


def _inflated(what: str, stricter: str, known: RowReport | None, new: RowReport | None) -> Evidence:
    """How much the paper's protocol gives over a stricter one, both ours: for the latter the paper has no number.

    That the paper's is unbiased fails where the difference is not zero, and holds where it is shown to be small.
    """
    if known is None or new is None:
        return Evidence(what, "no number", "–", verdict=Verdict(Word.CANNOT_TELL, "not recorded yet"))
    more = report.worth(known, new)
    freedom, unjudged = known.splits.freedom, known.unjudged or new.unjudged
    word = None if unjudged else Word.CANNOT_TELL
    if not pd.isna(more.error) and not unjudged:
        word = Word.FAILS if not more.holds(0) else Word.HOLDS if equivalent(more, MARGIN, freedom) else word
    ours = f"{more.signed()} points, n = {more.n}"
    why = f"a seen {stricter} is worth {more.signed()} points" + f" ({unjudged})" * bool(unjudged)
    return Evidence(what, "no number", ours, _points(more), Verdict(word, why))


def _points(difference: Estimate) -> str:
    return "" if pd.isna(difference.error) else f"{difference.detectable:.1f}"


def _difference(tested: Difference) -> Evidence:
    paper = "larger" if pd.isna(tested.paper) else f"{tested.paper:+.1f} points".replace("-", "−")
    aside = f" ({tested.unjudged})" if tested.unjudged else ""
    ours = f"{tested.points.signed()} points, n = {tested.points.n}{aside}" if tested.points.n else "–"
    return Evidence(str(tested), paper, ours, _points(tested.points))


def _counted(tested: list[Difference], metrics: list[str]) -> Evidence:
    """One line for differences too many to be read: how many are as claimed, the other way round, or neither."""
    judged = [each for each in tested if not each.unjudged]
    signs = [each.sign for each in judged]
    what = f"{tested[0].higher} over {len({each.lower for each in tested})} rows, in {len(metrics)} metrics"
    aside = len(tested) - len(judged)
    said = f"{signs.count(1)} ahead, {signs.count(-1)} behind, {signs.count(0)} neither; {aside} not judged"
    return Evidence(what, f"{len(tested)} ahead", said)


def mean_length(manifest: pd.DataFrame) -> Iterator[Evidence]:
    """Table 1's mean length against the utterances of a corpus; no mean is above the longest."""
    seconds = manifest["seconds"]
    longest = f"the longest utterance of the corpus lasts {seconds.max():.2f} s"
    word = Word.FAILS if seconds.max() < 32.5 else Word.HOLDS
    ours = f"{seconds.mean():.2f} s, n = {len(seconds)}"
    yield Evidence("mean length of an utterance", "32.5 s", ours, verdict=Verdict(word, longest))


def balance(manifest: pd.DataFrame) -> Iterator[Evidence]:
    """Are emotions unequally frequent, as a "natural" distribution is? Ids are speaker-emotion-sentence."""
    counts = manifest.index.str.split("-").str[1].value_counts()
    equal = counts.min() == counts.max()
    each = f"{counts.min()}" if equal else f"{counts.min()} to {counts.max()}"
    spread = f"{each} utterances an emotion, n = {counts.sum()}"
    why = "every emotion is as frequent as every other" if equal else "the emotions differ in frequency"
    verdict = Verdict(Word.FAILS if equal else Word.HOLDS, why)
    yield Evidence("utterances of each emotion", "natural", spread, verdict=verdict)


def _folds() -> Iterator[Evidence]:
    folds = pd.read_csv(DATA / "casia-folds.csv", dtype=str)
    folds[["speaker", "sentence"]] = folds["id"].str.split("-", expand=True)[[0, 2]]
    for side in ("speaker", "sentence"):
        known = 0
        for fold, test in folds.groupby("stratified-5.0"):
            known += test[side].isin(folds.loc[folds["stratified-5.0"] != fold, side]).sum()
        share = known / len(folds)
        why = f"{100 * share:.0f} % of the test utterances have a {side} that is trained on"
        yield Evidence(
            f"test utterances whose {side} is trained on", "–", f"{share:.0%}, n = {len(folds)}",
            verdict=Verdict(Word.FAILS if share > 0 else Word.HOLDS, why),
        )  # fmt: skip


FACTS: dict[str, Callable[[], Iterator[Evidence]]] = {
    "seconds": lambda: mean_length(corpora.manifest("casia")),
    "balance": lambda: balance(corpora.manifest("casia")),
    "folds": _folds,
}


ATTENTION, SIMBA = "attention", "SiMBA"  # parts that `bench_cost` measures


def _compared(what: str, ratio: float, against: str, short: str = "") -> Evidence:
    """Ours by theirs, where the paper claims less; `short` is `what` for the verdict."""
    said = f"{ratio:.3g} times {against}"
    word = Word.HOLDS if ratio < 1 else Word.FAILS
    return Evidence(what, "less", said, verdict=Verdict(word, f"{short or what}: {said}"))


def _growth(table: pd.DataFrame) -> Iterator[Evidence]:
    """Is the time of SiMBA nearer to N log N than to N²? By the power of the length, against 1.5."""
    if table.empty:
        return
    grows = exponents(table)
    word = Word.HOLDS if grows[SIMBA].high < 1.5 else Word.FAILS if grows[SIMBA].low >= 1.5 else Word.CANNOT_TELL
    fitted = longer(table.loc[table["part"] == SIMBA, "L"])
    said = f"the power {grows[SIMBA]} of the length, from {fitted.min():,} to {fitted.max():,} frames"
    why = f"the time grows with {said}; that of self-attention with the power {grows[ATTENTION]}"
    yield Evidence("growth of the time of a training step of SiMBA", "N log N", said, verdict=Verdict(word, why))


def _by_length(table: pd.DataFrame) -> Iterator[Evidence]:
    if table.empty:
        return
    for measure, column in (("time", "step_s"), ("memory", "peak_mb")):
        at = table.pivot(index="L", columns="part", values=column)
        for L in (200, at.index.max()):
            what = f"{measure} of a training step of SiMBA at {L:,} frames ({L / 100:g} s of speech)"
            ratio = at[SIMBA][L] / at[ATTENTION][L]
            yield _compared(what, ratio, "that of self-attention", f"{measure} at {L:,} frames")


def _by_row(table: pd.DataFrame) -> Iterator[Evidence]:
    if table.empty:
        return
    count = table.set_index("row")["operations"]
    for reading in ("", " (frames)"):
        ours, theirs = f"HMoE-SiMBA{reading}", f"Transformer{reading}"
        what = f"operations of {ours} for 2 s of speech"
        yield _compared(what, count[ours] / count[theirs], f"those of {theirs}, of similar size")


def _real_time(table: pd.DataFrame) -> Iterator[Evidence]:
    """Does attention hinder real time? The paper says it of long speech, which a fast utterance does not refute."""
    for row, total in table[["row", "total"]].itertuples(index=False) if len(table) else ():
        if row == "Transformer (frames)":  # given averages it attends to one vector
            ours = f"{total:.3g} times the length of the speech"
            why = f"an utterance takes the Transformer {ours}, from file to label; longer speech was not timed"
            verdict = Verdict(Word.CANNOT_TELL if total < 1 else Word.HOLDS, why)
            yield Evidence(f"time to the label by {row}, on one core", "no number", ours, verdict=verdict)


COSTS: dict[str, tuple[str, Callable[[pd.DataFrame], Iterator[Evidence]]]] = {
    "growth": ("cost-length", _growth),
    "length": ("cost-length", _by_length),
    "rows": ("cost-rows", _by_row),
    "real-time": ("cost-real-time", _real_time),
}
"""The record of `results/bench` that each reads, and what it finds there."""


def recorded(some: list[Claim], records: Records) -> str:
    """The provenance of the rows that the claims were measured on, experiment by experiment."""
    used: dict[str, list[RowReport | None]] = {}
    everything = [*some, *(Claim(each.id, each.where, each.words, each.chapter, **each.beside) for each in some)]
    for claim in everything:
        for name, row, _ in claim.numbers:
            used.setdefault(name, []).append(records.row(name, row))
        for said in claim.above:
            ranked = {row for higher, lowers in said["rows"].items() for row in (higher, *lowers)}
            used.setdefault(said["experiment"], []).extend(records.row(said["experiment"], row) for row in ranked)
        for name, *pair in claim.protocols:
            used.setdefault(name, []).extend(records.row(name, row) for row in pair)
    lines = []
    for name, found in used.items():
        once = {row.name: row for row in found if row is not None}
        lines.append(report.provenance(records.store, experiment(name), list(once.values())))
    lines += ["the list of files of CASIA that comes with the book"] * any(claim.corpus for claim in everything)
    for name in dict.fromkeys(COSTS[claim.cost][0] for claim in everything if claim.cost):
        lines.append(measured(name, records.store.root)[1].removesuffix("."))
    return "; ".join(lines)
