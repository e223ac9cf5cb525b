"""An archive is read only if every entry is what it says, where it says, under a name that means one thing on every system."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from tune_accent.base.errors import DataError
from tune_accent.base.unzip import Archive, Limits, name_problem


def packed(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def refused(path: Path, why: str, limits: Limits = Limits()) -> None:  # noqa: B008
    with pytest.raises(DataError, match=why) as caught:
        Archive(path, limits)
    assert caught.value.where == str(path)
    assert caught.value.fix


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_back(tmp_path: Path, method: int) -> None:
    path = packed(tmp_path / "a.zip", ("wav/", b""), ("wav/São.wav", b"x" * 1_000), ("metadata.csv", b""), method=method)
    with Archive(path) as archive:
        assert archive.names == ("metadata.csv", "wav/São.wav")
        assert archive.read("wav/São.wav") == b"x" * 1_000
        assert archive.size("wav/São.wav") == 1_000
        assert archive.read("metadata.csv") == b""


def test_names_in_nfd_and_utf_8_without_a_flag(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("wav/Sa\u0303o.wav", b"1"))
    data = path.read_bytes()
    with Archive(path) as archive:
        assert archive.names == ("wav/São.wav",)
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(magic) + place
        data = data[:at] + b"\0\0" + data[at + 2 :]
    path.write_bytes(data)
    with Archive(path) as archive:
        assert archive.read("wav/São.wav") == b"1"


NAMES = [
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/./x",
    "a//x",
    "C:/x",
    "C:x",
    "a\\..\\x",
    "\\\\host\\x",
    "x\ny",
    "x\x1b[2J",
    "NUL",
    "a/con.wav",
    "COM1.wav",
    "a./x",
    "a /x",
    "x" * 300,
    "/".join("x" * 600),
    "//x",
    "wav/\u202egnp.exe",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_means_something_else_somewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert name_problem(name)
    refused(packed(tmp_path / "a.zip", ("fine.txt", b"1"), (name, b"2")), "has (a|no) name")


@pytest.mark.parametrize("name", ["wav/s1/t1.wav", "São Tomé/ñ.wav", "a.b.c", "-x", "wav/", "console.wav", "comma.wav"])
def test_ordinary_names(name: str) -> None:
    assert name_problem(name) is None


def test_a_name_that_ends_at_a_nul_for_some(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("abXcd.wav", b"1"))
    path.write_bytes(path.read_bytes().replace(b"abXcd", b"ab\0cd"))
    refused(path, "has a name with")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.wav", "A.WAV"),
        ("wav/S\u00e3o.wav", "wav/Sa\u0303o.wav"),
        ("a", "a/b"),
        ("A", "a/b"),
        ("stra\u00dfe", "STRASSE"),
        ("x", "x"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_with_one_name_are_refused(tmp_path: Path, one: str, other: str) -> None:
    refused(packed(tmp_path / "a.zip", (one, b"1"), (other, b"2")), "same name|lies in a file")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o060644, 0o140644, 0o040755])
def test_links_and_devices_are_refused(tmp_path: Path, mode: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("wav/x.wav")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", "is a link or a device")


def changed(path: Path, magic: bytes, place: int, value: bytes) -> Path:
    """Overwrite bytes of the first header that begins with `magic`."""
    data = path.read_bytes()
    at = data.index(magic) + place
    path.write_bytes(data[:at] + value + data[at + len(value) :])
    return path


ENTRY, DIRECTORY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
LIES = {
    "encrypted": (DIRECTORY, 8, b"\x01\x00", "is encrypted"),
    "encrypted here only": (ENTRY, 6, b"\x01\x00", "contradicts the directory"),
    "strongly encrypted": (DIRECTORY, 8, b"\x41\x00", "is encrypted"),
    "patched": (DIRECTORY, 8, b"\x20\x00", "only `stored` and `deflated`"),
    "another method": (DIRECTORY, 10, b"\x0e\x00", "packed by method 14"),
    "another method here only": (ENTRY, 8, b"\x00\x00", "contradicts the directory"),
    "another name here only": (ENTRY, 30, b"b", "contradicts the directory"),
    "another volume": (DIRECTORY, 34, b"\x07\x00", "another volume"),
    "a gigabyte": (DIRECTORY, 24, struct.pack("<L", 2**30), "unpacks to 1073741824 bytes"),
    "a good compression": (DIRECTORY, 24, struct.pack("<L", 2**28), "times as many"),
    "behind the directory": (DIRECTORY, 42, struct.pack("<L", 10**6), "before the directory|cannot be read|ZIP"),
    "no header there": (DIRECTORY, 42, struct.pack("<L", 5), "contradicts the directory"),
    "content into the directory": (DIRECTORY, 20, struct.pack("<L", 90), "overlaps 'the directory'"),
    "a directory of gigabytes": (END, 12, struct.pack("<L", 2**32 - 2), "its directory lists|cannot be read"),
    "no end": (END, 0, b"PK\x05\x07", "no end of the directory"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(tmp_path: Path, lie: str) -> None:
    magic, place, value, why = LIES[lie]
    refused(changed(packed(tmp_path / "a.zip", ("a", b"1" * 100)), magic, place, value), why)


def test_entries_that_share_bytes(tmp_path: Path) -> None:
    """Many directory entries over one content: the zip bomb of Fifield 2019 in small."""
    path = packed(tmp_path / "a.zip", ("a", b"1" * 5_000), ("b", b"2" * 5_000))
    data = path.read_bytes()
    second = data.rindex(DIRECTORY)
    path.write_bytes(data[: second + 42] + struct.pack("<L", 0) + data[second + 46 :])
    refused(path, "contradicts the directory|overlaps")
    nested = packed(tmp_path / "inner.zip", ("b", b"2" * 50), method=zipfile.ZIP_STORED).read_bytes()
    entry = nested[: nested.index(DIRECTORY)]
    outer = packed(tmp_path / "b.zip", ("a", entry), ("b", b"2" * 50), method=zipfile.ZIP_STORED)
    data = outer.read_bytes()
    second = data.rindex(DIRECTORY)
    outer.write_bytes(data[: second + 42] + struct.pack("<L", data.index(entry)) + data[second + 46 :])
    refused(outer, "entry 'a' overlaps 'b'")


def test_a_64_bit_directory_that_lies(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"1" * 100))
    data = path.read_bytes()
    end = data.index(END)
    start, size = data.index(DIRECTORY), end - data.index(DIRECTORY)
    for entries, bytes_ in ((10**12, size), (1, 2**40), (1, size)):
        large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, bytes_, start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
        small = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
        path.write_bytes(data[:end] + large + locator + small)
        if (entries, bytes_) == (1, size):
            with Archive(path) as archive:
                assert archive.read("a") == b"1" * 100
        else:
            refused(path, "its directory lists")


def test_limits(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"1" * 100), ("b", b"2" * 100))
    refused(path, "2 entries", Limits(entries=1))
    refused(path, "unpacks to 100 bytes", Limits(entry=99))
    refused(path, "unpacks to 200 bytes", Limits(total=199))
    refused(path, "times as many", Limits(small=10, ratio=3))


@pytest.mark.parametrize("cut", [0, 10, 100, -1, -10])
def test_a_torn_archive(tmp_path: Path, cut: int) -> None:
    path = packed(tmp_path / "a.zip", ("a", bytes(range(256)) * 4))
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, "not a ZIP archive")


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.zip", "cannot be read")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_corrupt_content_is_found_when_it_is_read(tmp_path: Path, method: int) -> None:
    path = packed(tmp_path / "a.zip", ("a", bytes(range(256)) * 4), ("b", b"fine"), method=method)
    with Archive(changed(path, ENTRY, 60, b"\xff\xff\xff")) as archive:
        with pytest.raises(DataError, match="entry 'a' is corrupt"):
            archive.read("a")
        assert archive.read("b") == b"fine"


def test_an_entry_that_unpacks_to_more_than_it_says_costs_no_more_than_it_says(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", bytes(50_000_000)))
    changed(path, DIRECTORY, 24, struct.pack("<L", 1_000))
    tracemalloc.start()
    with Archive(path) as archive, pytest.raises(DataError, match="is corrupt"):
        archive.read("a")
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
