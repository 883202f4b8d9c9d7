"""The export tool: what may not be passed on is refused, every format is the same twice and whole after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exporting import export, make_datasets
from killing import read_tree, run_killed_at_rename

from data_prep.export.rows import iter_samples, open_rows
from data_prep.export.tool import FORMATS, ExportOptions, main, run
from driving.errors import DrivingError, LedgerError, LicenceError, RecordError, VideoError

FORMS = list(FORMATS)


@pytest.fixture(scope="module")
def free(tmp_path_factory) -> Path:
    return make_datasets(tmp_path_factory.mktemp("free"))


@pytest.fixture(scope="module")
def forbidden(tmp_path_factory) -> Path:
    return make_datasets(tmp_path_factory.mktemp("forbidden"), source="physical_ai")


@pytest.fixture(autouse=True)
def stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def read_card(output: Path) -> str:
    return (output / "README.md").read_text(encoding="utf-8")


# the licence


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["training", "dataset"])
def test_nvidias_data_is_exported_to_no_format(forbidden, form, source):
    with pytest.raises(LicenceError, match=f"{source} is derived from physical_ai, which may not be passed on .NVIDIA"):
        export(forbidden, form, source, output="refused")
    assert not (forbidden / "refused").exists()


def test_the_refusal_is_one_line_and_exit_code_1(forbidden, capsys):
    from driving.errors import run_main

    words = ["--format", "swift", "--dataset-dir", str(forbidden / "training"), "--output-dir", str(forbidden / "no")]
    assert run_main(lambda: main(words)) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pass --force-licence for a copy that stays with you" in told


def test_a_forced_export_is_stamped_and_still_carries_its_licence(forbidden):
    output = export(forbidden, "swift", output="forced", force_licence=True)
    card = read_card(output)
    assert "> **Exported with --force-licence although physical_ai may not be passed on." in card
    assert "**May not be passed on**" in card
    assert json.loads((output / "dataset.json").read_text())["licence"]["may_be_passed_on"] is False


def test_a_forced_export_is_refused_again_without_the_flag(forbidden):
    export(forbidden, "swift", output="again", force_licence=True)
    with pytest.raises(LicenceError):
        export(forbidden, "swift", output="again")


def test_force_changes_nothing_of_a_dataset_that_is_free(free):
    plain, forced = export(free, "swift", output="plain"), export(free, "swift", output="force", force_licence=True)
    assert read_tree(plain) == read_tree(forced)
    assert "force-licence" not in read_card(plain)


# once, twice, and after a kill


@pytest.mark.parametrize("form", FORMS)
def test_two_exports_are_the_same_bytes(free, form):
    assert read_tree(export(free, form, output=f"{form}_1")) == read_tree(export(free, form, output=f"{form}_2"))


@pytest.mark.parametrize("form", FORMS)
def test_a_complete_export_is_left_untouched(free, form):
    output = export(free, form, output=f"{form}_1")
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.name != ".lock"}
    (told,) = run(ExportOptions(form, output, free / "training"))["lines"]
    assert told.startswith(f"{output} is already complete: ") and told.endswith(" test rows")
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "form, options",
    [
        ("llamafactory", {"media": "copy"}),
        ("trl", {}),
        ("webdataset", {"shard_rows": 4}),
        ("lerobot", {"shard_rows": 4}),
    ],
)
def test_killed_at_every_rename_the_same_command_gives_the_same_bytes(free, form, options, monkeypatch):
    whole = read_tree(export(free, form, output=f"whole_{form}", **options))
    monkeypatch.chdir(free)
    asked = ExportOptions(form, free / f"killed_{form}", free / "training", **options)
    num_kills = 0
    while run_killed_at_rename(lambda: run(asked), num_kills):
        assert not (asked.output_dir / "manifest.json").exists()
        num_kills += 1
    assert num_kills >= 4  # shards that were whole are not written again
    assert read_tree(asked.output_dir) == whole


def test_a_shard_that_was_lost_is_made_again_and_no_other(free):
    output = export(free, "webdataset", output="lost", shard_rows=4)
    before = read_tree(output)
    (output / "train-000001.tar").unlink()
    kept = (output / "train-000000.tar").stat().st_mtime_ns
    export(free, "webdataset", output="lost", shard_rows=4)
    assert read_tree(output) == before and (output / "train-000000.tar").stat().st_mtime_ns == kept


def test_another_format_does_not_go_into_the_same_folder(free):
    export(free, "swift", output="one")
    with pytest.raises(LedgerError, match="was made with format = swift, this run asks for upstream"):
        export(free, "upstream", output="one")


# weights of rows


@pytest.fixture(scope="module")
def weighed(free) -> Path:
    from data_prep.training_format import ConvertOptions
    from data_prep.training_format import run as convert

    convert(ConvertOptions(free / "dataset", free / "weighed", balance="speed"))
    return free / "weighed"


def test_weights_that_a_format_has_no_reader_for_are_told_of(weighed, monkeypatch, capsys):
    monkeypatch.chdir(weighed.parent)
    words = ["--dataset-dir", "weighed", "--format", "swift", "--output-dir", "swift_weighed"]
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "WARNING: the rows have weights (--balance), which readers of swift know nothing of"
    assert "written to swift_weighed as swift" in told[1]


def test_weights_stand_in_webdatasets_rows(weighed, monkeypatch, capsys):
    import tarfile

    monkeypatch.chdir(weighed.parent)
    words = ["--dataset-dir", "weighed", "--format", "webdataset", "--output-dir", "web_weighed"]
    assert main(words) == 0 and "WARNING" not in capsys.readouterr().out
    with tarfile.open(weighed.parent / "web_weighed" / "train-000000.tar") as tar:
        rows = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
    records = json.loads((weighed / "train.json").read_text())
    assert [row["sampling_weight"] for row in rows] == [record["sampling_weight"] for record in records]


# the card


@pytest.mark.parametrize("form", FORMS)
def test_the_card_tells_how_the_export_is_read(free, form):
    card = read_card(export(free, form, output=f"{form}_1"))
    assert FORMATS[form].usage in card and f'"format": "{form}"' in card
    assert "cc-by-nc-sa-3.0" in card and "## Labels" in card


# what cannot be exported


def test_a_folder_without_a_dataset_names_the_tools(tmp_path):
    with pytest.raises(
        DrivingError, match="no finished dataset in .*run prepare_huggingface_dataset.py, or convert_to"
    ):
        run(ExportOptions("swift", tmp_path / "out", tmp_path / "nothing"))


def test_a_dataset_of_neither_form_is_refused(free, tmp_path):
    for name, text in (("manifest.json", '{"plan": {}, "summary": {"splits": {}}}'), ("dataset.json", "{}")):
        (tmp_path / name).write_text(text)
    with pytest.raises(DrivingError, match="holds neither dataset_dict.json nor truth.parquet"):
        run(ExportOptions("swift", tmp_path / "out", tmp_path))


@pytest.mark.parametrize("source", ["training", "dataset"])
def test_rows_that_point_into_recordings_are_refused(tmp_path, source):
    make_datasets(tmp_path, video_start=0.0, video_end=1.0)
    with pytest.raises(DrivingError, match="point into recordings .--cut index.*; cut the segments with --cut resized"):
        export(tmp_path, "swift", source)


@pytest.mark.parametrize("form", ["webdataset", "lerobot"])
def test_a_video_that_is_gone_is_named(tmp_path, form):
    make_datasets(tmp_path)
    (tmp_path / "segments/video_segments/clip000_seg_00.mp4").unlink()
    with pytest.raises(VideoError, match="clip000_seg_00.mp4 is neither in .* nor in .*; run from the folder in which"):
        export(tmp_path, form)


def test_truth_of_other_rows_is_refused(tmp_path, monkeypatch):
    from data_prep.export.rows import TrainingRows

    rows = open_rows(make_datasets(tmp_path) / "training")
    ids = [{"id": "another"}] * rows.splits["train"]
    monkeypatch.setattr(TrainingRows, "iter_truth", lambda self, split: iter(ids))
    with pytest.raises(RecordError, match="has the truth of another; make .*training again"):
        list(iter_samples(rows, "train"))


def test_a_file_that_is_not_a_record_a_line_is_refused(tmp_path):
    path = make_datasets(tmp_path) / "training" / "val.json"
    path.write_text("{" + path.read_text()[1:])  # of the same size
    with pytest.raises(RecordError, match="val.json, line 1 is not one record; convert the dataset again"):
        export(tmp_path, "swift")


def test_a_record_of_several_videos_is_refused(tmp_path, monkeypatch):
    from data_prep.export.rows import TrainingRows

    rows = make_datasets(tmp_path)
    record = {"id": "surround", "video": ["a.mp4", "b.mp4"], "conversations": []}
    monkeypatch.setattr(TrainingRows, "iter_records", lambda self, split: iter([record]))
    with pytest.raises(RecordError, match="surround has not one video but .*a.mp4.*b.mp4.*exports are of one video"):
        export(rows, "swift")
