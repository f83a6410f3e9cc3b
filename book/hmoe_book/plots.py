"""The pictures that several chapters share, in the style of `figures`. What they show is computed elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from hmoe.mamba import MambaBlock
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.simba import ChannelSelection
from hmoe.study.experiments import Experiment
from hmoe.study.metrics import Estimate
from hmoe.study.report import Difference, RowReport
from hmoe_book.exhibit import displayed
from hmoe_book.figures import COLOURS, INK

FIRST_SCREEN = 4.2  # inches of a figure that a window of 900 pixels holds below a chapter's title, claim and result


def _rows(n: int, each: float = 0.34) -> tuple[Figure, Axes]:
    """Axes for `n` lines of text, as high as a first screen allows; where lines are many they stand closer."""
    fig, ax = plt.subplots(figsize=(8, min(1.2 + each * n, FIRST_SCREEN)))
    ax.tick_params(axis="y", labelsize=min(11.0, 60 * (FIRST_SCREEN - 0.8) / max(n, 1)))
    return fig, ax


def intervals(ax: Axes, names: Sequence[str], estimates: Sequence[Estimate], paper: Sequence[float]) -> None:
    """A line a name: our mean with its 95 % interval, or a dot for each speaker who was left out; and the paper's
    number (NaN: none) as a diamond. In percent."""
    y = np.arange(len(names))
    means = np.array([estimate.mean for estimate in estimates])
    ends = np.array([[estimate.low, estimate.high] for estimate in estimates]).reshape(-1, 2).T
    # One trial has no interval: NaN ends draw nothing.
    ax.hlines(y, *ends, color=COLOURS[0], linewidth=6, alpha=0.45, label="95 % interval")
    ax.plot(means, y, "o", color=COLOURS[0], markersize=8, label="ours, mean")
    for row, estimate in zip(y, estimates, strict=True):
        if estimate.parts:  # each speaker who was left out
            ax.plot(list(estimate.parts.values()), [row] * len(estimate.parts), ".", color=COLOURS[0], alpha=0.6)
    if not np.isnan(paper).all():
        ax.plot(paper, y, "D", color=COLOURS[1], markersize=8, fillstyle="none", markeredgewidth=2, label="paper")
    ax.set_yticks(y, names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("percent")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def accuracies(found: Sequence[RowReport], experiment: Experiment) -> Figure:
    """Every row of an experiment, recorded or not: our accuracy with its interval, and the paper's number."""
    ours = {row.name: row.accuracy for row in found}
    names = [str(displayed(row.name)) + " (not recorded yet)" * (row.name not in ours) for row in experiment.rows]
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    paper = [row.paper.get("accuracy", math.nan) for row in experiment.rows]
    fig, ax = _rows(len(names))
    intervals(ax, names, [ours.get(row.name, nothing) for row in experiment.rows], paper)
    ax.set_xlabel("accuracy, percent")
    return fig


