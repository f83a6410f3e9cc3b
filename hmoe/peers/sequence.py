"""LSTM and Transformer, generic: Table 2 gives neither reference nor setting.

Hochreiter and Schmidhuber 1997; Vaswani et al. 2017. Both read what HMoE-SiMBA reads in the same reading, average
over time as it does and are trained as it is. Their widths grow with `d_model` so that they are about of its size: 1.57
and 1.65 million parameters against 1.54 at `d_model` 128; 0.48 and 0.43 against 0.57 in the rows of frames.
"""

from __future__ import annotations

from torch import Tensor, nn

from hmoe.config import Config
from hmoe.experts import positions
from hmoe.masking import masked_mean
from hmoe.peers.network import Network


class LSTM(Network):
    """Two layers in one direction, of 320 units where `d_model` is 128."""

    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        units = 5 * config.d_model // 2
        self.lstm = nn.LSTM(self.d_in, units, num_layers=2, dropout=config.dropout, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(units, C)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        return self.classifier(self.dropout(masked_mean(self.lstm(x)[0], mask)))


class Transformer(Network):
    """Three encoder layers of 256 channels (where `d_model` is 128), the feed-forward layer twice as wide."""

    def __init__(self, config: Config, C: int) -> None:
        super().__init__(config)
        width = 2 * config.d_model
        self.project = nn.Linear(self.d_in, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 2 * width, config.dropout, batch_first=True, norm_first=True
            )
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, C)

    def read(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        hidden = self.project(x)
        hidden = hidden + positions(*hidden.shape[1:], hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        return self.classifier(masked_mean(self.norm(hidden), mask))
