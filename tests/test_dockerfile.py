"""The Dockerfile installs as the Makefile does, with the Python and the files of this tree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_it_installs_with_the_makefile_and_nothing_else() -> None:
    assert re.findall(r"^RUN (?!apt-get )(.*)$", DOCKERFILE, flags=re.MULTILINE) == ["make setup PYTHON=python3.11"]
    assert "pip install" not in DOCKERFILE
    assert re.search(r"^setup:", MAKEFILE, flags=re.MULTILINE)


def test_everything_that_the_install_step_reads_is_copied_before_it() -> None:
    before = DOCKERFILE.split("RUN make setup")[0]
    copied = {name for line in re.findall(r"^COPY (.*)$", before, flags=re.MULTILINE) for name in line.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert copied >= {"pyproject.toml", "constraints.txt", "Makefile", project["readme"], "tune_accent"}
    for name in copied:
        assert (ROOT / name).exists(), name


def test_the_image_has_a_python_that_the_project_allows() -> None:
    version = re.search(r"^FROM python:(3\.(\d+)\.\d+)-", DOCKERFILE, flags=re.MULTILINE)
    assert version is not None and int(version.group(2)) >= 11


@pytest.mark.parametrize("name", ["data", "ray_results/*", ".venv", ".git"])
def test_nothing_big_or_private_enters_the_image(name: str) -> None:
    assert name in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
