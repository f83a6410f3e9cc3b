"""The front page: what was found, in ten sentences from the records, and one figure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import nan

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hmoe.study import audit, report
from hmoe.study.claims import Records
from hmoe.study.costs import exponents, measured
from hmoe.study.experiments import ENCODERS, KNOWN, METRICS, ROBUSTNESS, TABLE_2, TABLE_3, TOLD, experiment
from hmoe.study.metrics import Estimate, holm
from hmoe.study.report import RowReport
from hmoe.study.robustness import CONDITIONS
from hmoe_book import figures, plots, runs

MODEL, FRAMES, SVM = "HMoE-SiMBA", "HMoE-SiMBA (frames)", "SVM, nested selection"
SAID = {FRAMES: "given frames", f"{MODEL} without augmentation": "trained without augmentation"}
PAPER = TABLE_2.row("HMoE-SiMBA").paper["accuracy"]
NEW, NEW_FRAMES = f"{MODEL}, new speaker", f"{FRAMES}, new speaker"

# What the figure shows: a line, and the row of an experiment that it is.
SHOWN = (
    ("HMoE-SiMBA, voices known", "table2", MODEL),
    ("HMoE-SiMBA on frames, voices known", "table2", FRAMES),
    ("SVM, library defaults, voices known", "table2", "SVM"),
    ("SVM, tuned, more than averages, voices known", "protocols", SVM),
    ("HMoE-SiMBA, a new voice", "protocols", NEW),
    ("HMoE-SiMBA on frames, a new voice", "protocols", NEW_FRAMES),
    ("spectra and prosody, a new voice on its own scale", "speakers", "both, own scale"),
)


READ = ("table2", "table3", "table3_frames", "baselines", "protocols", "speakers", "robustness")
"""The experiments whose records the sentences read."""


def sentences(recorded: Records) -> list[str]:
    """What the records say, at most ten sentences; one whose records are missing is left out."""
    said = []
    for sentence in (
        _letter, _frames, _baseline, _leaks, _strangers, _tried, _robustness, _ablation, _cost, _arithmetic,
    ):  # fmt: skip
        try:
            said.append(sentence(recorded))
        except KeyError:
            continue
    return said


def _accuracy(row: RowReport) -> str:
    return f"**{row.accuracy}** % (n = {row.accuracy.n})"


def _whole(r: Records, name: str, row: str) -> RowReport:
    """The row of an experiment. KeyError where it or some of its folds are not recorded: nothing is to be said yet."""
    found = r[name, row]
    if not found.whole:
        raise KeyError(row)
    return found


def _worth(r: Records, higher: str, lower: str) -> str:
    """What one protocol is worth to the model over another."""
    return report.worth(*(_whole(r, "protocols", f"{MODEL}, {protocol}") for protocol in (higher, lower))).signed()


def _letter(r: Records) -> str:
    return (
        f"The paper claims **{PAPER}** % on CASIA; built from its words, averaged features and all, the model reaches "
        f"{_accuracy(_whole(r, 'table2', MODEL))} in stratified 5-fold cross-validation."
    )


def _frames(r: Records) -> str:
    return (
        f"Given the sequence of frames that the text speaks of, at a size chosen on utterances that four of the "
        f"five folds test, it reaches {_accuracy(_whole(r, 'table2', FRAMES))}."
    )


def _baseline(r: Records) -> str:
    plain, careful = TABLE_2.row("SVM").paper["accuracy"], _whole(r, "protocols", SVM)
    nested = (_whole(r, "protocols", f"{model}, nested selection") for model in (MODEL, FRAMES))
    lead, framed = (report.worth(row, careful).signed() for row in nested)
    same = report.worth(*(_whole(r, "baselines", name) for name in (MODEL, "SVM, tuned"))).signed()
    return (
        f"A support vector machine, which the paper puts at {plain} %, reaches {_accuracy(careful)} once it is tuned "
        f"and reads more than averages, and the claimed lead of {PAPER - plain:.1f} points over it becomes {lead} "
        f"({same} where both read averages, {framed} given frames)."
    )


def _leaks(r: Records) -> str:
    epoch = _worth(r, "best epoch on the test fold", "last epoch")
    clean = "clean copies"  # what both are scored on
    copies = _worth(r, f"augmented before the split, {clean}", f"augmented after the split, {clean}")
    voice = _worth(r, "nested selection", "new speaker")
    svm = _whole(r, "protocols", "SVM, augmented before the split, clean copies")
    return (
        f"What a test gives away flatters the model: choosing the epoch on the test fold is worth {epoch} points, "
        f"having trained on disturbed copies of the test utterances {copies} (with them even the support vector "
        f"machine reaches {svm.accuracy} %), having heard the speaker's voice {voice}."
    )


def _strangers(r: Records) -> str:
    new = _whole(r, "protocols", NEW)
    try:
        frames = f", with frame-level input {_accuracy(_whole(r, 'protocols', NEW_FRAMES))}"
    except KeyError:
        frames = ""
    right, n, p = new.above_chance()
    return (
        f"Of the utterances of an unseen speaker the model recognises {_accuracy(new)}{frames}; the first is {right} "
        f"of {n}, where guessing gets {n / 6:.0f} ({report.p_value(p)})."
    )


def _tried(r: Records) -> str:
    rows = [row for row in r.found["speakers"] if row.name not in (KNOWN, TOLD) and row.whole]
    if len(rows) < 2:
        raise KeyError("speakers")
    others = ", ".join(f"{name} {value:.0f}" for name, value in ENCODERS.items())
    return (
        f"The best of the {len(rows)} ways of chapter 20 that are told nothing of an unseen speaker's emotions, chosen "
        f"each time on the other three speakers, recognises **{report.chosen_by_others(rows)}** % if it has all of the "
        f"speaker's recordings, unlabelled; published frozen encoders hear one recording at a time ({others})."
    )


def _robustness(r: Records) -> str:
    def kept(model: str) -> list[Estimate]:
        rows = {each: _whole(r, "robustness", f"{model}, {each}") for each in CONDITIONS}
        return [report.above_half(row, rows["clean"]) for row in rows.values()]

    ours, others = kept(MODEL)[1:], []  # clean is none of the conditions
    p_values = holm(np.array([each.p_value for each in ours]))
    n = sum(each.mean < 0 for each in ours)
    sure = sum(each.mean < 0 and p < report.LEVEL for each, p in zip(ours, p_values, strict=True))
    for model in dict.fromkeys(row.group for row in ROBUSTNESS.rows):
        with suppress(KeyError):
            lost = sum(each.mean < 0 for each in kept(model)[1:])
            others += [f"{SAID.get(model, model)} {lost}"] * (model != MODEL)
    beside = f" (of the others: {'; '.join(others)})" if others else ""
    return (
        f"“Robust performance in complex acoustic environments” was never tested: {n} of {len(CONDITIONS) - 1} ways to "
        f"disturb a recording cost the model more than half of its lead over chance, {sure} of them by more than "
        f"chance explains{beside}."
    )


def _ablation(r: Records) -> str:
    lower = [row.name for row in TABLE_3.rows if row.name != TABLE_3.reference]
    rows = [_whole(r, "table3", name) for name in (TABLE_3.reference, *lower)]
    tested = report.differences(rows, TABLE_3, {TABLE_3.reference: lower})
    if any(not each.recorded for each in tested):
        raise KeyError("table3")
    costly = [each.lower.removeprefix("w/o ") for each in tested if each.sign > 0]
    most = max((each.points.high for each in tested if each.sign == 0), default=0.0)
    said = (
        f"Of {len(tested)} parts whose removal is said to cost accuracy, {len(costly)} cost{'s' * (len(costly) == 1)} "
        f"more than chance explains{' (' * bool(costly)}{', '.join(costly)}{')' * bool(costly)}"
        f"{f', and none of the others more than {most:.1f} points' * (len(costly) < len(tested))}"
    )
    try:
        whole, without = (_whole(r, "table3_frames", name) for name in (TABLE_3.reference, "w/o SiMBA"))
    except KeyError:
        return f"{said}."
    return f"{said}; with frame-level input SiMBA is worth {report.worth(whole, without).signed()} points."


def _cost(r: Records) -> str:
    table = measured("cost-length", r.store.root)[0]
    if table.empty:
        raise KeyError("cost-length")
    at_200 = table[table["L"] == 200].set_index("part")[["step_s", "peak_mb"]]
    power = {part: fit.mean for part, fit in exponents(table).items()}
    ratio = at_200.loc["SiMBA"] / at_200.loc["attention"]
    return (
        f"The time of a training step of SiMBA grows like the length to the power {power['SiMBA']:.1f}, that of fused "
        f"attention to {power['attention']:.1f}, but on the 200 frames of an utterance SiMBA takes "
        f"{ratio['step_s']:.1f} times the time and {ratio['peak_mb']:.1f} times the memory, on one CPU thread."
    )


def _arithmetic(r: Records) -> str:
    rows = [row for row in TABLE_2.rows if len(row.paper) == len(METRICS) and not row.name.endswith("(frames)")]
    printed = pd.DataFrame([row.paper for row in rows], [row.name for row in rows], list(METRICS))
    once, averaged = (audit.summary(printed, audit.audit(printed, replace(audit.CASIA, runs=runs))) for runs in (1, 5))
    grid, own = once["impossible"] - averaged["impossible"], averaged["impossible"]
    return (
        f"Of the {printed.size} numbers of the paper's Table 2, {once['impossible']} cannot come from a balanced "
        f"corpus of 200 utterances a class, each tested once: {grid} are no multiple of half a percent, which averages "
        f"of runs could explain; {own} contradict their own row, and {averaged['unexplained']} of these neither "
        f"averages of runs nor unstratified folds can explain."
    )


def figure(recorded: Records) -> str:
    """The figure of the page as the `drawing` directive."""
    known = [(line, row.accuracy) for line, row in _shown(recorded).items()]
    figures.use()
    fig, ax = plt.subplots(figsize=(8, 1.4 + 0.36 * len(known)))
    plots.intervals(ax, [line for line, _ in known], [accuracy for _, accuracy in known], [nan] * len(known))
    ax.axvline(PAPER, color=figures.COLOURS[1], linewidth=2, label="the paper's claim")
    ax.axvline(100 / 6, color=figures.INK, linewidth=1, linestyle=":", label="chance")
    ax.set(xlim=(0, 100), xlabel="accuracy on CASIA, percent")
    ax.legend(loc="upper center", bbox_to_anchor=(0.3, -0.25), ncols=4)
    alt = "Accuracy on CASIA: " + "; ".join(f"{line} {accuracy} percent" for line, accuracy in known)
    drawing = figures.svg(fig, f"{alt}. The paper claims {PAPER}.")
    plt.close(fig)
    caption = (
        "What was claimed and what was found, on the same corpus. Bars, and square brackets below, are 95 % intervals; "
        "small dots, and round brackets, are the speakers who were left out; n counts trials (folds and seeds)."
    )
    return figures.framed("drawing", drawing, caption, provenance(recorded), "fig-found")["text/markdown"]


def _shown(recorded: Records) -> dict[str, RowReport]:
    rows = {line: recorded.row(name, row) for line, name, row in SHOWN}
    return {line: row for line, row in rows.items() if row}


def provenance(recorded: Records) -> str:
    """Of the rows in the figure, experiment by experiment."""
    shown = _shown(recorded)
    lines = []
    for name in dict.fromkeys(name for _, name, _ in SHOWN):
        rows = [shown[line] for line, of, _ in SHOWN if of == name and line in shown]
        lines += [report.provenance(recorded.store, experiment(name), rows)] * bool(rows)
    return "; ".join(lines)


def cite(recorded: Records) -> str:
    """If you cite a number: the model by the letter of the paper, for seen and for unseen speakers."""
    try:
        new, known = _whole(recorded, "protocols", NEW), _whole(recorded, "table2", MODEL)
    except KeyError:
        return "The number is not recorded yet.\n"
    commits = ", ".join(sorted(new.trials["commit"].unique()))
    return (
        f"Cite a pair, each with its protocol: **{known.accuracy} %** for seen speakers (stratified 5-fold, the "
        f"paper's protocol, n = {known.accuracy.n}) and **{new.accuracy} %** for unseen ones (one speaker left out, "
        f"each of the four in brackets). The paper prints {PAPER} for the first, and nothing for the second, which is "
        f"the nearest to what a user will see. Chance is 16.7 %.\n\n"
        f"results/{recorded.store.corpus}/protocols.csv, commit {commits}\n"
    )


def page(recorded: Records) -> str:
    """The generated part of the front page."""
    if not _shown(recorded):
        return f"No trial on {recorded.store.corpus} has been recorded yet.\n"
    said = "\n".join(f"{k}. {sentence}" for k, sentence in enumerate(sentences(recorded), 1))
    read = [f"results/{recorded.store.corpus}/{name}.csv" for name in READ]
    files = runs.linked(", ".join([*read, "results/bench/cost-length.csv"]))
    where = f"{{.hmoe-record}}\nThe sentences read {files}; commits, machines and dates: {{doc}}`runs`."
    return f"{figure(recorded)}\n{said}\n\n{where}\n"
