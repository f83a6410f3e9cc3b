"""Every claim of the paper beside what was measured of it. What a claim needs is data: `hmoe/data/claims.yml`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import yaml

from hmoe import corpora
from hmoe.base.files import DATA
from hmoe.bench.cost import exponents, longer
from hmoe.config import Config
from hmoe.study import report
from hmoe.study.experiments import AUDITS, EXPERIMENTS, TABLE_3_FRAMES, Row, experiment
from hmoe.study.protocols import PROTOCOLS
from hmoe.study.report import (
    FEW,
    NOISE,
    NOT_REPRODUCED,
    NOT_SUPPORTED,
    PARTLY,
    REPRODUCED,
    SUPPORTED,
    UNDECIDED,
    UNMEASURED,
    Difference,
    RowReport,
    Verdict,
    differences,
    order,
    rows,
)  # fmt: skip
from hmoe.study.store import Store
from hmoe_book import runs
from hmoe_book.exhibit import Table, measured

NEVER, CONTRADICTED = "never measured in the paper", "contradicted by the corpus"
WORDS = (
    REPRODUCED, SUPPORTED, PARTLY, UNDECIDED, NOISE, NOT_SUPPORTED, NOT_REPRODUCED, CONTRADICTED, FEW, UNMEASURED,
    NEVER,
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One claim: the paper's words and where they stand; the rest as `hmoe/data/claims.yml` explains it."""

    id: str
    where: str
    words: str
    chapter: str
    about: str = ""
    numbers: tuple = ()
    above: tuple = ()
    protocols: tuple = ()
    corpus: str = ""
    cost: str = ""
    never: str = ""


@dataclass(frozen=True)
class Evidence:
    """One measurement of a claim."""

    what: str
    paper: str
    ours: str  # with interval and number of trials
    verdict: Verdict


def claims(chapter: str = "") -> list[Claim]:
    """All claims, or those that a chapter measures ("notebooks/12-ablation"), in the paper's order."""
    listed = yaml.safe_load((DATA / "claims.yml").read_text(encoding="utf-8"))
    return [claim for claim in (Claim(**entry) for entry in listed) if chapter in ("", claim.chapter)]


class Records:
    """The rows of every experiment in one store, read once."""

    def __init__(self, store: Store, config: Callable[[Row], Config] = Row.config) -> None:
        self.store, self.config = store, config
        self.found = {each.name: rows(store, each, config) for each in (EXPERIMENTS | AUDITS).values()}

    def row(self, name: str, row: str) -> RowReport | None:
        return next((each for each in self.found[name] if each.name == row), None)

    def __getitem__(self, key: tuple[str, str]) -> RowReport:
        """The row of an experiment. KeyError where it is not recorded."""
        if (found := self.row(*key)) is None:
            raise KeyError(key)
        return found

    def under(self, name: str, row: str, protocol: str) -> RowReport | None:
        """The row's configuration under another protocol than its own, whichever experiment recorded it."""
        chosen = experiment(name)
        alone = replace(chosen, rows=(replace(chosen.row(row), protocol=protocol),), reference="")
        if own := rows(self.store, alone, self.config):
            return own[0]
        wanted, paper = self.config(chosen.row(row)).key(), chosen.row(row).paper
        for found in (each for some in self.found.values() for each in some):
            if (found.trials["config"].iloc[0], found.trials["protocol"].iloc[0]) == (wanted, protocol):
                return replace(found, name=row, paper=paper)
        return None


def evidence(claim: Claim, records: Records) -> list[Evidence]:
    """Everything that was measured of a claim; what was not is said so."""
    result = []
    for name, row, metrics in claim.numbers:
        result += [_number(row, metric, experiment(name).row(row), records.row(name, row)) for metric in metrics]
    for said in claim.above:
        metrics, name = said.get("metrics", ["accuracy"]), said["experiment"]
        tested = differences(records.found[name], experiment(name), said["rows"], metrics)
        lines = [_order(said["rows"], metrics, order(tested))] if len(tested) > 1 else []
        if len(metrics) == 1:
            lines += map(_difference, tested)
        given = "given frames: " * (name == TABLE_3_FRAMES.name)  # whose rows have the names of Table 3's
        result += [replace(each, what=given + each.what) for each in lines]
    for name, row, protocol in claim.protocols:
        known, new = records.row(name, row), records.under(name, row, protocol)
        result.append(_flattered(f"{row}, {PROTOCOLS[protocol].title}", known, new))
    if claim.corpus:
        result += FACTS[claim.corpus]()
    if claim.cost:
        result += COSTS[claim.cost](measured(f"cost-{claim.cost}", records.store.root)[0])
    if claim.never:
        result.append(Evidence("–", "no measurement", "–", Verdict(NEVER, claim.never[0].lower() + claim.never[1:-1])))
        if len(result) == 1:
            result.append(Evidence("–", "–", "–", Verdict(UNMEASURED, "no record yet")))
    return result


