"""Data cards: beside every dataset, the same bytes twice, and read by the Hub's own library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_segments import make_rows, prepare

from data_prep.provenance import describe_origin, hash_code, read_origin, read_summary_origin
from data_prep.training_format import ConvertOptions, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """segments/, dataset/ and training/ of twenty clips, fetched at a known commit."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "segments").mkdir()
    manifest = {
        "plan": {"stage": "segments", "cut": "resized"},
        "summary": {"origin": {"repo_id": "n/d", "commit": "c0ffee"}},
    }
    (folder / "segments" / "manifest.json").write_text(json.dumps(manifest))
    prepare(folder, make_rows(20))
    run(ConvertOptions(dataset_dir=folder / "dataset", output_dir=folder / "training"))
    return folder


def read_card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["dataset", "training"])
def test_a_card_tells_licence_revision_splits_code_and_labels(folder, name):
    card = read_card(folder / name)
    splits = json.loads((folder / "dataset" / "dataset.json").read_text())["splits"]
    assert "**May not be passed on**, neither this dataset nor what is made from it." in card
    assert "| revision of the source | n/d at c0ffee |" in card
    assert f"| train | {splits['train']} |" in card
    assert f"| code (sha256 of data_prep, driving, video_io) | {hash_code()} |" in card
    assert "| velocity_mean_mps | 12 |" in card  # targets are 10, 11, 12, 13 and 14 m/s in every clip
    assert "| segments: left | 100 |" in card
    assert '"answer_format": "signed"' in card and '"cut": "resized"' in card


def test_a_card_of_the_training_files_tells_both_tools_options(folder):
    card = read_card(folder / "training")
    assert card.index("`prepare_huggingface_dataset.py`") < card.index("`convert_to_training_format.py`")
    assert '"system": true' in card


@pytest.mark.parametrize("changes, licence", [({}, "other"), ({"source": "kitti"}, "cc-by-nc-sa-3.0")])
def test_the_hubs_library_reads_the_licence_off_the_header(tmp_path, changes, licence):
    from huggingface_hub import DatasetCard

    data = DatasetCard(read_card(prepare(tmp_path, make_rows(6, **changes)))).data
    assert data.license == licence and data.task_categories == ["video-text-to-text"]


def test_a_licence_that_the_hub_has_no_name_for_is_named_and_linked(folder):
    from huggingface_hub import DatasetCard

    data = DatasetCard(read_card(folder / "dataset")).data
    assert data.license_name == "nvidia-autonomous-vehicle-dataset-license-agreement"
    assert data.license_link == "https://huggingface.co/datasets/nvidia/PhysicalAI-Autonomous-Vehicles"


def test_a_card_that_was_lost_is_written_again(tmp_path):
    output = prepare(tmp_path, make_rows(6))
    before = read_card(output)
    (output / "README.md").unlink()
    prepare(tmp_path, make_rows(6))
    assert read_card(output) == before


def test_the_revision_is_read_off_a_download(tmp_path):
    (tmp_path / "plan.json").write_text('{"tool": "download_dataset", "repo_id": "n/d", "commit": "c0ffee"}')
    assert describe_origin(read_origin(tmp_path)) == "n/d at c0ffee"


@pytest.mark.parametrize("text", [None, "[]", "{", '{"stage": "segments"}'])
def test_recordings_from_elsewhere_have_no_revision(tmp_path, text):
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
        (tmp_path / "manifest.json").write_text(text)
    assert read_origin(tmp_path) == {} == read_summary_origin(tmp_path)
    assert describe_origin({}) == "not recorded"
