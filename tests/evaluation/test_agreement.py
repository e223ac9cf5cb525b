"""Agreement with scikit-learn on everything that scikit-learn has."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, log_loss, recall_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.evaluation import Protocol, evaluate
from tune_accent.evaluation.accent import macro_f1, recalls
from tune_accent.evaluation.leakage import _anchor_aucs
from tune_accent.evaluation.probes import Design, choose, fit, scaler

GRID = (0.01, 0.1, 1.0, 10.0)


def reference(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, class_weight="balanced", solver="newton-cg", tol=1e-10, max_iter=1000)


@pytest.mark.parametrize(("rows", "dims", "classes"), [(20, 32, 5), (40, 128, 5), (120, 16, 15), (200, 24, 2), (90, 8, 3)])
def test_probe_coefficients(rows: int, dims: int, classes: int) -> None:
    generator = np.random.default_rng(rows)
    designs = []
    for _ in range(3):
        labels = np.minimum(generator.integers(0, classes + 2, size=rows), classes - 1)
        labels[:classes] = np.arange(classes)
        z = generator.normal(size=(classes, dims))[labels] + generator.normal(size=(rows, dims)) * 3 + 5
        designs.append(Design(z * np.exp(generator.normal(size=dims)), labels, classes))
    designs.append(Design(designs[0].rows[: rows - 5], designs[0].labels[: rows - 5], classes))  # padded in the same pass
    for design, probe in zip(designs, fit(designs, GRID), strict=True):
        for s, c in enumerate(GRID):
            theirs = make_pipeline(StandardScaler(), reference(c)).fit(design.rows, design.labels)
            logits = probe.logits(design.rows)[:, s]
            ours = np.exp(logits - logits.max(axis=1, keepdims=True))
            assert theirs.predict_proba(design.rows) == pytest.approx(ours / ours.sum(axis=1, keepdims=True), abs=1e-6)
            if classes == 2:
                assert probe.weights[:, s, 1] - probe.weights[:, s, 0] == pytest.approx(theirs[-1].coef_[0], abs=1e-6)
            else:
                assert probe.weights[:, s] == pytest.approx(theirs[-1].coef_.T, abs=1e-6)


def test_a_class_that_is_absent_is_left_out() -> None:
    generator = np.random.default_rng(0)
    labels = np.tile([0, 2, 3], 20)
    z = generator.normal(size=(60, 4)) + labels[:, None]
    [probe] = fit([Design(z, labels, 5)], GRID)
    theirs = make_pipeline(StandardScaler(), reference(1.0)).fit(z, labels)
    assert np.array_equal(probe.predict(z, GRID.index(1.0)), theirs.predict(z))
    assert probe.present.tolist() == [True, False, True, True, False]


def test_scaler() -> None:
    z = np.random.default_rng(0).normal(size=(30, 4)) * [1, 1e-9, 1e6, 0] + [0, 3, -1e6, 0.1]
    theirs = StandardScaler().fit(z)
    mean, scale = scaler(z)
    assert mean == pytest.approx(theirs.mean_)
    assert scale == pytest.approx(theirs.scale_)


def test_choice_of_strength_is_by_balanced_log_loss() -> None:
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(30, 4, 3)), generator.normal(size=(20, 4, 3))]
    labels = [generator.integers(0, 3, 30), generator.integers(0, 2, 20)]
    truth = np.concatenate(labels)
    raised = np.exp(np.concatenate(logits))
    shares = raised / raised.sum(axis=2, keepdims=True)
    losses = [log_loss(truth, shares[:, s], sample_weight=1.0 / np.bincount(truth)[truth]) for s in range(4)]
    assert choose(logits, labels, 4) == int(np.argmin(losses))
    assert choose([], [], 3) == 1


def test_accent_metrics() -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(0, 4, 200), generator.integers(0, 3, 200)
    matrix = confusion_matrix(truth, predicted).astype(float)
    assert macro_f1(matrix) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert recalls(matrix).mean() == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_auc_of_an_anchor() -> None:
    generator = np.random.default_rng(2)
    speaker, fold = np.repeat(np.arange(4), 9), np.tile(np.arange(3), 12)
    z = np.round(generator.normal(size=(4, 3))[speaker] + generator.normal(size=(36, 3)))  # rounded: ties occur
    for anchor, found in enumerate(_anchor_aucs(z, speaker, fold, np.tile(np.arange(9), 4))):
        pairs = [(i, j) for i, j in product(range(36), repeat=2) if speaker[i] == anchor and fold[i] != fold[j]]
        same = [speaker[j] == anchor for _, j in pairs]
        near = [-float(((z[i] - z[j]) ** 2).sum()) for i, j in pairs]
        assert found == pytest.approx(roc_auc_score(same, near))


def test_whole_evaluation_against_a_plain_one() -> None:
    """Accent F1, unseen and raw leakage of one grid point, written down plainly with scikit-learn."""
    table = make_table()
    code = make_code(table, accent=0.4, speaker=0.4)
    found = evaluate(code, table, Protocol(c_grid=(0.1,), intervals=False))
    train, val = (table["split"] == "train").to_numpy(), (table["split"] == "val").to_numpy()
    probe = make_pipeline(StandardScaler(), reference(0.1)).fit(code[train], table["accent"][train])
    predicted = probe.predict(code[val])
    assert found.accent_f1.value == pytest.approx(f1_score(table["accent"][val], predicted, average="macro"))
    assert found.accent_balanced_accuracy.value == pytest.approx(balanced_accuracy_score(table["accent"][val], predicted))
    assert np.array_equal(found.confusion, confusion_matrix(table["accent"][val], predicted))

    def crossed(rows: np.ndarray) -> float:
        truth, guesses = [], []
        for fold in range(3):
            inside = (table["fold"] == fold).to_numpy()
            speakers = make_pipeline(StandardScaler(), reference(0.1)).fit(code[rows & ~inside], table["speaker"][rows & ~inside])
            truth += list(table["speaker"][rows & inside])
            guesses += list(speakers.predict(code[rows & inside]))
        return float(balanced_accuracy_score(truth, guesses))

    by_accent = [crossed(val & (table["accent"] == f"accent{a}").to_numpy()) - 1 / 5 for a in range(3)]
    assert found.leakage_unseen.value == pytest.approx(np.mean(by_accent))
    assert [detail.leakage_unseen.value for detail in found.per_accent.values()] == pytest.approx(by_accent)
    assert found.leakage_raw.value == pytest.approx(crossed(val) - 1 / 15)


def test_strength_and_held_fold_against_a_plain_one() -> None:
    """The strength that inner cross-validation by speaker takes, recall by accent, and seen leakage on the held fold."""
    table = make_table(train=6)
    code = make_code(table, accent=0.2, speaker=0.4, seed=3)
    found = evaluate(code, table, Protocol(c_grid=GRID, held_fold=1, intervals=False, permutations=0))
    train, val = (table["split"] == "train").to_numpy(), (table["split"] == "val").to_numpy()
    labels, number = table["accent"][train].to_numpy(), table["speaker"][train].str[3:].astype(int).to_numpy()
    weight = 1 / table["accent"][train].map(table["accent"][train].value_counts())
    losses = []
    for c in GRID:
        probe = make_pipeline(StandardScaler(), reference(c))
        shares = cross_val_predict(probe, code[train], labels, cv=PredefinedSplit(number % 3), method="predict_proba")
        losses.append(log_loss(labels, shares, sample_weight=weight))
    assert found.strength == GRID[int(np.argmin(losses))]
    predicted = make_pipeline(StandardScaler(), reference(found.strength)).fit(code[train], labels).predict(code[val])
    recall = [detail.recall.value for detail in found.per_accent.values()]
    assert recall == pytest.approx(recall_score(table["accent"][val], predicted, average=None))

    table = make_table(train=6, val=6)  # M is all of them: one draw
    code = make_code(table, accent=0.2, speaker=0.4, seed=3)
    single = evaluate(code, table, Protocol(c_grid=(0.1,), held_fold=1, intervals=False, permutations=0))
    by_accent = []
    for accent in ("accent0", "accent1", "accent2"):
        own = ((table["split"] == "train") & (table["accent"] == accent)).to_numpy()
        held = own & (table["fold"] == 1).to_numpy()
        probe = make_pipeline(StandardScaler(), reference(0.1)).fit(code[own & ~held], table["speaker"][own & ~held])
        by_accent.append(balanced_accuracy_score(table["speaker"][held], probe.predict(code[held])) - 1 / 6)
    assert [detail.leakage_seen.value for detail in single.per_accent.values()] == pytest.approx(by_accent)
    assert single.leakage_seen.value == pytest.approx(np.mean(by_accent))
