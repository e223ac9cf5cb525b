"""Imports point down only (DESIGN: entries > checking > comparing > paper > tuning > auditing > reporting > training > evaluation > models > data > tracking > config > base)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tune_accent

PACKAGE = Path(tune_accent.__file__).parent
ROOMS = [
    "base",
    "config",
    "tracking",
    "data",
    "models",
    "evaluation",
    "training",
    "reporting",
    "auditing",
    "tuning",
    "paper",
    "comparing",
    "checking",
]
ENTRIES = len(ROOMS)
HEAVY = {"torch", "ray", "wandb", "optuna", "pandas", "sklearn", "transformers", "peft", "qwen_tts"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def level(module: str) -> int:
    """The level of a dotted module below `tune_accent`: rooms by their place in ROOMS, entries above all of them."""
    parts = module.split(".")
    return ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] in ROOMS else ENTRIES


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so at the top level (not inside a function)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((f"{node.module}.{alias.name}", node in tree.body) for alias in node.names)


def dotted(path: Path) -> str:
    """The module name of a file of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_the_walk_finds_the_package() -> None:
    assert len(MODULES) > 30
    assert {level(dotted(path)) for path in MODULES} >= {0, 1, 3, 4, 5, 6, ENTRIES}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down_only(path: Path) -> None:
    own = level(dotted(path))
    if dotted(path) == "tune_accent":
        own = 0
    for module, _ in imported(path):
        if module.startswith("tune_accent."):
            below = level(module) if module.split(".")[1] != "__version__" else 0
            assert below <= own, f"{dotted(path)} imports {module}, which lies above it"


@pytest.mark.parametrize("path", [p for p in MODULES if level(dotted(p)) <= 1], ids=dotted)
def test_the_lowest_rooms_import_nothing_heavy(path: Path) -> None:
    found = {module.split(".")[0] for module, _ in imported(path)} & HEAVY
    assert not found, f"{dotted(path)} imports {sorted(found)}"


@pytest.mark.parametrize("path", [p for p in MODULES if level(dotted(p)) == ROOMS.index("evaluation")], ids=dotted)
def test_evaluation_needs_no_torch(path: Path) -> None:
    assert not {module.split(".")[0] for module, _ in imported(path)} & {"torch", "ray", "transformers", "peft"}


@pytest.mark.parametrize("path", [p for p in MODULES if level(dotted(p)) == ROOMS.index("training")], ids=dotted)
def test_training_knows_nothing_of_ray_or_optuna(path: Path) -> None:
    assert not {module.split(".")[0] for module, _ in imported(path)} & {"ray", "optuna"}


def test_the_core_of_the_search_is_pure() -> None:
    found = {module.split(".")[0] for module, _ in imported(PACKAGE / "tuning" / "core.py")}
    assert not found & {"ray", "optuna", "time", "datetime", "random", "torch"}


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys\nimport tune_accent.search\nprint([name for name in {sorted(HEAVY)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_driver_of_a_search_holds_no_model() -> None:
    code = "import sys\nimport tune_accent.tuning.driver\nprint([name for name in ('torch', 'transformers', 'peft', 'wandb') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
