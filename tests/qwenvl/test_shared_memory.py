"""A /dev/shm that is too small for the loader's workers is found before the first step."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.data import shared_memory  # noqa: E402
from qwenvl.data.shared_memory import check_shared_memory, estimate_batch_bytes, read_free_bytes  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch
MB = 1_000_000


@pytest.fixture
def free(monkeypatch):
    """free(bytes): what /dev/shm has."""
    return lambda num_bytes: monkeypatch.setattr(shared_memory, "read_free_bytes", lambda: num_bytes)


def in_flight(**changes) -> dict:
    return {"num_workers": 4, "prefetch_factor": 2, "num_held": 1, "num_ranks": 1, **changes}


def make_sample() -> dict:
    """Ten frames of 64x96 px, 184,320 bytes, in 30 visual tokens; one picture of 32x32 px in one."""
    return {
        "videos": [torch.zeros(10, 64, 96, 3, dtype=torch.uint8)],
        "images": [torch.zeros(1, 32, 32, 3, dtype=torch.uint8)],
        "mm_token_type_ids": torch.tensor([0, 0] + [2] * 30 + [1] + [0] * 20),
    }


def test_the_default_of_docker_is_refused_with_sizes_and_mends(free):
    free(64 * 2**20)
    with pytest.raises(
        DrivingError,
        match=r"the loader's workers keep up to 369 MB of frames in /dev/shm \(\(4 workers x 2 ahead \+ 1 in use\) x "
        r"41 MB a batch\), and 67 MB are free there; give fewer --dataloader_num_workers or "
        r"--dataloader_prefetch_factor, or more room: docker run --shm-size 1g \(or --ipc host\)",
    ):
        check_shared_memory(41 * MB, **in_flight())


def test_the_processes_of_one_machine_share_it(free):
    free(700 * MB)
    check_shared_memory(41 * MB, **in_flight())
    with pytest.raises(DrivingError, match=r"up to 738 MB .*\(2 processes x \(4 workers x 2 ahead"):
        check_shared_memory(41 * MB, **in_flight(num_ranks=2))


def test_evaluation_needs_its_own_room_beside_the_batches_of_training(free):
    # 9 x 41 MB, and (4 workers + 1 in use) x 80 MB
    free(769 * MB)
    check_shared_memory(41 * MB, **in_flight(evaluation_batch_bytes=80 * MB))
    free(769 * MB - 1)
    message = "up to 769 MB .*, 400 MB more while evaluating.*--dataloader_prefetch_factor, a smaller --per_device_eval"
    with pytest.raises(DrivingError, match=message):
        check_shared_memory(41 * MB, **in_flight(evaluation_batch_bytes=80 * MB))


@pytest.mark.parametrize(("free_bytes", "is_refused"), [(369 * MB, False), (369 * MB - 1, True)])
def test_just_enough_is_enough(free_bytes, is_refused, free):
    free(free_bytes)
    if is_refused:
        with pytest.raises(DrivingError, match="free there"):
            check_shared_memory(41 * MB, **in_flight())
    else:
        check_shared_memory(41 * MB, **in_flight())


def test_without_workers_or_without_such_a_folder_nothing_is_asked(free):
    free(0)
    check_shared_memory(41 * MB, **in_flight(num_workers=0))
    free(None)
    check_shared_memory(41 * MB, **in_flight())


def test_the_free_bytes_are_those_of_df():
    import subprocess

    said = subprocess.run(["df", "-B1", "--output=avail", "/dev/shm"], capture_output=True, text=True, check=True)
    assert read_free_bytes() == pytest.approx(int(said.stdout.split()[-1]), rel=0.1)


def test_a_batch_of_rows_is_as_large_as_so_many_first_samples():
    assert estimate_batch_bytes(make_sample(), 4) == 4 * (184_320 + 3_072)


def test_a_batch_of_bins_is_as_large_as_the_fullest_bins():
    loads = np.array([62, 310, 31, 620])
    # 187,392 bytes in 31 visual tokens are 6,044 and a part a token
    assert estimate_batch_bytes(make_sample(), 2, loads) == (310 + 620) * 187_392 // 31


@pytest.mark.parametrize(
    ("flags", "needed"), [((), "up to 2 MB"), (("--data_packing", "True", "--model_max_length", "512"), "up to 6 MB")]
)
def test_a_run_is_refused_before_its_model_is_loaded(flags, needed, free, tiny_model, training_json, tmp_path):
    free(MB)
    argv = [
        "--model_name_or_path", str(tiny_model), "--dataset_use", str(training_json), "--output_dir",
        str(tmp_path / "run"), "--per_device_train_batch_size", "2", "--video_fps", "10", "--report_to", "none",
        "--dataloader_num_workers", "2", "--use_cpu", "True", "--max_steps", "1", *flags,
    ]  # fmt: skip
    with pytest.raises(DrivingError, match=f"{needed} of frames"):
        run(argv)
