"""The test split is opened once: the same again goes on, another is refused or explained, and of two processes one opens it."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tune_accent.base.errors import DataError, FolderInUse, UserError
from tune_accent.base.files import folder_lock, read_json, sha256_json, write_json
from tune_accent.paper.checksums import seal
from tune_accent.paper.opening import FIRST, open_test, openings, read_openings, refuse_other
from tune_accent.paper.results import Opening

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
IDENTITY: dict[str, Any] = {"winner": {"trial": 7, "lr": 0.003}, "arms": ["winner", "no_lora"], "repeats": (1, 2), "data": "abc"}
OTHER: dict[str, Any] = {**IDENTITY, "winner": {"trial": 9, "lr": 0.003}}


def test_the_first_opening_is_on_the_disk_with_time_and_identity(tmp_path: Path) -> None:
    plain = {**IDENTITY, "repeats": [1, 2]}
    assert open_test(tmp_path, IDENTITY, None, NOON) == (Opening("2026-03-04T12:00:00+00:00", sha256_json(plain), FIRST),)
    content = read_json(tmp_path / "paper" / "test_split.json")
    assert content["openings"][0]["of"] == plain


def test_the_same_again_goes_on_and_opens_nothing(tmp_path: Path) -> None:
    first = open_test(tmp_path, IDENTITY, None, NOON)
    before = (tmp_path / "paper" / "test_split.json").read_bytes()
    assert open_test(tmp_path, dict(reversed(IDENTITY.items()))) == first
    assert open_test(tmp_path, IDENTITY, "no need for a reason") == first
    assert (tmp_path / "paper" / "test_split.json").read_bytes() == before


def test_a_part_of_another_identity_is_refused_early(tmp_path: Path) -> None:
    refuse_other(tmp_path, {"repeats": [1]}, None)  # nothing is open yet
    open_test(tmp_path, IDENTITY, None, NOON)
    refuse_other(tmp_path, {"repeats": (1, 2), "data": "abc"}, None)
    refuse_other(tmp_path, {"repeats": (1, 2, 3)}, "more seeds")
    with pytest.raises(UserError, match="repeats"):
        refuse_other(tmp_path, {"repeats": (1, 2, 3)}, None)
    assert len(openings(tmp_path)) == 1


@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_another_opening_is_refused_and_says_what_differs(tmp_path: Path, reason: str | None) -> None:
    open_test(tmp_path, IDENTITY, None, NOON)
    with pytest.raises(UserError, match=r"opened at 2026-03-04T12:00:00\+00:00 for something else") as refused:
        open_test(tmp_path, OTHER, reason)
    assert "winner.trial: 7 → 9" in str(refused.value) and "lr" not in str(refused.value) and "--reopen" in str(refused.value)
    assert refused.value.exit_code == 2 and len(read_openings(tmp_path)) == 1


def test_a_reason_opens_it_again_and_stays(tmp_path: Path) -> None:
    open_test(tmp_path, IDENTITY, "asked for nothing", NOON)
    both = open_test(tmp_path, OTHER, " the first one had a wrong κ ", NOON)
    assert [opening.reason for opening in both] == [FIRST, "the first one had a wrong κ"]
    assert open_test(tmp_path, OTHER) == open_test(tmp_path, IDENTITY) == openings(tmp_path) == both


def test_every_edit_of_the_record_is_refused(tmp_path: Path) -> None:
    open_test(tmp_path, IDENTITY, None, NOON)
    file = tmp_path / "paper" / "test_split.json"
    whole = file.read_text()
    numbers = list(re.finditer(r"\d+", whole))
    for match in numbers:
        last = match.end() - 1
        file.write_text(f"{whole[:last]}{(int(whole[last]) + 1) % 10}{whole[last + 1 :]}")
        with pytest.raises(DataError, match="was edited"):
            open_test(tmp_path, IDENTITY)
    assert len(numbers) > 20


@pytest.mark.parametrize("content", [[], {}, {"openings": 3, "sha256": "x"}, {"openings": []}, None])
def test_a_record_that_makes_no_sense_is_refused(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "paper" / "test_split.json", content)
    with pytest.raises(DataError, match="was edited"):
        open_test(tmp_path, IDENTITY)


def test_a_record_that_was_removed_is_missed(tmp_path: Path) -> None:
    open_test(tmp_path, IDENTITY, None, NOON)
    seal(tmp_path / "paper")
    (tmp_path / "paper" / "test_split.json").unlink()
    with pytest.raises(DataError, match="is missing"):
        open_test(tmp_path, OTHER)


def test_nobody_opens_it_while_another_process_does(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "paper" / ".test_split"), pytest.raises(FolderInUse):
        open_test(tmp_path, IDENTITY)
    assert read_openings(tmp_path) == []


def test_of_two_processes_at_once_one_opens_it(tmp_path: Path) -> None:
    rounds = 20
    command = [sys.executable, "-m", "tests.paper.opening_process", str(tmp_path), str(rounds)]
    both = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in (1, 2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    assert [sorted(pair) for pair in zip(*answers, strict=True)] == [["opened", "refused"]] * rounds
    assert all(len(read_openings(tmp_path / str(n))) == 1 for n in range(rounds))