def by_protocol(found: Sequence[RowReport], paper: float) -> Figure:
    """Rows of several models under several protocols: lines for each protocol, in a colour for each model.

    A row of which fewer folds are recorded than of another with the same protocol has a hollow mark.
    """
    models = list(dict.fromkeys(row.group for row in found))
    count = Counter(row.group for row in found)  # the model with most of the protocols says their order
    protocols = list(dict.fromkeys(row.at for row in sorted(found, key=lambda row: -count[row.group])))
    whole = {name: max(len(row.trials) for row in found if row.at == name) for name in protocols}
    fig, ax = plt.subplots(figsize=(8, 1.4 + 0.16 * len(models) * len(protocols)))
    for row in found:
        model, protocol = row.group, row.at
        colour, fill = COLOURS[models.index(model)], "full" if len(row.trials) == whole[protocol] else "none"
        y = protocols.index(protocol) + 0.8 * ((models.index(model) + 0.5) / len(models) - 0.5)
        ax.hlines(y, row.accuracy.low, row.accuracy.high, color=colour, linewidth=5, alpha=0.45)
        ax.plot(row.accuracy.mean, y, "o", color=colour, markersize=7, fillstyle=fill, markeredgewidth=2)
        if row.accuracy.parts:
            ax.plot(list(row.accuracy.parts.values()), [y] * len(row.accuracy.parts), ".", color=colour, alpha=0.6)
    for model, colour in zip(models, COLOURS, strict=False):
        ax.plot([], [], "o", color=colour, markersize=7, label=model)
    if any(len(row.trials) < whole[row.at] for row in found):
        ax.plot([], [], "o", color=INK, markersize=7, fillstyle="none", markeredgewidth=2, label="some folds only")
    ax.axvline(paper, color=INK, linewidth=1, linestyle="--", label="the paper's claim")
    ax.axvline(100 / 6, color=INK, linewidth=1, linestyle=":", label="chance")
    ax.set_yticks(range(len(protocols)), [str(displayed(each)) for each in protocols])
    ax.set(ylim=(max(len(protocols), 1) - 0.5, -0.5), xlim=(0, 100), xlabel="accuracy, percent")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.3, -0.1), ncols=3)
    return fig


def grouped(found: Mapping[str, Mapping[str, Estimate]], xlabel: str) -> Figure:
    """A line for each name, on it a colour for each series: a mean with its interval, or a dot for each speaker."""
    fullest = sorted(found.values(), key=len, reverse=True)  # says their order, and so their colours
    series = list(dict.fromkeys(name for each in fullest for name in each))
    fig, ax = _rows(max(len(found), 1), 0.12 + 0.17 * len(series))
    for y, each in enumerate(found.values()):
        for name, estimate in each.items():
            k = series.index(name)
            at, colour = y + 0.8 * ((k + 0.5) / len(series) - 0.5), COLOURS[k % len(COLOURS)]
            if estimate.parts:
                ax.plot(list(estimate.parts.values()), [at] * len(estimate.parts), ".", color=colour, alpha=0.6)
            else:
                ax.hlines(at, estimate.low, estimate.high, color=colour, linewidth=5, alpha=0.45)
            ax.plot(estimate.mean, at, "o", color=colour, markersize=6)
    for k, name in enumerate(series):
        ax.plot([], [], "o", color=COLOURS[k % len(COLOURS)], label=name)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(len(found)), list(found))
    ax.set(ylim=(max(len(found), 1) - 0.5, -0.5), xlabel=xlabel)
    ax.grid(axis="y", visible=False)
    if series:
        fig.legend(loc="outside lower center", ncols=min(len(series), 4))
    return fig


def losses(differences: Sequence[Difference]) -> Figure:
    """How many points each removal costs, with intervals, and the paper's numbers; at zero it costs nothing."""
    fig, ax = _rows(len(differences))
    points, paper = [each.points for each in differences], [each.paper for each in differences]
    intervals(ax, [each.lower for each in differences], points, paper)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_xlabel("points lost")
    # An interval of few runs may be wider than all there is to see: it runs out of the picture, with an arrow.
    reach = max(5.0, 2.5 * np.abs(np.nan_to_num([[each.mean for each in points], paper])).max(initial=0))
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -reach), min(high, reach))
    for y, each in enumerate(points):
        for end, edge, arrow in ((each.low, -reach, "<"), (each.high, reach, ">")):
            if abs(end) > reach:
                ax.plot(edge, y, arrow, color=COLOURS[0], clip_on=False)
    return fig


