"""Weights & Biases: one run per trial, grouped by search, continued and never doubled when the search continues.

A run's id follows from the search's identity and the trial's key, so every launch finds it again. Offline runs are written whole by the launch that
trains their trial; online ones are resumed. A trial that repeats another (DUPLICATE) is that other's run.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tune_accent.base.errors import DataError, StorageError
from tune_accent.base.files import read_json, sha256_json
from tune_accent.base.storage import explained
from tune_accent.config.schema import Experiment
from tune_accent.tracking.timing import timings
from tune_accent.tracking.tracker import NoTracker, TrackedTrial, Tracker, logged
from tune_accent.tracking.wandb_link import Link
from tune_accent.tracking.wandb_process import LEDGER, read_ledger
