"""2^f near f = 0, for both kernels of the scan."""

from __future__ import annotations

import math

import numpy as np

# 2^f = 1 + f q(f) for |f| <= 1/2, relative error 1e-7: q through the Chebyshev nodes, lowest power first.
COEFFICIENTS: list[float] = (
    np.polynomial.Chebyshev.interpolate(lambda f: np.expm1(f * math.log(2)) / f, 4, domain=[-0.5, 0.5 + 1e-9])
    .convert(kind=np.polynomial.Polynomial)
    .coef.tolist()
)
