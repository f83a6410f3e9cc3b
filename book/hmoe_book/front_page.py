"""What the front page and the README say of the records; their sentences stand in `book/*.md.jinja`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from hmoe.study import audit, report
from hmoe.study.claims import Records
from hmoe.study.costs import exponents, measured
from hmoe.study.experiments import AUDITS, ENCODERS, EXPERIMENTS, KNOWN, METRICS, ROBUSTNESS, TABLE_2, TABLE_3, TOLD
from hmoe.study.experiments import experiment as named
from hmoe.study.metrics import Estimate, holm
from hmoe.study.protocols import PROTOCOLS
from hmoe.study.report import RowReport
from hmoe.study.robustness import CONDITIONS
from hmoe_book import figures, prose, runs
from hmoe_book.questions import entries

MODEL, FRAMES, SVM = "HMoE-SiMBA", "HMoE-SiMBA (frames)", "SVM, nested selection"
PAPER = TABLE_2.row(MODEL).paper["accuracy"]
READ = ("table2", "table3", "table3_frames", "controls_frames", "baselines", "protocols", "speakers", "robustness")
"""The experiments whose records the sentences read."""


@dataclass(frozen=True)
class Bar:
    """A line of the waterfall: from where to where, in percent, and what stands beside it."""

    label: str
    left: float
    right: float
    text: str
    kind: str  # "claim", "found", "gain", "loss"
    found: Estimate | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends, if there is an interval."""
        return None if self.found is None or isnan(self.found.low) else (self.found.low, self.found.high)

    @property
    def dots(self) -> list[float]:
        """The speakers who were left out."""
        return list(self.found.parts.values()) if self.found else []


def facts(r: Records) -> dict[str, Any]:
    """What the templates speak of, by name; None where the records of it are missing or not whole."""
    known: dict[str, Any] = {"paper": PAPER, "corpus": r.store.corpus, "chance": 100 / 6, "questions": len(entries())}
    for each in (_seen, _pooled, _ends, _unseen, _svm, _mlp, _leaks, _tried, _robust, _parts, _cost, _printed):
        known[each.__name__[1:]] = None
        with suppress(KeyError):
            known[each.__name__[1:]] = each(r)
    return known | _recorded(r)


def _whole(r: Records, name: str, row: str) -> RowReport:
    """The row of an experiment. KeyError where it or some of its folds are not recorded: nothing is to be said yet."""
    found = r[name, row]
    if not found.whole:
        raise KeyError(row)
    return found


def _either(r: Records, name: str, row: Callable[[str], str]) -> RowReport:
    """With frame-level input, on which verdicts rest; on averages until that is recorded."""
    try:
        return _whole(r, name, row(FRAMES))
    except KeyError:
        return _whole(r, name, row(MODEL))


def _seen(r: Records) -> RowReport:
    return _either(r, "table2", str)


def _pooled(r: Records) -> RowReport:
    return _whole(r, "table2", MODEL)


def _ends(r: Records) -> dict[str, RowReport]:
    """What the same model reaches where nothing chooses its epoch, and where the test fold does."""
    model = _seen(r)
    rows = {
        how: _whole(r, "protocols", f"{model.name}, {how}") for how in ("last epoch", "best epoch on the test fold")
    }
    if any(row.config.replace(selection=model.config.selection) != model.config for row in rows.values()):
        raise KeyError(model.name)
    return {"last": rows["last epoch"], "test": rows["best epoch on the test fold"]}


def _unseen(r: Records) -> dict[str, Any]:
    for model in (FRAMES, MODEL):
        with suppress(KeyError):
            row, seen = (_whole(r, "protocols", f"{model}, {each}") for each in ("unseen speaker", "nested selection"))
            break
    else:
        raise KeyError("unseen speaker")
    right, n, p = row.above_chance()
    return {
        "row": row,
        "seen": seen,
        "worth": report.worth(seen, row),
        "same": seen.config.key() == _seen(r).config.key(),
        "right": right,
        "n": n,
        "guessed": round(n / 6),
        "p": report.p_value(p),
    }


def _svm(r: Records) -> dict[str, Any]:
    tuned, last = _whole(r, "protocols", SVM), None
    with suppress(KeyError):
        last = report.worth(_ends(r)["last"], tuned)
    return {
        "last": last,
        "plain": TABLE_2.row("SVM").paper["accuracy"],
        "tuned": tuned,
        "lead": report.worth(_either(r, "protocols", "{}, nested selection".format), tuned),
        "averages": report.worth(*(_whole(r, "baselines", name) for name in (MODEL, "SVM, tuned"))),
    }


