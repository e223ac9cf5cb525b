"""A corpus that is not there, or broken, is refused before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.entries.command import REPOSITORY
from tests.support import small_experiment
from tune_accent.base.errors import DataError
from tune_accent.base.progress import silent
from tune_accent.config.schema import Experiment
from tune_accent.config.speech import PreparedSource
from tune_accent.data.corpus import ensure_corpus
from tune_accent.data.manifest import NAME
from tune_accent.training import preparation
from tune_accent.training.preparation import ensure_prepared

REFUSED = """
import sys
from tune_accent.base.errors import DataError
from tune_accent.config.schema import Experiment
from tune_accent.training import preparation
try:
    preparation._prepare_in_child(Experiment.model_validate_json(sys.argv[1]).model_dump_json(), False)
except DataError as error:
    print(error)
print("torch" in sys.modules)
"""


@pytest.fixture
def spec(tmp_path: Path) -> Experiment:
    """Of a corpus that a person made, in a folder that is not there yet."""
    made = small_experiment(tmp_path / "data")
    return made.model_copy(update={"data": made.data.model_copy(update={"source": PreparedSource()})})


@pytest.mark.parametrize("folder", [False, True])
def test_a_corpus_that_is_not_there_is_refused_without_a_process(
    spec: Experiment, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    monkeypatch.setattr(preparation, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("nothing is to be prepared"))
    if folder:
        Path(spec.data.root).mkdir()
    with pytest.raises(DataError) as told:
        ensure_prepared(spec, show=False)
    with pytest.raises(DataError) as expected:
        ensure_corpus(spec.data, 0, silent)
    assert str(told.value) == str(expected.value)
    assert ("no readable manifest" if folder else "the folder of the corpus is not there") in str(told.value)


def test_torch_is_not_imported_to_refuse_a_broken_corpus(spec: Experiment) -> None:
    write_broken(spec)
    command = [sys.executable, "-c", REFUSED, spec.model_dump_json()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    with pytest.raises(DataError) as expected:
        ensure_corpus(spec.data, 0, silent)
    assert done.stdout == f"{expected.value}\nFalse\n"


def write_broken(spec: Experiment) -> None:
    Path(spec.data.root).mkdir()
    (Path(spec.data.root) / NAME).write_text("{\n")
