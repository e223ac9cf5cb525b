"""What an adapter folder says of itself: `base.json` names the backbone it was trained on, `heads.safetensors` the accents. No torch here.

<folder>/adapter_config.json, adapter_model.safetensors     PEFT format (absent for a search without LoRA)
<folder>/heads.safetensors                                  accent table, one row per name in the metadata `accents`
<folder>/base.json                                          which checkpoint, its fingerprint, and how S was taken
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from tune_accent.base.checksums import NAME as CHECKSUMS
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.errors import ModelError
from tune_accent.base.files import read_json, write_folder, write_json
from tune_accent.config.fields import Count, Section
from tune_accent.config.schema import Experiment, Tiny

NAME = "base.json"
HEADS = "heads.safetensors"
TABLE = "table.weight"


class AdapterBase(Section):
    """The backbone of an adapter, and what its prefix holds beside the accent.

    The tiny model is built from its settings, below the data folder where the search built it.
    """

    backbone: str  # "tiny", a folder, or a Hub id
    fingerprint: str  # SHA-256 over the backbone's config and weights
    language: str | None  # of every prefix; None: the alphabetically first that the backbone knows
    loudness_lufs: float | None  # of the wave that S is taken from; None leaves the level alone
    tiny: Tiny | None = None  # settings of the tiny model; None for every other backbone
    codewords: Count = 2048  # of the tiny model, per codebook
    data_root: str = "data"  # the tiny model is built in its `prepared/`


def adapter_base(spec: Experiment, fingerprint: str) -> AdapterBase:
    """What an adapter that is trained by `spec` has to say of its base.

    Args:
        spec: the experiment.
        fingerprint: `Backbone.fingerprint`.
    """
    return AdapterBase(
        backbone=spec.model.backbone,
        fingerprint=fingerprint,
        language=spec.model.language,
        loudness_lufs=spec.data.loudness_lufs,
        tiny=spec.model.tiny if spec.model.backbone == "tiny" else None,
        codewords=getattr(spec.data.codec, "codewords", 2048),
        data_root=spec.data.root,
    )


def write_adapter(checkpoint: Path, base: AdapterBase, target: Path, card: str) -> None:
    """Make an adapter folder of a checkpoint: whole or not at all, with checksums; one that is there is replaced.

    Args:
        checkpoint: of a finished epoch (training/checkpoint.py), checked before anything is copied.
        base: what it was trained on.
        target: the folder.
        card: Markdown of its README.md.

    Raises:
        DataError: the checkpoint is damaged; what was at `target` stays.
    """
    check_folder(checkpoint)

    def fill(folder: Path) -> None:
        for file in sorted((checkpoint / "adapter").glob("*")):
            shutil.copyfile(file, folder / file.name)
        shutil.copyfile(checkpoint / HEADS, folder / HEADS)
        write_json(folder / NAME, base.model_dump(mode="json"))
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_checksums(folder)

    write_folder(target, fill)


def read_base(folder: Path) -> AdapterBase:
    """`base.json` of an adapter folder.

    Raises:
        ModelError: it is missing, or not ours.
    """
    try:
        return AdapterBase.model_validate(read_json(folder / NAME), strict=False)
    except FileNotFoundError as error:
        raise ModelError(
            f"the adapter folder does not say on what it was trained: it has no {NAME}",
            where=str(folder),
            fix="give the `best/` folder of a search; the command of the search again completes one of an older version",
        ) from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"{key}: {first['msg']}", where=str(folder / NAME), fix="copy the adapter folder again") from error


def read_accents(folder: Path) -> tuple[str, ...]:
    """Names of the accent table's rows of an adapter folder, after a look at its checksums where it has some.

    Raises:
        ModelError: not an adapter folder, or one without accents. DataError: a file of it is damaged.
    """
    if not folder.is_dir():
        raise ModelError("no such folder", where=str(folder), fix="give the `best/` folder of a search")
    if not (folder / HEADS).is_file():
        raise ModelError(
            f"the adapter carries no accents: the folder has no {HEADS}",
            where=str(folder),
            fix="give the `best/` folder of a search",
        )
    if (folder / CHECKSUMS).is_file():
        check_folder(folder)
    try:
        with safe_open(folder / HEADS, framework="np") as tensors:
            shape = tensors.get_slice(TABLE).get_shape()
            names = json.loads((tensors.metadata() or {})["accents"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError("the adapter carries no accents: it has no named accent table", where=str(folder / HEADS)) from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and [len(names)] == shape[:1]):
        raise ModelError("the rows of the accent table and their names differ", where=str(folder / HEADS))
    return tuple(names)
