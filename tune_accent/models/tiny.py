"""Build a tiny random-weight Qwen3-TTS of the real classes into a folder that `load_backbone` takes like any other.

No weight comes from torch's global generator: each is drawn by its own name from the seed, so equal settings give equal files. The initialisation is the demo's
(code embeddings shared across the four sub-frame slots of a level, a trunk that is not the identity); the speech tokenizer beside it is random and only shows the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tune_accent.base.files import sha256_json, write_file, write_folder, write_json, write_text
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Tiny
from tune_accent.data.preparing import waiting_lock
from tune_accent.models.qwen_import import import_qwen_tts

RECIPE = 1  # part of the folder's address: raise it when the files that the same settings give change
CODEBOOKS = 16
SUB_FRAMES = 4  # slot = SUB_FRAMES · level + sub-frame
CONTROL_IDS = 1024  # `generate` suppresses the last 1024 codec ids but EOS
HEAD_DIM = 16
STD = 0.02  # default of the real classes
LANGUAGES = {"english": 2, "portuguese": 23}  # offsets from the codebook's size, as in the real checkpoints
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
WORD = "assistant"  # must be one token


def ensure_tiny(cache_folder: Path, cfg: Tiny, codebook_size: int, languages: Mapping[str, int] = LANGUAGES) -> Path:
    """The folder of the tiny model with these settings, built when it is not there; whole or absent. Of processes that come at once, one builds and the others wait.

    Args:
        cache_folder: where tiny models are kept; the name below it is a hash of the settings.
        cfg: shape and initialisation.
        codebook_size: codes per codebook.
        languages: name → offset of its codec id from `codebook_size`.
    """
    settings = [RECIPE, cfg.model_dump(mode="json"), codebook_size, dict(languages), torch.__version__.split("+")[0]]
    folder = cache_folder / f"tiny-{sha256_json(settings)[:16]}"
    if not folder.is_dir():
        with waiting_lock(cache_folder):
            if not folder.is_dir():
                write_folder(folder, lambda empty: build_tiny(empty, cfg, codebook_size, languages))
    return folder


def build_tiny(folder: Path, cfg: Tiny, codebook_size: int, languages: Mapping[str, int] = LANGUAGES) -> None:
    """Write config, weights, tokenizer and speech tokenizer of a tiny model into `folder`.

    Args:
        folder: an existing, empty folder.
        cfg: shape and initialisation.
        codebook_size: codes per codebook.
        languages: name → offset of its codec id from `codebook_size`.
    """
    import_qwen_tts()
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration

    vocabulary = _write_tokenizer(folder)
    config = model_config(cfg, codebook_size, vocabulary, languages)
    with torch.random.fork_rng(devices=[]):
        model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**config))
    state = {name: _initial(name, value, cfg, codebook_size) for name, value in model.state_dict().items()}
    _write_weights(folder / "model.safetensors", state)
    write_json(folder / "config.json", config)
    write_json(
        folder / "generation_config.json", {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_k": 50}
    )
    _write_speech_tokenizer(folder / "speech_tokenizer", cfg.seed, codebook_size)


def model_config(cfg: Tiny, codebook_size: int, vocabulary: Mapping[str, int], languages: Mapping[str, int]) -> dict[str, Any]:
    """config.json of the whole model. Text width, code predictor width and talker width differ, so that both projections are real."""
    hidden = cfg.hidden
    attention = {
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "initializer_range": STD,
        "max_position_embeddings": 4096,
        "num_code_groups": CODEBOOKS,
    }
    predictor = {
        "vocab_size": codebook_size,
        "hidden_size": hidden // 2,
        "intermediate_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": max(1, hidden // 64),
        "rope_theta": 10_000.0,
        **attention,
    }
    talker = {
        "code_predictor_config": predictor,
        "vocab_size": codebook_size + CONTROL_IDS,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": hidden // HEAD_DIM,
        "num_key_value_heads": hidden // 32,
        "rope_theta": 10_000.0,
        "rope_scaling": {"type": "default", "mrope_section": [4, 2, 2], "interleaved": True},
        "text_hidden_size": hidden + 16,
        "text_vocab_size": len(vocabulary),
        "codec_pad_id": codebook_size + 100,
        "codec_bos_id": codebook_size + 101,
        "codec_eos_token_id": codebook_size + 102,
        "codec_think_id": codebook_size + 106,
        "codec_nothink_id": codebook_size + 107,
        "codec_think_bos_id": codebook_size + 108,
        "codec_think_eos_id": codebook_size + 109,
        "codec_language_id": {name: codebook_size + offset for name, offset in languages.items()},
        "spk_id": {},
        "spk_is_dialect": {},
        **attention,
    }
    return {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tts_model_type": "base",
        "tts_model_size": "tiny",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "dtype": "float32",
        "im_start_token_id": vocabulary["<|im_start|>"],
        "im_end_token_id": vocabulary["<|im_end|>"],
        "tts_pad_token_id": vocabulary["<tts_pad>"],
        "tts_bos_token_id": vocabulary["<tts_text_bos>"],
        "tts_eos_token_id": vocabulary["<tts_text_eod>"],
        "talker_config": talker,
        "speaker_encoder_config": {
            "enc_dim": hidden,
            "enc_channels": [32, 32, 32, 32, 96],
            "enc_attention_channels": 16,
            "enc_res2net_scale": 4,
            "enc_se_channels": 16,
        },
    }


def _initial(name: str, value: Tensor, cfg: Tiny, codebook_size: int) -> Tensor:
    """The initial value of one weight of the model, by its name."""
    if value.dim() < 2:
        return torch.ones_like(value) if "norm" in name and name.endswith("weight") else torch.zeros_like(value)
    if name.startswith("speaker_encoder."):
        gain = cfg.code_std if name == "speaker_encoder.fc.weight" else 2.0**0.5
        return _normal(name, value, gain / value[0].numel() ** 0.5, cfg.seed)
    if name.startswith("talker.model.layers."):
        return _normal(name, value, cfg.init_scale * STD, cfg.seed)
    slot = _code_slot(name)
    if slot is None:
        return _normal(name, value, STD, cfg.seed)
    level = slot // SUB_FRAMES
    codes = _normal(f"codes of level {level}", value[:codebook_size], cfg.code_std * 0.5**level, cfg.seed)
    return torch.cat([codes, _normal(name, value[codebook_size:], STD, cfg.seed)])


def _code_slot(name: str) -> int | None:
    """The codebook (0-15) whose embedding this is; None for any other weight."""
    if name == "talker.model.codec_embedding.weight":
        return 0
    prefix = "talker.code_predictor.model.codec_embedding."
    return int(name.removeprefix(prefix).split(".")[0]) + 1 if name.startswith(prefix) else None


def _normal(name: str, like: Tensor, std: float, seed: int) -> Tensor:
    """A normal draw of the shape of `like` that depends on (seed, name) only."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "tiny", name))
    return torch.randn(like.shape, generator=generator) * std


