"""Two processes through the launcher, really: the same loss under ZeRO-3, and the same bits after a stop."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.needs_torch, pytest.mark.slow]
LAUNCH_LIMIT_S = 300


@pytest.fixture(scope="module")
def launch(repository, tiny_model, training_json, tmp_path_factory):
    """launch(name, max_steps, **environment): train with two processes on the CPU; returns the run's folder."""
    folder = tmp_path_factory.mktemp("runs")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def start(name: str, max_steps: int, **environment: str):
        settings = {
            **kept, "NPROC_PER_NODE": "2", "MODEL_PATH": str(tiny_model), "DATASET": str(training_json),
            "OUTPUT_DIR": str(folder / name), "MAX_STEPS": str(max_steps), "BATCH_SIZE": "1", "GRAD_ACCUM_STEPS": "2",
            "VIDEO_FPS": "10", "LEARNING_RATE": "1e-2", "CUDA_VISIBLE_DEVICES": "", **environment,
        }  # fmt: skip
        done = subprocess.run(
            [str(repository / "train_physical_ai.sh"), "--lr_scheduler_type", "constant", "--warmup_steps", "0"],
            env=settings, capture_output=True, text=True, check=False, timeout=LAUNCH_LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return folder / name

    return start


def losses_of(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "training_log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(launch):
    return launch("whole", 4)


def test_two_processes_that_stop_and_continue_end_in_the_same_bits(launch, whole):
    from safetensors.torch import load_file

    launch("broken", 2)
    broken = launch("broken", 4)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert losses_of(broken) == losses_of(whole)


def test_zero_3_computes_the_same_losses_as_plain_data_parallel(launch, whole):
    sharded = launch("sharded", 4, DEEPSPEED_CONFIG="qwen-vl-finetune/scripts/zero3.json")
    assert losses_of(sharded) == pytest.approx(losses_of(whole), rel=1e-4)
    assert (sharded / "manifest.json").exists()


@pytest.mark.parametrize(
    "environment",
    [{"DEEPSPEED_CONFIG": "qwen-vl-finetune/scripts/zero3.json"}, {"GRADIENT_CHECKPOINTING": "True"}],
    ids=["zero-3", "data-parallel-with-checkpointing"],
)
def test_a_rank_that_gets_no_row_takes_its_step_all_the_same(launch, training_json, tmp_path, environment):
    rows = json.loads(training_json.read_text())[:3]  # two steps an epoch; the second has a row for one rank only
    for row in rows:
        row["video"] = str(training_json.parent / row["video"])
    (tmp_path / "three.json").write_text(json.dumps(rows))
    settings = {"DATASET": str(tmp_path / "three.json"), "GRAD_ACCUM_STEPS": "1", **environment}
    assert len(losses_of(launch("ragged-" + "-".join(environment), 4, **settings))) == 4
