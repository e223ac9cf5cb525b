"""Pins against what is installed, with planted faults; torchaudio as it is here."""

from __future__ import annotations

import pytest

from tune_accent.base.errors import ModelError
from tune_accent.checking import versions
from tune_accent.checking.versions import judged, pins
from tune_accent.models import qwen_import

PINS = {"torch": "2.13.0", "jinja2": "3.1.6", "qwen-tts": "0.1.1"}


def test_pins_are_read_without_extras() -> None:
    found = pins(["torch==2.13.0", "ray[tune]==2.60.0", "tensorboardX==2.6.5", 'pytest==9.2.0; extra == "test"', "loose>=1"])
    assert found == {"torch": "2.13.0", "ray": "2.60.0", "tensorboardx": "2.6.5"}


def test_a_build_suffix_is_the_same_version() -> None:
    assert judged(PINS, {**PINS, "torch": "2.13.0+cu126"}).status == "ok"


@pytest.mark.parametrize(
    ("installed", "status", "words"),
    [
        ({**PINS, "torch": "2.12.0+cu126"}, "failed", "torch 2.12.0+cu126 (pinned 2.13.0)"),
        ({**PINS, "jinja2": "3.1.5"}, "warning", "jinja2 3.1.5 (pinned 3.1.6)"),
        ({name: version for name, version in PINS.items() if name != "qwen-tts"}, "failed", "qwen-tts missing (pinned 0.1.1)"),
    ],
)
def test_a_wrong_version_is_found(installed: dict[str, str], status: str, words: str) -> None:
    found = judged(PINS, installed)
    assert (found.status, found.found) == (status, words) and found.fix == versions.INSTALL


def test_a_package_without_pins_is_no_proof() -> None:
    assert judged({}, PINS).status == "warning"


def test_torchaudio_is_there_in_one_way_or_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.status for one in versions.check_torchaudio()] == ["ok"]

    def broken() -> None:
        raise ModelError("qwen_tts cannot be imported: no torchaudio", fix="install it")

    monkeypatch.setattr(qwen_import, "import_qwen_tts", broken)
    assert [(one.status, one.fix) for one in versions.check_torchaudio()] == [("failed", "install it")]
