"""Controls: HMoE-SiMBA with a part exchanged for something plain of the same size.

What remains of an ablation's loss when not the place stays empty, but another network of as many parameters stands
there, is what the part itself is worth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hmoe.config import Config
from hmoe.mamba import MambaBlock
from hmoe.masking import frame_mask
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.peers.network import Network, reverse
from hmoe.simba import ChannelSelection, SiMBA


class EinFFTAlone(ChannelSelection):
    """Eq. 7 and 8 without eq. 9."""


class MambaAlone(nn.Module):
    """Eq. 9 on a plain selection of channels, without eq. 7. (B, T, D) -> (B, T, D_selected)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.select = nn.Linear(config.d_model, config.d_selected, bias=False)
        self.mamba = MambaBlock(config.d_selected, config.d_state, config.d_conv, config.expand)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.mamba(self.select(hidden))


class FramewiseMLP(nn.Module):
    """One hidden layer for each frame by itself, beside a selection of channels. (B, T, D) -> (B, T, D_selected)."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.select = nn.Linear(config.d_model, config.d_selected, bias=False)
        self.up, self.down = nn.Linear(config.d_model, width), nn.Linear(width, config.d_selected)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.select(hidden) + self.down(F.gelu(self.up(self.norm(hidden))))


class BiLSTM(nn.Module):
    """Both directions over an utterance's own frames, beside a selection of channels; shapes as `FramewiseMLP`."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.select = nn.Linear(config.d_model, config.d_selected, bias=False)
        self.lstm = nn.LSTM(config.d_model, width, batch_first=True, bidirectional=True)
        self.down = nn.Linear(2 * width, config.d_selected)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        x, T = self.norm(hidden), hidden.shape[1]
        if lengths is not None and x.device.type != "cpu":  # packing would wait for a GPU
            return self.select(hidden) + self.down(self.in_place(x, lengths))
        if lengths is not None:
            x = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        seen = self.lstm(x)[0]
        if lengths is not None:
            seen = pad_packed_sequence(seen, batch_first=True, total_length=T)[0]
        return self.select(hidden) + self.down(seen)

    def in_place(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 2 width): the LSTM without packing, zero behind an utterance's own frames."""
        zero = x.new_zeros(1, len(x), self.lstm.hidden_size)
        weights = list(self.lstm.parameters())  # four of each direction

        def one_way(x: Tensor, weights: list[Tensor]) -> Tensor:
            return torch.lstm(x, (zero, zero), weights, True, 1, 0.0, self.training, False, True)[0]

        forth, back = one_way(x, weights[:4]), reverse(one_way(reverse(x, lengths), weights[4:]), lengths)
        return torch.cat([forth, back], dim=-1) * frame_mask(lengths, x.shape[1])[..., None]


class RandomRouter(nn.Module):
    """Weights drawn anew for every utterance in training, uniformly among those that sum to 1; their mean in the test.

    (B, D_in) -> (B, K).
    """

    def __init__(self, K: int) -> None:
        super().__init__()
        self.K = K

    def forward(self, pooled: Tensor) -> Tensor:
        if not self.training:
            return torch.full((len(pooled), self.K), 1 / self.K).to(pooled)
        shares = -torch.rand(len(pooled), self.K, device=pooled.device).clamp(min=1e-12).log()
        return (shares / shares.sum(dim=1, keepdim=True)).to(pooled)


def as_large(make: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """`make(width)` of the width that comes nearest to so many parameters, of which it has more the wider it is."""

    def count(width: int) -> int:
        return size(lambda: make(width))

    low, high = 1, 2
    while count(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return make(min((low, high), key=lambda width: abs(count(width) - parameters)))


def size(make: Callable[[], nn.Module]) -> int:
    """Parameters of a model that is made for this alone: the weights of the next one are what they would have been."""
    with torch.random.fork_rng(devices=[]):
        return count_parameters(make())


def instead_of_simba(part: Callable[[Config], nn.Module]) -> Callable[[Config, int], HMoESiMBA]:
    """HMoE-SiMBA whose SiMBA is `part(config)`."""

    def build(config: Config, C: int) -> HMoESiMBA:
        model = HMoESiMBA(config, C)
        model.simba = part(config)
        return model

    return build


def as_large_as_simba(part: Callable[[Config, int], nn.Module]) -> Callable[[Config], nn.Module]:
    """`part(config, width)` with as many parameters as SiMBA has in this configuration."""

    def build(config: Config) -> nn.Module:
        return as_large(lambda width: part(config, width), size(lambda: SiMBA(config)))

    return build


def random_routing(config: Config, C: int) -> HMoESiMBA:
    """HMoE-SiMBA whose experts are weighted at random."""
    model = HMoESiMBA(config, C)
    model.router = RandomRouter(len(model.experts))
    return model


class MLP(Network):
    """Two hidden layers on an utterance's mean over time. (B, T, D) -> logits (B, C)."""

    def __init__(self, config: Config, C: int, width: int) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Linear(self.d_in, width), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(width, C),
        )  # fmt: skip

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        return self.layers(x.sum(1) / lengths[:, None])


def mlp(config: Config, C: int) -> nn.Module:
    """An MLP of as many parameters as HMoE-SiMBA has in this configuration."""
    return as_large(lambda width: MLP(config, C, width), size(lambda: HMoESiMBA(config, C)))


CONTROLS: dict[str, Callable[[Config, int], nn.Module]] = {
    "hmoe-einfft": instead_of_simba(EinFFTAlone),
    "hmoe-mamba": instead_of_simba(MambaAlone),
    "hmoe-mlp": instead_of_simba(as_large_as_simba(FramewiseMLP)),
    "hmoe-bilstm": instead_of_simba(as_large_as_simba(BiLSTM)),
    "hmoe-random-routing": random_routing,
    "mlp": mlp,
}
