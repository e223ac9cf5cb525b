"""qwen_tts imports beside any torch, silently, and torchaudio is left alone where it loads."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from tune_accent.models import qwen_import

IMPORT = "import tune_accent.models.qwen_import as q; m = q.import_qwen_tts(); "


def test_import_is_silent_and_kaldi_features_work() -> None:
    code = (
        IMPORT + "import torch, torchaudio.compliance.kaldi as k; print(tuple(k.fbank(torch.ones(1, 16000)).shape), m.__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(98, 23) qwen_tts\n"
    assert done.stderr == ""


def test_a_torchaudio_that_loads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real, extension = ModuleType("torchaudio"), ModuleType("torchaudio._extension")
    monkeypatch.setitem(sys.modules, "torchaudio", real)
    monkeypatch.setitem(sys.modules, "torchaudio._extension", extension)
    qwen_import._import_torchaudio()
    assert sys.modules["torchaudio"] is real and sys.modules["torchaudio._extension"] is extension
