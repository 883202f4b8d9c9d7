"""The model side: end tokens, cut answers, batches, and a real (random) Qwen3-VL end to end."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from driving.answer_format import parse_answer
from driving.errors import DrivingError
from evaluation import evaluate
from qwenvl.train.generation import choose_end_of_turn, choose_max_new_tokens, find_end_tokens, read_tokens
from qwenvl.train.sampling import Sampling


class Words:
    """A tokenizer whose tokens are numbers and whose words are split at spaces."""

    eos_token_id = 98
    unk_token_id = None

    def __call__(self, text, add_special_tokens):
        return {"input_ids": text.split()}

    def decode(self, tokens, skip_special_tokens, clean_up_tokenization_spaces):
        return " ".join(str(token) for token in tokens if token < 90)

    def convert_tokens_to_ids(self, token):
        return {"<|im_end|>": 99}.get(token)


def test_an_answer_stops_at_its_end_token_which_is_counted():
    answer = read_tokens([5, 6, 99, 98, 98], [98, 99], Words(), prompt_tokens=7)
    assert (answer.text, answer.num_tokens, answer.is_cut, answer.prompt_tokens) == ("5 6", 3, False, 7)


def test_an_answer_without_an_end_token_was_cut():
    answer = read_tokens([5, 6, 7], [98, 99], Words(), prompt_tokens=7)
    assert (answer.text, answer.num_tokens, answer.is_cut) == ("5 6 7", 3, True)


@pytest.mark.parametrize("configured, expected", [(None, [98, 99]), (42, [42, 98, 99]), ([42, 99], [42, 98, 99])])
def test_every_token_that_ends_a_turn_ends_an_answer(configured, expected):
    model = types.SimpleNamespace(generation_config=types.SimpleNamespace(eos_token_id=configured))
    assert find_end_tokens(model, Words()) == expected


def test_an_answer_kept_to_its_format_closes_with_the_end_of_turn():
    assert choose_end_of_turn([98, 99], Words()) == 99
    assert choose_end_of_turn([42], Words()) == 42


def test_the_token_limit_is_the_longest_true_answer_its_end_and_a_margin():
    assert choose_max_new_tokens(["a b c", "a"], Words()) == 3 + 1 + 16
    assert choose_max_new_tokens([" ".join(["a"] * 400)], Words()) == 400 + 1 + 40


@pytest.fixture
def drawn_dataset(small_dataset):
    """The small dataset with real clips; every second one is wider, so that prompts differ in length."""
    from video_io.encode import write_video

    for index, row in enumerate(small_dataset.test_rows):
        frames = np.random.default_rng(index).integers(0, 255, (10, 64, 96 + 64 * (index % 2), 3)).astype(np.uint8)
        (small_dataset.folder / "videos").mkdir(exist_ok=True)
        write_video(small_dataset.folder / "videos" / f"{row.id}.mp4", frames, 10.0)
    return small_dataset


@pytest.fixture
def engine(tiny_model, drawn_dataset):
    from evaluation.asking.engine import load_engine

    loaded = load_engine(str(tiny_model), "cpu", [drawn_dataset.folder], fps=10.0)
    loaded.max_new_tokens = 6
    return loaded


def build_samples(engine, dataset):
    records = json.loads(dataset.test_data.read_text())[:3]
    return [engine.prepare(record, engine.read(record)) for record in records]


@pytest.mark.needs_torch
def test_a_batch_answers_as_each_row_alone(engine, drawn_dataset):
    samples = build_samples(engine, drawn_dataset)
    assert len({len(sample["input_ids"]) for sample in samples}) == 2
    together = engine.generate(samples)
    assert together == [engine.generate([sample])[0] for sample in samples]
    assert [answer.prompt_tokens for answer in together] == [len(sample["input_ids"]) for sample in samples]


@pytest.mark.needs_torch
def test_generation_takes_the_likeliest_token_of_the_whole_prompt_each_time(engine, drawn_dataset):
    import torch

    from qwenvl.data.collate import collate_prompts, to_prompt_inputs

    sample = build_samples(engine, drawn_dataset)[0]
    length = len(sample["input_ids"])
    expected = []
    for _ in range(3):
        batch = collate_prompts([sample], pad_token_id=0)
        with torch.inference_mode():
            logits = engine.model(**to_prompt_inputs(batch, engine.processor, "cpu"), use_cache=False).logits
        expected.append(int(logits[0, -1].argmax()))
        grown = {"input_ids": expected[-1:], "labels": [-100], "mm_token_type_ids": [0]}
        sample = sample | {key: torch.cat([sample[key], torch.tensor(tail)]) for key, tail in grown.items()}
    engine.max_new_tokens = 3
    sample = sample | {key: sample[key][:length] for key in ("input_ids", "labels", "mm_token_type_ids")}
    text = engine.processor.tokenizer.decode(expected, skip_special_tokens=True)
    assert engine.generate([sample])[0].text == text


@pytest.mark.needs_torch
def test_a_real_model_goes_through_to_the_report(tiny_model, drawn_dataset, tmp_path):
    from evaluation.evaluate import main

    output = tmp_path / "results"
    argv = ["--model", str(tiny_model), "--test_data", str(drawn_dataset.test_data), "--output-dir", str(output)]
    assert main([*argv, "--max-new-tokens", "5", "--bootstrap", "100", "--device", "cpu"]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["rows"]["num_scored"] == 6
    assert metrics["parsing"]["counts"] == {"strict": 0, "lenient": 0, "failed": 6, "cut": 6}
    assert metrics["model_card"]["num_parameters"] < 1_000_000
    assert metrics["data"]["clips_frames_height_width"] == [[10, 64, 96], [10, 64, 160]]
    page = (output / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 3


@pytest.mark.needs_torch
def test_a_gpu_that_is_not_there_is_said():
    import torch

    from evaluation.asking.engine import choose_device

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(DrivingError, match="--device cuda: torch sees no GPU here; use --device cpu or auto"):
        choose_device("cuda")


def test_ctrl_c_ends_in_one_line_and_the_same_command_answers_the_rest(tiny_model, drawn_dataset, tmp_path, repository):
    def command(output):
        flags = ["--batch-size", "1", "--max-new-tokens", "60", "--controls", "none", "--bootstrap", "20"]
        data = ["--model", str(tiny_model), "--test-data", str(drawn_dataset.test_data), "--device", "cpu"]
        return [*data, *flags, "--output-dir", str(output)]

    stopped = tmp_path / "stopped"
    door = [sys.executable, str(repository / "scripts" / "evaluate.py")]
    process = subprocess.Popen([*door, *command(stopped)], stderr=subprocess.PIPE, text=True)
    while not (stopped / "parts" / "00000.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 130
    assert complaint.splitlines()[-1] == "interrupted; run the same command again to continue"
    assert "Traceback" not in complaint
    assert not (stopped / "manifest.json").exists()
    assert evaluate.main(command(stopped)) == 0
    assert evaluate.main(command(tmp_path / "whole")) == 0
    assert (stopped / "predictions.jsonl").read_bytes() == (tmp_path / "whole" / "predictions.jsonl").read_bytes()


@pytest.mark.needs_torch
def test_frames_are_read_from_a_prepared_cache(engine, drawn_dataset, tiny_model, tmp_path, monkeypatch):

    from qwenvl.prepare_cache import PrepareCacheOptions, run

    folder = tmp_path / "prepared"
    options = {"dataset_use": str(drawn_dataset.test_data), "output_dir": folder, "workers": 1}
    run(PrepareCacheOptions(str(tiny_model), video_fps=10.0, **options))
    records = json.loads(drawn_dataset.test_data.read_text())
    decoded = [engine.read(record) for record in records]
    engine.use_prepared(folder, records)
    monkeypatch.setattr("video_io.decode.iter_decoded", None)
    for record, (clip,) in zip(records, decoded, strict=True):
        (read,) = engine.read(record)
        assert np.array_equal(read.frames, clip.frames) and read.fps == clip.fps
        as_taught = engine.prepare(record, [clip])
        assert np.array_equal(engine.prepare(record, [read])["videos"][0], as_taught["videos"][0])
    with pytest.raises(DrivingError, match="does not hold 1 of 1 rows: other is new"):
        engine.use_prepared(folder, [{**records[0], "id": "other", "video_start": 0.5, "video_end": 0.9}])
    engine.preprocessing = dataclasses.replace(engine.preprocessing, video_fps=5.0)
    with pytest.raises(DrivingError, match="prepared with video_fps = 10.0, this run has 5.0"):
        engine.use_prepared(folder, records)


@pytest.fixture
def strict_engine(engine, drawn_dataset):
    engine.keep_to_format(drawn_dataset.answer_format)
    return engine


@pytest.mark.needs_torch
def test_a_model_that_knows_nothing_answers_strictly_under_the_grammar_alone_and_in_a_batch(
    strict_engine, drawn_dataset
):
    samples = build_samples(strict_engine, drawn_dataset)
    together = strict_engine.generate_constrained(samples)
    for answer in together:
        assert parse_answer(answer.text, drawn_dataset.answer_format).parsing == "strict"
        assert not answer.is_cut
    assert together == [strict_engine.generate_constrained([sample])[0] for sample in samples]


@pytest.mark.needs_torch
def test_samples_are_the_same_again_differ_from_one_another_and_do_not_depend_on_their_company(engine, drawn_dataset):
    engine.max_new_tokens = 12
    samples = build_samples(engine, drawn_dataset)
    sampling, names = Sampling(2, seed=3), ["a", "b", "c"]
    together = engine.draw(samples, names, sampling, 0)
    assert engine.draw(samples, names, sampling, 0) == together
    assert [answer.text for answer in engine.draw(samples, names, sampling, 1)] != [answer.text for answer in together]
    # On the CPU in float32 a batch of another size rounds differently, far below the width of a token's share.
    alone = [engine.draw([sample], [name], sampling, 0)[0] for sample, name in zip(samples, names, strict=True)]
    assert alone == together


@pytest.mark.needs_torch
def test_a_cold_draw_is_the_greedy_answer(engine, drawn_dataset):
    samples = build_samples(engine, drawn_dataset)
    cold = engine.draw(samples, ["a", "b", "c"], Sampling(1, temperature=1e-6), 0)
    assert cold == engine.generate(samples)
    narrow = engine.draw(samples, ["a", "b", "c"], Sampling(1, top_p=1e-6), 0)
    assert narrow == engine.generate(samples)


@pytest.mark.needs_torch
def test_a_real_model_is_asked_in_every_way_and_scored(tiny_model, drawn_dataset, tmp_path):
    output = tmp_path / "results"
    argv = ["--model", str(tiny_model), "--test-data", str(drawn_dataset.test_data), "--output-dir", str(output)]
    ways = ["--constrained", "--num-samples", "3", "--temperature", "0.9", "--top-p", "0.95"]
    rest = ["--max-new-tokens", "5", "--bootstrap", "50", "--device", "cpu", "--controls", "none"]
    assert evaluate.main([*argv, *ways, *rest]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["parsing"]["counts"] == {"strict": 0, "lenient": 0, "failed": 6, "cut": 6}
    lines = [json.loads(line) for line in (output / "control_predictions.jsonl").read_text().splitlines()]
    kept = [parse_answer(line["text"], drawn_dataset.answer_format).parsing for line in lines]
    assert kept == ["strict"] * 6  # readable; whether a random model's numbers can be driven is another matter
    assert metrics["constrained"]["cut_rate"]["value"] == 0
    assert metrics["samples"]["cut_rate"]["value"] == 1
    assert metrics["samples"]["num_samples"] == 3


@pytest.mark.needs_torch
@pytest.mark.parametrize("model_type", ["qwen3_vl_moe", "qwen2_5_vl"])
def test_every_family_answers_in_every_way_also_behind_an_adapter(model_type, drawn_dataset, tmp_path):
    from peft import LoraConfig, get_peft_model

    from evaluation.asking.engine import load_engine
    from qwenvl.tiny_model import TinyModelOptions, make_tiny_model

    sizes = {"hidden": 32, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 64}
    vision = {"vision_hidden": 32, "vision_heads": 2, "vision_intermediate": 48}
    make_tiny_model(TinyModelOptions(output_dir=tmp_path / "tiny", model_type=model_type, **sizes, **vision))
    folder = str(tmp_path / "tiny")
    engine = load_engine(folder, "cpu", [drawn_dataset.folder], fps=10.0)
    engine.model = get_peft_model(engine.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    engine.max_new_tokens = 4
    engine.keep_to_format(drawn_dataset.answer_format)
    samples = build_samples(engine, drawn_dataset)
    for answer in engine.generate_constrained(samples):
        assert parse_answer(answer.text, drawn_dataset.answer_format).parsing == "strict"
    assert [answer.is_cut for answer in engine.draw(samples, ["a", "b", "c"], Sampling(1), 0)] == [True] * 3


@pytest.mark.needs_torch
def test_an_answer_limit_beyond_the_context_is_refused_with_the_numbers(engine, drawn_dataset):
    samples = build_samples(engine, drawn_dataset)[:2]
    longest = max(len(sample["input_ids"]) for sample in samples)
    engine.max_new_tokens = 32_768 - longest + 1  # the tiny model's positions, one too few
    with pytest.raises(
        DrivingError, match=f"context of 32,768 tokens; pass a --max-new-tokens of at most {32_768 - longest:,}"
    ):
        engine.generate(samples)


def test_what_fits_into_the_context_exactly_is_asked():
    from evaluation.asking.engine import check_room

    check_room(1_000, 24, 1_024)


def test_a_prompt_that_fills_the_context_alone_has_other_advice():
    from evaluation.asking.engine import check_room

    with pytest.raises(DrivingError, match="1,024 tokens and an answer of up to 5 .* ask about fewer or smaller fram"):
        check_room(1_024, 5, 1_024)
