"""Members of archives, read past zipfile's own reader: the same bytes, and every damage is found."""

from __future__ import annotations

import random
import zipfile

import pytest

from driving.zip_contents import PACKED_BLOCK_BYTES, iter_member, read_contents
from driving.zip_errors import ZIP_ERRORS

PLAIN = random.Random(1).randbytes(3 * PACKED_BLOCK_BYTES + 17)
CONTENTS = {"a.bin": PLAIN, "empty.bin": b"", "same.bin": b"road" * 300_000, "\u00e4.bin": b"umlaut"}
KINDS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]


def write_zip(path, kind):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    return path


def read(path, name):
    with path.open("rb") as archive:
        return b"".join(iter_member(archive, read_contents(archive)[name]))


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_what_was_put_in(tmp_path, kind, name):
    assert read(write_zip(tmp_path / "a.zip", kind), name) == CONTENTS[name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", range(0, 40_000, 1_999))
def test_a_changed_byte_is_found(tmp_path, kind, place):
    """Of the archive's first 40 kB: a header's sizes and date are not looked at, its signature, name and bytes are."""
    path = write_zip(tmp_path / "a.zip", kind)
    data = bytearray(path.read_bytes())
    data[100 + place] ^= 0x20
    path.write_bytes(data)
    with pytest.raises(ZIP_ERRORS):
        read(path, "a.bin")


@pytest.mark.parametrize(("place", "message"), [(0, "Bad magic number"), (30, "differ")])
def test_a_header_that_is_another_members_is_found(tmp_path, place, message):
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match=message):
        read(path, "a.bin")


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    with path.open("rb") as archive:
        entry = read_contents(archive)["same.bin"]
        true_size, entry.file_size = entry.file_size, 100
        try:
            with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32 for file 'same.bin'"):
                list(iter_member(archive, entry))
        finally:
            entry.file_size = true_size


def test_a_member_cut_short_is_named(tmp_path):
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    with path.open("rb") as archive:
        entry = read_contents(archive)["a.bin"]
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(EOFError, match="'a.bin' is cut short by .* bytes"):
            list(iter_member(archive, entry))


def test_the_contents_of_an_archive_are_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    assert read(path, "a.bin") == PLAIN
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", None)  # nobody asks it again
        assert read(path, "\u00e4.bin") == b"umlaut"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("late.bin", b"late")
    assert read(path, "late.bin") == b"late"
