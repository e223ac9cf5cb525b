"""Generation with an adapter and an accent says what the trained forward says; scale 0 is the base model; everything is repeatable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.test_parity import TOLERANCE, gap, recorded
from tune_accent.base.checksums import write_checksums
from tune_accent.base.errors import DataError, ModelError
from tune_accent.base.files import read_json, write_json
from tune_accent.config.schema import Lora, Tiny
from tune_accent.models.adapter_base import AdapterBase, read_accents, read_base
from tune_accent.models.backbone import Backbone, load_backbone
from tune_accent.models.forward import ACCENT_POSITION, codebook0_logits, collate, embed, subtalker_logits, trunk
from tune_accent.models.lora import attach, save_adapter
from tune_accent.models.synthesis import Line, Sampling, Speaker, Spoken, accent_vectors, open_speaker, read_voice, speak

CPU = torch.device("cpu")
ACCENTS = ("en-us", "Paraíba", "en-029")
LINES = [Line("A porta está aberta, não é?", "Paraíba"), Line("Close the door.", "en-029"), Line("O avião já saiu.", None)]
GREEDY = Sampling(seconds=1.0, greedy=True)
Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def default_attention() -> Iterator[None]:
    """The attention kernels of a fresh process: a test that trained leaves the plain one behind (1.3e-5 apart in this loud model, not .6e-5)."""
    kinds, cuda = ("flash", "mem_efficient"), torch.backends.cuda
    before = {kind: getattr(cuda, f"{kind}_sdp_enabled")() for kind in kinds}
    for kind in kinds:
        getattr(cuda, f"enable_{kind}_sdp")(True)
    yield
    for kind, enabled in before.items():
        getattr(cuda, f"enable_{kind}_sdp")(enabled)


@pytest.fixture(scope="module")
def base(loud: Backbone, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loud model as a checkpoint."""
    folder = tmp_path_factory.mktemp("base") / "loud"
    shutil.copytree(tiny_folder, folder)
    state = {name: value.clone().contiguous() for name, value in loud.model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a search leaves in `best/`, with weights that matter."""
    folder, backbone = tmp_path_factory.mktemp("adapter") / "best", load_backbone(base)
    peft_model = attach(backbone, Lora(rank=4, target=("q", "k", "v", "o", "gate", "up", "down")), seed=0)
    draws = torch.Generator().manual_seed(2)
    for name, parameter in sorted(peft_model.named_parameters()):
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=draws) + (0.0 if "lora_B" in name else parameter.data)
    save_adapter(peft_model, folder)
    table = 0.7 * torch.randn(len(ACCENTS), backbone.hidden, generator=draws)
    save_file({"table.weight": table, "z.weight": torch.ones(2)}, folder / "heads.safetensors", {"accents": json.dumps(ACCENTS)})
    write_json(folder / "base.json", recorded_base(backbone.fingerprint, str(base)))
    write_checksums(folder)
    return folder


def recorded_base(fingerprint: str, backbone: str) -> dict[str, object]:
    return AdapterBase(backbone=backbone, fingerprint=fingerprint, language="portuguese", loudness_lufs=-23.0).model_dump(
        mode="json"
    )


@pytest.fixture(scope="module")
def speaker(adapter: Path) -> Speaker:
    return open_speaker(adapter, CPU)


@pytest.fixture(scope="module")
def voice(voices: Tensor) -> Tensor:
    return voices[0]


@dataclass(frozen=True)
class Heard:
    """What generation said, and the logits it said it from, cut to each line's frames."""

    spoken: list[Spoken]
    codebook0: Tensor
    subtalker: Tensor


def listen(speaker: Speaker, lines: list[Line], voice: Tensor) -> Heard:
    """Greedy generation with every logit recorded."""
    talker = speaker.backbone.talker
    with recorded([talker.codec_head, *talker.code_predictor.lm_head]) as calls:
        spoken = speak(speaker, lines, voice, GREEDY)
    steps, answers = torch.stack(calls[0], 1), torch.stack([torch.stack(call, 1) for call in calls[1:]], 2)
    counts = [len(one.codes) for one in spoken]
    return Heard(
        spoken,
        torch.cat([steps[row, : count + 1] for row, count in enumerate(counts)]),
        torch.cat([answers[row, :count] for row, count in enumerate(counts)]),
    )


def taught(speaker: Speaker, heard: Heard, lines: list[Line], voice: Tensor, accents: Tensor | None) -> tuple[float, float]:
    """Largest difference of codebook 0's and of the sub-talker's logits when the forward of training is given the codes that were generated."""
    backbone = speaker.backbone
    texts, codes = [backbone.text_tokens(line.text) for line in lines], [one.codes for one in heard.spoken]
    inputs = collate(backbone, texts, codes, speaker.language)
    with torch.no_grad():
        state = trunk(backbone, embed(backbone, inputs, voice.expand(len(lines), -1), accents), 2, whole=True)[0]
        first, others = codebook0_logits(backbone, inputs, state), subtalker_logits(backbone, inputs, state, None)
    return gap(first, heard.codebook0), gap(others, heard.subtalker)


def test_generation_agrees_with_the_forward_of_training(speaker: Speaker, voice: Tensor) -> None:
    """Three texts of different lengths in one batch, two accents and A = ∅, with the adapter on."""
    heard = listen(speaker, LINES, voice)
    codes = np.concatenate([one.codes for one in heard.spoken])
    assert len(codes) >= 24 and len(np.unique(codes)) > 20 and heard.codebook0.std() > 0.5
    right = accent_vectors(speaker, [line.accent for line in LINES])
    assert max(taught(speaker, heard, LINES, voice, right)) <= TOLERANCE
    assert min(taught(speaker, heard, LINES, voice, None)) > 0.1, "parity is not for want of an effect of A"
    assert min(taught(speaker, heard, LINES, voice, right.roll(1, 0))) > 0.1, "every row has its own accent"
    assert min(taught(speaker, heard, LINES, voice.flip(0), right)) > 0.1, "nor of S"


def test_without_an_accent_too(speaker: Speaker, voice: Tensor) -> None:
    lines = [Line(line.text, None) for line in LINES]
    assert max(taught(speaker, listen(speaker, lines, voice), lines, voice, None)) <= TOLERANCE


def test_a_position_beside_the_language_is_noticed(speaker: Speaker, voice: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_accent.models.synthesis.ACCENT_POSITION", ACCENT_POSITION + 1)
    heard = listen(speaker, LINES, voice)
    right = accent_vectors(speaker, [line.accent for line in LINES])
    assert min(taught(speaker, heard, LINES, voice, right)) > 0.1


def test_scale_0_is_the_base_model_and_scales_differ(adapter: Path, base: Path, speaker: Speaker, voice: Tensor) -> None:
    backbone = load_backbone(base)
    bare = Speaker(backbone, ACCENTS, speaker.table, speaker.language, None, True)
    lines = [Line(LINES[0].text, None)]
    own, none, half, full = (
        listen(one, lines, voice)
        for one in (bare, open_speaker(adapter, CPU, scale=0.0), open_speaker(adapter, CPU, scale=0.5), speaker)
    )
    assert torch.equal(own.codebook0, none.codebook0) and torch.equal(own.subtalker, none.subtalker)
    assert np.array_equal(own.spoken[0].wave, none.spoken[0].wave)
    assert gap(own.codebook0[0], half.codebook0[0]) > 0.01 and gap(half.codebook0[0], full.codebook0[0]) > 0.01


def test_the_accent_stays_set_at_scale_0(adapter: Path, voice: Tensor) -> None:
    silent = open_speaker(adapter, CPU, scale=0.0)
    lines = [Line(LINES[0].text, "Paraíba")]
    heard = listen(silent, lines, voice)
    assert max(taught(silent, heard, lines, voice, accent_vectors(silent, ["Paraíba"]))) <= TOLERANCE


def test_peft_alone_loads_the_same_weights(adapter: Path, base: Path, speaker: Speaker, voice: Tensor) -> None:
    """The folder is what `PeftModel.from_pretrained` takes, and the table is found by its names."""
    backbone = load_backbone(base)
    PeftModel.from_pretrained(backbone.model, str(adapter)).eval()
    table = load_file(adapter / "heads.safetensors")["table.weight"]
    own = Speaker(backbone, read_accents(adapter), table, "portuguese", None, True)
    lines = [Line("Não há ninguém.", "Paraíba")]
    assert torch.equal(listen(own, lines, voice).codebook0, listen(speaker, lines, voice).codebook0)


def test_draws_are_seeded_and_leave_the_global_generator_alone(speaker: Speaker, voice: Tensor) -> None:
    before = torch.get_rng_state()
    line, sampling = LINES[:1], Sampling(seed=3, seconds=0.8)
    one, again, other = (speak(speaker, line, voice, each)[0] for each in (sampling, sampling, Sampling(seed=4, seconds=0.8)))
    assert np.array_equal(one.codes, again.codes) and np.array_equal(one.wave, again.wave)
    assert not np.array_equal(one.codes, other.codes)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_talker_is_left_as_it_was(speaker: Speaker, voice: Tensor) -> None:
    speak(speaker, LINES[:1], voice, GREEDY)
    assert "generate" not in vars(speaker.backbone.talker)


def test_white_space_around_a_text_is_not_spoken(speaker: Speaker, voice: Tensor) -> None:
    one, other = (speak(speaker, [Line(text, "en-us")], voice, GREEDY)[0] for text in ("Olá, São Luís!", "\n\n Olá, São Luís!\n"))
    assert np.array_equal(one.codes, other.codes)


@contextmanager
def end_of_speech(speaker: Speaker, logit: float) -> Iterator[None]:
    """The talker's logit of the end of speech is `logit` meanwhile."""
    end = speaker.backbone.model.config.talker_config.codec_eos_token_id

    def replaced(_module: object, _inputs: object, logits: Tensor) -> Tensor:
        logits[..., end] = logit
        return logits

    hook = speaker.backbone.talker.codec_head.register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()


def test_length_is_that_of_the_codes_and_is_limited(speaker: Speaker, voice: Tensor) -> None:
    for seconds, frames in ((1.0, 12), (0.4, 5)):
        with end_of_speech(speaker, -1e4):
            spoken = speak(speaker, LINES[:1], voice, Sampling(greedy=True, seconds=seconds))[0]
        assert spoken.codes.shape == (frames, 16) and not spoken.ended
        assert spoken.wave.shape == (frames * 1920,) and spoken.wave.dtype == np.float32 and np.isfinite(spoken.wave).all()


def test_an_end_of_speech_ends_it(speaker: Speaker, voice: Tensor) -> None:
    """As soon as `generate` allows it."""
    with end_of_speech(speaker, 1e4):
        spoken = speak(speaker, LINES, voice, GREEDY)
    assert all(one.ended and len(one.codes) == 2 for one in spoken)


def test_the_voice_is_taken_as_training_takes_it(speaker: Speaker, tmp_path: Path) -> None:
    import soundfile

    from tune_accent.data.audio import read_audio, set_loudness

    wave = 0.3 * np.sin(np.arange(16_000) * 0.05) * np.hanning(16_000)
    soundfile.write(tmp_path / "ref.wav", wave, 16_000)
    prepared = set_loudness(read_audio(tmp_path / "ref.wav"), -23.0)
    assert np.array_equal(read_voice(speaker, tmp_path / "ref.wav").numpy(), speaker.backbone.speaker_embedding(prepared))
    soundfile.write(tmp_path / "short.wav", wave[:800], 16_000)
    (tmp_path / "text.wav").write_text("não é áudio")
    for name, word in (("short.wav", "too short"), ("text.wav", "cannot be decoded"), ("nowhere.wav", "not there")):
        with pytest.raises(DataError, match=word) as mistake:
            read_voice(speaker, tmp_path / name)
        assert mistake.value.where == str(tmp_path / name) and "few seconds" in str(mistake.value.fix)


def test_the_tiny_base_is_built_from_what_is_recorded(adapter: Path, tmp_path: Path) -> None:
    """`best/` is enough: the model is made again where the search's data folder is not."""
    from tune_accent.models.tiny import ensure_tiny

    tiny = Tiny(hidden=32, layers=2)
    backbone = load_backbone(ensure_tiny(tmp_path / "elsewhere", tiny, 32))
    peft_model = attach(backbone, Lora(rank=2), seed=0)
    save_adapter(peft_model, tmp_path / "best")
    save_file({"table.weight": torch.ones(3, 32)}, tmp_path / "best" / "heads.safetensors", {"accents": json.dumps(ACCENTS)})
    root = str(tmp_path / "data")
    known = AdapterBase(
        backbone="tiny",
        fingerprint=backbone.fingerprint,
        language=None,
        loudness_lufs=None,
        tiny=tiny,
        codewords=32,
        data_root=root,
    )
    write_json(tmp_path / "best" / "base.json", known.model_dump(mode="json"))
    assert read_base(tmp_path / "best") == known
    speaker = open_speaker(tmp_path / "best", CPU)
    assert speaker.noise and speaker.language == "english" and speaker.accents == ACCENTS
    assert len(list((tmp_path / "data" / "prepared").glob("tiny-*"))) == 1


def test_a_search_without_lora_speaks_with_its_accents_alone(adapter: Path, base: Path, tmp_path: Path, voice: Tensor) -> None:
    folder = copied(adapter, tmp_path)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()
    write_checksums(folder)
    plain, scaled = open_speaker(folder, CPU), open_speaker(adapter, CPU, scale=0.0)
    first, second = (speak(one, LINES[:1], voice, GREEDY)[0] for one in (plain, scaled))
    assert np.array_equal(first.codes, second.codes)


def copied(adapter: Path, target: Path) -> Path:
    """A copy of the adapter folder, without the checksums that would notice a change first."""
    shutil.copytree(adapter, target / "copy")
    (target / "copy" / "checksums.json").unlink()
    return target / "copy"


def drop(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def edit(name: str, **changes: object) -> Change:
    return lambda folder: write_json(folder / name, {**read_json(folder / name), **changes})


def heads(names: object, rows: int, width: int) -> Change:
    """Other accents; `names` None leaves the metadata out."""
    metadata = None if names is None else {"accents": json.dumps(names)}
    return lambda folder: save_file({"table.weight": torch.ones(rows, width)}, folder / "heads.safetensors", metadata)


def no_heads(folder: Path) -> None:
    (folder / "heads.safetensors").write_bytes(b"no tensors")


def other_names(folder: Path) -> None:
    state = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.0", "layers.9"): value.clone() for name, value in state.items()},
        folder / "adapter_model.safetensors",
    )


BAD = {
    "no accents": (drop("heads.safetensors"), "carries no accents"),
    "no base": (drop("base.json"), "does not say on what it was trained"),
    "another base": (edit("base.json", fingerprint="0" * 64), "not the base that the adapter was trained on"),
    "a key of another kind": (edit("base.json", loudness_lufs="loud"), "loudness_lufs: "),
    "heads damaged": (no_heads, "carries no accents"),
    "no names": (heads(None, 3, 64), "no named accent table"),
    "fewer names": (heads(["a"], 3, 64), "their names differ"),
    "names of another kind": (heads({"a": 1}, 1, 64), "their names differ"),
    "another width": (heads(["a"], 1, 32), "width 32 on a base of width 64"),
    "another rank": (edit("adapter_config.json", r=8), "does not fit its base"),
    "other layers": (other_names, "does not fit its base"),
}


@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")
@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_is_no_adapter_of_this_base_is_refused(adapter: Path, tmp_path: Path, name: str) -> None:
    change, words = BAD[name]
    folder = copied(adapter, tmp_path)
    change(folder)
    with pytest.raises(ModelError, match=words):
        open_speaker(folder, CPU)


def test_a_damaged_folder_is_refused(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "best")
    data = bytearray((tmp_path / "best" / "adapter_model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "best" / "adapter_model.safetensors").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"adapter_model\.safetensors is changed"):
        open_speaker(tmp_path / "best", CPU)
