"""Single clips out of a chunk's archives, by range requests: only their bytes come, and the readers know them."""

from __future__ import annotations

import os
import zipfile

import pandas as pd
import pytest
from downloading import (
    CALIBRATION,
    CAMERA,
    CAMERA_ZIP,
    EGO_ZIP,
    clip_files,
    clips_of,
    fetch,
    hash_files,
    whole_chunk,
)

from data_prep.download import remote_zip
from data_prep.download.options import DownloadOptions
from data_prep.download.patience import FetchError
from data_prep.download.records import Records
from data_prep.download.run import run
from data_prep.sources.physical_ai import PhysicalAI
from driving.errors import DrivingError, SourceError
from driving.ledger import read_ledger


@pytest.fixture
def root(tmp_path):
    return tmp_path / "here"


@pytest.fixture(autouse=True)
def _small_tail(monkeypatch):
    """The archives of the tests would fit into the first request."""
    monkeypatch.setattr(remote_zip, "TAIL_BYTES", 600)
    monkeypatch.setattr(remote_zip, "NEAR_BYTES", 0)


def read_members(archive, clip):
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if name.startswith(clip)}


def list_ready(root):
    """The recordings that the source reads, without one that it cannot."""
    refs = PhysicalAI().plan(root)
    assert [ref.obstacle for ref in refs if ref.obstacle] == []
    return {ref.recording_id: ref.split for ref in refs}


def test_a_clip_is_cut_out_of_its_archives(hub, root):
    clip = clips_of(hub.root, 1)[0]
    summary = fetch(root, clip=(clip,))
    members = read_members(hub.root / CAMERA_ZIP.format(1), clip) | read_members(hub.root / EGO_ZIP.format(1), clip)
    assert {name: (root / name).read_bytes() for name in clip_files(clip, 1)} == {
        name: members[name.rpartition("/")[2]] for name in clip_files(clip, 1)
    }
    assert summary.num_fetched == 2 + len(CALIBRATION)


def test_only_the_clips_own_bytes_and_the_directory_are_asked_for(hub, root):
    clip = clips_of(hub.root, 0)[0]
    fetch(root, clip=(clip,))
    spans = [entry[2].removeprefix("bytes=").split("-") for entry in hub.asked(CAMERA_ZIP.format(0))]
    num_bytes = sum(int(last) - int(first) + 1 for first, last in spans)
    own = sum(map(len, read_members(hub.root / CAMERA_ZIP.format(0), clip).values()))
    assert own < num_bytes < own + 3_000 < (hub.root / CAMERA_ZIP.format(0)).stat().st_size


def test_the_source_reads_a_single_clip_with_its_split_and_calibration(hub, root):
    clip = clips_of(hub.root, 1)[0]
    fetch(root, clip=(clip,))
    split = pd.read_parquet(hub.root / "splits/default.parquet").at[clip, "split"]
    assert list_ready(root) == {clip: split}
    (ref,) = PhysicalAI().plan(root)
    recording = PhysicalAI().read(ref)
    assert len(recording.frame_times_us) == 95 and recording.camera is not None


def test_the_first_clips_are_taken_by_chunk_and_id(hub, root):
    fetch(root, clips=3)
    assert sorted(list_ready(root)) == sorted(clips_of(hub.root, 0) + clips_of(hub.root, 1)[:1])


def test_clips_of_one_chunk_and_of_one_split(hub, root):
    fetch(root, 1, clips=1)
    assert list(list_ready(root)) == clips_of(hub.root, 1)[:1]
    table = pd.read_parquet(hub.root / "splits/other.parquet")
    fetch(root, clips=1, split="test", split_name="other")
    (clip,) = table.index[table["split"] == "test"]
    assert clip in list_ready(root)


def test_clips_that_are_not_valid_or_lack_the_camera_are_passed_over(hub, root, capsys):
    bad, poor = clips_of(hub.root, 0)
    index = pd.read_parquet(hub.root / "clip_index.parquet")
    index.loc[bad, "clip_is_valid"] = False
    index.to_parquet(hub.root / "clip_index.parquet")
    presence = pd.read_parquet(hub.root / "metadata/feature_presence.parquet")
    presence.loc[poor, CAMERA] = False
    presence.to_parquet(hub.root / "metadata/feature_presence.parquet")
    fetch(root, clips=10)
    assert sorted(list_ready(root)) == clips_of(hub.root, 1)
    assert "there are only 2 such clips, 10 were asked for" in capsys.readouterr().out


def test_no_clip_at_all_is_an_error(hub, root):
    with pytest.raises(SourceError, match=r"no valid clip of the chunks and split asked for has all of egomotion, "):
        fetch(root, 1, clips=3, split="val")


