"""What a page trains itself, on the corpus of its parameters: a curve to look at, never a number to compare."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd

from hmoe.corpora import Corpus
from hmoe.study import grid
from hmoe.study.experiments import Experiment
from hmoe.study.profiles import Profile
from hmoe.study.trial import fit_split
from hmoe.train import one_thread
from hmoe_book import exhibit, figures


def learning(
    experiment: Experiment, rows: Sequence[str], corpus: Corpus, chosen: Profile, seed: int, device: str,
    selection: str = "nested", name: str = "",
) -> None:  # fmt: skip
    """Train rows of an experiment on their first fold, and show loss and held-out accuracy epoch by epoch.

    `selection` "nested" holds out training utterances, "test" watches the test fold. One fold of one seed says how
    training goes, not which row is better: so the figure has no number for either.
    """
    wanted = grid.trials([experiment], corpus, chosen, [seed], rows, device, selection=selection)
    histories: dict[str, pd.DataFrame] = {}
    for trial in wanted:
        if trial.row not in histories:
            bank = grid.open_bank(corpus, trial.config, 1, False, trial.features_on)
            with one_thread():
                histories[trial.row] = pd.DataFrame(fit_split(trial, corpus, bank)[1].history)
    watched = {"nested": "training utterances held out", "test": "the test fold"}[selection]
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    for (row, history), colour, line in zip(histories.items(), figures.COLOURS, ("-", "--", ":", "-."), strict=False):
        left.plot(history["epoch"], history["loss"], line, color=colour, label=row)
        right.plot(history["epoch"], 100 * history["held_out_accuracy"], line, color=colour)
    right.axhline(100 / len(corpus.emotions), color=figures.INK, linewidth=1, linestyle=":")
    left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    right.set(xlabel="epoch", ylabel=f"accuracy, percent\n({watched})", ylim=(0, 100))
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    falls = [f"{row} from {each['loss'].iloc[0]:.2f} to {each['loss'].iloc[-1]:.2f}" for row, each in histories.items()]
    ends = [f"{row} at {100 * each['held_out_accuracy'].iloc[-1]:.0f}" for row, each in histories.items()]
    figures.show(
        fig,
        alt=f"Left, training loss: {'; '.join(falls)}. Right, accuracy on {watched} ends: {'; '.join(ends)} percent.",
        caption=f"Training, live: one fold of one seed on the corpus {corpus.name}. Dotted: chance. It shows how "
        "training goes; which row is better it cannot tell.",
        record=exhibit.made(corpus, chosen.name, seed, device),
        name=name,
    )
