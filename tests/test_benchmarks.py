"""Each benchmark runs at a tiny size and prints the keys it promises; its numbers mean nothing there."""

import json
import sys

import pytest

from benchmarks import measuring, prep, train_step, ways

TINY_TEXT = {
    "vocab_size": 640, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "mrope_interleaved": True, "mrope_section": [4, 2, 2],
    },
}  # fmt: skip
TINY_VISION = {
    "depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
    "num_position_embeddings": 256, "deepstack_visual_indexes": [0, 1, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def prep_numbers(tmp_path_factory):
    return prep.measure(tmp_path_factory.mktemp("prep"), seconds=3, height=96, width=160, repeats=1)


@pytest.mark.parametrize(
    "key", ["resized_over_decode", "seed_way_over_resized", "copy_over_decode", "index_over_decode", "psnr_db"]
)
def test_prep_measures(prep_numbers, key):
    assert prep_numbers[key] > 0


def test_prep_cuts_every_second_that_has_a_next_one(prep_numbers):
    assert prep_numbers["num_segments"] == 2
    assert prep_numbers["bytes_per_segment"] > 1000


def test_the_last_line_of_prep_is_one_json_object_also_in_the_file(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    assert prep.main(["--json", str(path), "--seconds", "2", "--height", "64", "--width", "96", "--repeats", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads(path.read_text())


def a_run(step_s, peak, loss):
    return {
        "step_s": step_s,
        "cpu_s": [2 * step_s[0]],
        "peak_bytes": peak,
        "baseline_bytes": 100,
        "losses": [loss, 0.0],
    }


def test_a_training_step_is_compared_by_medians_over_the_baseline():
    slow, fast = [a_run([8.0, 9.0, 100.0], 1100, 2.0)], [a_run([3.0, 2.0, 3.0], 400, 2.0002)]
    numbers = train_step.compare(slow, fast)
    assert numbers["step_speedup"] == 3.0
    assert numbers["cpu_speedup"] == round(8 / 3, 3)
    assert numbers["memory_ratio"] == 0.3
    assert numbers["peak_rss_ratio"] == round(400 / 1100, 3)
    assert numbers["loss_rel_diff"] == pytest.approx(1e-4)


def test_a_child_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(RuntimeError, match="ended with 1:(.|\\n)*no such way"):
        measuring.run_child(["-c", "raise SystemExit('no such way')"])


def test_a_child_gives_the_json_of_its_last_line():
    code = "import os; print('words'); print('{\"threads\": ' + os.environ['OMP_NUM_THREADS'] + '}')"
    assert measuring.run_child(["-c", code], env=measuring.thread_settings(3)) == {"threads": 3}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_peak_of_a_process_holds_what_it_gave_back():
    code = (
        "from benchmarks.measuring import read_rss_bytes as rss; before = rss(); block = b'x' * 2**28; del block; "
        "print([before, rss(peak=True)])"
    )
    before, peak = measuring.run_child(["-c", code])
    assert 0.9 * 2**28 < peak - before < 1.2 * 2**28


@pytest.fixture(scope="module")
def small_workload(tmp_path_factory):
    pytest.importorskip("torch")
    from benchmarks.workload import write_model, write_rows

    folder = tmp_path_factory.mktemp("step")
    write_model(folder / "model", {"text_config": TINY_TEXT, "vision_config": TINY_VISION, "tie_word_embeddings": True})
    write_rows(folder, [(64, 96), (32, 64)], num_frames=6, num_pairs=3)
    return folder


@pytest.mark.needs_torch
def test_ours_and_the_plain_way_see_one_batch_and_learn_the_same(small_workload):
    """Losses of three steps: the same data, weights, adapters and gradients."""
    setup = ways.Setup(batch_size=2, num_steps=3, workers=0, flat=False)
    runs = [train_step.run_way(way, small_workload, setup) for way in train_step.WAYS]
    plain, ours = (run["losses"] for run in runs)
    assert len(plain) == 3
    assert ours == pytest.approx(plain, rel=1e-6)
    assert plain[2] < plain[0]


@pytest.mark.needs_torch
def test_the_plain_way_supervises_the_answer_and_its_end_token(small_workload):
    pytest.importorskip("torch")
    from transformers import AutoProcessor

    from benchmarks.reference import PlainDataset

    processor = AutoProcessor.from_pretrained(small_workload / "model")
    labels = PlainDataset(small_workload / "train.json", processor)[0]["labels"]
    answer = json.loads((small_workload / "train.json").read_text())[0]["conversations"][-1]["value"]
    assert processor.tokenizer.decode(labels[labels != -100]) == answer + "<|im_end|>"


def test_the_plain_way_is_short_enough_to_be_read(repository):
    path = repository / "benchmarks" / "reference.py"
    assert len(path.read_text().splitlines()) < 80
