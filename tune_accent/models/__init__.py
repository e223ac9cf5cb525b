"""Qwen3-TTS: loading, the aligned teacher-forced forward, LoRA, heads and adversary."""