def test_splits_of_a_revision_that_has_none_cannot_be_chosen(hub, root):
    for path in [*(hub.root / "splits").iterdir()]:
        path.unlink()
    index = pd.read_parquet(hub.root / "clip_index.parquet")
    index.drop(columns="split").to_parquet(hub.root / "clip_index.parquet")
    with pytest.raises(SourceError, match="the dataset tells no splits at this revision; leave --split away"):
        fetch(root, clips=1, split="train")


def test_an_unknown_clip_is_named(hub, root):
    with pytest.raises(SourceError, match="lists no clip 'nobody'"):
        fetch(root, clip=("nobody",))


def test_a_second_run_asks_the_archives_for_nothing(hub, root):
    fetch(root, clips=2)
    hub.log.clear()
    assert fetch(root, clips=2).message.startswith("already complete: all 7 parts")
    assert hub.asked("chunk_") == []


def test_further_clips_are_added_and_the_first_are_kept(hub, root):
    fetch(root, clips=1)
    before = hash_files(root)
    assert fetch(root, clips=3).num_fetched == 4 + len(CALIBRATION)
    assert len(list_ready(root)) == 3
    assert {name: hash_files(root)[name] for name in before if "chunk_" in name} == {
        name: digest for name, digest in before.items() if "chunk_" in name
    }


@pytest.mark.parametrize("harm", ["cut short", "one byte changed", "gone"])
def test_a_clip_that_was_damaged_here_is_fetched_again(hub, root, harm):
    clip = clips_of(hub.root, 0)[0]
    fetch(root, clip=(clip,))
    path = root / clip_files(clip, 0)[1]
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "cut short" else content[:-1] + bytes([content[-1] ^ 1]))
    assert fetch(root, clip=(clip,)).num_fetched == 1
    assert path.read_bytes() == content


def test_whole_files_without_a_record_are_kept_by_their_crc(hub, root):
    clip = clips_of(hub.root, 0)[0]
    fetch(root, clip=(clip,))
    times = {name: (root / name).stat().st_mtime_ns for name in clip_files(clip, 0)}
    (root / ".download/fetched.jsonl").unlink()
    fetch(root, clip=(clip,))
    assert {name: (root / name).stat().st_mtime_ns for name in times} == times
    fetch(root, clip=(clip,), force=True)
    assert all((root / name).stat().st_mtime_ns != time for name, time in times.items())


@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_a_connection_that_breaks_inside_a_member_is_taken_up(hub, root, kind):
    clip = clips_of(hub.root, 0)[0]
    hub.break_next(CAMERA_ZIP.format(0), kind, 300, times=4)  # the directory, then the members
    fetch(root, clip=(clip,))
    assert list(list_ready(root)) == [clip]


def test_an_archive_that_changes_after_its_directory_was_read_is_opened_anew(hub, root):
    clip = clips_of(hub.root, 0)[0]
    path = hub.root / EGO_ZIP.format(0)
    content = path.read_bytes()
    hub.break_next(EGO_ZIP.format(0), "slow", 0, times=2)  # the directory's two requests pass
    hub.break_next(EGO_ZIP.format(0), "replace", content[:200] + bytes(200) + content[400:])
    fetch(root, clip=(clip,))
    assert (root / clip_files(clip, 0)[3]).read_bytes() == read_members(path, clip)[f"{clip}.egomotion.parquet"]


def test_a_damaged_member_is_not_kept_and_the_other_clips_are_fetched(hub, root):
    first, second = clips_of(hub.root, 0)
    path = hub.root / EGO_ZIP.format(0)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.getinfo(f"{first}.egomotion.parquet").header_offset + 500] ^= 1
    path.write_bytes(content)
    with pytest.raises(FetchError, match=r"1 of 7 parts .*egomotion.parquet cannot be read \(Bad CRC-32"):
        fetch(root, clip=(first, second))
    assert list(list_ready(root)) == [second]
    assert [skip.id for skip in read_ledger(root / "skipped.jsonl")] == [f"{first} egomotion"]


def test_a_clip_that_its_archive_lacks_is_in_the_ledger(hub, root):
    first, second = clips_of(hub.root, 0)
    path = hub.root / EGO_ZIP.format(0)
    with zipfile.ZipFile(path) as archive:
        kept = archive.read(f"{second}.egomotion.parquet")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{second}.egomotion.parquet", kept)
    with pytest.raises(FetchError, match=rf"has no member {first}.egomotion.parquet"):
        fetch(root, clip=(first, second))
    assert list(list_ready(root)) == [second]


def test_compressed_members_and_a_missing_table_of_blurred_boxes_are_fine(hub, root):
    clip = clips_of(hub.root, 0)[0]
    path = hub.root / CAMERA_ZIP.format(0)
    members = read_members(path, clip)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if "blurred" not in name:
                archive.writestr(name, content)
    fetch(root, clip=(clip,))
    assert (root / clip_files(clip, 0)[1]).read_bytes() == members[f"{clip}.{CAMERA}.mp4"]
    assert not (root / clip_files(clip, 0)[0]).exists()
    assert fetch(root, clip=(clip,)).num_fetched == 0


