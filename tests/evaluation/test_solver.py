"""Probes on many rows share one matrix: they must be the same probes, and scikit-learn's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.evaluation_speed import Size, differs, make_hidden, make_table, timed
from tune_accent.evaluation import probes, solver
from tune_accent.evaluation.probes import Design, Probe, fit, fit_chosen

GRID = (0.01, 0.1, 1.0)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def hidden(rows: int, dims: int, classes: int, decay: float = 1.0, seed: int = 0) -> tuple[Floats, Ints]:
    """Rows whose variances along random axes fall as index^-decay, as those of hidden states do; and labels, some classes rarer."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.integers(0, classes + 2, size=rows), classes - 1)
    z = generator.normal(size=(rows, dims)) + 2.0 * dims**-0.5 * generator.normal(size=(classes, dims))[labels]
    axes = np.linalg.qr(generator.normal(size=(dims, dims)))[0]
    z = (z * np.arange(1, dims + 1) ** (-0.5 * decay)) @ axes
    return z * np.exp(generator.normal(size=dims)) + 10 * generator.normal(size=dims), labels


def parts(z: Floats, labels: Ints, classes: int) -> list[Design]:
    """All rows, and three times two thirds of them."""
    third = np.arange(len(labels)) % 3
    inner = [Design(z, labels[third != fold], classes, np.flatnonzero(third != fold)) for fold in range(3)]
    return [Design(z, labels, classes), *inner]


def chances(probe: Probe, rows: Floats, s: int) -> Floats:
    logits = probe.logits(rows)[:, s]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("rows", "dims", "classes"), [(3000, 100, 4), (4500, 70, 2), (2600, 120, 6)])