def _number(what: str, metric: str, row: Row, found: RowReport | None) -> Evidence:
    what = f"{what}: {metric.removeprefix('acc_')}"
    if found is None:
        return Evidence(what, f"{row.paper[metric]} %", "–", Verdict(UNMEASURED, "no record yet"))
    ours = found.estimates[metric]
    return Evidence(what, f"{row.paper[metric]} %", f"{ours} %, n = {ours.n}", found.judge(metric))


def _flattered(what: str, known: RowReport | None, new: RowReport | None) -> Evidence:
    """How much the paper's protocol gives over a stricter one, both ours: for the latter the paper has no number."""
    if known is None or new is None:
        return Evidence(what, "no number", "–", Verdict(UNMEASURED, "no record yet"))
    more = report.worth(known, new)
    ours, why = f"{new.accuracy} %, n = {new.accuracy.n}", f"the stratified folds give {more.signed()} points"
    if any(row.accuracy.n < row.least for row in (known, new)):
        return Evidence(what, "no number", ours, Verdict(FEW, why))
    word = NOISE if more.holds(0) else NOT_SUPPORTED if more.mean > 0 else SUPPORTED
    return Evidence(what, "no number", ours, Verdict(word, why))


def _order(rows: dict[str, list[str]], metrics: list[str], verdict: Verdict) -> Evidence:
    what = ". ".join(f"{higher} above {'; '.join(lowers)}" for higher, lowers in rows.items())
    if len(rows) > 3 and len(metrics) == 1:
        what = "all of the following"
    return Evidence(what + f", in {len(metrics)} metrics" * (len(metrics) > 1), "all", "–", verdict)


def _difference(tested: Difference) -> Evidence:
    paper = "larger" if pd.isna(tested.paper) else f"{tested.paper:+.1f} points"
    ours = f"{tested.points} points, n = {tested.points.n}" if tested.points.n else "–"
    return Evidence(str(tested), paper, ours, tested.verdict)


def mean_length(manifest: pd.DataFrame) -> Iterator[Evidence]:
    """Table 1's mean length against the utterances of a corpus; no mean is above the longest."""
    seconds = manifest["seconds"]
    longest = f"the longest utterance has {seconds.max():.2f} s"
    yield Evidence(
        "mean length of an utterance", "32.5 s", f"{seconds.mean():.2f} s, n = {len(seconds)}",
        Verdict(CONTRADICTED if seconds.max() < 32.5 else REPRODUCED, longest),
    )  # fmt: skip


def balance(manifest: pd.DataFrame) -> Iterator[Evidence]:
    """Are emotions unequally frequent, as a "natural" distribution is? Ids are speaker-emotion-sentence."""
    counts = manifest.index.str.split("-").str[1].value_counts()
    equal = counts.min() == counts.max()
    spread = f"{counts.min()} to {counts.max()} utterances an emotion, n = {counts.sum()}"
    why = "every emotion is as frequent as every other" if equal else "the emotions differ in frequency"
    yield Evidence("utterances of each emotion", "natural", spread, Verdict(CONTRADICTED if equal else SUPPORTED, why))


def _folds() -> Iterator[Evidence]:
    folds = pd.read_csv(DATA / "casia-folds.csv", dtype=str)
    folds[["speaker", "sentence"]] = folds["id"].str.split("-", expand=True)[[0, 2]]
    for side in ("speaker", "sentence"):
        known = 0
        for fold, test in folds.groupby("stratified-5.0"):
            known += test[side].isin(folds.loc[folds["stratified-5.0"] != fold, side]).sum()
        share = known / len(folds)
        why = f"the folds do not hold the {side} out" if share > 0 else f"the folds hold the {side} out"
        yield Evidence(
            f"test utterances whose {side} is trained on", "–", f"{share:.0%}, n = {len(folds)}",
            Verdict(NOT_SUPPORTED if share > 0 else SUPPORTED, why),
        )  # fmt: skip


FACTS: dict[str, Callable[[], Iterator[Evidence]]] = {
    "seconds": lambda: mean_length(corpora.manifest("casia")),
    "balance": lambda: balance(corpora.manifest("casia")),
    "folds": _folds,
}


ATTENTION, SIMBA = "attention", "SiMBA"  # parts that `bench_cost` measures


def _compared(what: str, ratio: float, against: str) -> Evidence:
    """Ours by theirs, where the paper claims less."""
    verdict = Verdict(SUPPORTED, "less") if ratio < 1 else Verdict(NOT_SUPPORTED, "no less")
    return Evidence(what, "less", f"{ratio:.3g} times {against}", verdict)


