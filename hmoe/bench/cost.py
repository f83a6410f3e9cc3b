"""What the parts and the rows of Table 2 cost: time and memory against length, operations, real-time factor.

The paper says "O(N log N)", "lightweight" and "real-time" and measures none (Q19). All on one thread; each point of the
curves is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hmoe import corpora, peers
from hmoe.base import stamp
from hmoe.base.errors import ConfigError
from hmoe.base.files import atomic_write, results_dir
from hmoe.bench.scan import forget_peak, memory, seconds
from hmoe.config import Config
from hmoe.corpora import audio
from hmoe.features import pool, thin
from hmoe.inputs.bank import heard
from hmoe.mamba import MambaBlock
from hmoe.model import count_parameters
from hmoe.readings import READINGS
from hmoe.simba import EinFFT, SiMBA
from hmoe.study.experiments import TABLE_2

LENGTHS = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
QUICK = (100, 200, 400)
WIDTH, HEADS = 128, 4
SECONDS = 2.0  # of speech, for counting operations: 201 frames
TRAINED_ON = 960  # utterances, as four folds of CASIA have: what a support vector machine costs depends on them
UTTERANCES = 40
TABLES = ("length", "rows", "real-time")
STAGES = ("reading", "features", "model")


class Attention(nn.Module):
    """Self-attention by PyTorch's fused kernel. (B, T, D) -> (B, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = (part.view(B, T, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, D))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


PARTS: dict[str, Callable[[], nn.Module]] = {
    "SiMBA": lambda: SiMBA(Config(d_model=WIDTH)),
    "SiMBA, D_state = 16": lambda: SiMBA(Config(d_model=WIDTH, d_state=16)),
    "EinFFT": lambda: EinFFT(WIDTH, Config().einfft_blocks),
    "Mamba": lambda: MambaBlock(WIDTH, Config().d_state, Config().d_conv, Config().expand),
    "attention": Attention,
    "LSTM": Recurrence,
}


