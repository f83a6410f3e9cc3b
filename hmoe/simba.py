"""§3.6: SiMBA attention. EinFFT mixes channels in the frequency domain (eq. 7), a selection keeps D_selected of
them (eq. 8), a Mamba block models the sequence (eq. 9). Q2 and Q3 name what the paper leaves open."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmoe.config import Architecture
from hmoe.mamba import MambaBlock


class EinFFT(nn.Module):
    """Eq. 7 as SiMBA (Patro and Agneeswaran 2024) defines it: (B, T, D) -> (B, T, D).

    The D channels form `blocks` blocks. A 2-D FFT over (time, block), a complex two-layer block-diagonal
    perceptron with ReLU on real and imaginary parts, soft shrinkage, and the inverse FFT.
    """

    def __init__(self, D: int, blocks: int, shrinkage: float = 0.01) -> None:
        super().__init__()
        self.blocks, self.width, self.shrinkage = blocks, D // blocks, shrinkage
        # Index 0 holds the real, index 1 the imaginary part; 0.02 is SiMBA's scale.
        self.weight_1 = nn.Parameter(0.02 * torch.randn(2, blocks, self.width, self.width))
        self.weight_2 = nn.Parameter(0.02 * torch.randn(2, blocks, self.width, self.width))
        self.bias_1 = nn.Parameter(0.02 * torch.randn(2, blocks, self.width))
        self.bias_2 = nn.Parameter(0.02 * torch.randn(2, blocks, self.width))

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        B, T, D = hidden.shape
        dft = None if lengths is None else own_dft(lengths, T, hidden.dtype)
        spectrum = transform(hidden.reshape(B, T, self.blocks, self.width) + 0j, dft)
        spectrum = on_parts(F.relu, self._layer(spectrum, self.weight_1, self.bias_1))
        shrink = partial(F.softshrink, lambd=self.shrinkage)
        spectrum = on_parts(shrink, self._layer(spectrum, self.weight_2, self.bias_2))
        # Eq. 7: \mathbf{H}_{freq}(\mathbf{x}) = \mathrm{EinFFT}(\mathbf{H}_{HMoE}(\mathbf{x}))
        return transform(spectrum, dft, inverse=True).real.reshape(B, T, D)

    def _layer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A complex product, block by block: (B, T, blocks, width) -> the same shape."""
        return torch.einsum("btnd,nde->btne", x, torch.complex(*weight)) + torch.complex(*bias)


def on_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function` of the real and of the imaginary part of a complex tensor."""
    return torch.view_as_complex(function(torch.view_as_real(x)))


def own_dft(lengths: Tensor, T: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B,) lengths -> (B, T, T) complex: the unitary discrete Fourier transform of each utterance's own frames.

    Zero beyond its length; symmetric, so that its inverse is its conjugate. One product serves all lengths at once.
    """
    n, t = lengths[:, None, None], torch.arange(T, device=lengths.device)
    turns = (t[:, None] * t % n).to(dtype) / n  # the remainder is taken of whole numbers, hence exact
    own = (t[:, None] < n) & (t < n)
    return torch.polar(own / n.to(dtype).sqrt(), -2 * torch.pi * turns)


def transform(x: Tensor, dft: Tensor | None, inverse: bool = False) -> Tensor:
    """The unitary 2-D transform over (time, block), or its inverse; `x` (B, T, blocks, width), complex.

    With `dft`, that of `own_dft`, over each utterance's own frames: padding must not leak into the spectrum.
    """
    x = contiguous(torch.fft.ifftn if inverse else torch.fft.fftn, x, (1, 2) if dft is None else (2,))
    if dft is None:
        return x
    return ((dft.conj() if inverse else dft) @ x.flatten(2)).view_as(x)


def contiguous(fft: Callable[..., Tensor], x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """`fft` of contiguous memory, forward and backward.

    PyTorch 2.13's CPU transform of a permuted tensor, which a block-diagonal product gives, writes beyond its memory at
    some lengths (B = 1, T = 400 among them); the process is then aborted, sooner or later.
    """
    result = fft(x.contiguous(), dim=dim, norm="ortho")
    if result.requires_grad:
        result.register_hook(Tensor.contiguous)  # of its gradient, which is transformed back
    return result


class ChannelSelection(nn.Module):
    """Eq. 8 in three readings (Q2); (B, T, D) -> (B, T, D_selected).

    - `simba`: EinFFT with LayerNorm and residual, then W_select (D x D_selected);
    - `rfft`: the modulus of an FFT over channels, then W_select (D_freq x D_selected), D_freq = D / 2 + 1;
    - `einsum`: as printed, `btd,dfc->btc`: f is summed out, so it equals one Linear layer without bias.
    """

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        D, self.kind = config.d_model, config.einfft
        if self.kind == "simba":
            self.norm = nn.LayerNorm(D)
            self.einfft = EinFFT(D, config.einfft_blocks)
            self.select = nn.Linear(D, config.d_selected, bias=False)
        elif self.kind == "rfft":
            self.select = nn.Linear(D // 2 + 1, config.d_selected, bias=False)
        else:
            F_ = D // 2 + 1
            self.weight = nn.Parameter(torch.randn(D, F_, config.d_selected) * (D * F_) ** -0.5)

    def forward(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        # Eq. 8: \mathbf{H}_{selected} = \mathrm{einsum}('btd, dfc -> btc', \mathbf{H}_{freq}, \mathbf{W}_{select})
        if self.kind == "simba":
            return self.select(hidden + self.einfft(self.norm(hidden), lengths))
        if self.kind == "rfft":
            return self.select(torch.fft.rfft(hidden, dim=-1, norm="ortho").abs())
        return torch.einsum("btd,dfc->btc", hidden, self.weight)


class SiMBA(nn.Module):
    """Eq. 7–9 in the paper's order, EinFFT then Mamba, or in SiMBA's own (Q3). (B, T, D) -> (B, T, D_selected)."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.mamba_first = config.simba_order == "mamba-einfft"
        self.selection = ChannelSelection(config)
        width = config.d_model if self.mamba_first else config.d_selected
        self.mamba = MambaBlock(width, config.d_state, config.d_conv, config.expand)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        # Eq. 9: \mathbf{H}_{SIMBA}(\mathbf{x}) = \mathrm{Mamba}_{SIMBA}(\mathbf{H}_{selected}(\mathbf{x}))
        if self.mamba_first:
            return self.selection(self.mamba(hidden), lengths)
        return self.mamba(self.selection(hidden, lengths))