def _by_length(table: pd.DataFrame) -> Iterator[Evidence]:
    if table.empty:
        return
    grows = exponents(table)
    near = SUPPORTED if grows[SIMBA].high < 1.5 else NOT_SUPPORTED if grows[SIMBA].low >= 1.5 else UNDECIDED
    why = f"nearer to linear than to quadratic; self-attention's grows with the power {grows[ATTENTION]}"
    fitted = longer(table.loc[table["part"] == SIMBA, "L"])
    said = f"the power {grows[SIMBA]} of the length, L = {fitted.min()} to {fitted.max()}"
    yield Evidence(
        "growth of the time of a training step of SiMBA",
        "N log N",
        said,
        Verdict(near, why if near == SUPPORTED else said),
    )
    for measure, column in (("time", "step_s"), ("memory", "peak_mb")):
        at = table.pivot(index="L", columns="part", values=column)
        for L in (200, at.index.max()):
            what = f"{measure} of a training step of SiMBA at {L:,} frames ({L / 100:g} s of speech)"
            yield _compared(what, at[SIMBA][L] / at[ATTENTION][L], "that of fused self-attention")


def _by_row(table: pd.DataFrame) -> Iterator[Evidence]:
    if table.empty:
        return
    count = table.set_index("row")["operations"]
    for reading in ("", " (frames)"):
        ours, theirs = f"HMoE-SiMBA{reading}", f"Transformer{reading}"
        what = f"operations of {ours} for 2 s of speech"
        yield _compared(what, count[ours] / count[theirs], f"those of {theirs}, of like size")


def _real_time(table: pd.DataFrame) -> Iterator[Evidence]:
    """Does attention hinder real time? The paper gives no number to compare ours with."""
    for row, total in table[["row", "total"]].itertuples(index=False) if len(table) else ():
        if row == "Transformer (frames)":  # given averages it attends to one vector
            verdict = Verdict(NOT_SUPPORTED, "faster than speech") if total < 1 else Verdict(SUPPORTED, "slower")
            ours = f"{total:.3g} times the length of the speech"
            yield Evidence(f"from file to label by {row}, on one core", "no number", ours, verdict)


COSTS: dict[str, Callable[[pd.DataFrame], Iterator[Evidence]]] = {
    "length": _by_length, "rows": _by_row, "real-time": _real_time,
}  # fmt: skip


def table(chapter: str, records: Records) -> Table:
    """The claims that a chapter measures: a line for each measurement."""
    lines = [
        {
            "claim": claim.id,
            "measured": each.what,
            "the paper": each.paper,
            "ours, 95 % interval": each.ours,
            "verdict": str(each.verdict),
        }
        for claim in claims(chapter)
        for each in evidence(claim, records)
    ]
    caption = "The claims that this chapter measures, each measurement with its verdict."
    return Table(pd.DataFrame(lines), caption, recorded(claims(chapter), records)).hide(axis="index")


def recorded(some: list[Claim], records: Records) -> str:
    """The provenance of the rows that the claims were measured on, experiment by experiment."""
    used: dict[str, list[RowReport | None]] = {}
    for claim in some:
        for name, row, _ in claim.numbers:
            used.setdefault(name, []).append(records.row(name, row))
        for said in claim.above:
            ranked = {row for higher, lowers in said["rows"].items() for row in (higher, *lowers)}
            used.setdefault(said["experiment"], []).extend(records.row(said["experiment"], row) for row in ranked)
        for found in (records.under(*said) for said in claim.protocols):
            if found is not None:
                used.setdefault(found.trials["experiment"].iloc[0], []).append(found)
    lines = []
    for name, found in used.items():
        once = {(row.name, row.trials["protocol"].iloc[0]): row for row in found if row is not None}
        lines.append(report.provenance(records.store, experiment(name), list(once.values())))
    lines += ["the list of files of CASIA that comes with the book"] * any(claim.corpus for claim in some)
    for name in dict.fromkeys(claim.cost for claim in some if claim.cost):
        lines.append(measured(f"cost-{name}", records.store.root)[1].removesuffix("."))
    return "; ".join(lines)


def page(records: Records) -> str:
    """The generated part of the page "Claims": how many stand how, then a section for each."""
    found = {claim.id: (claim, evidence(claim, records)) for claim in claims()}
    lines = [f"Measured on {records.store.corpus}. A claim with several measurements can stand on several lines.", ""]
    counted = []
    for word in WORDS:
        said = [id for id, (_, measured) in found.items() if word in {each.verdict.word for each in measured}]
        if said:
            named = [f"{{ref}}`{id} <claim-{id.lower()}>`" for id in said]
            counted.append((word, ", ".join(named)))
    lines.append(runs.table(("verdict", "claims"), counted))
    sections = (_section(claim, said, recorded([claim], records)) for claim, said in found.values())
    return "\n".join([*lines, *sections])


def _section(claim: Claim, measured: list[Evidence], record: str) -> str:
    about = f"\n\nAbout: {claim.about}." if claim.about else ""
    cells = [(each.what, each.paper, each.ours, each.verdict) for each in measured]
    lines = runs.table(("measured", "the paper", "ours, 95 % interval", "verdict"), cells).rstrip()
    return (
        f"(claim-{claim.id.lower()})=\n## {claim.id} · {claim.where}\n\n> “{claim.words}” ({claim.where}){about}\n\n"
        + lines
        + (f"\n\n{{.hmoe-record}}\n{runs.linked(record)}" if record else "")
        + f"\n\nChapter: {{doc}}`../{claim.chapter}`\n"
    )
