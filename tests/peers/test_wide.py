"""Linear classifiers of more columns than rows: the library's discriminant, nothing lost, settings by unseen voices."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from hmoe.base.errors import TrainingError
from hmoe.peers.wide import CLASSIFIERS, Discriminant, Wide, by_speaker
from hmoe.study.experiments import NEW_VOICE, OWN, TAKES

RNG = np.random.default_rng(0)
SPEAKERS = np.repeat(["a", "b", "c", "d"], 30)
Y = np.tile([0, 1, 2], 40)
X = RNG.standard_normal((120, 200)) + 6 * np.eye(200)[Y]


@pytest.mark.parametrize("shrinkage", [0.1, 0.6])
def test_the_discriminant_is_the_librarys(shrinkage: float) -> None:
    ours = Discriminant(shrinkage).fit(X, Y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / 3] * 3).fit(X, Y)
    between = [(each.coef_[1] - each.coef_[0]) for each in (ours, theirs)]
    assert between[0] == pytest.approx(between[1], rel=1e-6, abs=1e-9)
    assert (ours.intercept_ - ours.intercept_[0]) == pytest.approx(theirs.intercept_ - theirs.intercept_[0], abs=1e-9)


@pytest.mark.parametrize("kind", list(CLASSIFIERS))
@pytest.mark.parametrize("across", [False, True])
def test_each_learns_and_scale_and_place_of_columns_do_not_matter(kind: str, across: bool) -> None:
    train, test = np.arange(0, 120) % 4 != 3, np.arange(0, 120) % 4 == 3
    said = Wide(kind, across).fit(X[train], Y[train], SPEAKERS[train]).predict(X[test])
    assert (said == Y[test]).mean() > 0.6
    moved = X[:, ::-1] * 50 + 7
    assert np.array_equal(Wide(kind, across).fit(moved[train], Y[train], SPEAKERS[train]).predict(moved[test]), said)


def test_inner_folds_share_no_speaker_and_one_speaker_is_refused() -> None:
    for train, test in by_speaker(SPEAKERS).split(X, Y, SPEAKERS):
        assert not set(SPEAKERS[train]) & set(SPEAKERS[test])
    with pytest.raises(TrainingError, match="there is one"):
        Wide("ridge", across=True).fit(X, Y, np.array(["a"] * 120))


def test_settings_for_new_speakers_are_chosen_by_leaving_speakers_out() -> None:
    for row in TAKES.rows:
        assert (
            row.changes["model"].endswith("across-speakers") == (row.protocol == "speaker") == (NEW_VOICE in row.name)
        )
        assert row.changes.get("by_speaker", False) == (OWN in row.name)
