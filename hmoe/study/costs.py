"""What `hmoe bench` recorded of costs, and how they grow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from hmoe.base.files import results_dir
from hmoe.study.metrics import Estimate


def measured(name: str, root: Path | None = None) -> tuple[pd.DataFrame, str]:
    """`results/bench/<name>.csv` and one line about it: how many measurements, on what, at which commit and date."""
    path = (root or results_dir()) / "bench" / f"{name}.csv"
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"commit": str})  # some are all digits
    except FileNotFoundError:
        return pd.DataFrame(), "Nothing recorded yet: hmoe bench."
    machines, commits = (", ".join(table[column].unique()) for column in ("machine", "commit"))
    loads = f"load {table['load'].min():.1f} to {table['load'].max():.1f}, " if "load" in table else ""
    dates = " to ".join(dict.fromkeys([table["date"].min()[:10], table["date"].max()[:10]]))
    return table, f"results/bench/{name}.csv: {len(table)} measurements, {loads}{machines}, commit {commits}, {dates}."


def exponent(lengths: pd.Series, spent: pd.Series) -> Estimate:
    """k of what is spent ~ length^k, by least squares on the logarithms of the longer half: 1 linear, 2 quadratic.

    Its interval is that of the fit, which says how far the points are from any power; two points have none.
    """
    half = longer(lengths)
    fit, n = stats.linregress(np.log(half), np.log(spent[half.index])), len(half)
    if n < 3:
        return Estimate(float(fit.slope), math.nan, math.nan, 1)
    reach = stats.t.ppf(0.975, n - 2) * fit.stderr
    return Estimate(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach), n)


def exponents(curves: pd.DataFrame, of: str = "step_s") -> dict[str, Estimate]:
    """`exponent` of each part of a table of `curves`."""
    return {part: exponent(lines["L"], lines[of]) for part, lines in curves.groupby("part", sort=False)}


def longer(lengths: pd.Series) -> pd.Series:
    """The longer half, where the fixed cost of a call no longer counts."""
    return lengths[lengths >= lengths.median()]
