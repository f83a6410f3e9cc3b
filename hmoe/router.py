"""§3.5: the multi-expert routing network G, eq. 6."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmoe.config import Architecture


class Router(nn.Module):
    """g(x) = softmax(MLP(F_in(x))), eq. 6: (B, D_in) pooled features -> (B, K) weights that sum to 1.

    Q5: two hidden layers with ReLU, or one. Q15: `router="uniform"` gives each expert 1/K.
    """

    def __init__(self, d_in: int, K: int, config: Architecture) -> None:
        super().__init__()
        self.K, self.learned = K, config.router == "learned"
        if self.learned:
            widths = [d_in] + [config.router_width] * config.router_hidden_layers
            hidden = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
            self.mlp = nn.Sequential(*hidden, nn.Linear(widths[-1], K))

    def forward(self, pooled: Tensor) -> Tensor:
        if not self.learned:
            return torch.full((len(pooled), self.K), 1 / self.K, device=pooled.device, dtype=pooled.dtype)
        # Eq. 6: \mathbf{g}(\mathbf{x}) = \mathrm{Softmax}(\mathrm{MLP}(\mathbf{F}_{in}(\mathbf{x})))
        return self.mlp(pooled).softmax(dim=-1)
