"""Whole chunks from a hub over real HTTP: what lies here is what the hub holds, whatever happens on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile

import pytest
from downloading import CAMERA, CAMERA_ZIP, EGO_ZIP, clips_of, fetch, hash_files, whole_chunk

from data_prep.download import patience
from data_prep.download.hub import Hub, HubFile
from data_prep.download.patience import AccessError, FetchError
from driving.errors import DrivingError, SourceError
from driving.ledger import read_ledger

TABLES = [
    "clip_index.parquet",
    "features.csv",
    "metadata/data_collection.parquet",
    "metadata/feature_presence.parquet",
    "splits/default.parquet",
    "splits/other.parquet",
]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "here"


def test_a_chunk_lies_here_byte_for_byte_as_on_the_hub(hub, root):
    summary = fetch(root, 0)
    there, here = hash_files(hub.root), hash_files(root)
    assert sorted(here) == sorted([*TABLES, *whole_chunk(0)])
    assert here == {name: there[name] for name in here}
    assert summary.num_fetched == 5 and read_ledger(root / "skipped.jsonl") == []


def test_the_token_goes_to_the_hub_and_never_to_the_other_host_that_holds_the_bytes(hub, root):
    fetch(root, 0)
    assert hub.tokens_at_cdn == {None}


def test_all_is_every_chunk_that_the_index_lists(hub, root):
    fetch(root, all=True)
    assert hash_files(root) == hash_files(hub.root)


def test_a_second_run_fetches_nothing_and_touches_nothing(hub, root):
    fetch(root, 0)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    hub.log.clear()
    assert fetch(root, 0).message == f"already complete: all 5 parts are in {root}"
    assert [entry for entry in hub.log if entry[0] == "GET" and not entry[1].startswith("api/")] == [
        entry for entry in hub.log if entry[3] == 404
    ]
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    del before[root / "skipped.jsonl"], after[root / "skipped.jsonl"]
    assert after == before


def test_a_further_chunk_is_added_and_the_first_is_not_fetched_again(hub, root):
    fetch(root, 0)
    hub.log.clear()
    assert fetch(root, 0, 1).num_fetched == 5
    assert hub.asked("chunk_0000") == [] and hash_files(root) == hash_files(hub.root)


@pytest.mark.parametrize("harm", ["cut short", "one byte changed", "gone"])
def test_what_was_damaged_here_since_is_found_and_fetched_again(hub, root, harm):
    fetch(root, 0)
    path = root / EGO_ZIP.format(0)
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "cut short" else content[:-1] + bytes([content[-1] ^ 1]))
    assert fetch(root, 0).num_fetched == 1
    assert path.read_bytes() == content


def test_force_fetches_again_what_is_there(hub, root):
    fetch(root, 0)
    assert fetch(root, 0, force=True).num_fetched == 5


def test_the_record_of_what_was_fetched_may_be_lost_or_torn(hub, root):
    fetch(root, 0)
    record = root / ".download/fetched.jsonl"
    record.write_text(record.read_text()[:-20])
    assert fetch(root, 0).num_fetched == 0
    record.unlink()
    assert fetch(root, 0).num_fetched == 0
    assert len(record.read_text().splitlines()) == 5 + len(TABLES)


@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, root, kind):
    hub.break_next(CAMERA_ZIP.format(0), kind, 50_000, times=3)
    fetch(root, 0)
    asked = [entry[2] for entry in hub.asked(CAMERA_ZIP.format(0))]
    assert len(asked) == 4 and asked[0] == ""
    starts = [int(text.removeprefix("bytes=").split("-")[0]) for text in asked[1:]]
    assert starts == sorted(starts) and starts[-1] > 0
    assert (root / CAMERA_ZIP.format(0)).read_bytes() == (hub.root / CAMERA_ZIP.format(0)).read_bytes()


def test_a_run_that_gave_up_is_continued_by_the_next_one(hub, root):
    hub.break_next(CAMERA_ZIP.format(0), "drop", 100_000)
    hub.break_next(CAMERA_ZIP.format(0), "closed", times=50)
    with pytest.raises(FetchError, match=r"1 of 5 parts could not be fetched, .*the connection broke 5 times in a row"):
        fetch(root, 0)
    assert [skip.id for skip in read_ledger(root / "skipped.jsonl")] == [CAMERA_ZIP.format(0)]
    hub.faults.clear()
    hub.log.clear()
    assert fetch(root, 0).num_fetched == 1
    (asked,) = hub.asked(CAMERA_ZIP.format(0))
    assert int(asked[2].removeprefix("bytes=").split("-")[0]) >= 65_536  # what had come was kept
    assert hash_files(root).items() <= hash_files(hub.root).items()
    assert not list((root / ".download/parts").iterdir()) and read_ledger(root / "skipped.jsonl") == []


def test_a_hub_that_promises_less_than_it_holds_is_asked_for_the_rest(hub, root):
    hub.break_next(EGO_ZIP.format(0), "short", 1_000)
    fetch(root, 0)
    assert [entry[2][:11] for entry in hub.asked(EGO_ZIP.format(0))] == ["", "bytes=1000-"]
    assert hash_files(root).items() <= hash_files(hub.root).items()


def test_a_hub_that_promises_more_than_it_sends_is_asked_until_nothing_comes(hub, root):
    size = (hub.root / EGO_ZIP.format(0)).stat().st_size
    hub.break_next(EGO_ZIP.format(0), "drop", size - 10)
    fetch(root, 0)
    assert hash_files(root).items() <= hash_files(hub.root).items()


def test_a_hub_that_always_ends_at_the_same_byte_is_given_up(hub, root):
    hub.break_next(EGO_ZIP.format(0), "short", 0, times=9)
    with pytest.raises(
        FetchError, match=r"the hub ends at byte 0 of [\d,]+ every time; run the same command again later"
    ):
        fetch(root, 0)


def test_the_next_command_is_told_for_the_same_camera_and_splits(hub, root):
    told = fetch(root, 0, camera=(CAMERA,), split_name="other").message
    assert told.endswith(
        f"next: uv run python prepare_video_segments.py --input-dir {root} --camera {CAMERA} --split-name other"
    )


def test_a_hub_that_ignores_the_range_sends_all_again_and_only_the_rest_is_taken(hub, root):
    hub.break_next(EGO_ZIP.format(0), "drop", 5_000)
    hub.break_next(EGO_ZIP.format(0), "ignore_range")
    fetch(root, 0)
    assert hash_files(root).items() <= hash_files(hub.root).items()


def test_a_part_that_begins_elsewhere_than_asked_is_refused(hub, root):
    hub.break_next(EGO_ZIP.format(0), "drop", 5_000)
    hub.break_next(EGO_ZIP.format(0), "wrong_range", times=9)
    with pytest.raises(FetchError, match=r"bytes [\d,]+ to [\d,]+ of [\d,]+ were asked for, the hub gives 'bytes "):
        fetch(root, 0)


def test_another_content_in_the_second_half_is_noticed_by_its_hash_and_fetched_anew(hub, root):
    content = (hub.root / EGO_ZIP.format(0)).read_bytes()
    hub.break_next(EGO_ZIP.format(0), "drop", 5_000)
    hub.break_next(EGO_ZIP.format(0), "replace", bytes(len(content)))
    fetch(root, 0)
    assert (root / EGO_ZIP.format(0)).read_bytes() == content


def test_content_that_never_has_the_promised_hash_is_never_kept(hub, root):
    content = (hub.root / EGO_ZIP.format(0)).read_bytes()
    hub.break_next(EGO_ZIP.format(0), "replace", content[:-1] + b"!", times=9)
    with pytest.raises(FetchError, match=r"3 times its [\d,]+ bytes were not those that the hub promises"):
        fetch(root, 0)
    assert not (root / EGO_ZIP.format(0)).exists() and (root / CAMERA_ZIP.format(0)).exists()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_refusal_that_passes_is_waited_for(hub, root, status):
    hub.break_next(EGO_ZIP.format(0), "status", status, times=2)
    hub.break_next("api/paths-info", "status", status, times=2)
    hub.break_next("api/refs", "closed")
    fetch(root, 0)
    assert hash_files(root).items() <= hash_files(hub.root).items()


@pytest.mark.parametrize(
    "headers, seconds",
    [([("Retry-After", "7")], 7.0), ([("RateLimit", '"resolvers";r=0;t=55')], 55.0), ([], None)],
    ids=["Retry-After", "RateLimit", "nothing"],
)
def test_the_hub_says_how_long_to_wait(hub, root, monkeypatch, headers, seconds):
    read = patience.read_wait_s
    told = []
    monkeypatch.setattr(patience, "read_wait_s", lambda error: told.append(read(error)) or 0.0)
    hub.break_next(EGO_ZIP.format(0), "status", 429, headers=headers)
    fetch(root, 0)
    assert told == [seconds]


def test_a_hub_that_keeps_refusing_one_file_costs_that_file_only(hub, root):
    hub.break_next(EGO_ZIP.format(0), "status", 500, times=50)
    with pytest.raises(FetchError, match=r"^1 of 5 parts could not be fetched, the others are here; .*answers 500 to"):
        fetch(root, 0)
    assert (root / CAMERA_ZIP.format(0)).exists()


def test_a_hub_that_asks_for_fewer_requests_stops_the_run(hub, root):
    hub.break_next(CAMERA_ZIP.format(0), "status", 429, times=50)
    with pytest.raises(AccessError, match=r"asks for fewer requests \(429, .*wait some minutes"):
        fetch(root, 0)


def test_a_hub_that_stops_talking_in_the_middle_is_left_and_asked_again(hub, root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.break_next(EGO_ZIP.format(0), "stall", 1.0)
    fetch(root, 0)
    assert hash_files(root).items() <= hash_files(hub.root).items()


def test_a_slow_hub_is_waited_for(hub, root):
    hub.break_next(EGO_ZIP.format(0), "slow", 0.5)
    fetch(root, 0)
    assert len(hub.asked(EGO_ZIP.format(0))) == 1


def test_a_zip_that_is_damaged_on_the_hub_itself_is_told_apart_from_a_bad_line(hub, root):
    path = hub.root / EGO_ZIP.format(0)
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # inside the first member
    path.write_bytes(content)
    with pytest.raises(FetchError, match=r"is damaged in the hub's own file; its hash is right"):
        fetch(root, 0)


def test_a_zip_without_a_directory_on_the_hub_is_no_archive(hub, root):
    (hub.root / EGO_ZIP.format(0)).write_bytes(b"no archive at all")
    with pytest.raises(FetchError, match=r"the hub's own file is no whole zip archive"):
        fetch(root, 0)


def test_a_file_that_the_hub_lacks_is_in_the_ledger_and_the_rest_is_fetched(hub, root):
    (hub.root / EGO_ZIP.format(0)).unlink()
    with pytest.raises(FetchError, match=r"the hub has no labels/egomotion/egomotion.chunk_0000.zip at aaaa"):
        fetch(root, 0)
    assert (root / CAMERA_ZIP.format(0)).exists()


def test_a_chunk_without_a_feature_by_the_presence_table_is_whole_without_it(hub, root):
    import pandas as pd

    path = hub.root / "metadata/feature_presence.parquet"
    table = pd.read_parquet(path)
    table.loc[clips_of(hub.root, 0), "vehicle_dimensions"] = False
    table.to_parquet(path)
    assert fetch(root, 0).num_fetched == 4


def test_an_unknown_chunk_names_those_that_there_are(hub, root):
    with pytest.raises(SourceError, match=r"the dataset has no chunk 3115: it has 2, from 0000 to 0001"):
        fetch(root, 3115)


def test_an_unknown_camera_names_those_that_there_are(hub, root):
    with pytest.raises(SourceError, match=rf"no camera 'rear'; --camera may be: {CAMERA}"):
        fetch(root, 0, camera=("rear",))


def test_a_revision_without_ego_motion_is_refused(hub, root):
    path = hub.root / "features.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("egomotion")))
    with pytest.raises(SourceError, match="features.csv lists no egomotion"):
        fetch(root, 0)


def test_a_table_that_leads_out_of_the_folder_is_refused(hub, root):
    path = hub.root / "features.csv"
    path.write_text(path.read_text().replace("labels/egomotion/", "../egomotion/"))
    with pytest.raises(SourceError, match="a path of egomotion points outside the folder"):
        fetch(root, 0)


def test_a_list_of_tables_that_leads_out_of_the_folder_is_refused(hub, root, monkeypatch):
    outside = HubFile("metadata/../../x", 1, "git:0")
    monkeypatch.setattr(Hub, "list_files", lambda self, folder: [outside])
    with pytest.raises(SourceError, match=r"a table that points outside the folder: 'metadata/../../x'"):
        fetch(root, 0)


def test_tables_of_another_shape_name_the_devkit(hub, root):
    (hub.root / "features.csv").write_text("name,path\na,b\n")
    with pytest.raises(SourceError, match="are not as the devkit knows them .*update physical_ai_av"):
        fetch(root, 0)


def test_a_dataset_of_another_kind_is_refused(hub, root):
    (hub.root / "features.csv").unlink()
    with pytest.raises(SourceError, match="holds no features.csv: it is no copy of PhysicalAI-AV"):
        fetch(root, 0)


def test_revisions_before_splits_and_feature_presence_are_read(hub, root):
    shutil.rmtree(hub.root / "splits")
    (hub.root / "metadata/feature_presence.parquet").rename(hub.root / "metadata/sensor_presence.parquet")
    fetch(root, 0)
    assert hash_files(root).items() <= hash_files(hub.root).items()
    assert (root / "metadata/sensor_presence.parquet").exists()


def test_a_split_table_that_is_not_there_names_those_that_are(hub, root):
    with pytest.raises(SourceError, match=r"no splits/mine.parquet at this .*; --split-name may be: default, other"):
        fetch(root, 0, split_name="mine")


def test_a_dry_run_says_how_much_and_fetches_no_recording(hub, root, capsys):
    summary = fetch(root, 0, 1, dry_run=True)
    assert re.search(r"2 whole chunks; 0\.\d MB to fetch", capsys.readouterr().out)
    assert summary.num_bytes == sum((hub.root / name).stat().st_size for name in whole_chunk(0) + whole_chunk(1))
    assert hash_files(root) == {}


def test_too_much_is_not_fetched_without_yes_where_nobody_can_answer(hub, root, monkeypatch):
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(DrivingError, match="more than --ask-above-gb 0.0001 and there is no terminal .*pass --yes"):
        fetch(root, 0, ask_above_gb=0.0001)
    assert fetch(root, 0, ask_above_gb=0.0001, yes=True).num_fetched == 5


@pytest.mark.parametrize("answer, num_fetched", [("y", 5), ("", None), ("n", None)])
def test_too_much_is_asked_about_at_a_terminal(hub, root, monkeypatch, answer, num_fetched):
    class Terminal:
        def isatty(self):
            return True

    asked = []
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answer)
    if num_fetched:
        assert fetch(root, 0, ask_above_gb=0.0).num_fetched == num_fetched
    else:
        with pytest.raises(DrivingError, match="nothing was fetched: the answer was no"):
            fetch(root, 0, ask_above_gb=0.0)
    assert len(asked) == 1 and re.match(r"fetch 0\.\d MB into ", asked[0])


def test_a_disk_without_room_is_noticed_before(hub, root, monkeypatch):
    monkeypatch.setattr("data_prep.download.run.SPARE_DISK_BYTES", 1 << 62)
    with pytest.raises(DrivingError, match=r"0\.\d MB are to be fetched, [\d.,]+ GB are free at .*on another disk"):
        fetch(root, 0)


def test_a_folder_stays_at_the_revision_it_was_begun_with(hub, root, monkeypatch):
    fetch(root, 0, revision="25.10")
    assert json.loads((root / "plan.json").read_text())["commit"] == "b" * 40
    fetch(root, 1)  # not main
    assert json.loads((root / "plan.json").read_text())["commit"] == "b" * 40
    with pytest.raises(DrivingError, match="holds the dataset at bbbbbbbbbbbb, --revision asks for aaaaaaaaaaaa"):
        fetch(root, 1, revision="main")


def test_files_from_elsewhere_are_not_mixed_with(hub, root):
    root.mkdir()
    (root / "dashcam.mp4").write_bytes(b"")
    with pytest.raises(DrivingError, match=r"holds files that were not fetched by this tool \(dashcam.mp4\)"):
        fetch(root, 0)


def test_the_folder_of_another_tool_is_refused(hub, recordings):
    with pytest.raises(DrivingError, match="holds the output of another tool"):
        fetch(recordings, 0)


def test_the_archives_of_the_test_are_larger_than_a_block(recordings):
    with zipfile.ZipFile(recordings / CAMERA_ZIP.format(0)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 100_000  # or no drop would be in the middle
