"""Hyperparameter search for accent-controlled speech: LoRA on Qwen3-TTS that moves the accent and leaves the speaker alone.

python -m tune_accent.search search_spaces/lora.yaml
"""

__version__ = "0.1.0"
