"""Shapes of the published Base checkpoints, as their config.json gives them: for what has to be known before the weights are here. No torch.

0.6B: 28 decoder blocks of width 1024; 1.7B: 28 of 2048. Both have text embeddings of width 2048, and a code predictor of 5 blocks of width 1024.
"""

from __future__ import annotations

from typing import Any

HUB_IDS = {"0.6B": "Qwen/Qwen3-TTS-12Hz-0.6B-Base", "1.7B": "Qwen/Qwen3-TTS-12Hz-1.7B-Base"}
WIDTHS = {"0.6B": (1024, 3072), "1.7B": (2048, 6144)}  # of the talker's residual stream and of its MLP
PARAMETERS = {1024: 914_643_008, 2048: 1_928_677_440}  # by width; without the speech tokenizer
CODES = 2048  # per codebook
BLOCKS = 28
LANGUAGES = {
    "chinese": 2055,
    "english": 2050,
    "german": 2053,
    "italian": 2070,
    "portuguese": 2071,
    "spanish": 2054,
    "japanese": 2058,
    "korean": 2064,
    "french": 2061,
    "russian": 2069,
}


def published_config(name: str) -> dict[str, Any] | None:
    """config.json of a published Base checkpoint, as far as it decides shapes and control ids.

    Args:
        name: its Hub id, its size ("0.6B", "1.7B"), or a folder of either's name.

    Returns:
        The config as the constructor of `Qwen3TTSConfig` takes it; None for any other name.
    """
    last = name.rstrip("/").split("/")[-1]
    for size, hub_id in HUB_IDS.items():
        if name == size or last == hub_id.split("/")[1]:
            return _config(size)
    return None


def _config(size: str) -> dict[str, Any]:
    hidden, ffn = WIDTHS[size]
    attention = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "num_code_groups": 16}
    predictor = {"vocab_size": CODES, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 5, **attention}
    talker = {
        "code_predictor_config": {**predictor, "rope_theta": 1_000_000},
        "vocab_size": 3072,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": BLOCKS,
        "rope_theta": 1_000_000,
        "rope_scaling": {"type": "default", "mrope_section": [24, 20, 20], "interleaved": True},
        "text_hidden_size": 2048,
        "text_vocab_size": 151_936,
        "codec_pad_id": 2148,
        "codec_bos_id": 2149,
        "codec_eos_token_id": 2150,
        "codec_think_id": 2154,
        "codec_nothink_id": 2155,
        "codec_think_bos_id": 2156,
        "codec_think_eos_id": 2157,
        "codec_language_id": dict(LANGUAGES),
        "spk_id": {},
        "spk_is_dialect": {},
        **attention,
    }
    return {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tts_model_type": "base",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "talker_config": talker,
        "speaker_encoder_config": {"enc_dim": hidden},
    }