def _mlp(r: Records) -> dict[str, Any]:
    whole, plain = (_whole(r, "controls_frames", name) for name in (MODEL, "MLP"))
    return {"row": plain, "lead": report.worth(whole, plain)}


def _leaks(r: Records) -> dict[str, Any]:
    """What each shortcut is worth, to the model that the page is about."""
    model = FRAMES if _seen(r).name == FRAMES else MODEL

    arms = {
        "epoch": ("best epoch on the test fold", "last epoch"),
        "copies": ("augmented before the split, clean copies", "augmented after the split, clean copies"),
    }
    rows = {leak: [_whole(r, "protocols", f"{model}, {each}") for each in pair] for leak, pair in arms.items()}
    return {
        **{leak: report.worth(*pair) for leak, pair in rows.items()},
        "rows": rows,
        "falling": any(row.still_falling for row in rows["copies"]),
        "svm": (svm := [_whole(r, "protocols", f"SVM, {each}") for each in arms["copies"]])[0],
        "svm_copies": report.worth(*svm),
    }


def _tried(r: Records) -> dict[str, Any]:
    rows = [row for row in r.found["speakers"] if row.name not in (KNOWN, TOLD) and row.whole]
    if len(rows) < 2:
        raise KeyError("speakers")
    return {"rows": len(rows), "best": report.chosen_by_others(rows), "encoders": ENCODERS}


def _robust(r: Records) -> dict[str, Any]:
    """Of each model that was heard in all conditions: in how many it loses more than half of its lead over chance."""
    lost, shown = {}, {}
    for model in dict.fromkeys(row.group for row in ROBUSTNESS.rows):
        with suppress(KeyError):
            rows = {each: _whole(r, "robustness", f"{model}, {each}") for each in CONDITIONS}
            kept = [report.above_half(row, rows["clean"]) for name, row in rows.items() if name != "clean"]
            below = np.array([each.mean < 0 for each in kept])
            lost[model] = int(below.sum())
            shown[model] = int((below & (holm(np.array([each.p_value for each in kept])) < report.LEVEL)).sum())
    model = FRAMES if FRAMES in lost else MODEL
    bare = f"{MODEL} without augmentation"
    others = {name: n for name, n in lost.items() if name not in (model, bare)}
    counts = {"lost": lost[model], "shown": shown[model], "others": others, "bare": lost.get(bare)}
    return {"conditions": len(CONDITIONS) - 1, **counts}


def _parts(r: Records) -> dict[str, Any]:
    try:
        return _ablated(r, "table3_frames") | {"input": "frame-level input"}
    except KeyError:
        return _ablated(r, "table3") | {"input": "averaged input"}


def _part(removal: report.Difference) -> str:
    name = TABLE_3.row(removal.lower).at
    return f"the {name}" if name.endswith(("router", "expert")) else name


def _ablated(r: Records, name: str) -> dict[str, Any]:
    lower = [row.name for row in TABLE_3.rows if row.name != TABLE_3.reference]
    rows = [_whole(r, name, row) for row in (TABLE_3.reference, *lower)]
    tested = report.differences(rows, named(name), {TABLE_3.reference: lower})
    if any(not each.recorded for each in tested):
        raise KeyError(name)
    return {
        "removed": len(tested),
        "costly": [_part(each) for each in tested if each.sign > 0],
        "harmful": [_part(each) for each in tested if each.sign < 0],
        "most": max((each.points.high for each in tested if each.sign == 0), default=0.0),
    }


def _cost(r: Records) -> dict[str, Any]:
    table = measured("cost-length", r.store.root)[0]
    if table.empty:
        raise KeyError("cost-length")
    at_200 = table[table["L"] == 200].set_index("part")[["step_s", "peak_mb"]]
    ratio = at_200.loc["SiMBA"] / at_200.loc["attention"]
    longest = table.pivot(index="L", columns="part")[["step_s", "peak_mb"]].dropna().iloc[-1]
    long = {name: longest[name, "SiMBA"] / longest[name, "attention"] for name in ("step_s", "peak_mb")}
    power = {part: fit.mean for part, fit in exponents(table).items()}
    of_long = {"frames": int(longest.name), "long_time": long["step_s"], "long_memory": long["peak_mb"]}
    return {"power": power, "time": ratio["step_s"], "memory": ratio["peak_mb"], **of_long}


