"""The README's commands, options, files and links exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(set(re.findall(r"python -m (tune_accent\.\w+)", README)))
LINKS = sorted(set(re.findall(r"\]\(([^)#]+)\)", README)))


def help_of(module: str) -> str:
    """What `python -m module --help` prints."""
    return subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout


def test_the_readme_names_commands_and_links() -> None:
    assert len(MODULES) >= 2 and len(LINKS) >= 2


@pytest.mark.parametrize("module", MODULES)
def test_every_command_answers(module: str) -> None:
    assert "Usage" in help_of(module)


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_option_of_the_table_exists() -> None:
    shown = help_of("tune_accent.search")
    options = re.findall(r"^\| `(--[a-z-]+)", README, flags=re.MULTILINE)
    assert len(options) >= 5
    for option in options:
        assert option in shown, option


def test_the_space_file_that_is_shown_is_the_one_that_is_shipped() -> None:
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL) if "run_cap" in text)
    shown = yaml.safe_load(block)
    shipped = yaml.safe_load((ROOT / "search_spaces" / "lora.yaml").read_text(encoding="utf-8"))
    assert shown == {key: shipped[key] for key in shown}


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in README
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