def curve(ax: Axes, found: Sequence[RowReport], experiment: Experiment) -> None:
    """Accuracy along the rows of an experiment, with intervals; a row that is not recorded leaves a gap."""
    ours = {row.name: row.accuracy for row in found}
    xs = [x for x, row in enumerate(experiment.rows) if row.name in ours]
    means = np.array([row.accuracy.mean for row in found])
    reach = np.array([[row.accuracy.mean - row.accuracy.low, row.accuracy.high - row.accuracy.mean] for row in found])
    ax.errorbar(xs, means, yerr=reach.T if xs else None, fmt="o-", capsize=5, color=COLOURS[0])
    ax.set_xticks(range(len(experiment.rows)), [row.at for row in experiment.rows])
    ax.set(xlabel=experiment.axis, ylabel="accuracy, percent", xlim=(-0.5, len(experiment.rows) - 0.5))


def confusion(ax: Axes, counts: np.ndarray, emotions: Sequence[str]) -> None:
    """`counts` (C, C), true class by row; each cell says its share of the row in percent."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, vmin=0, vmax=100, cmap="viridis")
    for row, column in np.ndindex(share.shape):
        colour = "black" if share[row, column] > 60 else "white"
        ax.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour)
    ticks = np.arange(len(emotions))
    ax.set_xticks(ticks, emotions, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, emotions)
    ax.set(xlabel="recognised as", ylabel="spoken as")
    ax.grid(visible=False)


def confusion_counts(predictions: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """From lines of `Store.predictions`, all of one corpus: (C, C) counts, true class by row, and the emotions."""
    letters, emotions = zip(*(each.split("=") for each in predictions["letters"].iloc[0].split()), strict=True)
    actual, predicted = (list("".join(predictions[side])) for side in ("actual", "predicted"))
    return confusion_matrix(actual, predicted, labels=letters), list(emotions)


def learning_curves(axes: Sequence[Axes], history: Sequence[dict[str, float]], best_epoch: int) -> None:
    """Loss on the first axes, accuracy of the held-out utterances on the second; the epoch that was kept is marked."""
    table = pd.DataFrame(history)
    loss, accuracy = axes
    loss.plot(table["epoch"], table["loss"], color=COLOURS[0], label="training, augmented")
    if "held_out_loss" in table:
        loss.plot(table["epoch"], table["held_out_loss"], color=COLOURS[1], linestyle="--", label="validation, clean")
        accuracy.plot(table["epoch"], 100 * table["held_out_accuracy"], color=COLOURS[1], linestyle="--")
    for ax in axes:
        ax.axvline(best_epoch, color=INK, linewidth=1, linestyle=":", label="epoch kept")
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    loss.set_ylabel("cross-entropy")
    loss.legend()
    accuracy.set_ylabel("validation accuracy, percent")


def influence(ax: Axes, matrix: Tensor, title: str) -> None:
    """`probe.influence` as a picture: input frame by row, output frame by column, on a logarithmic scale of six
    decades. Cells of exactly zero, frames that are never reached, stay empty."""
    reached = matrix.cpu().numpy()
    decades = np.log10(np.where(reached > 0, reached, np.nan)) - math.log10(reached.max())
    image = ax.imshow(decades, vmin=-6, vmax=0, cmap="viridis")
    ax.set(title=title, xlabel="output frame", ylabel="input frame disturbed")
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="influence, powers of ten", shrink=0.8)


def diagram(
    nodes: Mapping[str, tuple[float, float, str]],
    edges: Sequence[tuple[str, str] | tuple[str, str, str]],
    size: tuple[float, float],
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Boxes and arrows. `nodes`: x, y (downwards) of a box and its text; `edges`: from, to, and what flows there.

    A text of one sign stands in a circle.
    """
    fig = plt.figure(figsize=size, layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.axis("off")
    xs, ys = zip(*((x, y) for x, y, _ in nodes.values()), strict=True)
    ax.set(xlim=(min(xs) - 0.8, max(xs) + 0.8), ylim=(max(ys) + 0.6, min(ys) - 0.6))
    line = 16 / 72 * (np.ptp(ax.get_ylim()) / size[1])  # 16 points, in units of y
    boxes = {}
    for name, (x, y, text) in nodes.items():
        look = {"facecolor": "none", "edgecolor": (colours or {}).get(name, INK), "linewidth": 1.6}
        # Line by line, because a browser's font has other widths than the one that would centre them all at once.
        rows = text.split("\n")
        drawn = [
            ax.text(x, y + line * (k - (len(rows) - 1) / 2), row, ha="center", va="center", fontsize=10)
            for k, row in enumerate(rows)
        ]
        if len(text) == 1:
            drawn[0].set_bbox({"boxstyle": "circle,pad=0.3", **look})
            boxes[name] = drawn[0].get_bbox_patch()
            continue
        extents = [each.get_window_extent().transformed(ax.transData.inverted()) for each in drawn]
        margin = 14 / 72 * (np.ptp(ax.get_xlim()) / size[0])  # 7 points to each side
        width, height = max(each.width for each in extents) + margin, (len(rows) + 0.5) * line
        corner, style = (x - width / 2, y - height / 2), f"round,pad=0,rounding_size={0.25 * line}"
        boxes[name] = ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, clip_on=False, **look))
    for start, end, *label in edges:
        (a, b), (c, d) = nodes[start][:2], nodes[end][:2]
        look = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (c, d), (a, b), arrowprops=look | {"patchA": boxes[start], "patchB": boxes[end]})
        if label:
            ax.text((a + c) / 2, (b + d) / 2 - 0.3 * line, label[0], ha="center", va="bottom", fontsize=9)
    return fig


