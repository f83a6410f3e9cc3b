"""What can be said of a GPU without one: what the compiler makes of the scan's kernels, and the floor of a training.

Nothing here is measured on a GPU. `kernels` compiles for one; `step` counts what a training step does, on a CPU;
`expected` divides that by the rates of `Card`, some of which are assumptions and are named so.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hmoe import peers
from hmoe.base import stamp
from hmoe.base.files import results_dir
from hmoe.bench.cost import operations
from hmoe.config import Architecture, Config, Features
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Held, Inputs
from hmoe.mamba import decayed
from hmoe.readings import READINGS
from hmoe.study import grid
from hmoe.study.experiments import AUDITS, EXPERIMENTS
from hmoe.study.profiles import PROFILES, Profile
from hmoe.study.store import Store
from hmoe.study.trial import Trial

ARCHITECTURE, WARP = 90, 32  # sm_90: H100, H200
REGISTERS, WARPS, BLOCKS = 65_536, 64, 32  # of a multiprocessor of sm_90: CUDA's table of technical specifications
STATES = (16, 64, 256, 512)
SPEECH = (1.6, 2.2)  # s, the shortest and longest of a batch: CASIA's mean is 1.9, and like lengths go together


@dataclass(frozen=True)
class Card:
    """What a GPU can do in a second. `host` and `kernel` are assumptions; (e) of `tools/gpu.sh` will replace them."""

    bandwidth: float = 3.0e12  # bytes read and written by a copy on the device; an H200's 4.3e12
    operations: float = 6.7e13  # float32, without tensor cores: the data sheet
    host: float = 8e-6  # s: what Python and PyTorch take to launch one operation
    kernel: float = 3e-6  # s: the shortest that a small kernel takes on the card, its start and end included


CARD = Card()
WORKERS = 16  # processes side by side, one for each core


def kernels(states: Iterable[int] = STATES) -> pd.DataFrame:
    """Both passes of the scan compiled for sm_90, with N states: a line for each.

    `registers` of a thread, `spilled` bytes, `shared` bytes, `programs` that a multiprocessor holds, `occupancy` in
    percent of its warps, `exponentials` of a thread in a step. Needs Triton, not a GPU, and no `TRITON_INTERPRET`.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hmoe.scan import triton as ours

    rows = []
    for N in states:
        for kernel in (ours.forward_kernel, ours.backward_kernel):
            fixed = dict(ours.tile(N))
            warps, names = fixed.pop("num_warps"), kernel.arg_names
            whole = {*ours.SIZES, *ours.STRIDES}
            types = {name: "i32" if name in whole else "*fp32" for name in names} | dict.fromkeys(fixed, "constexpr")
            aligned = {
                (i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if types[name].startswith("*")
            }  # as PyTorch allocates
            source = ASTSource(kernel, types, constexprs=fixed, attrs=aligned)
            bound = {"maxnreg": ours.most_registers(N)} if kernel is ours.backward_kernel else {}
            made = triton.compile(source, GPUTarget("cuda", ARCHITECTURE, WARP), {"num_warps": warps, **bound})
            used = _resources(made.asm["cubin"])
            held = min(REGISTERS // (-(-used["REG"] // 8) * 8 * WARP * warps), WARPS // warps, BLOCKS)
            rows.append(
                {
                    "pass": kernel.fn.__name__.removesuffix("_kernel"),
                    "N": N,
                    "channels": fixed["LANES"],
                    "states": fixed["STATES"],
                    "warps": warps,
                    "registers": used["REG"],
                    "spilled": used["LOCAL"] + used["STACK"],
                    "shared": made.metadata.shared,
                    "programs": held,
                    "occupancy": round(100 * held * warps / WARPS),
                    "exponentials": made.asm["ptx"].count("ex2.approx"),
                    "triton": triton.__version__,
                }
            )
    return pd.DataFrame(rows)


def _resources(cubin: bytes) -> dict[str, int]:
    """What cuobjdump, which comes with Triton, says of a kernel: REG, STACK, SHARED, LOCAL ..."""
    program = Path(find_spec("triton").origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", said)}


class _Counted(TorchDispatchMode):
    """Operations that would be launched on a GPU, and the bytes that they read and write. Views launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        read = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        own = {leaf.untyped_storage().data_ptr() for leaf in read}
        new = [leaf for leaf in made if leaf.untyped_storage().data_ptr() not in own]
        if (new and "empty" not in str(function)) or function._schema.is_mutable:
            self.launches += 1
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in (*read, *new))
        return result


def batch(config: Config) -> tuple[Tensor, Tensor | None]:
    """Noise of the shape that a model of this configuration is trained on: x (B, T, D), and lengths (B,) of frames."""
    B, width = config.batch_size, sum(config.dims.values())
    if not READINGS[config.reading].sequence:
        return torch.randn(B, 1, READINGS[config.reading].width(width)), None
    seconds = torch.linspace(*SPEECH, B)
    samples = torch.full((B,), config.pad_to) if config.pad_to else (seconds * config.sample_rate).long()
    frames = 1 + samples // config.hop
    lengths = -(-frames // config.frame_stride)
    return torch.randn(B, int(lengths.max()), width), lengths


@dataclass(frozen=True)
class Noise(Inputs):
    """Inputs held on a device that no bank stands behind."""

    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return self.tokens[rows]


def noise(config: Config, device: str) -> Noise:
    """`batch` as inputs of so many utterances, each clean."""
    x, lengths = batch(config)
    B, T, _ = x.shape
    lengths = torch.ones(B, dtype=torch.long) if lengths is None else lengths
    held = (x.flatten(0, 1), torch.arange(B)[None] * T, lengths[None])
    held = Held(*(each.to(device) for each in held))
    return Noise(None, config.reading, config.frame_stride, device, None, held, lengths.numpy())


def step(config: Config) -> dict[str, int]:
    """Of one training step: floating-point `operations`, `launches`, `bytes` that these read and write, `least` bytes.

    `least` is what no program could do without: the batch, and of each parameter the value, the gradient and both
    moments, read and written once. ConfigError for a model that there is not.
    """
    torch.manual_seed(0)
    model = peers.build(config, 6)
    optimizer = torch.optim.AdamW(decayed(model, config.weight_decay), fused=True)
    (x, lengths), targets = batch(config), torch.arange(config.batch_size) % 6
    criterion = getattr(model, "loss", None) or nn.CrossEntropyLoss()

    def train() -> None:
        optimizer.zero_grad()
        criterion(model.train()(x, lengths), targets).backward()
        optimizer.step()

    train()  # the moments are made in the first step
    with _Counted() as counted:
        train()
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {
        "operations": 3 * operations(model, x, lengths),  # backward: twice those of the forward pass
        "launches": counted.launches,
        "bytes": counted.bytes,
        "least_bytes": 8 * parameters + x.numel() * x.element_size(),
    }


def expected(trials: Iterable[Trial], workers: int = WORKERS, card: Card = CARD) -> pd.DataFrame:
    """The floor and the expected time of trials on a GPU: a line for each row of an experiment; by arithmetic alone.

    `floor_s` of a trial: operations and least bytes of its steps over the card's rates. `trial_s`: with `workers` side
    by side either the host is the limit, which launches for all of them, or the card, on which kernels follow one
    another. `total_s` of all trials of the row, one after the other at that pace. Only networks: scikit-learn's rows
    have no steps.
    """
    steps: dict[tuple[object, ...], dict[str, int]] = {}
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        rows.setdefault((trial.experiment, trial.row), []).append(trial)
    table = []
    for (experiment, row), some in rows.items():
        config = some[0].config
        if config.encoders or not isinstance(peers.build(config, 6), nn.Module):
            continue  # how wide an encoder is only the encoder knows
        key = (config.only(Architecture), config.only(Features), config.model, config.batch_size)
        if key not in steps:  # other rows differ in what a step does not depend on
            steps[key] = step(config)
        each = steps[key]
        rows_trained = len(some[0].split.train) * (1 - config.validation_fraction * (config.selection == "nested"))
        count = math.ceil(rows_trained / config.batch_size) * config.epochs
        floor = max(each["operations"] / card.operations, each["least_bytes"] / card.bandwidth)
        busy = each["launches"] * card.kernel + each["bytes"] / card.bandwidth + each["operations"] / card.operations
        pace = max(each["launches"] * card.host / workers, busy)
        table.append(
            {"experiment": experiment, "row": row, "trials": len(some), "steps": count, **each}
            | {"floor_s": count * floor, "trial_s": count * pace, "total_s": len(some) * count * pace}
        )
    return pd.DataFrame(table)


def whole(corpus: Corpus, workers: int = WORKERS) -> pd.DataFrame:
    """`expected` of every experiment of the book, three seeds, each computation once. Minutes: it takes every step."""
    wanted = grid.trials((EXPERIMENTS | AUDITS).values(), corpus, PROFILES["full"], device="cuda")
    return expected(_once(wanted), workers)


def _once(trials: Iterable[Trial]) -> list[Trial]:
    """Of trials that compute the same, because their rows stand in several tables, the first."""
    first: dict[tuple[object, ...], Trial] = {}
    for trial in trials:
        first.setdefault((trial.config.key(), trial.protocol, trial.seed, trial.split.fold), trial)
    return list(first.values())


def extrapolated(
    corpus: Corpus, recorded: Store, workers: int, device: str, profile: Profile = PROFILES["full"], **overrides: Any
) -> pd.DataFrame:
    """What one seed of the whole paper costs on a GPU, from the trials that it has recorded: a line for each row.

    `how`: a row is "measured" where trials of it are recorded. Another network is "scaled": it takes as many times less
    than on the CPU (`results/bench/paper.csv`) as the measured rows do, in the median. Without any, it is "expected"
    (`gpu-expected.csv`). What is no network takes what it takes on a CPU. The last line is the clock of `workers`.
    """
    wanted = _once(grid.trials(EXPERIMENTS.values(), corpus, profile, [0], device=device, **overrides))
    done = pd.concat([recorded.read(name) for name in EXPERIMENTS | AUDITS])
    measured = done.groupby("config")["seconds"].mean()
    on_cpu = _known("paper.csv", "trial_s", lambda line: line["row"])
    arithmetic = _known("gpu-expected.csv", "trial_s", lambda line: f"{line['experiment']}: {line['row']}")
    rows: dict[str, list[Trial]] = {}
    for trial in wanted:
        rows.setdefault(f"{trial.experiment}: {trial.row}", []).append(trial)
    keys = {row: some[0].config.key() for row, some in rows.items()}
    ratios = [measured[key] / on_cpu[row] for row, key in keys.items() if key in measured and row in on_cpu]
    ratio = pd.Series(ratios, dtype=float).median()
    lines = []
    for row, some in rows.items():
        config = some[0].config
        if keys[row] in measured:
            trial_s, how = measured[keys[row]], "measured"
        elif not isinstance(peers.build(config, 6), nn.Module):
            trial_s, how = on_cpu.get(row, math.nan), "on a CPU"
        elif ratios and row in on_cpu:
            trial_s, how = on_cpu[row] * ratio, "scaled"
        else:  # a trial alone: the pace is that of all workers together
            trial_s, how = arithmetic.get(row, math.nan) * workers, "expected"
        lines.append({"row": row, "trials": len(some), "epochs": config.epochs, "trial_s": trial_s, "how": how})
    table = pd.DataFrame(lines).assign(total_s=lambda table: table["trials"] * table["trial_s"])
    clock = {"row": "the whole paper", "trials": table["trials"].sum(), "how": "extrapolated"}
    table.loc[len(table)] = {**clock, "total_s": table["total_s"].sum() / workers}
    about = {"corpus": corpus.name, "utterances": len(corpus), "workers": workers, "device": device}
    about |= {"commit": stamp.commit(), "date": stamp.now(), "machine": stamp.machine(device)}
    return table.assign(**about)


def _known(file: str, column: str, name: Callable[[dict], str]) -> dict[str, float]:
    """A column of a table of `results/bench`, by row; empty where there is no such table."""
    path = results_dir() / "bench" / file
    lines = pd.read_csv(path).to_dict("records") if path.exists() else []
    return {name(line): line[column] for line in lines}