def measure(part: str, L: int) -> dict[str, float]:
    """Of a forward pass and of a training step (B = 1) at L frames the least seconds of 3 to 20 runs; its peak MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, x = PARTS[part](), torch.randn(1, L, WIDTH)

    def step() -> None:
        module.zero_grad()
        module(x).square().mean().backward()

    def forward() -> None:
        with torch.no_grad():
            module(x)

    module(torch.randn(1, 8, WIDTH)).sum().backward()  # compiles and loads what there is
    forget_peak("cpu")
    before = memory("VmRSS", "cpu")
    step()
    peak = memory("VmHWM", "cpu") - before
    found = {"peak_mb": peak}
    for name, run in (("forward_s", forward), ("step_s", step)):
        times, started = [], time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - started < 2 and len(times) < 20):
            times.append(seconds(run, "cpu")[0])
        found[name] = min(times)
    return found


def curves(lengths: tuple[int, ...] = LENGTHS) -> pd.DataFrame:
    """A line for each part and length."""
    rows = []
    for part in PARTS:
        for L in lengths:
            command = [sys.executable, "-m", "hmoe.bench.cost", part, str(L)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            rows.append({"part": part, "L": L, **json.loads(done.stdout)})
    return pd.DataFrame(rows)


def operations(model: nn.Module, x: Tensor, lengths: Tensor) -> int:
    """Floating-point operations of a forward pass: matrix products, convolutions, attention, recurrences, scans."""

    def recurrent(x_shape: tuple, w1: tuple, w2: tuple, *_: object, **__: object) -> int:
        return 2 * x_shape[0] * x_shape[1] * (w1[0] * w1[1] + w2[0] * w2[1])

    def scanned(u: tuple, delta: tuple, A: tuple, *_: object, **__: object) -> int:
        return 7 * u[0] * u[1] * u[2] * A[1]  # delta A, exp, times h, delta u B (2), plus; C h

    mapping = {torch.ops.aten.mkldnn_rnn_layer: recurrent, torch.ops.hmoe.selective_scan: scanned}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operation, which would count as none
    try:
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            model.eval()(x, lengths)  # with gradients: without them the scan is no operation of PyTorch's
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


def given(config: Config) -> tuple[int, int]:
    """T and D of what a model of this configuration reads of `SECONDS` of speech, or of what they are padded to."""
    reading = READINGS[config.reading]
    frames = 1 + (config.pad_to or int(SECONDS * config.sample_rate)) // config.hop
    T = -(-frames // config.frame_stride) if reading.sequence else 1
    return T, reading.width(sum(config.dims.values()))


def rows() -> pd.DataFrame:
    """Each row of Table 2 on `SECONDS` of speech, or what it pads to: parameters, operations, milliseconds.

    Of classifiers that are no networks the milliseconds alone, of one utterance once they are fitted.
    """
    found = []
    torch.set_num_threads(1)
    for row in TABLE_2.rows:
        config = row.config()
        T, D = given(config)
        model = peers.build(config, 6)
        counted = {}
        if isinstance(model, nn.Module):
            x, lengths = torch.randn(1, T, D), torch.tensor([T])
            counted = {"parameters": count_parameters(model), "operations": operations(model, x, lengths)}
            judge = partial(model, x, lengths)
        else:
            X = np.random.default_rng(0).normal(size=(TRAINED_ON, D))
            judge = partial(model.fit(X, np.arange(TRAINED_ON) % 6).predict, X[:1])
        with torch.no_grad():
            times = [seconds(judge, "cpu")[0] for _ in range(20)]
        found.append({"row": row.name, "T": T, **counted, "ms": 1e3 * min(times)})
    columns = ["row", "T", "parameters", "operations", "ms"]
    return pd.DataFrame(found, columns=columns).astype({"parameters": "Int64", "operations": "Int64"})


def real_time(corpus: corpora.Corpus) -> pd.DataFrame:
    """From file to label on one core, by stage, in seconds per second of speech: below 1 is faster than speech.

    The models are untrained, which changes what they say and not how long they take.
    """
    torch.set_num_threads(1)
    chosen, table = corpus.table.iloc[:: max(1, len(corpus) // UTTERANCES)], []
    for name in ("HMoE-SiMBA", "HMoE-SiMBA (frames)", "Transformer", "Transformer (frames)"):
        config = TABLE_2.row(name).config()
        model = peers.build(config, 6).eval()
        _stages(model, config, chosen["path"].iloc[0])  # loads and compiles what there is
        spent = np.sum([_stages(model, config, path) for path in chosen["path"]], axis=0) / chosen["seconds"].sum()
        table.append({"row": name, **dict(zip(STAGES, spent, strict=True)), "total": spent.sum()})
    return pd.DataFrame(table)


def _stages(model: nn.Module, config: Config, path: Path) -> np.ndarray:
    """Seconds of each of `STAGES` for one file."""
    clock = [time.perf_counter()]
    samples = audio.read(path)
    clock.append(time.perf_counter())
    frames = heard(samples, config)
    x = thin(frames, config.frame_stride) if config.reading == "frames" else pool(frames)[None]
    clock.append(time.perf_counter())
    with torch.no_grad():
        model(torch.from_numpy(x)[None]).argmax()
    return np.diff([*clock, time.perf_counter()])


def bench_cost(
    target: Path | None = None, quick: bool = False, only: Sequence[str] = TABLES
) -> dict[str, pd.DataFrame]:
    """Measure the tables and store them as `cost-<name>.csv` in `target` (`results/bench`).

    `quick` takes short lengths and stores nothing unless told where. `only` names the tables to be measured; all take
    about 9 minutes on a quiet core, nearly all of it "length". ConfigError for a table that there is not.
    """
    measured: dict[str, Callable[[], pd.DataFrame]] = {
        "length": lambda: curves(QUICK if quick else LENGTHS),
        "rows": rows,
        "real-time": lambda: real_time(corpora.load("synthetic")),
    }
    if unknown := [name for name in only if name not in measured]:
        raise ConfigError("--only", f"got {unknown[0]!r}", f"known: {', '.join(measured)}")
    tables = {name: measured[name]() for name in only}
    target = target or (None if quick else results_dir() / "bench")
    about = {"commit": stamp.commit(), "date": stamp.now(), "machine": stamp.machine()}
    tables = {name: table.assign(**about) for name, table in tables.items()}
    if target:
        for name, table in tables.items():
            atomic_write(target / f"cost-{name}.csv", table.to_csv(index=False, float_format="%.4g"))
    return tables


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