def _printed(_: Records) -> dict[str, Any]:
    """The arithmetic of the paper's Table 2, which needs no record."""
    # A row of a group is the same printed row again.
    rows = [row for row in TABLE_2.rows if len(row.paper) == len(METRICS) and not row.group]
    table = pd.DataFrame([row.paper for row in rows], [row.name for row in rows], list(METRICS))
    once, averaged = (audit.summary(table, audit.audit(table, replace(audit.CASIA, runs=runs))) for runs in (1, 5))
    return {
        "numbers": table.size,
        "impossible": once["impossible"],
        "grid": once["impossible"] - averaged["impossible"],
        "own": averaged["impossible"],
        "unexplained": averaged["unexplained"],
    }


def _recorded(r: Records) -> dict[str, Any]:
    """How much was trained, and of the rows that are run again on frame-level input how many are recorded."""
    # A training that was tested under several conditions, or that two experiments read, is one.
    tables = [r.store.read(path.stem) for path in sorted(r.store.folder.glob("*.csv"))]
    trials = pd.concat(tables, ignore_index=True) if tables else r.store.read("")
    trained = trials["protocol"].map(lambda name: PROTOCOLS[name].training if name in PROTOCOLS else name)
    once = trials.assign(trained=trained).drop_duplicates(["config", "trained", "seed", "fold"])
    whole, asked = 0, 0
    for name, each in (EXPERIMENTS | AUDITS).items():
        if "frames" in name:
            rows = {row.name for row in each.rows if row.config().reading == "frames"}
            whole, asked = whole + sum(row.whole for row in r.found[name] if row.name in rows), asked + len(rows)
    return {
        "trainings": len(once),
        "utterances": len(r.store.utterances()),
        "again": {"whole": whole, "rows": asked},
    }


def waterfall(known: dict[str, Any]) -> list[Bar]:
    """From the claim to what was found, what each shortcut adds to it, and what is left of it for an unseen speaker."""
    seen, unseen, leaks = known["seen"], known["unseen"], known["leaks"]
    if seen is None:
        return []
    ours = seen.accuracy
    gap = seen.apart()
    bars = [
        Bar("The paper's claim", 0, PAPER, f"{PAPER} %", "claim"),
        Bar("The difference", *sorted((ours.mean, PAPER)), gap.signed(), "loss"),
        Bar("Ours, the paper's protocol", 0, ours.mean, f"{ours} %", "found", ours),
    ]
    if leaks:
        for label, leak in (
            ("Shortcut: epoch by the test fold", "epoch"),
            ("Shortcut: copies of test utterances", "copies"),
        ):
            after, before = (row.accuracy.mean for row in leaks["rows"][leak])
            said = f"{leaks[leak].signed()} ({before:.1f} → {after:.1f})"
            bars.append(Bar(label, *sorted((before, after)), said, "gain" if after > before else "loss"))
    if unseen:
        left = unseen["row"].accuracy
        bars += [
            Bar("Speaker not heard in training", left.mean, ours.mean, prose.minus(-unseen["worth"].mean), "loss"),
            Bar("Ours, an unseen speaker", 0, left.mean, f"{left.mean:.1f} %", "found", left),
        ]
    return bars


def provenance(known: dict[str, Any]) -> str:
    """Of the rows in the figure, experiment by experiment."""
    unseen, leaks = known["unseen"], known["leaks"]
    lines = [report.provenance(known["seen"].store, TABLE_2, [known["seen"]])]
    rows = [*([unseen["seen"], unseen["row"]] if unseen else []), *([leaks["svm"]] if leaks else [])]
    return "; ".join([*lines, *[report.provenance(row.store, named("protocols"), rows) for row in rows[:1]]])


def page(recorded: Records) -> str:
    """The front page."""
    known = facts(recorded)
    bars = waterfall(known)
    drawn = prose.page("waterfall", bars=bars, paper=PAPER, chance=known["chance"]).replace("\n", "")
    caption = (
        "What was claimed and what was found on CASIA, in percent. Each shortcut is measured alone, from the accuracy "
        "without it to that with it; they do not add up. Copies are augmented copies in training. Square brackets: "
        "95 % interval. Dots: each of the four speakers, left out."
    )
    figure = figures.directive("drawing", drawn, caption, provenance(known), "fig-found") if bars else ""
    read = ", ".join([f"results/{known['corpus']}/{name}.csv" for name in READ] + ["results/bench/cost-length.csv"])
    return prose.page("front-page", figure=figure, files=runs.linked(read), **known)


def readme(recorded: Records) -> str:
    """What the README says first: the headline and the findings, as on the front page."""
    return prose.page("readme", **facts(recorded))