def test_what_is_no_archive_is_in_the_ledger(hub, root):
    (hub.root / EGO_ZIP.format(0)).write_bytes(b"PK, but not an archive")
    with pytest.raises(FetchError, match="is no zip archive that can be read in parts"):
        fetch(root, clips=1)


def test_an_archive_that_the_hub_lacks_is_in_the_ledger(hub, root):
    (hub.root / EGO_ZIP.format(0)).unlink()
    with pytest.raises(FetchError, match=r"the hub has no labels/egomotion/egomotion.chunk_0000.zip of chunk 0000"):
        fetch(root, clips=1)


def test_a_hub_without_ranges_says_to_fetch_whole_chunks(hub, root):
    hub.break_next("chunk_0000.zip", "ignore_range", times=99)
    with pytest.raises(FetchError, match=r"the hub gives no parts of files \(status 200 to a range request\).*--chunk"):
        fetch(root, clips=1)


def test_single_clips_give_way_to_the_whole_chunk(hub, root):
    fetch(root, clips=3)
    fetch(root, 0, 1)
    assert hash_files(root) == hash_files(hub.root)
    assert len(list_ready(root)) == 4 and not (root / "camera_chunk_0000").exists()


def test_a_clip_whose_run_was_killed_right_after_it_appeared_is_known_as_ours(hub, root, monkeypatch):
    add = Records.add

    def die(self, path, digest):
        if path.startswith("ego_motion"):
            raise KeyboardInterrupt
        add(self, path, digest)

    fetch(root, 1, clips=1)
    with monkeypatch.context() as patch:
        patch.setattr(Records, "add", die)
        with pytest.raises(KeyboardInterrupt):
            fetch(root, 0, clips=1)
    assert [path.suffix for path in root.glob("ego_motion_chunk_0000/*")] == [".parquet"]
    fetch(root, 0)
    assert len(list_ready(root)) == 3


def test_of_one_chunk_whole_and_of_another_one_clip(hub, root):
    fetch(root, 0)
    hub.log.clear()
    assert fetch(root, clips=3).num_here == 4  # the two clips of chunk 0 are in its archives
    assert hub.asked("chunk_0000") == []
    assert sorted(list_ready(root)) == sorted(clips_of(hub.root, 0) + clips_of(hub.root, 1)[:1])


def test_a_chunk_that_is_here_half_whole_is_not_filled_with_single_clips(hub, root):
    (hub.root / EGO_ZIP.format(0)).rename(hub.root / "away.zip")
    with pytest.raises(FetchError):
        fetch(root, 0)
    with pytest.raises(SourceError, match="lies whole in .* but without egomotion; fetch that with --chunk 0000"):
        fetch(root, clips=1)


def test_an_unpacked_chunk_of_another_tool_is_not_touched(hub, root):
    fetch(root, 1)
    (root / "camera_chunk_0000").mkdir()
    (root / "camera_chunk_0000/mine.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match=r"holds files that were not fetched .* \(mine.mp4\).*move that folder"):
        fetch(root, 0)


def test_clips_of_another_camera_do_not_give_way_to_this_cameras_chunk(hub, root):
    fetch(root, clips=1)
    clip = clips_of(hub.root, 0)[0]
    other = root / f"camera_chunk_0000/{clip}.camera_rear_tele_30fov.mp4"
    other.write_bytes(b"rear")
    row = '{"path": "camera_chunk_0000/%s", "size": 4, "mtime_ns": %d, "digest": "crc32:00000000"}\n'
    with (root / ".download/fetched.jsonl").open("a") as file:
        file.write(row % (other.name, other.stat().st_mtime_ns))
    with pytest.raises(SourceError, match=f"clips of camera_rear_tele_30fov too; .*--camera {CAMERA} camera_rear"):
        fetch(root, 0)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({}, "nothing is asked for; pass --chunk 0000 0001, --all, --clips 10 or --clip ID"),
        ({"clip": ("x",), "clips": 2}, "--clip names single clips; leave --chunk, --all and --clips away"),
        ({"chunk": (range(1),), "all": True}, "--all fetches every chunk; leave --chunk away"),
        ({"chunk": (range(1),), "split": "val"}, "--split val chooses single clips; say how many with --clips N"),
    ],
)
def test_flags_that_do_not_go_together(root, options, complaint):
    with pytest.raises(DrivingError, match=f"^{complaint}"):
        run(DownloadOptions(output_dir=root, **options))
    assert not root.exists()


def test_a_full_disk_ends_the_run_with_one_line(hub, root, monkeypatch):
    import errno

    def fail(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    fetch(root, 1)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DrivingError, match="the disk is full while writing .*run the same command again to continue"):
        fetch(root, 0)
    monkeypatch.undo()


def test_whole_chunks_and_their_names(recordings):
    assert all((recordings / name).is_file() for chunk in (0, 1) for name in whole_chunk(chunk))