# --- Fig. 1, from the model itself ---


@dataclass(frozen=True)
class Box:
    """A part of the model: what it is, the shape that leaves it, how many parameters it has."""

    title: str
    shape: tuple[int, ...] = ()
    numbers: int = 0
    colour: str = INK

    def text(self) -> str:
        shape = "B × " + " × ".join(map(str, self.shape[1:])) if self.shape else ""
        return "\n".join(
            line for line in (self.title, shape, f"{self.numbers:,} parameters" * bool(self.numbers)) if line
        )


def architecture(model: HMoESiMBA, x: Tensor, lengths: Tensor | None = None) -> Figure:
    """Fig. 1 drawn from a model: its own modules, the shapes that flow through them for this batch, their sizes."""
    columns, trunk = _boxes(model, *_traced(model, x, lengths))
    width, height, depth = 2.0, 0.68, max(map(len, columns))
    rows = depth + len(trunk) + 1
    fig, ax = plt.subplots(figsize=(2.15 * len(columns), 1.08 * rows))
    ax.set(xlim=(-1.1, 2.2 * (len(columns) - 1) + 1.1), ylim=(-rows + 0.55, 0.45))
    ax.axis("off")
    middle = 1.1 * (len(columns) - 1)

    def draw(box: Box, column: float, row: int, wide: float = width) -> None:
        corner = (column - wide / 2, -row - height / 2)
        style = "round,pad=0,rounding_size=0.08"
        ax.add_patch(
            FancyBboxPatch(corner, wide, height, boxstyle=style, fill=False, edgecolor=box.colour, linewidth=1.6)
        )
        lines = box.text().split("\n")
        # Line by line, because a browser's font has other widths than the one that would centre them all at once.
        for number, line in enumerate(lines):
            y = -row + 0.155 * ((len(lines) - 1) / 2 - number)
            ax.text(column, y, line, ha="center", va="center", fontsize=9)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0})

    draw(Box("features, standardised", tuple(x.shape)), middle, 0, 3.2)
    for number, column in enumerate(columns):
        at = 2.2 * number
        arrow((middle + 0.35 * (at - middle), -height / 2), (at, -1 + height / 2))
        for row, box in enumerate(column, start=1):
            draw(box, at, row)
            if row > 1:
                arrow((at, 1 - row - height / 2), (at, height / 2 - row))
        # A column that ends early goes straight down first, so that its line crosses no box.
        ax.plot([at, at], [-len(column) - height / 2, -depth - height / 2], color=INK, linewidth=1)
        arrow((at, -depth - height / 2), (middle + 0.35 * (at - middle), -depth - 1 + height / 2))
    for row, box in enumerate(trunk, start=depth + 1):
        draw(box, middle, row, 3.2)
        if row > depth + 1:
            arrow((middle, 1 - row - height / 2), (middle, height / 2 - row))
    return fig


