"""The tiny folder: the same settings give the same bytes, whole or absent."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from tune_accent.base.files import sha256_file
from tune_accent.config.schema import Tiny
from tune_accent.models import tiny
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.tiny import build_tiny, ensure_tiny


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_settings_give_the_same_bytes_whatever_the_global_seed(tiny_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    state = torch.get_rng_state()
    build_tiny(tmp_path, Tiny(), 64)
    assert hashes(tmp_path) == hashes(tiny_folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_ensure_builds_once(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(tiny, "build_tiny", fail)
    assert ensure_tiny(tiny_folder.parent, Tiny(), 64) == tiny_folder
    for cfg, codes in ((Tiny(seed=1), 64), (Tiny(), 128), (Tiny(layers=2), 64)):
        with pytest.raises(AssertionError, match="built again"):
            ensure_tiny(tiny_folder.parent, cfg, codes)


def test_of_two_that_come_at_once_one_builds_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, both = [], threading.Barrier(2)

    def slow(folder: Path, *_: object) -> None:
        built.append(folder)
        time.sleep(0.5)

    def one(_: int) -> Path:
        both.wait()
        return ensure_tiny(tmp_path, Tiny(), 64)

    monkeypatch.setattr(tiny, "build_tiny", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second and len(built) == 1


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path, *_: object) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "build_tiny", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensure_tiny(tmp_path, Tiny(), 64)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_code_embeddings_are_shared_across_sub_frames_and_halve_per_level(shared: Backbone) -> None:
    talker = shared.talker
    tables = [talker.model.codec_embedding.weight[:64], *(table.weight for table in talker.code_predictor.model.codec_embedding)]
    assert len(tables) == 16
    for slot, table in enumerate(tables):
        assert torch.equal(table, tables[slot - slot % 4])
        assert table.std().item() == pytest.approx(0.08 * 0.5 ** (slot // 4), rel=0.05)
    assert not torch.equal(tables[0] / 2, tables[4])


def test_trunk_is_scaled_and_norms_are_one(shared: Backbone) -> None:
    for name, parameter in shared.talker.model.layers.named_parameters():
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(4 * 0.02, rel=0.1), name
        else:
            assert torch.equal(parameter, torch.ones_like(parameter)), name


def test_both_projections_are_real(shared: Backbone) -> None:
    config = shared.model.config.talker_config
    assert config.text_hidden_size != config.hidden_size
    assert isinstance(shared.talker.code_predictor.small_to_mtp_projection, nn.Linear)


@pytest.mark.parametrize(("hidden", "layers", "codes"), [(32, 2, 8), (96, 3, 64), (128, 2, 256)])
def test_other_shapes_load(tmp_path: Path, hidden: int, layers: int, codes: int) -> None:
    backbone = load_backbone(ensure_tiny(tmp_path, Tiny(hidden=hidden, layers=layers), codes, languages={"german": 5}))
    assert (backbone.hidden, backbone.layers, backbone.codebook_size, backbone.speaker_dim) == (hidden, layers, codes, hidden)
    assert dict(backbone.languages) == {"german": codes + 5}
