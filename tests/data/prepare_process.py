"""Prepare the small demo in a process of its own, in parts of four and slowly; print the key and how many utterances were encoded here.

python -m tests.data.prepare_process ROOT
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.data.caches import Encoding, config, prepared
from tune_accent.data import preparing
from tune_accent.data.audio import Wave


class Slow(Encoding):
    """Long enough for others to come."""

    def __call__(self, wave: Wave) -> npt.NDArray[np.float32]:
        time.sleep(0.05)
        return super().__call__(wave)


if __name__ == "__main__":
    preparing.PART, preparing.POLL_S = 4, 0.02
    encoding = Slow()
    cache = prepared(config(Path(sys.argv[1])), embed=encoding)
    sys.stdout.write(json.dumps({"key": cache.key, "encoded": encoding.count}))
