"""Parts of pages that are made from data, so that no number in the book is typed by hand."""

from __future__ import annotations

import re

from hmoe.base.markdown import table
from hmoe.bench.gpu import CARD
from hmoe.study import claims, costs, ladder, report
from hmoe.study.experiments import experiment
from hmoe.study.store import Store
from hmoe.use import card
from hmoe_book import claims_page, datasheets, figures, prose, questions, runs, worked
from hmoe_book import front_page as found

RECORDED = "casia"
"""The corpus whose records the front page and the deviations show."""


def recorded() -> claims.Records:
    """What the front page, the claims, the deviations and the README rest on; given to all of them, it is read once."""
    return claims.Records(Store(RECORDED))


def fragments(records: claims.Records) -> dict[str, str]:
    """Every generated part as MyST, by its file name in `book/generated/`, which pages include."""
    store = records.store
    return {
        "front-page.md": found.page(records),
        "headline.md": runs.linked(numbered(headline(store), "Table 2 of the paper and what was recorded", "tab-rows")),
        "deviations.md": questions.page(records),
        "claims.md": claims_page.page(records),
        "runs.md": runs.page(store.root),
        "model-card.md": card.page(store),
        "datasheet-casia.md": datasheets.casia(),
        "datasheet-synthetic.md": datasheets.recipe(),
        "corpora.md": datasheets.others(),
        "paper-cost.md": paper_cost(),
        "gpu.md": gpu_expected(),
        "ladder.md": honest(Store("ravdess", store.root)),
        **worked.audits(),
        **worked.blocks(),
    }


def honest(store: Store) -> str:
    """What `hmoe protocols` recorded of a corpus: the figure, each test, what each leak is worth."""
    found = ladder.read(store, ladder.SVM, ladder.STEPS)
    if not found.found:
        return f"Nothing has been recorded on {store.corpus} yet.\n"
    figures.use()
    drawn = ladder.figure([found], store.corpus.upper(), ladder.chance(store.utterances()))
    trials = list(found.found.values())
    record = report.provenance(store, ladder.experiment(ladder.SVM, ladder.STEPS), trials)
    drawing = figures.svg(drawn, ladder.described([found]))
    caption = f"An SVM under every protocol that {store.corpus.upper()} permits. Arrows: what a leak is worth."
    lines = [(title, each.accuracy, len(each.trials)) for title, each in found.found.items()]
    tests = table(["test", "accuracy, %", "trials"], lines)
    leaks = table(["what a test gives away", "points"], [(leak.what, leak.points.signed()) for leak in found.leaks])
    return figures.framed("drawing", drawing, caption, record, "fig-ladder")["text/markdown"] + f"\n{tests}\n{leaks}"


def numbered(text: str, caption: str, name: str) -> str:
    """MyST whose first table gets a number, a caption and a name; a text without a table as it is."""
    table = re.search(r"^(\|.*\n)+", text, flags=re.MULTILINE)
    directive = "".join([f":::{{table}} {caption}\n:name: {name}\n", table[0], ":::\n"]) if table else ""
    return text.replace(table[0], directive, 1) if table else text


def headline(store: Store) -> str:
    """The rows of Table 2 that are recorded, beside the paper's; or that there are none."""
    recorded = report.rows(store, experiment("table2"))
    if not recorded:
        return f"No trial on {store.corpus} has been recorded yet.\n"
    head = ("row of Table 2", "the paper, %", "ours, % with 95 % interval", "trials", "verdict")
    cells = [
        (
            row.name, row.paper.get("accuracy", "–"), row.accuracy, len(row.trials),
            prose.marked(row.judge("accuracy")) if row.paper else "–",
        )
        for row in recorded
    ]  # fmt: skip
    lines = [table(head, cells).rstrip()]
    lines += ["", _behind(report.provenance(store, experiment("table2"), recorded)), "", *unseen(store)]
    return "\n".join(lines)


def paper_cost() -> str:
    """What `hmoe bench paper` recorded: the whole, and the rows that take most of it."""
    table, _ = costs.measured("paper")
    if table.empty:
        return "Nothing has been recorded yet.\n"
    whole, rows = table.iloc[-1], table.iloc[:-1].nlargest(5, "total_s")
    longest = ", ".join(f"{row['row'].split(': ')[-1]} {row['total_s'] / 60:.0f}" for _, row in rows.iterrows())
    return (
        f"Recorded, {whole['how']}: one seed of the whole paper, {whole['trials']:.0f} trainings and all features, "
        f"takes {whole['total_s'] / 3600:.1f} hours. The longest rows, in minutes of one processor: {longest}.\n\n"
        + _behind(
            f"results/bench/paper.csv: {whole['corpus']}, {whole['workers']} processes, {whole['machine']}, commit "
            f"{whole['commit']}, {whole['date'][:10]}"
        )
        + "\n"
    )


