"""The front page: what was found, sentence by sentence from the records, and one figure."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd

from hmoe import audit, figures, plots, report
from hmoe.experiments import AUDITS, ENCODERS, EXPERIMENTS, METRICS, TABLE_2, TABLE_3, experiment
from hmoe.report import RowReport
from hmoe.store import Store

PAPER = TABLE_2.row("HMoE-SiMBA").paper["accuracy"]
NEW, NEW_FRAMES = "HMoE-SiMBA, new speaker", "HMoE-SiMBA (frames), new speaker"

# What the figure shows: a line, and the row of an experiment that it is.
SHOWN = (
    ("HMoE-SiMBA, voices known", "table2", "HMoE-SiMBA"),
    ("HMoE-SiMBA on frames, voices known", "table2", "HMoE-SiMBA (frames)"),
    ("SVM, library defaults, voices known", "table2", "SVM"),
    ("SVM, an hour of care, voices known", "protocols", "SVM, nested selection"),
    ("HMoE-SiMBA, a new voice", "protocols", NEW),
    ("HMoE-SiMBA on frames, a new voice", "protocols", NEW_FRAMES),
    ("spectra and prosody, a new voice on its own scale", "speakers", "both, own scale"),
)


class Recorded:
    """Rows of all experiments by (experiment, row)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: dict[tuple[str, str], RowReport] = {
            (each.name, row.name): row for each in (EXPERIMENTS | AUDITS).values() for row in report.rows(store, each)
        }

    def __call__(self, name: str, row: str) -> RowReport:
        """KeyError where it is not recorded."""
        return self.rows[name, row]


def sentences(recorded: Recorded) -> list[str]:
    """What the records say, each sentence on its own; one whose records are missing is left out."""
    said = []
    for sentence in (
        _letter, _intent, _baseline, _selection, _copies, _sentences, _strangers, _linear, _arithmetic, _ablation,
    ):  # fmt: skip
        try:
            said.append(sentence(recorded))
        except KeyError:
            continue
    return said


def _accuracy(row: RowReport) -> str:
    return f"**{row.accuracy}** % ({row.accuracy.n} trials)"


def _worth(r: Recorded, model: str, higher: str, lower: str) -> str:
    """What a leak is worth to a model, and to it given frames. KeyError where not all folds are recorded."""
    rows = [r("protocols", f"{model}, {protocol}") for protocol in (higher, lower)]
    if any(row.accuracy.n < row.least for row in rows):
        raise KeyError(model)
    said = report.worth(*rows).signed() + " points"
    try:
        return f"{said} ({_worth(r, f'{model} (frames)', higher, lower)} given frames)"
    except KeyError:
        return said


def _letter(r: Recorded) -> str:
    return (
        f"The paper claims **{PAPER}** % on CASIA. Built from its words, averaged features and all, the "
        f"model reaches {_accuracy(r('table2', 'HMoE-SiMBA'))} on the same protocol.{_choices(r)}"
    )


def _choices(r: Recorded) -> str:
    """What the paper leaves open, switched one at a time; nothing where no such row is recorded whole."""
    of_paper = [row for (name, _), row in r.rows.items() if name == "ambiguities" and row.name.startswith("Q")]
    others = [row for row in of_paper if row.accuracy.n >= report.LEAST]
    if not others:
        return ""
    best = max(others, key=lambda row: row.accuracy.mean)
    return (
        f" Of {len(others)} other answers to what it leaves open, each tried alone, even the best by the test folds "
        f"(“{best.name}”) reaches {best.accuracy}."
    )


def _intent(r: Recorded) -> str:
    frames = r("table2", "HMoE-SiMBA (frames)")
    return (
        f"Given the sequence of frames that the text speaks of, at a size chosen on training utterances, it reaches "
        f"{_accuracy(frames)}."
    )


def _baseline(r: Recorded) -> str:
    plain, careful = r("table2", "SVM"), r("protocols", "SVM, nested selection")
    return (
        f"The paper's support vector machine stands at {TABLE_2.row('SVM').paper['accuracy']} %. Ours with the "
        f"library's defaults on unscaled features stands at {plain.accuracy} %; standardised, tuned inside the "
        f"training utterances and given deviations and percentiles, it reaches {_accuracy(careful)}."
    )


MODEL, NESTED = "HMoE-SiMBA", "nested selection"


def _selection(r: Recorded) -> str:
    gain = _worth(r, MODEL, "best epoch on the test fold", "last epoch")
    return (
        "The paper names no validation set. Choosing the epoch on the test fold, which that would allow, is worth "
        f"{gain} over the last epoch."
    )


def _copies(r: Recorded) -> str:
    every, clean = (
        _worth(r, MODEL, f"augmented before the split{scored}", NESTED) for scored in ("", ", clean copies")
    )
    return f"Augmenting before the split is worth {every} with all copies scored, {clean} on clean ones."


def _sentences(r: Recorded) -> str:
    return f"Knowing the words of a test utterance is worth {_worth(r, MODEL, NESTED, 'new sentences')}."


def _strangers(r: Recorded) -> str:
    frames = r.rows.get(("protocols", NEW_FRAMES))
    return (
        f"Knowing its voice is worth {_worth(r, MODEL, NESTED, 'new speaker')}: of a speaker whom it never heard the "
        f"model recognises {_accuracy(r('protocols', NEW))}"
        f"{f', given frames {_accuracy(frames)}' if frames else ''}, where chance is 16.7 %."
    )


