"""`--dry-run`: what would run, before anything does."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from tests.tuning.small_search import SPACE, core_of, request
from tune_accent.config.load import load_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.tuning import peak as module
from tune_accent.tuning.driver import Request
from tune_accent.tuning.forecast import adapter_weights, disk_bytes, epochs_expected, first, forecast
from tune_accent.tuning.peak import memory, peak_of

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path)


def test_the_text_holds_the_config_and_the_first_configurations(asked: Request) -> None:
    text = forecast(asked.space, asked.experiment, 5, asked.root)
    config, rest = text.split("# first configurations\n")
    assert Experiment.model_validate(yaml.safe_load(config)) == asked.experiment
    assert rest.count("  trial ") == 4 and "trial 0: rank " in rest
    assert "# epochs: 9 to 15 (5 trials of 3, ASHA rungs at 1)" in rest
    assert "KiB" in rest or "MiB" in rest
    assert "# memory: about" in rest
    assert not asked.root.exists() and not Path(asked.experiment.data.root).exists()


def test_the_first_configurations_are_those_that_the_search_runs(asked: Request) -> None:
    core = core_of(asked)
    core.advance()
    assert [dict(trial.params) for trial in core.trials] == first(asked.space, asked.experiment, 5)


def test_epochs_lie_between_everything_stopped_and_nothing(tmp_path: Path) -> None:
    asked = request(tmp_path, SPACE.replace("run_cap: 5", "run_cap: 16").replace("min_iter: 1", "min_iter: 3"))
    longer = resolve(asked.experiment, {"training.epochs": 27})
    assert epochs_expected(asked.space, longer, 16) == (16 * 3 + 6 * 6 + 2 * 18, 16 * 27), "rungs at 3 and 9"
    free = request(tmp_path, "".join(line for line in SPACE.splitlines(keepends=True) if "early" not in line))
    assert epochs_expected(free.space, free.experiment, 5) == (15, 15)
    assert "no early stopping" in forecast(free.space, free.experiment, 5, free.root)


def test_disk_is_counted_for_the_largest_rank(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, widest = (adapter_weights(resolve(asked.experiment, {"lora_rank": rank})) for rank in (2, 4))
    assert widest == 2 * small == 4 * 2 * (64 + 48 + 48 + 64), "rank × layers × (in + out of q, k, v, o)"
    assert disk_bytes(asked.space, asked.experiment, 5) == 5 * 2 * (4 * 3 * widest + 2**18)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "1000 B free  ← NOT ENOUGH" in forecast(asked.space, asked.experiment, 5, asked.root)


def test_memory_is_set_against_what_is_there(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpus", list)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * 2**30))
    assert "4.0 GiB of main memory per worker: fits" in memory(asked.experiment)
    assert "8.0 GiB" in memory(resolve(asked.experiment, {"tuning.workers": 2}))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * 2**30))
    assert "DOES NOT FIT" in memory(asked.experiment)
    monkeypatch.setattr(module, "gpus", lambda: [{"name": "RTX 4090", "memory": "24576 MiB", "driver": "1"}])
    assert "gpu 0.25 of RTX 4090 is 6.0 GiB: fits" in memory(asked.experiment)
    unknown = resolve(asked.experiment, {"model.backbone": "someone/else-Base"})
    assert memory(unknown) == "unknown: the shape of someone/else-Base is not on this machine"
    assert adapter_weights(unknown) == 0


@pytest.mark.parametrize(("name", "adapter"), [("0.6b", 4_587_520), ("1.7b", 6_422_528)])
def test_the_real_checkpoints_are_set_against_a_card(monkeypatch: pytest.MonkeyPatch, name: str, adapter: int) -> None:
    """Without a card and without weights: of the published shapes and a card of 24 GB."""
    monkeypatch.setattr(module, "gpus", list)
    spec = resolve(load_experiment(REPOSITORY / f"configs/qwen3_tts_{name}.yaml").experiment, {"lora_rank": 16})
    assert adapter_weights(spec) == adapter
    text, share = memory(spec), spec.tuning.resources.gpu
    assert f"gpu {share:g} of a 24 GB card is {24 * share:.1f} GiB: fits" in text
    assert text.count(" of a 24 GB card is ") == 3 and "gpu 1 of a 24 GB card is 24.0 GiB: fits" in text
    found, plain = peak_of(spec), peak_of(resolve(spec, {"training.gradient_checkpointing": False, "training.sub_frames": None}))
    assert found is not None and plain is not None and plain.peak > 1.5 * found.peak, "what the config switches on is needed"


def test_the_shape_of_a_local_backbone_is_read(asked: Request, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"\0" * 1000)
    talker = (
        '{"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}'
    )
    (folder / "config.json").write_text(f'{{"talker_config": {talker}}}')
    spec = resolve(asked.experiment, {"model.backbone": str(folder)})
    assert adapter_weights(spec) == adapter_weights(asked.experiment) and "per worker" in memory(spec)