def _codec_initial(name: str, value: Tensor, seed: int) -> Tensor:
    """The initial value of one weight of the speech tokenizer, by its name; constants (norms, layer scales) stay as they are."""
    if value.dim() < 2:
        return torch.zeros_like(value) if name.endswith("bias") else value
    std = 1.0 if name.endswith(("embed_sum", "embedding_sum")) else value[0].numel() ** -0.5
    return _normal(f"codec {name}", value, std, seed)


def _write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    whole = {name: value.clone().contiguous() for name, value in state.items()}
    write_file(path, lambda temporary: save_file(whole, temporary, metadata={"format": "pt"}))


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """A byte-level BPE with the merges of "assistant" only; returns its vocabulary."""
    from transformers import Qwen2TokenizerFast
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    pieces = [WORD[: end + 1] for end in range(1, len(WORD))]
    tokens = [*bytes_to_unicode().values(), *pieces]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    write_json(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", "".join(f"{WORD[:end]} {WORD[end]}\n" for end in range(1, len(WORD))))
    tokenizer = Qwen2TokenizerFast(
        vocab_file=str(folder / "vocab.json"),
        merges_file=str(folder / "merges.txt"),
        additional_special_tokens=list(SPECIAL[1:]),
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token=SPECIAL[0],
    )
    tokenizer.save_pretrained(folder)
    return dict(tokenizer.get_vocab())


def _speech_tokenizer_config(codebook_size: int) -> dict[str, Any]:
    encoder = {
        "codebook_dim": 16,
        "codebook_size": codebook_size,
        "head_dim": 16,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_filters": 4,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "num_quantizers": CODEBOOKS,
        "upsample_groups": 32,
        "vector_quantization_hidden_dimension": 16,
    }
    decoder = {
        "codebook_dim": 32,
        "codebook_size": codebook_size,
        "decoder_dim": 32,
        "head_dim": 16,
        "hidden_size": 32,
        "intermediate_size": 64,
        "latent_dim": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "num_quantizers": CODEBOOKS,
    }
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_config": encoder,
        "decoder_config": decoder,
        "encoder_valid_num_quantizers": CODEBOOKS,
    }


def _write_speech_tokenizer(folder: Path, seed: int, codebook_size: int) -> None:
    """The 12 Hz codec beside the model: random, so its codes carry next to nothing."""
    from qwen_tts.core import Qwen3TTSTokenizerV2Config, Qwen3TTSTokenizerV2Model

    config = _speech_tokenizer_config(codebook_size)
    with torch.random.fork_rng(devices=[]):
        model = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**config))
    state = {name: _codec_initial(name, value, seed) for name, value in model.state_dict().items()}
    write_json(folder / "config.json", config)
    _write_weights(folder / "model.safetensors", state)
    write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "EncodecFeatureExtractor",
            "feature_size": 1,
            "sampling_rate": 24_000,
            "padding_side": "right",
        },
    )
