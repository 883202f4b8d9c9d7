"""`--cut scaled` all the way: the same recordings cut as `resized` and as `scaled` give the same rows, tokens and
frames, and everything that reads rows reads both.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from data_prep import hf_dataset, segment_options, synthetic, training_format  # noqa: E402
from evaluation import evaluate  # noqa: E402
from qwenvl.check_dataset import main as check_dataset  # noqa: E402
from qwenvl.data.dataset import DrivingDataset, read_records  # noqa: E402
from qwenvl.data.frame_cache import FrameCache  # noqa: E402
from qwenvl.data.prepared import PreparedCache  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.prepare_cache import PrepareCacheOptions  # noqa: E402
from qwenvl.prepare_cache import run as prepare_cache  # noqa: E402
from qwenvl.train import train_qwen  # noqa: E402

pytestmark = pytest.mark.needs_torch

FPS = 10.0
RULES = {"video_fps": FPS, "video_min_frames": 4, "video_frame_pixels": 8192}
CUTS = ("resized", "scaled")
NAMES = {"resized": "{}.json", "scaled": "{}.index.json"}
PLACE_KEYS = ("video", "member", "video_start", "video_end", "frame_indices")


def run_door(main, *flags) -> None:
    assert main([str(flag) for flag in flags]) == 0


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Folders resized_training/ and scaled_training/ from the same recordings; we stand beside them."""
    folder, before = tmp_path_factory.mktemp("walk"), Path.cwd()
    os.chdir(folder)
    size = ("--height", 64, "--width", 128)
    run_door(synthetic.main, "--clips", 6, "--seconds", 4, *size, "--workers", 1, "--output-dir", "recordings")
    for cut in CUTS:
        segments = ["--input-dir", "recordings", "--output-dir", f"{cut}_segments", "--cut", cut]
        run_door(segment_options.main, *segments, "--fps", FPS, "--video-frame-pixels", 8192, "--workers", 1)
        source = f"{cut}_segments/metadata/segments.parquet"
        run_door(hf_dataset.main, "--segments-path", source, "--output-dir", f"{cut}_dataset", "--fps", FPS)
        run_door(training_format.main, "--dataset-dir", f"{cut}_dataset", "--output-dir", f"{cut}_training")
    shutil.rmtree("recordings")  # training does not need them
    yield folder
    os.chdir(before)


def read_rows(cut: str, split: str = "train") -> list[dict]:
    return json.loads(Path(f"{cut}_training", NAMES[cut].format(split)).read_text(encoding="utf-8"))


def build_dataset(cut: str, processor, **rules) -> DrivingDataset:
    records = read_records(Path(f"{cut}_training", NAMES[cut].format("train")))
    return DrivingDataset(records, [()] * len(records), processor, Preprocessing(**RULES | rules), 4096)


@pytest.fixture(scope="module")
def processor(tiny_model):
    from qwenvl.train.loading import load_processor

    return load_processor(tiny_model)


def test_rows_that_other_readers_cannot_open_are_in_a_file_of_another_name(walk):
    assert sorted(path.name for path in Path("scaled_training").glob("*.index.json")) == [
        "test.index.json", "train.index.json", "val.index.json",
    ]  # fmt: skip
    assert not Path("scaled_training/train.json").exists()


def test_rows_differ_in_where_their_frames_are_and_in_nothing_else(walk):
    for split in ("train", "val", "test"):
        plain, scaled = (
            [{key: value for key, value in row.items() if key not in PLACE_KEYS} for row in read_rows(cut, split)]
            for cut in CUTS
        )
        assert scaled == plain
    assert Path("scaled_training/truth.parquet").read_bytes() == Path("resized_training/truth.parquet").read_bytes()


@pytest.mark.parametrize("rules", [{}, {"video_max_frames": 7}, {"video_fps": 4.0}], ids=["all", "seven", "four"])
def test_tokens_are_the_same_and_frames_are_within_what_encoding_costs(walk, processor, rules):
    resized, scaled = (build_dataset(cut, processor, **rules) for cut in CUTS)
    same, next_frame = [], []
    for index in range(len(resized)):
        expected, found = resized[index], scaled[index]
        for key in ("input_ids", "labels", "mm_token_type_ids"):
            assert torch.equal(torch.as_tensor(found[key]), torch.as_tensor(expected[key])), key
        (a,), (b,) = (sample["videos"] for sample in (expected, found))
        assert a.shape == b.shape
        same.append((a.float() - b.float()).abs().mean().item())
        next_frame.append((a[1:].float() - b[:-1].float()).abs().mean().item())
    assert max(same) < 1.5  # levels of 255
    assert np.mean(next_frame) > 2 * np.mean(same)


