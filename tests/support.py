"""The small demo search that several rooms test with: 3 accents × 8 speakers × 6 texts, a tiny model, three epochs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_accent.config.schema import Experiment


def small_experiment(root: Path, **changes: Any) -> Experiment:
    """The experiment of the small demo; `changes` replace keys of `training`."""
    training = {"epochs": 3, "batch_size": 12, "null_batch": {"speakers": 2, "utterances": 2}, "sub_frames": 32, **changes}
    return Experiment.model_validate(
        {
            "name": "small",
            "seed": 5,
            "data": {
                "root": str(root),
                "source": {"kind": "demo", "preset": "EN3", "speakers": 8, "texts": 6},
                "codec": {"name": "mfcc_pq", "codewords": 32},
            },
            "model": {"layer": 1, "tiny": {"hidden": 32, "layers": 2}, "lora": {"rank": 4}},
            "training": training,
            "evaluation": {"bootstrap": 50, "draws": 1, "c_grid": [0.1]},
        }
    )


@contextmanager
def old_objects_set_aside() -> Iterator[None]:
    """Garbage is looked for among the objects that are made inside alone: those of libraries are a million, and a collection looks at each."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
