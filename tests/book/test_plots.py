"""What chapters share: probes of modules, the pictures made of them, and what stands beside pictures."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.study import report
from hmoe.study.experiments import FIGURE_2, FIGURE_3_FRAMES, Experiment
from hmoe.study.metrics import Estimate
from hmoe_book import exhibit, plots, probe

SMALL = {"d_model": 16, "d_selected": 8, "d_state": 8, "router_width": 8}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_influence_finds_the_one_frame_that_is_reached() -> None:
    reached = probe.influence(lambda x: x.roll(1, dims=1), torch.randn(5, 3))
    assert ((reached > 0) == torch.eye(5, dtype=torch.bool).roll(1, dims=1)).all()


def test_influence_is_as_large_as_the_output_moves() -> None:
    tokens = torch.randn(4, 3)
    once, thrice = (probe.influence(lambda x, factor=factor: factor * x, tokens) for factor in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once)


def test_idle_counts_the_numbers_that_nothing_reaches() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.muted, self.absent = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x) + 0 * self.muted(x)

    counts = probe.idle(Half(), torch.randn(7, 3))
    assert counts["numbers"].to_dict() == {
        "used.weight": 6, "used.bias": 2, "muted.weight": 6, "muted.bias": 2, "absent.weight": 6, "absent.bias": 2
    }  # fmt: skip
    assert counts["idle"].tolist() == [0, 0, 6, 2, 6, 2]


def test_idle_leaves_the_module_as_it_was() -> None:
    linear = nn.Linear(3, 2)
    probe.idle(linear, torch.randn(4, 3))
    assert linear.weight.grad is None and linear.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reading": "frames", "experts": ("lstm", "cnn"), "router": "uniform", "simba_order": "mamba-einfft"},
        {"reading": "modalities", "expert_mamba": False, "einfft": "rfft", "cnn_layers": 3},
        {"simba": False, "modalities": ("mel",)},
    ],
)
def test_the_numbers_in_the_architecture_are_those_of_the_model(changes: dict) -> None:
    model = HMoESiMBA(Config(**SMALL, **changes), 6)
    fig = plots.architecture(model, torch.randn(2, 9 if changes.get("reading") == "frames" else 1, 260))
    text = "\n".join(each.get_text() for each in fig.axes[0].texts)
    shown = sum(int(number.replace(",", "")) for number in re.findall(r"([\d,]+) parameters", text))
    assert shown == count_parameters(model)
    assert all(exhibit.NAMES[name] in text for name in model.config.experts)


def test_drawing_a_model_leaves_no_hooks_and_the_mode_as_it_was() -> None:
    model = HMoESiMBA(Config(**SMALL), 6).train()
    plots.architecture(model, torch.randn(2, 1, 260))
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_nothing_recorded_is_an_empty_figure() -> None:
    _, ax = plt.subplots()
    plots.intervals(ax, [], [], [])
    assert len(ax.get_yticks()) == 0
    plt.close("all")


def test_confusion_counts_read_the_letters_of_records() -> None:
    lines = pd.DataFrame({"letters": ["a=anger b=fear"] * 2, "actual": ["aab", "bb"], "predicted": ["abb", "bb"]})
    counts, emotions = plots.confusion_counts(lines)
    assert emotions == ["anger", "fear"]
    assert counts.tolist() == [[1, 1], [0, 3]]  # one of anger is taken for fear, none of fear for anger


def test_confusion_shows_shares_of_the_true_class() -> None:
    _, ax = plt.subplots()
    plots.confusion(ax, np.array([[3, 1], [0, 0]]), ["anger", "fear"])
    assert [each.get_text() for each in ax.texts] == ["75", "25", "0", "0"]


def test_intervals_mark_our_mean_and_the_paper() -> None:
    _, ax = plt.subplots()
    plots.intervals(ax, ["full", "less"], [Estimate(80, 75, 85, 5), Estimate(70, 66, 74, 5)], [92.2, float("nan")])
    ours, paper = (line.get_xdata() for line in ax.lines)
    assert list(ours) == [80, 70] and paper[0] == 92.2 and np.isnan(paper[1])


@pytest.mark.parametrize("experiment", [FIGURE_2, FIGURE_3_FRAMES], ids=lambda experiment: experiment.name)
def test_a_curve_stands_over_the_values_that_its_rows_take(experiment: Experiment) -> None:
    _, ax = plt.subplots()
    plots.curve(ax, [], experiment)
    field = experiment.axis.lower()
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(row.changes[field]) for row in experiment.rows]
    assert ax.get_xlabel() == experiment.axis


def test_by_protocol_each_model_has_a_colour_and_a_row_cut_short_a_hollow_mark() -> None:
    def row(model: str, protocol: str, folds: int, mean: float) -> report.RowReport:
        measured = {"accuracy": Estimate(mean, mean - 1, mean + 1, folds)}
        trials = pd.DataFrame(index=range(folds))
        return report.RowReport(f"{model} {protocol}", measured, {}, trials, group=model, at=protocol)

    found = [
        row("SVM", "known", 5, 10.0), row("SVM", "new, twice", 4, 20.0),
        row("TIM-Net", "known", 5, 30.0), row("TIM-Net", "new, twice", 2, 40.0),
    ]  # fmt: skip
    ax = plots.by_protocol(found, 92.2).axes[0]
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [(mark.get_xdata()[0], mark.get_fillstyle()) for mark in marks] == [
        (10, "full"), (20, "full"), (30, "full"), (40, "none"),
    ]  # fmt: skip
    assert marks[0].get_color() == marks[1].get_color() != marks[2].get_color() == marks[3].get_color()
    assert [round(mark.get_ydata()[0]) for mark in marks] == [0, 1, 0, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["known", "new, twice"]
    further = row("TIM-Net", "first", 5, 5.0)
    three = plots.by_protocol([*found[:2], further, *found[2:]], 92.2).axes[0].get_yticklabels()
    assert [label.get_text() for label in three] == ["first", "known", "new, twice"]
    assert "some folds only" in ax.get_legend_handles_labels()[1]
    assert "some folds only" not in plots.by_protocol(found[:3], 92.2).axes[0].get_legend_handles_labels()[1]


def test_source_is_what_stands_in_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    exhibit.source(probe.influence)
    shown = capsys.readouterr().out
    assert "`book/hmoe_book/probe.py`, lines " in shown and "@torch.no_grad()" in shown and "def influence(" in shown


def test_only_the_synthetic_corpus_is_said_to_mean_nothing(
    small_corpus: Corpus, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    exhibit.note(small_corpus)
    assert "means nothing about emotion" in capsys.readouterr().out
    exhibit.note(tiny_corpus)
    assert "means nothing" not in capsys.readouterr().out


def test_an_interval_of_few_runs_does_not_stretch_the_axis_for_all() -> None:
    estimates = {
        "w/o a": Estimate(1.0, -0.5, 2.5, 15),
        "w/o b": Estimate(2.0, -168, 172, 2),
        "w/o c": Estimate(*[np.nan] * 3, 0),
    }
    lost = [report.Difference("accuracy", "full", name, each, 3.0, 1.0) for name, each in estimates.items()]
    ax = plots.losses(lost).axes[0]
    low, high = ax.get_xlim()
    assert -10 < low < -0.5 and 3.0 < high < 10
    arrows = {
        line.get_marker(): line.get_ydata()
        for line in ax.lines
        if line.get_marker() in "<>" and len(line.get_xdata()) == 1
    }
    assert {marker: list(ys) for marker, ys in arrows.items()} == {"<": [1], ">": [1]}


def test_a_diagram_has_its_texts_and_an_arrow_for_each_edge() -> None:
    nodes = {"a": (0, 0, "from\nhere"), "b": (2, 0, "×"), "c": (4, 1, "to")}
    ax = plots.diagram(nodes, [("a", "b"), ("b", "c", "what flows")], (4, 2)).axes[0]
    texts = [each.get_text() for each in ax.texts]
    assert {"from", "here", "×", "to", "what flows"} <= set(texts)
    assert sum(getattr(each, "arrow_patch", None) is not None for each in ax.texts) == 2
