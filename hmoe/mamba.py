"""The Mamba block: gate, short causal convolution, selective scan (Gu and Dao 2023; eq. 9 of the paper).

Parameter names, shapes and initialisation are those of `mamba_ssm.Mamba`, so a state dict moves across.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.scan import selective_scan


class Mamba(nn.Module):
    """(B, T, D) -> (B, T, D); causal, so frames appended behind an utterance never reach it.

    `d_state` is the paper's D_state (N), `expand` widens D to E = expand * D inside the block.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
    ) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.dt_rank = expand * d_model, d_state, math.ceil(d_model / 16)
        E, N, R = self.d_inner, d_state, self.dt_rank
        self.in_proj = nn.Linear(d_model, 2 * E, bias=False)
        self.conv1d = nn.Conv1d(E, E, d_conv, groups=E, padding=d_conv - 1)
        self.x_proj = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, E)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, N + 1, dtype=torch.float32)).repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, d_model, bias=False)

        nn.init.uniform_(self.dt_proj.weight, -(R**-0.5), R**-0.5)
        dt = torch.exp(torch.rand(E) * math.log(dt_max / dt_min) + math.log(dt_min)).clamp(min=dt_init_floor)
        with torch.no_grad():
            # The inverse of softplus, so that the step size starts at dt whatever the input.
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, hidden: Tensor) -> Tensor:
        T, N, R = hidden.shape[1], self.d_state, self.dt_rank
        x, z = self.in_proj(hidden).chunk(2, dim=-1)  # each (B, T, E)
        x = F.silu(self.convolve(x))
        dt, B, C = self.x_proj(x).split([R, N, N], dim=-1)
        dt = F.linear(dt, self.dt_proj.weight)
        if T == 1:
            y = self.first_step(x, dt, B, C) * F.silu(z)
        else:
            A = -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))  # not in halves
            x, dt, B, C, z = (tensor.mT for tensor in (x, dt, B, C, z))  # views: the scan reads any strides
            y = selective_scan(x, dt, A, B, C, self.D, z, self.dt_proj.bias, delta_softplus=True).mT
        return self.out_proj(y)

    def convolve(self, x: Tensor) -> Tensor:
        """`conv1d`, causal: (B, T, E) -> the same shape. A sum of shifted products takes half of the time on a CPU."""
        taps = self.conv1d.weight[:, 0].unbind(1)[-(T := x.shape[1]) :]  # one frame meets the last tap alone
        x = F.pad(x, (0, 0, len(taps) - 1, 0))
        return sum((x[:, k : k + T] * tap for k, tap in enumerate(taps)), start=self.conv1d.bias)

    def first_step(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The scan at T = 1. The state starts at zero, so A, the memory, never acts and gets no gradient (Q1)."""
        dt = F.softplus(dt + self.dt_proj.bias)
        return dt * x * (B * C).sum(dim=-1, keepdim=True) + self.D * x


class MambaBlock(nn.Module):
    """LayerNorm, Mamba, residual: the form in which Mamba is stacked. (B, T, D) -> (B, T, D)."""

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mamba = Mamba(d_model, d_state, d_conv, expand)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mamba(self.norm(hidden))


def decayed(module: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups for the optimiser (Q6): `A_log`, `D` and biases of each Mamba are not decayed."""
    spared = {
        id(parameter)
        for mamba in module.modules()
        if isinstance(mamba, Mamba)
        for name, parameter in mamba.named_parameters()
        if name in ("A_log", "D") or name.endswith("bias")
    }
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in module.parameters():
        groups[id(parameter) in spared].append(parameter)
    return [{"params": groups[False], "weight_decay": weight_decay}] + (
        [{"params": groups[True], "weight_decay": 0.0}] if groups[True] else []
    )
