"""What a derived file should be, beside what it is: the row and the key that differ."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import zip_longest

from tune_accent.paper.checksums import Fault
from tune_accent.paper.leaves import changed, short, written

SHOWN = 20  # faults of one file that are listed
Compare = Callable[[str, str], list[str]]


def csv_faults(file: str, expected: str, found: str) -> list[Fault]:
    """Rows of a CSV file with a header; a row is named by its first column."""
    header = expected.split("\n", 1)[0].split(",")

    def cells(one: str, other: str) -> list[str]:
        try:
            rows = [next(csv.reader([text]), []) for text in (one, other)]
        except csv.Error:
            return []
        if len(rows[0]) != len(rows[1]):
            return [f"{header[0]} {rows[0][0]}: should have {len(rows[0])} cells, has {len(rows[1])}"]
        places = zip(header, *rows, strict=True)
        return [f"{header[0]} {rows[0][0]}: {name}: should be {was}, is {now}" for name, was, now in places if was != now]

    return _line_faults(file, expected, found, cells)


def jsonl_faults(file: str, expected: str, found: str) -> list[Fault]:
    """Lines of JSON objects; a line is named by its trial and epoch."""

    def leaves(one: str, other: str) -> list[str]:
        right = written(one)
        place = f"trial {right['trial']}, epoch {right['epoch']}"
        try:
            return [f"{place}: {key}: should be {was}, is {now}" for key, was, now in changed(right, written(other))]
        except (ValueError, RecursionError):
            return [f"{place}: is no JSON"]

    return _line_faults(file, expected, found, leaves)


def json_faults(file: str, expected: str, found: str) -> list[Fault]:
    """A JSON file."""
    if expected == found:
        return []
    try:
        told = [f"{key}: should be {was}, is {now}" for key, was, now in changed(written(expected), written(found))]
    except (ValueError, RecursionError):
        told = ["is no JSON"]
    return list(_bounded(file, told or ["holds what it should, but its text was edited"]))


def _line_faults(file: str, expected: str, found: str, compare: Compare) -> list[Fault]:
    told = []
    for number, (one, other) in enumerate(zip_longest(expected.split("\n"), found.split("\n")), 1):
        if one == other:
            continue
        if not one or other is None:
            told.append(f"line {number}: {'is missing' if other is None else 'should not be there'}")
        else:
            told += [f"line {number}: {what}" for what in compare(one, other) or [f"should be {short(one)}, is {short(other)}"]]
    return list(_bounded(file, told))


def _bounded(file: str, told: list[str]) -> Iterator[Fault]:
    yield from (Fault(file, what) for what in told[:SHOWN])
    if len(told) > SHOWN:
        yield Fault(file, f"and {len(told) - SHOWN} more")
