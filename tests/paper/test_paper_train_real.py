"""Arms on new seeds, trained with real speech by a real worker of Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.paper.test_paper_train import timing
from tests.support import small_experiment
from tests.tuning.small_search import SPACE, request
from tests.tuning.test_driver import InProcess
from tune_accent.config.schema import Tuning
from tune_accent.paper.plan import candidates, ranked, with_values
from tune_accent.paper.results import Arm
from tune_accent.paper.selection import select, winner
from tune_accent.paper.train import train_arms
from tune_accent.training.preparation import ensure_prepared
from tune_accent.tuning import driver, program
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("own_logger"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_real_speech_in_a_real_worker(
    tmp_path: Path, small_root: Path, small_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search (here), arms on new seeds (in a worker), the search again; the winner's runs under their new name need no worker."""
    experiment = small_experiment(small_root, epochs=2).model_copy(update={"tuning": Tuning(workers=1)})
    asked = request(tmp_path, SPACE.replace("run_cap: 5", "run_cap: 2"), experiment)
    here = InProcess(lambda spec: program.SpeechProgram(experiment, small_data, FolderMemo(Path(spec["root"]))))
    with monkeypatch.context() as patched:
        patched.setattr(driver, "run_with_ray", here)
        trials = driver.run_search(asked).core.trials
    before = {path: path.read_bytes() for path in [*asked.root.glob("[a-z]*.*"), *asked.root.glob("suggestions/*")]}

    data = vars(ensure_prepared(experiment, show=False))
    plan = candidates(trials, asked.space, 1)
    frozen = Arm("no_lora", "baseline", with_values(plan.arms[0].params, {"model.lora.enabled": False}), "")
    runs = train_arms(experiment, asked.root, data, (*plan.arms, frozen), (1, 2))
    assert [(run.state, len(run.reports)) for run in runs] == [("COMPLETE", 2)] * 4
    assert len({run.reports[-1]["loss_accent"] for run in runs}) == 4, "every seed and arm is another run"
    assert len(timing(asked.root)) == 8 and all(float(row[5]) > 0 and float(row[6]) > 0 for row in timing(asked.root))

    monkeypatch.setattr(driver, "run_with_ray", here)
    known, won = here.trained, winner(plan.arms, select(plan.arms, runs, ranked(trials, asked.space), asked.space))
    assert [run.reports for run in train_arms(experiment, asked.root, data, [won], (1, 2))] == [run.reports for run in runs[:2]]
    assert driver.run_search(asked).best is not None and here.trained == known
    assert {path: path.read_bytes() for path in before} == before and len(timing(asked.root)) == 8