def test_shared_probes_are_those_of_scikit_learn(rows: int, dims: int, classes: int) -> None:
    z, labels = hidden(rows, dims, classes)
    designs = parts(z, labels, classes)
    assert all(design.large for design in designs)
    for design, probe in zip(designs, fit(designs, GRID), strict=True):
        for s, c in enumerate(GRID):
            plain = LogisticRegression(C=c, class_weight="balanced", tol=1e-12, max_iter=20_000, solver="newton-cholesky")
            theirs = make_pipeline(StandardScaler(), plain).fit(design.own, design.labels)
            assert chances(probe, z, s) == pytest.approx(theirs.predict_proba(z), abs=1e-6)
            assert np.array_equal(probe.predict(z, s), theirs.predict(z))
            weights = probe.weights[:, s, 1:] - probe.weights[:, s, :1]
            expected = theirs[-1].coef_.T if classes == 2 else (theirs[-1].coef_[1:] - theirs[-1].coef_[:1]).T
            assert weights == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_sharing_and_stacking_agree(decay: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    z, labels = hidden(3600, 90, 5, decay)
    designs = parts(z, labels, 5)
    assert all(design.large for design in designs)
    shared = fit(designs, GRID)
    monkeypatch.setattr(probes, "LARGE", 10**9)
    assert not any(design.large for design in designs)
    for one, other in zip(shared, fit(designs, GRID), strict=True):
        assert one.weights == pytest.approx(other.weights, abs=1e-6)
        assert one.bias == pytest.approx(other.bias, abs=1e-6)
    assert not caplog.records, "all converge"


def test_a_part_without_a_class_and_with_a_constant_column() -> None:
    z, labels = hidden(3600, 90, 4)
    last = labels == 3
    z[~last, 7] = 1e6
    designs = [Design(z, labels, 4), Design(z, labels[~last], 4, np.flatnonzero(~last))]
    whole, part = fit(designs, GRID)
    [alone] = fit([Design(z[~last], labels[~last], 4)], GRID)
    assert whole.present.all() and part.present.tolist() == [True, True, True, False]
    assert part.weights == pytest.approx(alone.weights, abs=1e-6)
    assert part.scale[7] == 1.0 and part.weights[7] == pytest.approx(0.0, abs=1e-12)
    assert np.isneginf(part.logits(z)[..., 3]).all()
    reference = LogisticRegression(class_weight="balanced", tol=1e-12, solver="newton-cholesky")
    theirs = make_pipeline(StandardScaler(), reference).fit(z[~last], labels[~last])
    assert np.array_equal(part.predict(z, GRID.index(1.0)), theirs.predict(z))


def test_designs_of_several_matrices_and_labellings_keep_their_order() -> None:
    z, labels = hidden(3600, 90, 3)
    other, others = hidden(3600, 90, 3, seed=1)
    rare, rows = np.flatnonzero(labels == 0)[:60], np.arange(60)
    designs = [
        Design(other[:60], others[:60], 3),
        Design(z, labels, 3),
        Design(z, labels[::-1].copy(), 3),
        Design(other, others, 3),
        Design(z, rows % 3, 3, rare),
        Design(z, labels[:2000], 3, np.arange(2000)),
    ]
    alone = [fit([design], GRID)[0] for design in designs]
    for one, found in zip(alone, fit(designs, GRID), strict=True):
        assert found.weights == pytest.approx(one.weights, abs=1e-6)


def test_coefficients_sum_to_zero_and_the_gradient_is_gone() -> None:
    z, labels = hidden(3600, 90, 4)
    [probe] = fit([Design(z, labels, 4)], GRID)
    standard = (z - probe.mean) / probe.scale
    sizes = np.bincount(labels)
    weight = len(labels) / (4 * sizes[labels])
    for s, c in enumerate(GRID):
        residual = (c * weight)[:, None] * (chances(probe, z, s) - np.eye(4)[labels])
        limit = max(solver.TOLERANCE, solver.RELATIVE * c * len(labels))
        assert np.abs(standard.T @ residual + probe.weights[:, s]).max() <= 2 * limit
        assert np.abs(residual.sum(axis=0)).max() <= 2 * limit
        assert probe.weights[:, s].sum(axis=1) == pytest.approx(0.0, abs=1e-10)


def test_a_probe_that_is_fitted_at_the_chosen_strength_alone_is_the_same_probe() -> None:
    """Large designs, which begin where those of the cross-validation end, and small ones; each at a strength of its own."""
    z, labels = hidden(3600, 90, 4)
    whole, *inner = parts(z, labels, 4)
    rows = np.arange(300)
    small = [Design(z, labels[rows], 4, rows), Design(z, labels[rows[:200]], 4, rows[:200])]
    outer = [whole, *small]
    seen: list[Probe] = []

    def pick(found: Sequence[Probe]) -> list[int]:
        seen.extend(found)
        return [2, 0, 1]

    chosen, fitted = fit_chosen(outer, [*inner, small[0]], GRID, pick)
    assert chosen == [2, 0, 1]
    for one, other in zip(seen, fit([*inner, small[0]], GRID), strict=True):
        assert one.weights == pytest.approx(other.weights, abs=1e-4)
    for c, one, other in zip(chosen, fitted, fit(outer, GRID), strict=True):
        assert one.weights[:, 0] == pytest.approx(other.weights[:, c], abs=1e-6)
        assert one.bias[0] == pytest.approx(other.bias[c], abs=1e-6)
        assert np.array_equal(one.predict(z, c), other.predict(z, c))
        with pytest.raises(ValueError, match=f"strength {c} of the grid"):
            one.predict(z, (c + 1) % 3)


def test_twice_the_same_bits() -> None:
    z, labels = hidden(3600, 90, 4)
    first, second = fit(parts(z, labels, 4), GRID), fit(parts(z, labels, 4), GRID)
    assert all(
        np.array_equal(a.weights, b.weights) and np.array_equal(a.bias, b.bias) for a, b in zip(first, second, strict=True)
    )


def test_too_few_steps_are_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    z, labels = hidden(3600, 90, 4)
    monkeypatch.setattr(solver, "NEWTON_STEPS", 2)
    with caplog.at_level(logging.WARNING):
        fit([Design(z, labels, 4)], GRID)
    assert "3 probes stopped before they converged" in caplog.text


def test_the_benchmark_times_the_same_probes() -> None:
    size = Size(dict.fromkeys("abc", (4, 2)), 9, 8, 16)
    table = make_table(size)
    for raw, dims in ((False, 8), (True, 16)):
        runs = [timed(make_hidden(table, dims), table, raw, plain, 1) for plain in (False, True)]
        assert runs[1].found.strength == runs[0].found.strength
        assert differs(runs[0].found, runs[1].found) <= 0.03, (
            "lbfgs stops early, at tol 1e-4: an utterance or two may fall the other way"
        )
        assert min(run.wall for run in runs) > 0
