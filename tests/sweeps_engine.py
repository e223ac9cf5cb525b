"""W&B's own sweep engine (`sweeps`) in a folder of its own: it cannot be installed beside our pins (tests/requirements-sweeps.txt says why).

`ask` runs a piece of code in a process that has it. Where the package index cannot be reached, tests that need it are skipped and say so.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REQUIREMENTS = Path(__file__).parent / "requirements-sweeps.txt"


@cache
def target() -> Path:
    """The folder that `sweeps` is installed in; once per process."""
    folder = Path(tempfile.mkdtemp(prefix="sweeps-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--target", str(folder), "--requirement", str(REQUIREMENTS)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"`sweeps` cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def ask(code: str, question: Any) -> Any:
    """Run `code` with `sweeps`; it finds `question` under that name and leaves `answer`, both JSON values."""
    whole = f"import json, sys\nquestion = json.load(sys.stdin)\n{code}\njson.dump(answer, sys.stdout)"
    environment = {**os.environ, "PYTHONPATH": str(target()), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", whole], input=json.dumps(question), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