Shapes = dict[nn.Module, tuple[int, ...]]


@torch.no_grad()
def _traced(model: HMoESiMBA, x: Tensor, lengths: Tensor | None) -> tuple[Shapes, Shapes, dict[str, Tensor]]:
    """The shapes that enter and leave each module in one pass, and the tensors that have a name in the paper."""
    entered: Shapes = {}
    left: Shapes = {}

    def remember(module: nn.Module, inputs: tuple, output: object) -> None:
        entered[module] = tuple(inputs[0].shape)
        left[module] = tuple((output if isinstance(output, Tensor) else output[0]).shape)

    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    was_training = model.training
    try:
        return entered, left, model.eval().parts(x, lengths)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _boxes(
    model: HMoESiMBA, entered: Shapes, left: Shapes, parts: dict[str, Tensor]
) -> tuple[list[list[Box]], list[Box]]:
    """The parallel columns (experts, router) and the trunk below them, from top to bottom."""
    columns = []
    for colour, (name, expert) in zip(COLOURS, model.experts.items(), strict=False):
        # Normalisation and dropout belong to the layers that they stand between.
        (core,) = (m for m in expert.children() if m not in (expert.project, expert.mamba) and not _between(m))
        sizes = count_parameters(expert) - count_parameters(expert.project) - count_parameters(expert.mamba)
        column = [
            Box(
                f"{displayed(name)} expert\n{_title(expert.project)}",
                left[expert.project],
                count_parameters(expert.project),
                colour,
            ),
            Box(_title(core), entered[expert.mamba], sizes, colour),
        ]
        if isinstance(expert.mamba, MambaBlock):
            column.append(Box(_title(expert.mamba), left[expert.mamba], count_parameters(expert.mamba), colour))
        columns.append(column)
    router = [Box("mean over frames\nF_in (eq. 2–3)", tuple(parts["F_in"].shape), 0, COLOURS[3])]
    kind = "router\nMLP, softmax (eq. 6)" if model.router.learned else "no router\nuniform weights"
    router.append(Box(kind, tuple(parts["g"].shape), count_parameters(model.router), COLOURS[3]))
    columns.append(router)

    trunk = [Box("sum of experts, weighted by the router (eq. 5)", tuple(parts["H_HMoE"].shape))]
    if model.simba is not None:
        trunk += [
            Box(_title(stage), left[stage], count_parameters(stage), COLOURS[4]) for stage in model.simba.children()
        ][:: -1 if model.simba.mamba_first else 1]
    trunk.append(Box("mean over frames", tuple(parts["summary"].shape)))
    trunk.append(Box("classifier (eq. 1)", left[model.classifier], count_parameters(model.classifier)))
    return columns, trunk


def _between(module: nn.Module) -> bool:
    first = module[0] if isinstance(module, nn.ModuleList) else module
    return isinstance(first, nn.LayerNorm | nn.Dropout)


def _title(module: nn.Module) -> str:
    match module:
        case nn.ModuleList():
            return f"{len(module)} × {_title(module[0])}"
        case nn.Linear():
            return f"{module.in_features} → {module.out_features}"
        case nn.LSTM():
            return f"{module.num_layers} × LSTM"
        case nn.Conv1d():
            return f"convolution of {module.kernel_size[0]} frames"
        case nn.TransformerEncoderLayer():
            return f"attention, {module.self_attn.num_heads} heads"
        case MambaBlock():
            return f"Mamba, D_state {module.mamba.d_state}"
        case ChannelSelection():
            return f"EinFFT and selection, reading “{module.kind}” (eq. 7–8)"
        case _:
            return type(module).__name__
