"""§3.7: end-to-end training with cross-entropy (eq. 10). One plain loop.

Nothing random is carried from one epoch to the next: order, augmented copies and dropout of an epoch come from
(seed, epoch). So a checkpoint is weights and moments, and a run cut off and resumed gives the same bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from tqdm import tqdm

from hmoe.base.errors import TrainingError
from hmoe.base.files import atomic_write
from hmoe.base.recorded import Recorded
from hmoe.base.seeds import stable_seed
from hmoe.config import Config
from hmoe.mamba import decayed

CHECKPOINT_EVERY = 10  # epochs
FUSED = ("cpu", "cuda")  # where PyTorch has the optimiser's step as one kernel


class Batches(Protocol):
    """What a model is trained on, as `hmoe.inputs.batches` gives it; `rows` count in the table of the corpus.

    Inputs that are `held` on the device have `gather(rows, copies, T)` too, `batch` by indices that are tensors there.
    """

    device: str

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """`rows`, `copies` (B,), copy 0 the clean utterance -> x (B, T, D) and lengths (B,), None if all fill T."""

    def clean(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """`batch` of clean utterances."""

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        """(B,) tokens of each, without reading them."""

    def moments(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) over the clean tokens of `rows`."""


@dataclass
class Run:
    """Where training stands: all that a checkpoint holds beside the tensors."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0  # counted from 1; the last one where nothing selects
    best: tuple[float, float] = (-math.inf, -math.inf)  # held-out accuracy, minus held-out loss
    history: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)  # of the best epoch
    last: dict[str, Tensor] = field(default_factory=dict, repr=False)  # of the last one, where the best was kept


def fit(
    build: Callable[[], nn.Module],
    inputs: Batches,
    labels: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray | None,
    config: Config,
    seed: int,
    checkpoint: Path | None = None,
    progress: bool = False,
    graphs: bool = False,
) -> tuple[nn.Module, Run]:
    """Train on the rows `train`; the rows `held_out` choose the epoch, or None: the last one is kept (Q7).

    `build()` makes the untrained model; `labels` (n,) are class indices of the whole table. Where `checkpoint`
    is given, the state is written there every 10 epochs and taken up again from there; whoever saves the model deletes
    it then. `graphs` records each step as a CUDA graph (`hmoe.base.recorded`), which needs inputs that are held on the
    device.
    Raises `TrainingError` as soon as the loss of an epoch is not finite or the device is out of memory, and for labels
    to be smoothed where a model has a loss of its own.
    """
    torch.manual_seed(stable_seed(seed, "init"))
    model = build().to(inputs.device)
    if hasattr(model, "loss") and config.label_smoothing:
        raise TrainingError("label_smoothing", f"{config.model!r} has a loss of its own", "leave label_smoothing at 0")
    if config.standardise:
        model.standardise.fit(*inputs.moments(train))
    optimizer_class = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    fused = torch.device(inputs.device).type in FUSED
    options = {"lr": config.lr, "betas": config.betas, "fused": fused}
    if graphs and torch.device(inputs.device).type == "cuda":  # a recorded step finds its learning rate on the device
        options |= {"lr": torch.tensor(config.lr, device=inputs.device), "capturable": True}
    optimizer = optimizer_class(decayed(model, config.weight_decay), **options)
    recorded = Recorded(inputs.device) if graphs else None
    targets = torch.from_numpy(labels).to(inputs.device)
    run = Run()
    if checkpoint is not None:
        with suppress(FileNotFoundError):  # none yet, or a lost worker's twin of this trial has just ended
            run = load_checkpoint(checkpoint, model, optimizer)

    epochs = range(run.epoch, config.epochs)
    for epoch in tqdm(epochs, initial=run.epoch, total=config.epochs, unit="epoch", disable=not progress):
        lr = config.lr * config.lr_decay ** (epoch // config.lr_decay_every)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], Tensor) else lr
        try:
            loss = train_epoch(model, optimizer, inputs, targets, train, config, seed, epoch, recorded)
            logits = None if held_out is None else predict(model, inputs, held_out)
        except torch.OutOfMemoryError:
            remedy = "fewer --workers, or --set batch_size or frame_stride"
            raise TrainingError(f"epoch {epoch + 1}", f"{inputs.device} is out of memory", remedy) from None
        record = {"epoch": epoch + 1, "loss": loss}
        run.epoch = epoch + 1
        if logits is not None:
            record["held_out_loss"] = F.cross_entropy(logits, targets[held_out]).item()
            record["held_out_accuracy"] = (logits.argmax(1) == targets[held_out]).double().mean().item()
            now = (record["held_out_accuracy"], -record["held_out_loss"])
            if now > run.best:
                run.best, run.best_epoch = now, epoch + 1
                run.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        run.history.append(record)
        if checkpoint is not None and run.epoch % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, model, optimizer, run)

    if held_out is not None and run.weights:
        run.last = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(run.weights)
    else:
        run.best_epoch = run.epoch
    return model.eval(), run


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Batches,
    targets: Tensor,
    train: np.ndarray,
    config: Config,
    seed: int,
    epoch: int,
    recorded: Recorded | None = None,
) -> float:
    """One pass over `train`, each utterance as one of its augmented copies (§3.3). Returns the mean loss.

    Of inputs held on the device a step makes its batch there, by indices that came once: it never waits for the host.
    """
    rng = np.random.default_rng(stable_seed(seed, "epoch", epoch))
    torch.manual_seed(stable_seed(seed, "dropout", epoch))
    order = rng.permutation(train)
    copies = rng.integers(1, config.copies + 1, len(train)) if config.augment else np.zeros(len(train), int)
    model.train()
    criterion = getattr(model, "loss", None) or nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    held = getattr(inputs, "held", None)

    def step(rows: np.ndarray | Tensor, copies: np.ndarray | Tensor, T: int) -> Tensor:
        x, lengths = inputs.gather(rows, copies, T) if held else inputs.batch(rows, copies)
        # Eq. 10: \mathcal{L} = -\frac{1}{N} \sum_i \log p(y^{(i)} | \mathbf{F}(\mathbf{x}^{(i)}); \mathbf{\Theta})
        loss = criterion(model(x, lengths), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    if recorded:
        step = partial(recorded, step)
    tokens = inputs.lengths(order, copies)
    dealt = batches(tokens, config.batch_size, rng)
    rows, copies = (each[np.concatenate(dealt)] for each in (order, copies))
    if held:
        rows, copies = (torch.from_numpy(each).to(inputs.device) for each in (rows, copies))
    total, end = torch.zeros((), device=inputs.device), 0
    for batch in dealt:
        own = slice(end, end := end + len(batch))
        total += step(rows[own], copies[own], int(tokens[batch].max())) * len(batch)
    mean = total.item() / len(train)
    if not math.isfinite(mean):
        raise TrainingError(
            f"epoch {epoch + 1}", f"the loss is {mean}", f"lower lr (now {config.lr}) or check the audio"
        )
    return mean


def batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator, pool: int = 8) -> list[np.ndarray]:
    """Positions 0..n-1 in batches of nearly equal size.

    Where lengths (n,) differ, each `pool` batches' worth of utterances is sorted by length and the batches are
    shuffled: far less padding, and who meets whom still changes from epoch to epoch.
    """
    n_batches = math.ceil(len(lengths) / batch_size)
    if (lengths == lengths[0]).all():
        return np.array_split(np.arange(len(lengths)), n_batches)
    pools = np.array_split(np.arange(len(lengths)), math.ceil(n_batches / pool))
    by_length = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in pools])
    dealt = np.array_split(by_length, n_batches)
    return [dealt[i] for i in rng.permutation(n_batches)]


@torch.no_grad()
def predict(model: nn.Module, inputs: Batches, rows: np.ndarray, batch_size: int = 128) -> Tensor:
    """Logits (len(rows), C) of clean utterances.

    A table is sorted by speaker and emotion. Where a model says that its answers depend on their batch
    (`batch_matters`), rows are shuffled, so that who is tested together says nothing of the emotion.
    """
    model.eval()
    order = np.arange(len(rows))
    if getattr(model, "batch_matters", False):
        order = np.random.default_rng(0).permutation(order)
    parts = np.array_split(rows[order], math.ceil(len(rows) / batch_size))
    return torch.cat([model(*inputs.clean(part)) for part in parts])[np.argsort(order)]


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> None:
    """Weights, best weights and the optimiser's moments as safetensors; the rest as JSON in its header."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.weights.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    facts = {"epoch": run.epoch, "best_epoch": run.best_epoch, "best": run.best, "history": run.history}
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    atomic_write(path, save(contiguous, metadata={"run": json.dumps(facts)}))


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Run:
    """The inverse of `save_checkpoint`. Raises `TrainingError` if it is of another model or damaged."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        part = partial(_part, tensors)
        model.load_state_dict(part("model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer.").items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return Run(facts["epoch"], facts["best_epoch"], tuple(facts["best"]), facts["history"], part("best."))
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise TrainingError(path, f"not a checkpoint of this model ({why})", "delete it to start again") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextmanager
def one_thread() -> Iterator[None]:
    """A trial computes on one thread: sums keep their order, and trials side by side do not fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # numpy's and scikit-learn's
            yield
    finally:
        torch.set_num_threads(before)
