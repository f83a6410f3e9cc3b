"""Operations are counted as they are defined, growth is read off as it is; every part runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hmoe import peers
from hmoe.base.errors import ConfigError
from hmoe.bench import cost as bench_cost
from hmoe.corpora import Corpus, Utterance, audio
from hmoe.corpora.table import tabulate
from hmoe.inputs.batches import Inputs
from hmoe.mamba import Mamba
from hmoe.model import count_parameters
from hmoe.study import costs, grid
from hmoe.study.experiments import TABLE_2, Row


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_law_is_its_power(power: float) -> None:
    lengths = pd.Series(bench_cost.LENGTHS, dtype=float)
    exact = costs.exponent(lengths, 3e-6 * lengths**power)
    assert (exact.mean, exact.low, exact.high) == pytest.approx((power, power, power), abs=1e-6)
    flat_first = 3e-6 * lengths**power + 3e-6 * 100**power  # a fixed cost bends the short end alone
    bent = costs.exponent(lengths, flat_first)
    assert bent.mean == pytest.approx(power, abs=0.1)
    assert bent.low < bent.mean < bent.high  # no power fits all four


def test_the_interval_of_an_exponent_holds_the_true_power_in_95_of_100_noisy_curves() -> None:
    rng, lengths = np.random.default_rng(0), pd.Series(bench_cost.LENGTHS, dtype=float)
    fits = [costs.exponent(lengths, lengths**1.2 * np.exp(rng.normal(0, 0.2, len(lengths)))) for _ in range(400)]
    assert np.mean([fit.holds(1.2) for fit in fits]) == pytest.approx(0.95, abs=0.03)
    two = costs.exponent(lengths[:3], lengths[:3])
    assert two.mean == pytest.approx(1) and str(two) == "1.0"


def test_each_part_has_the_exponent_of_its_own_curve() -> None:
    powers = {"a": 1.0, "b": 2.0}
    lines = [{"part": part, "L": L, "MB": L**k} for part, k in powers.items() for L in bench_cost.LENGTHS]
    found = costs.exponents(pd.DataFrame(lines), of="MB")
    assert {part: fit.mean for part, fit in found.items()} == pytest.approx(powers)


def test_a_table_that_is_not_measured_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--only: got 'speed'; known: length, rows, real-time"):
        bench_cost.bench_cost(only=["rows", "speed"])


class Given(nn.Module):
    """A module in the shape of a model: `forward(x, lengths)`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        found = self.inner(x)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("row", TABLE_2.rows, ids=lambda row: row.name)
def test_each_row_is_measured_on_the_input_that_it_is_trained_on(row: Row, speech: Corpus) -> None:
    config = row.config(augment=())
    inputs = Inputs.of(grid.open_bank(speech, config, 1, False), config)
    assert tuple(inputs.clean(np.array([0]))[0].shape[1:]) == bench_cost.given(config)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One utterance, as long as those that are measured."""
    root = tmp_path_factory.mktemp("speech")
    samples = np.random.default_rng(0).normal(0, 0.1, int(16_000 * bench_cost.SECONDS))
    audio.write(root / "one.wav", samples, 16_000)
    return tabulate("speech", root, [(root / "one.wav", Utterance("one", "s", "anger", "1"))])


def count(inner: nn.Module, T: int, D: int) -> int:
    return bench_cost.operations(Given(inner), torch.randn(1, T, D), torch.tensor([T]))


def test_operations_of_a_product_a_recurrence_and_a_scan() -> None:
    assert count(nn.Linear(8, 5), 7, 8) == 2 * 7 * 8 * 5
    assert count(nn.LSTM(8, 6, batch_first=True), 7, 8) == 2 * 7 * 4 * 6 * (8 + 6)
    few, many = (count(Mamba(8, d_state=N), 7, 8) for N in (4, 9))
    projected = 2 * 7 * 16 * 2  # to one more B and one more C, from 16 inner channels
    assert many - few == (9 - 4) * (7 * 7 * 16 + projected)


@pytest.mark.parametrize("name", ["LSTM", "Transformer", "HMoE-SiMBA"])
def test_a_network_that_reads_one_vector_multiplies_nearly_each_of_its_numbers_once(name: str) -> None:
    config = TABLE_2.row(name).config()
    model, x = peers.build(config, 6), torch.randn(1, 1, sum(config.dims.values()))
    idle = sum(p.numel() for module in model.modules() if isinstance(module, Mamba) for p in [module.A_log])
    found = bench_cost.operations(model, x, torch.tensor([1])) / 2
    assert 0.7 < found / (count_parameters(model) - idle) < 1.3


@pytest.mark.parametrize("part", bench_cost.PARTS)
def test_every_part_keeps_the_length_and_learns(part: str) -> None:
    module, x = bench_cost.PARTS[part](), torch.randn(1, 12, bench_cost.WIDTH)
    out = module(x)
    assert out.shape[:2] == (1, 12)
    out.square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_a_measurement_is_positive_and_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {name: bench_cost.PARTS[name] for name in ("SiMBA", "LSTM")}  # every one of them runs above
    monkeypatch.setattr(bench_cost, "PARTS", some)
    table = bench_cost.curves((16,)).set_index("part")
    assert list(table.index) == list(some)
    assert (table[["forward_s", "step_s"]] > 0).all().all()
    assert np.isfinite(table["peak_mb"]).all()
