"""`paper/adapter/`: the trained adapter, ready to use.

peft.PeftModel.from_pretrained(model, "paper/adapter")                         the talker with LoRA; A is not in PEFT's files
python -m tune_accent.synthesize --adapter paper/adapter --accent en-us ...    both, with the accent added where training adds it
"""

from __future__ import annotations

from pathlib import Path

from tune_accent.models.adapter_base import AdapterBase, write_adapter

FOLDER = "adapter"  # below `paper/`


def export_adapter(checkpoint: Path, base: AdapterBase, target: Path, card: str) -> None:
    """Make the adapter folder of a checkpoint; the same call gives the same bytes.

    Args:
        checkpoint: of a finished epoch (training/checkpoint.py).
        base: what it was trained on: `adapter_base(spec, fingerprint)`.
        target: PEFT's two files (absent without LoRA), heads.safetensors with the accent table, base.json, README.md, checksums.json.
        card: Markdown of README.md.

    Raises:
        DataError: the checkpoint is damaged; what was at `target` stays.
    """
    write_adapter(checkpoint, base, target, card)
