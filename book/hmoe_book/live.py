"""What a page trains itself, on the corpus of its parameters: a curve to look at, never a number to compare."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.model import HMoESiMBA
from hmoe.study import grid, robustness
from hmoe.study.experiments import Experiment
from hmoe.study.profiles import Profile, store_for
from hmoe.study.trial import Trial, fit_split, inputs_of
from hmoe.train import fit, one_thread
from hmoe_book import exhibit, figures


def learning(
    experiment: Experiment, rows: Sequence[str], corpus: Corpus, chosen: Profile, seed: int, device: str,
    selection: str = "nested", name: str = "",
) -> None:  # fmt: skip
    """Train rows of an experiment on their first fold, and show loss and held-out accuracy epoch by epoch.

    `selection` "nested" holds out training utterances, "test" watches the test fold. One fold of one seed says how
    training goes, not which row is better: so the figure has no number for either.
    """
    histories: dict[str, pd.DataFrame] = {}
    for trial in first_folds(grid.trials([experiment], corpus, chosen, [seed], rows, device, selection=selection)):
        bank = grid.open_bank(corpus, trial.config, 1, False, trial.features_on)
        with one_thread():
            histories[trial.row] = pd.DataFrame(fit_split(trial, corpus, bank).run.history)
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
        caption=f"Training, live: one fold of one seed on the corpus {corpus.name}. Dotted: chance.",
        record=exhibit.made(corpus, chosen.name, seed, device),
        name=name,
    )


def expert(
    name: str, corpus: Corpus, seed: int, device: str, **changes: object
) -> tuple[HMoESiMBA, Inputs, list[dict[str, float]]]:
    """A model of one expert and a classifier, trained on all of a corpus in seconds: to look into, not to compare.

    Frames of 40 ms, 32 channels, no Mamba block, no augmentation. Returns the model, what it read, its history.
    """
    plain = {"reading": "frames", "frame_stride": 4, "augment": (), "d_model": 32, "d_state": 16, "dropout": 0.0}
    whole = {"experts": (name,), "expert_mamba": False, "simba": False, "lr": 5e-3, "epochs": 12, "lr_decay_every": 4}
    config = Config(**{**plain, **whole, **changes})
    inputs = Inputs.of(grid.open_bank(corpus, config, workers=1, progress=False), config, device)
    rows = np.arange(len(corpus))
    with one_thread():
        model, run = fit(
            lambda: HMoESiMBA(config, len(corpus.emotions)), inputs, corpus.labels, rows, None, config, seed
        )
    return model, inputs, run.history


def first_folds(trials: Sequence[Trial]) -> list[Trial]:
    """Of each row the trial of its first fold."""
    return list({trial.row: trial for trial in reversed(trials)}.values())[::-1]


def predictions(
    experiment: Experiment, rows: Sequence[str], corpus: Corpus, chosen: Profile, seed: int, device: str
) -> exhibit.Table:
    """Train rows of an experiment on their first fold; a table of what each says of one test utterance an emotion."""
    answers: dict[str, dict[str, str]] = {}
    for trial in first_folds(grid.trials([experiment], corpus, chosen, [seed], rows, device)):
        bank = grid.open_bank(corpus, trial.config, 1, False, trial.features_on)
        with one_thread():
            said = fit_split(trial, corpus, bank).predict(inputs_of(trial, corpus, bank), trial.split.test)
        answers[trial.row] = _answers(corpus, trial, [corpus.emotions[c] for c in said])
    return _beside(answers, corpus, chosen, seed, device)


def heard(
    experiment: Experiment, rows: Sequence[str], corpus: Corpus, chosen: Profile, seed: int, device: str
) -> exhibit.Table:
    """As `predictions`, of rows that differ in the condition of the test utterances: one model, trained once."""
    group = first_folds(grid.trials([experiment], corpus, chosen, [seed], rows, device))
    robustness.prepare(group, corpus, 1, False)
    bank = grid.open_bank(corpus, group[0].config, 1, False, group[0].features_on)
    answers = {}
    for trial, outcome in zip(
        group, robustness.outcomes(group, corpus, bank, store_for(corpus.name, chosen, device)), strict=True
    ):
        letters = dict(each.split("=") for each in outcome.said["letters"].split())
        answers[trial.condition] = _answers(corpus, trial, [letters[letter] for letter in outcome.said["predicted"]])
    return _beside(answers, corpus, chosen, seed, device)


def _answers(corpus: Corpus, trial: Trial, said: Sequence[str]) -> dict[str, str]:
    """What was said of the first test utterance of each emotion; a cross where it was another."""
    table = corpus.table.iloc[trial.split.test].assign(said=list(said)).drop_duplicates("emotion")
    return {each.emotion: each.said + " ✗" * (each.said != each.emotion) for each in table.itertuples()}


def _beside(
    answers: dict[str, dict[str, str]], corpus: Corpus, chosen: Profile, seed: int, device: str
) -> exhibit.Table:
    table = pd.DataFrame(answers).reindex(corpus.emotions).rename_axis("spoken as")
    caption = "One test utterance of each emotion, and what was heard in it (✗: another emotion)."
    return exhibit.Table(table, caption, exhibit.made(corpus, chosen.name, seed, device))
