"""The benchmarks of training, evaluation and peers, each at a tiny size: the keys it promises, not its numbers."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import (
    browser,
    convert,
    decoding,
    estimate,
    gpu,
    loader,
    measuring,
    peer_runs,
    peers,
    prep,
    report,
    score,
    train_step,
    ways,
)
from driving.errors import DrivingError

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


def test_scoring_measures_every_part_of_both_clusterings(tmp_path, capsys, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # as they were, afterwards
    small = ["--rows", "60", "--train-rows", "120", "--resamples", "50", "--rounds", "1", "--threads", "1"]
    assert score.main([*small, "--json", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["clips"] == {"usual": 4, "worst": 60}  # 60 rows of 19 a clip, and of one
    assert set(numbers["parts_s"]) == {"read_s", "baselines_s", "parse_s", "measure_s", "write_s"}
    assert sum(numbers["parts_s"].values()) == pytest.approx(numbers["score_s"], abs=0.01)


@pytest.fixture(scope="module")
def loader_numbers(tmp_path_factory):
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("loader") / "numbers.json"
    small = ["--segments", "2", "--height", "256", "--width", "448", "--rounds", "1", "--json", str(path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "REPEATS", dict.fromkeys(loader.REPEATS, 1))
        assert loader.main(small) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize("key", ["resized_speedup", "prepared_speedup", "prepared_cpu_speedup", "step_inputs_ms"])
def test_the_loader_measures(loader_numbers, key):
    assert loader_numbers[key] > 0


@pytest.mark.slow
@pytest.mark.needs_torch
def test_all_ways_of_the_loader_give_every_token(loader_numbers):
    # 15 frame pairs of 8 x 14 tokens, and words
    assert loader_numbers["tokens"] > 15 * 8 * 14
    assert set(loader_numbers["samples_per_s"]) == {"plain", "full_hd", "resized", "prepared", "streamed"}


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


# Other frameworks


def test_other_frameworks_are_compared_with_the_plain_way_in_the_same_run():
    runs = {"reference": [a_run([8.0, 9.0, 10.0], 1000, 2.0)], "trl": [a_run([18.0], 500, 2.0)]}
    runs["trl"][0]["versions"] = {"trl": "1.0"}
    numbers = peers.compare(runs)
    assert numbers["trl"]["speed"] == 0.5
    assert numbers["trl"]["peak_rss_ratio"] == 0.5
    assert numbers["trl"]["versions"] == {"trl": "1.0"}
    assert numbers["reference"]["speed"] == 1.0


@pytest.mark.parametrize("text", ["nobody=/bin/sh", "trl=/no/such/python", "trl"])
def test_a_framework_is_named_with_its_python(text, capsys):
    with pytest.raises(SystemExit):
        peers.main(["--processor", "folder", "--peer", text])
    assert "is not NAME=PYTHON with a name of trl, swift, llamafactory, upstream and a file" in capsys.readouterr().err


@pytest.mark.needs_torch
def test_what_stands_for_the_flash_kernel_attends_within_each_sample():
    torch = pytest.importorskip("torch")
    from benchmarks.peer_upstream import attend_samples

    query, key, value = torch.randn(7, 4, 8), torch.randn(7, 2, 8), torch.randn(7, 2, 8)
    edges = torch.tensor([0, 3, 7], dtype=torch.int32)
    found = attend_samples(query, key, value, cu_seqlens_q=edges, causal=True, max_seqlen_q=4)
    sample = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    seen = (sample[:, None] == sample[None]) & torch.ones(7, 7, dtype=torch.bool).tril()
    shared = [tensor.repeat_interleave(2, 1).transpose(0, 1) for tensor in (key, value)]
    wanted = torch.nn.functional.scaled_dot_product_attention(query.transpose(0, 1), *shared, attn_mask=seen)
    assert torch.allclose(found, wanted.transpose(0, 1), atol=1e-6)


def test_every_framework_is_asked_for_what_the_plain_way_trains():
    setup = ways.Setup(batch_size=4, num_steps=15, workers=3, lora_r=64, lora_alpha=128, targets="all", device="cuda")
    peer = peers.PeerEnvironment("trl", "python")
    module, *arguments = peer.list_arguments(Path("rows"), setup)[1:]
    assert module == "benchmarks.peer_runs"
    assert arguments[:4] == ["--peer", "trl", "--folder", "rows"]
    assert arguments[4:] == [
        "--batch-size", "4", "--num-steps", "15", "--workers", "3", "--lora-r", "64", "--lora-alpha", "128",
        "--targets", "all", "--device", "cuda",
    ]  # fmt: skip
    common = peer_runs.common_arguments(Path("rows"), setup)
    assert (common["per_device_train_batch_size"], common["max_steps"], common["bf16"]) == (4, 15, True)
    assert peer_runs.common_arguments(Path("rows"), ways.Setup())["bf16"] is False


def test_the_gpu_benchmark_puts_other_frameworks_beside_the_plain_way():
    runs = {
        "reference": {"samples_per_s": 2.0, "peak_memory_bytes": 100},
        "ours": {"samples_per_s": 5.0, "peak_memory_bytes": 50},
        "trl": {"samples_per_s": 1.0, "peak_memory_bytes": 80},
        "swift": {"error": "not installed"},
    }
    assert gpu.compare(runs) == {
        "speedup": 2.5, "memory_ratio": 0.5, "speedup_trl": 0.5, "memory_ratio_trl": 0.8,
    }  # fmt: skip


def test_other_frameworks_on_a_gpu_need_the_real_tokenizer(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--peer", f"trl={sys.executable}"])
    assert "--peer needs --processor" in capsys.readouterr().err


# The GPU benchmark's parts that need none


@pytest.mark.needs_torch
def test_without_a_gpu_the_benchmark_says_what_to_run_instead(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main([]) == 1
    assert "torch sees none here; on a CPU run python -m benchmarks.train_step" in capsys.readouterr().err


@pytest.mark.needs_torch
def test_a_gpu_without_bf16_is_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(DrivingError, match="trains in bf16, which a Tesla T4 does not have"):
        gpu.check_gpu()


@pytest.mark.needs_torch
def test_the_ways_of_the_gpu_benchmark_train_on_a_cpu_too(small_workload):
    setup = ways.Setup(batch_size=2, num_steps=5, workers=0, lora_r=4, lora_alpha=8, targets="all", flat=False)
    plain = gpu.run_way("reference", small_workload, setup)
    ours = gpu.run_way("ours", small_workload, setup)
    assert plain["num_steps"] == ours["num_steps"] == 2
    assert plain["trainable"] == ours["trainable"] == gpu.count_adapters(tiny_shape().text, 4)
    assert ours["losses"][0] == pytest.approx(plain["losses"][0], rel=1e-6)
    assert 0 < ours["waited_s"] < ours["wall_s"]


def tiny_shape():
    from qwenvl.train.model_shape import read_model_shape

    vision = {"patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2, **TINY_VISION}
    return read_model_shape({"text_config": TINY_TEXT, "vision_config": vision})


def test_the_clock_of_the_gpu_benchmark_waits_for_the_device_at_the_ends_only():
    waits = []
    clock = measuring.EndsClock(6, lambda: waits.append(len(clock.step_s) + 1))
    for _ in range(6):
        clock.start()
        clock.stop()
    assert waits == [3, 6]
    assert clock.wall_s == pytest.approx(sum(clock.step_s[3:]) + sum(clock.gap_s[2:]))


@pytest.mark.needs_torch
def test_rates_and_mfu_follow_from_seconds_and_operations(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    sizes = json.loads(gpu.SIZES.read_text())
    numbers = {"wall_s": 10.0, "waited_s": 0.1, "num_steps": 5, "peak_memory_bytes": 2**31}
    row = {"tokens": 2000.0, "supervised_tokens": 400.0, "grid": [15, 16, 28]}
    found = gpu.summarise("ours", numbers, row, sizes, ways.Setup(batch_size=4, lora_r=64))
    assert found["samples_per_s"] == 2.0
    assert found["tokens_per_s"] == 4000.0
    assert found["data_wait_percent"] == 1.0
    assert found["peak_memory_gib"] == 2.0
    # Two passes through 3.6 thousand million weights for 8,000 tokens, and as much again for everything else.
    assert 2 * 2 * 3.6e9 * 8000 < found["tflops_per_s"] * 1e12 * 2.0 < 1.5 * 2 * 2 * 3.6e9 * 8000
    assert found["mfu"] == pytest.approx(found["tflops_per_s"] * 1e12 / 989e12, rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium on this machine")
def test_the_report_benchmark_measures_both_pages(tmp_path):
    numbers = report.measure(tmp_path, num_clips=30, rows_a_clip=2, rounds=1, num_resamples=50)
    for page in (numbers, numbers["comparison"]):
        assert 0 < page["megabytes"] < 15
        assert page["worst_load_s"] >= page["load_s"] > 0
        assert page["elements"] > 100
    assert "Chrom" in numbers["browser"]


@pytest.mark.parametrize("module", [convert, decoding, estimate, gpu, peers, prep, report, train_step])
def test_every_benchmark_explains_itself(module, capsys):
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    assert "usage: benchmarks." in capsys.readouterr().out


@pytest.mark.needs_torch
def test_decoding_measures(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "NUM_TOKENS", 640)
    path = tmp_path / "numbers.json"
    argv = ["--processor", str(tiny_model), "--rows", "2", "--steps", "3", "--rounds", "1", "--json", str(path)]
    assert decoding.main(argv) == 0
    numbers = json.loads(path.read_text())
    assert set(numbers["step_ms"]) == {"argmax", "mask", "draw", "draw_top_p"}
    assert numbers["num_states"] > 30
    assert numbers["num_tokens"] >= 18