def test_a_mirrored_row_is_the_row_flipped(walk, processor):
    answer_format = json.loads(Path("scaled_training/dataset.json").read_text())["answer_format"]
    dataset = build_dataset("scaled", processor, answer_format=answer_format)
    assert torch.equal(dataset[~0]["videos"][0], dataset[0]["videos"][0].flip(2))


def test_the_frame_cache_and_the_prepared_cache_give_the_frames_of_the_archive(walk, processor, tiny_model):
    plain, cached, prepared = (build_dataset("scaled", processor) for _ in range(3))
    cached.cache = FrameCache(len(cached), tuple(plain[0]["videos"][0].shape))
    options = {"workers": 1, **RULES, "dataset_use": "scaled_training/train.index.json"}
    prepare_cache(PrepareCacheOptions(model_name_or_path=str(tiny_model), output_dir=Path("prepared"), **options))
    prepared.use_prepared(PreparedCache.read(Path("prepared")))
    for index in (0, 1, 0):
        expected = plain[index]["videos"][0]
        assert torch.equal(cached[index]["videos"][0], expected)
        assert torch.equal(prepared[index]["videos"][0], expected)


def test_the_dataset_passes_its_check(walk, tiny_model, capsys):
    flags = ["--model", str(tiny_model), "--workers", "0", "--video-fps", str(FPS), "--video-frame-pixels", "8192"]
    assert check_dataset([*flags, "--dataset-use", "scaled_training/train.index.json", "--decode", "0"]) == 0
    assert "can be trained on" in capsys.readouterr().out


def test_a_changed_byte_of_an_archive_is_found_by_the_check(walk, tiny_model, capsys, tmp_path, monkeypatch):
    rows = read_rows("scaled")
    for name in ("scaled_segments", "scaled_training"):
        shutil.copytree(name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    archive = Path(rows[0]["video"])
    data = bytearray(archive.read_bytes())
    place = data.index(b"mdat", data.index(rows[0]["member"].encode()))
    data[place + 2000] ^= 0x01
    archive.write_bytes(data)
    flags = ["--model", str(tiny_model), "--workers", "0", "--video-fps", str(FPS), "--video-frame-pixels", "8192"]
    check_dataset([*flags, "--dataset-use", "scaled_training/train.index.json", "--decode", "0"])
    said = capsys.readouterr()
    assert f"{rows[0]['member']} cannot be read from its archive (Bad CRC-32" in said.out + said.err


def train(cut: str, tiny_model: Path, *more: str) -> dict:
    output = f"{cut}_model{len(more)}"
    flags = (
        "--lora_enable True --lora_r 4 --max_steps 1 --video_min_frames 4 --video_frame_pixels 8192 --report_to none "
        f"--use_cpu True --per_device_train_batch_size 2 --disable_tqdm True --video_fps {FPS} --output_dir {output}"
    )
    data = f"{cut}_training/{NAMES[cut].format('train')}"
    model = ["--model_name_or_path", str(tiny_model), "--dataset_use", data]
    assert train_qwen.run([*model, *flags.split(), *more]) == 0
    assert Path(output, "skipped.jsonl").read_text() == ""
    return json.loads(Path(output, "train_plan.json").read_text())


@pytest.mark.slow
def test_training_is_shown_the_same_sample_and_evaluation_asks_about_every_row(walk, tiny_model):
    resized, scaled = (train(cut, tiny_model)["first_sample"] for cut in CUTS)
    assert scaled == resized
    assert train("scaled", tiny_model, "--streaming", "True", "--mirror", "True")["first_sample"]["videos"]
    flags = ["--model", "scaled_model0", "--test-data", "scaled_training/test.index.json", "--bootstrap", "50"]
    assert evaluate.main([*flags, "--control-samples", "2", "--device", "cpu", "--output-dir", "results"]) == 0
    answers = [json.loads(line)["id"] for line in Path("results/predictions.jsonl").read_text().splitlines()]
    assert sorted(answers) == sorted(row["id"] for row in read_rows("scaled", "test"))
