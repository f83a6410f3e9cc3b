"""What a module can do, read off its behaviour: which frames reach which, and which of its parameters can learn."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn


@torch.no_grad()
def influence(module: Callable[[Tensor], Tensor], tokens: Tensor, seed: int = 0) -> Tensor:
    """How far output frame s moves when input frame t is disturbed: entry [t, s] of (T, T), a Euclidean norm.

    `module` maps (B, T, D) to (B, T, E) and is in evaluation mode; `tokens` (T, D). Each frame gets unit-variance
    noise of its own.
    """
    T, D = tokens.shape
    noise = torch.randn(T, D, generator=torch.Generator().manual_seed(seed)).to(tokens.device)
    disturbed = tokens.repeat(T, 1, 1)
    disturbed[torch.arange(T), torch.arange(T)] += noise
    # The undisturbed batch has the same size, so that what is not reached differs by exactly zero.
    return (module(disturbed) - module(tokens.repeat(T, 1, 1))).norm(dim=-1)


def idle(module: nn.Module, *inputs: Tensor | None) -> pd.DataFrame:
    """By parameter: how many of its values get no gradient on these inputs, and so cannot learn from them.

    The gradient is that of a random projection of the output, so that no direction of the output is left out. It is
    computed on a copy in double precision, where less than 1e-12 of the largest is rounding.
    Columns: numbers, idle; index: the parameter's name.
    """
    twin = copy.deepcopy(module).double()
    output = twin(*(x.double() if x is not None and x.is_floating_point() else x for x in inputs))
    generator = torch.Generator().manual_seed(0)
    (output * torch.randn(output.shape, generator=generator).to(output)).sum().backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.abs() for name, p in twin.named_parameters()}
    rounding = 1e-12 * max(float(gradient.max()) for gradient in gradients.values())
    counts = {name: (g.numel(), int((g <= rounding).sum())) for name, g in gradients.items()}
    return pd.DataFrame.from_dict(counts, orient="index", columns=["numbers", "idle"])
