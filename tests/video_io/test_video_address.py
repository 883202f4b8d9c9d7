import zipfile
from pathlib import Path

import pytest

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import check_crc, decode_frames, open_address


def pack(path, video, compression=zipfile.ZIP_STORED, member="clips/a.mp4"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("first.txt", b"something in front")
        archive.write(video.path, member)
    return VideoAddress(str(path), member)


def test_a_stored_member_is_read_where_it_lies(tmp_path, draw_video, read_numbers):
    address = pack(tmp_path / "a.zip", draw_video())
    assert read_numbers(decode_frames(address, [0, 17, 39])) == [0, 17, 39]
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "drawn.mp4"}


def test_a_range_of_the_archive_reads_and_seeks_like_the_file(tmp_path, draw_video):
    video = draw_video()
    whole = Path(video.path).read_bytes()
    with open_address(pack(tmp_path / "a.zip", video)) as member:
        assert member.read() == whole
        assert member.seek(-10, 2) == len(whole) - 10
        assert member.read(100) == whole[-10:]
        member.seek(5)
        assert member.read(3) == whole[5:8]


def test_an_archive_that_changes_under_its_name_is_looked_into_anew(tmp_path, draw_video, read_numbers):
    address = pack(tmp_path / "a.zip", draw_video())
    assert read_numbers(decode_frames(address, [17])) == [17]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("first.txt", b"something longer in front, so that the member begins elsewhere")
        archive.write(draw_video(20, "other.mp4").path, address.member)
    assert read_numbers(decode_frames(address, [17])) == [17]


def test_a_compressed_member_is_unpacked(tmp_path, draw_video, read_numbers):
    address = pack(tmp_path / "a.zip", draw_video(), zipfile.ZIP_DEFLATED)
    assert read_numbers(decode_frames(address, [3])) == [3]


def test_a_whole_member_passes_the_checksum_and_only_the_member_that_is_asked_for(tmp_path, draw_video):
    address = pack(tmp_path / "a.zip", draw_video())
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("other.bin", b"0123456789")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"0123456789")] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert check_crc(address) is None
    with pytest.raises(VideoError, match=r"other\.bin cannot be read from its archive"):
        check_crc(VideoAddress(address.path, "other.bin"))


def test_one_changed_bit_fails_the_checksum(tmp_path, draw_video):
    video = draw_video()
    address = pack(tmp_path / "a.zip", video)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(Path(video.path).read_bytes()) + 900] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(VideoError, match=r"a\.zip:clips/a\.mp4 .*Bad CRC-32"):
        check_crc(address)


def test_an_archive_cut_short_is_named(tmp_path, draw_video):
    address = pack(tmp_path / "a.zip", draw_video())
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="cannot be read from its archive .*File is not a zip file"):
        check_crc(address)


def test_a_member_that_is_not_there_is_named(tmp_path, draw_video):
    address = pack(tmp_path / "a.zip", draw_video())
    with pytest.raises(VideoError, match=r"a\.zip has no member b\.mp4"):
        check_crc(VideoAddress(address.path, "b.mp4"))


def test_an_encrypted_member_is_refused(tmp_path, draw_video):
    address = pack(tmp_path / "a.zip", draw_video())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the last entry of the central directory; its flags are at byte 8
    data[entry + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(VideoError, match="is encrypted"):
        check_crc(address)


def test_what_a_reader_of_a_member_raises_is_not_the_archives_fault(tmp_path, draw_video):
    address = pack(tmp_path / "a.zip", draw_video())
    with pytest.raises(RuntimeError, match="the reader's own"), open_address(address):
        raise RuntimeError("the reader's own")


def test_a_missing_file_and_an_empty_one_are_told_apart(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with (
        pytest.raises(VideoError, match=r"empty\.mp4 has zero bytes"),
        open_address(VideoAddress(str(tmp_path / "empty.mp4"))),
    ):
        pass
    with (
        pytest.raises(VideoError, match=r"gone\.mp4 is missing"),
        open_address(VideoAddress(str(tmp_path / "gone.mp4"))),
    ):
        pass