def _linear(r: Recorded) -> str:
    best = r("speakers", "both, own scale")
    return (
        f"Two linear classifiers on spectra and prosody, on each speaker's own scale, recognise {_accuracy(best)} "
        f"of a new speaker's utterances without any pre-trained network (frozen encoders, one utterance at a time: "
        f"{', '.join(f'{name} {value:.0f}' for name, value in ENCODERS.items())})."
    )


def _arithmetic(r: Recorded) -> str:
    rows = [row for row in TABLE_2.rows if len(row.paper) == len(METRICS) and not row.name.endswith("(frames)")]
    printed = pd.DataFrame([row.paper for row in rows], [row.name for row in rows], list(METRICS))
    once, averaged = (int(audit.impossible(printed, repeats).to_numpy().sum()) for repeats in (1, 5))
    return (
        f"Of the {printed.size} numbers of the paper's Table 2, {once} cannot come from a balanced corpus of 200 "
        f"utterances a class, each tested once; {averaged} cannot even if five such runs were averaged."
    )


def _ablation(r: Recorded) -> str:
    lower = [row.name for row in TABLE_3.rows if row.name != TABLE_3.reference]
    rows = [r("table3", name) for name in (TABLE_3.reference, *lower)]
    verdict = report.order(report.differences(rows, TABLE_3, {TABLE_3.reference: lower}))
    words = "removing any key module from HMoE-SiMBA decreases performance"
    said = f"Of Table 3, “{words}”: {verdict.word} ({verdict.why})."
    try:
        cost = report.worth(r("table3_frames", TABLE_3.reference), r("table3_frames", "w/o SiMBA"))
    except KeyError:
        return said
    printed = TABLE_3.row(TABLE_3.reference).paper["accuracy"] - TABLE_3.row("w/o SiMBA").paper["accuracy"]
    return f"{said} Given frames, removing SiMBA costs {cost.signed()} points (the paper: {printed:.1f})."


def figure(recorded: Recorded) -> str:
    """The figure of the page as the `drawing` directive."""
    known = [(line, recorded.rows[name, row].accuracy) for line, name, row in SHOWN if (name, row) in recorded.rows]
    figures.use()
    fig, ax = plt.subplots(figsize=(8, 1.4 + 0.36 * len(known)))
    plots.intervals(ax, [line for line, _ in known], [accuracy for _, accuracy in known], [float("nan")] * len(known))
    ax.axvline(PAPER, color=figures.COLOURS[1], linewidth=2, label="the paper's claim")
    ax.axvline(100 / 6, color=figures.INK, linewidth=1, linestyle=":", label="chance")
    ax.set(xlim=(0, 100), xlabel="accuracy on CASIA, percent")
    ax.legend(loc="upper center", bbox_to_anchor=(0.3, -0.25), ncols=4)
    alt = "Accuracy on CASIA: " + "; ".join(f"{line} {accuracy} percent" for line, accuracy in known)
    drawing = figures.svg(fig, f"{alt}. The paper claims {PAPER}.")
    plt.close(fig)
    caption = "What was claimed and what was found, on the same corpus, with 95 % intervals over folds and seeds."
    box = f'<div class="hmoe-scroll" tabindex="0">{drawing}</div>'
    return figures.directive("drawing", box, caption, provenance(recorded), "fig-found")


def provenance(recorded: Recorded) -> str:
    """Of the rows in the figure, experiment by experiment."""
    lines = []
    for name in dict.fromkeys(name for _, name, _ in SHOWN):
        rows = [recorded.rows[key] for key in ((n, row) for _, n, row in SHOWN if n == name) if key in recorded.rows]
        lines += [report.provenance(recorded.store, experiment(name), rows)] * bool(rows)
    return "; ".join(lines)


def cite(recorded: Recorded) -> str:
    """If you cite one number from this paper."""
    try:
        new, known = recorded("protocols", NEW), recorded("table2", "HMoE-SiMBA")
    except KeyError:
        return "The number is not recorded yet.\n"
    trials = pd.concat([new.trials, known.trials])
    held = sum(row.accuracy.holds(PAPER) for row in (new, known))
    beside = ("outside", "inside one of", "inside")[held]
    where = f"results/{recorded.store.corpus}/, commit {', '.join(sorted(trials['commit'].unique()))}"
    return (
        f"Cite **{new.accuracy} %**, its accuracy on CASIA for a voice that it never heard (one speaker left out, "
        f"{new.accuracy.n} folds, nested selection; chance is 16.7 %). That is nearest to what a user of the model "
        f"will see, who is none of the four actors of CASIA, and in no studio. To compare with papers that test known "
        f"voices, cite {known.accuracy} % beside it (stratified 5-fold, nested selection, {known.accuracy.n} trials), "
        f"and say that it is of known voices. The paper's {PAPER} is {beside} both intervals.\n\n{where}\n"
    )


def page(store: Store, draw: Callable[[Recorded], str] = figure) -> str:
    """The generated part of the front page."""
    recorded = Recorded(store)
    said = "\n".join(f"{k}. {sentence}" for k, sentence in enumerate(sentences(recorded), 1))
    if not any((name, row) in recorded.rows for _, name, row in SHOWN):
        return f"No trial on {store.corpus} has been recorded yet.\n"
    return f"{draw(recorded)}\n{said}\n"