def gpu_expected() -> str:
    """What arithmetic says of the book's trainings on a GPU, and the compiler of the scan's kernels.

    `tools/gpu.sh expected` and `tools/gpu.sh kernels` write what is read here. Nothing of it is measured.
    """
    table, line = costs.measured("gpu-expected")
    compiled, compiled_line = costs.measured("scan-kernels")
    parts = []
    if len(table):
        whole, floor = table["total_s"].sum(), (table["trials"] * table["floor_s"]).sum()
        busy = table["launches"] * CARD.kernel + table["bytes"] / CARD.bandwidth + table["operations"] / CARD.operations
        steps, launching = table["trials"] * table["steps"], table["launches"] * CARD.host
        alone, with_graphs = (steps * launching.clip(lower=busy)).sum(), (steps * busy).sum()
        cells = [
            (
                row["row"], f"{row['launches']:,.0f}", f"{row['bytes'] / 1e6:.0f}", f"{row['operations'] / 1e9:.2f}",
                f"{1e6 * row['floor_s'] / row['steps']:.0f}", f"{1e6 * row['trial_s'] / row['steps']:.0f}",
                f"{row['trial_s']:.0f}",
            )
            for _, row in table[table["experiment"] == "table2"].iterrows()
        ]  # fmt: skip
        head = (
            "row of Table 2", "operations launched", "MB read and written", "10⁹ floating-point operations",
            "floor, µs", "expected, µs", "expected of a trial, s",
        )  # fmt: skip
        caption = "A training step of 32 utterances on an H100, and a trial among 16 side by side: arithmetic"
        parts += [
            f"**By arithmetic, not measured:** all {table['trials'].sum():,.0f} trainings of this book's networks, "
            f"three seeds, take {whole / 3600:.1f} hours on one GPU of the class of an H100 with 16 processes. No "
            f"program could take less than {floor / 60:.0f} minutes, the floor. The difference is launches: these "
            f"networks are small, and an operation is taken to cost {1e6 * CARD.host:.0f} µs of a core and "
            f"{1e6 * CARD.kernel:.0f} µs of the card. One process alone would take {alone / 3600:.1f} hours, waiting "
            f"for its core. With `--graphs` it launches a step at once and takes {with_graphs / 3600:.1f} hours. More "
            "processes do not shorten that, as the card is busy.",
            "",
            numbered(runs.table(head, cells), caption, "tab-gpu"),
            "The floor of a step is the larger of two times. One is its operations at 67 Tflop/s. The other is memory "
            "at 3.0 TB/s: the batch, and each parameter's value, gradient and moments, read and written once. The "
            "expected time adds what each operation reads and writes as it is launched today. A recurrent layer counts "
            "as one launch. On a GPU it is more, so rows with an LSTM or a GRU take longer than this.",
            "",
            _behind(line.replace("measurements,", "rows, worked out on")),
            "",
        ]
    if len(compiled):
        columns = ["pass", "N", "channels", "states", "registers", "spilled", "shared", "programs", "occupancy"]
        compiler = ", ".join(sorted(set(compiled["triton"])))
        head = (
            "pass", "N", "channels a program", "states a program", "registers a thread", "spilled, bytes",
            "shared, bytes", "programs a multiprocessor", "occupancy, %",
        )  # fmt: skip
        caption = f"The scan's kernels, compiled by Triton {compiler} for sm_90, without a GPU"
        parts += [
            numbered(runs.table(head, list(compiled[columns].itertuples(index=False))), caption, "tab-kernels"),
            "A program is one warp that walks through time with its states in registers, 8 in each thread. Wider tiles "
            "spill or halve the programs that fit; narrower ones leave more partial sums to add up. How many registers "
            "the backward pass may take is bounded, because what the compiler takes differs from version to version.",
            "",
            _behind(compiled_line.replace("measurements,", "kernels, compiled on")),
            "",
        ]
    return "\n".join(parts) or "Nothing has been worked out yet.\n"


def unseen(store: Store) -> list[str]:
    """What Table 2 does not ask: how much of the accuracy is left for an unseen speaker."""
    audit = experiment("protocols")
    unseen = {row.name for row in audit.rows if row.protocol == "speaker"}
    new = [row for row in report.rows(store, audit) if row.name in unseen]
    if not new:
        return []
    said = "; ".join(f"{row.group} {row.accuracy}" for row in new)
    return [
        f"**An unseen speaker**, which the paper does not test; in brackets each of the four left out: {said}. "
        "Chance is 16.7 %.",
        "",
        _behind(report.provenance(store, audit, new)),
        "",
    ]


def _behind(record: str) -> str:
    """Where numbers come from, behind the mark that figures have."""
    return f'<details class="hmoe-record"><summary>Where this comes from</summary>\n\n{record}\n\n</details>'


def readme(records: claims.Records) -> str:
    """What the README says of the records: the headline and the findings, then Table 2."""
    return found.readme(records) + headline(records.store)


def fill(text: str, content: str) -> str:
    """`text` with what stands between its two marks, `<!-- results:start -->` and `<!-- results:end -->`, replaced."""
    before, start, rest = text.partition("<!-- results:start -->")
    _, end, after = rest.partition("<!-- results:end -->")
    return f"{before}{start}\n{content}{end}{after}" if start and end else text
