"""A small dataset with known motion, and an engine that answers without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from driving.answer_format import AnswerFormat, format_answer
from driving.ego_history import build_question
from driving.errors import VideoError
from driving.trajectory import Trajectory
from evaluation.scoring.truth import Truth
from qwenvl.train.generation import Generated

NUM_SAMPLES = 10  # one second at 10 Hz


class Clip(NamedTuple):
    frames: np.ndarray
    fps: float


def arc(velocity_mps: float, curvature_per_m: float, times_s: np.ndarray) -> np.ndarray:
    """(T, 3) poses on a circle, from its closed form: x = sin(a) / k, y = (1 - cos(a)) / k, a = k v t."""
    way = velocity_mps * times_s
    if curvature_per_m == 0:
        return np.stack([way, np.zeros_like(way), np.zeros_like(way)], axis=1)
    angle = curvature_per_m * way
    return np.stack([np.sin(angle) / curvature_per_m, (1 - np.cos(angle)) / curvature_per_m, angle], axis=1)


def build_truth(motions: Sequence[tuple[float, float]], groups: Sequence[str] | None = None) -> Truth:
    """Truth of cars that hold (speed, curvature), one row each."""
    times = np.arange(NUM_SAMPLES + 1) / NUM_SAMPLES
    velocity = np.array([[v] * NUM_SAMPLES for v, _ in motions], dtype=np.float64)
    curvature = np.array([[k] * NUM_SAMPLES for _, k in motions], dtype=np.float64)
    names = [f"row{index}" for index in range(len(motions))]
    return Truth(
        ids=np.array(names, dtype=object),
        groups=np.array(groups or names, dtype=object),
        velocity_mps=velocity,
        curvature_per_m=curvature,
        poses=np.stack([arc(v, k, times) for v, k in motions]),
        observed=np.stack([velocity, curvature], axis=-1),
        interval_s=1 / NUM_SAMPLES,
        facts=[{} for _ in motions],
    )


@pytest.fixture
def drive() -> Callable[..., Truth]:
    """drive([(speed, curvature), ...], groups=None) -> Truth of cars that hold them."""
    return build_truth


@dataclass
class Row:
    """One row of the small dataset; `answer` is the text of its gpt turn, `observed` the clip's own motion if not the
    same as what comes after."""

    id: str
    group: str
    split: str
    motion: tuple[float, float]
    answer: str = ""
    observed: tuple[float, float] | None = None


@dataclass
class SmallDataset:
    """Folder with test.json, truth.parquet and dataset.json, beside a model folder with its papers."""

    folder: Path
    model: Path
    rows: list[Row]
    answer_format: AnswerFormat = field(default_factory=lambda: AnswerFormat(num_pairs=NUM_SAMPLES, fps=10.0))

    @property
    def test_data(self) -> Path:
        return self.folder / "test.json"

    @property
    def test_rows(self) -> list[Row]:
        return [row for row in self.rows if row.split == "test"]

    def write(self, **facts: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.folder.mkdir(exist_ok=True)
        for row in self.rows:
            row.answer = row.answer or self.format(*row.motion)
        records = [
            {
                "id": row.id,
                "group": row.group,
                "video": f"videos/{row.id}.mp4",
                "conversations": [
                    {"from": "human", "value": f"<video>\n{self.question(row)}"},
                    {"from": "gpt", "value": row.answer},
                ],
            }
            for row in self.test_rows
        ]
        self.test_data.write_text(json.dumps(records))
        times = np.arange(NUM_SAMPLES + 1) / NUM_SAMPLES
        table = {
            "id": [row.id for row in self.rows],
            "group": [row.group for row in self.rows],
            "split": [row.split for row in self.rows],
            "targets": [[list(row.motion)] * NUM_SAMPLES for row in self.rows],
            "observed": [[list(row.observed or row.motion)] * NUM_SAMPLES for row in self.rows],
            "future_pose": [arc(*row.motion, times).tolist() for row in self.rows],
            "source": ["physical_ai"] * len(self.rows),
        }
        pq.write_table(pa.table(table), self.folder / "truth.parquet")
        (self.folder / "dataset.json").write_text(
            json.dumps({"answer_format": self.answer_format.to_json(), "fps": 10.0, **facts})
        )
        self.model.mkdir(exist_ok=True)
        (self.model / "preprocessing.json").write_text(
            json.dumps({"video_fps": 10.0, "answer_format": self.answer_format.to_json()})
        )
        (self.model / "training_groups.json").write_text(json.dumps(["train0", "train1"]))

    def question(self, row: Row) -> str:
        return build_question(self.answer_format, Trajectory.from_pairs([row.observed or row.motion] * NUM_SAMPLES))

    def format(self, velocity_mps: float, curvature_per_m: float) -> str:
        motion = Trajectory(np.full(NUM_SAMPLES, velocity_mps), np.full(NUM_SAMPLES, curvature_per_m))
        return format_answer(motion, self.answer_format)


@pytest.fixture
def small_dataset(tmp_path: Path) -> SmallDataset:
    """Six test rows of three clips (stop, left, right), and four train rows whose mean is (5 m/s, 0)."""
    rows = [
        Row(f"train{index}_{second}", f"train{index}", "train", motion)
        for index, pair in enumerate([((2.0, 0.02), (8.0, -0.02)), ((4.0, 0.01), (6.0, -0.01))])
        for second, motion in enumerate(pair)
    ]
    motions = {"stop": (0.0, 0.0), "left": (8.0, 0.02), "right": (12.0, -0.02)}
    rows += [Row(f"{clip}_{second}", clip, "test", motion) for clip, motion in motions.items() for second in range(2)]
    dataset = SmallDataset(tmp_path / "training", tmp_path / "model", rows)
    dataset.write()
    return dataset


@pytest.fixture
def evaluate_options(small_dataset: SmallDataset, tmp_path: Path):
    """A quick evaluation of the small dataset's model, without the runs that blind it."""
    from evaluation.evaluate import EvaluateOptions

    return EvaluateOptions(
        model=str(small_dataset.model),
        test_data=small_dataset.test_data,
        output_dir=tmp_path / "results",
        bootstrap=100,
        controls="none",
    )


class SeeingEngine:
    """Answers what it is shown: speed from how fast the frames grow brighter, side from which half is brighter.

    A clip of (v, kappa) is drawn as grey = v per frame, red column on the side of the curve.
    """

    def __init__(self, dataset: SmallDataset, answer: Callable[[str, str], str] | None = None) -> None:
        self.dataset = dataset
        self.answer = answer
        self.unreadable: set[str] = set()
        self.num_read = 0
        self.num_asked = 0
        self.batches: list[int] = []

    def read(self, record: dict[str, Any]) -> list[Clip]:
        self.num_read += 1
        if record["id"] in self.unreadable:
            raise VideoError(f"{record['video']} is cut short")
        velocity, curvature = next(row.motion for row in self.dataset.rows if row.id == record["id"])
        frames = np.zeros((NUM_SAMPLES, 4, 4, 3), np.uint8)
        frames[:, :, :, 0] = (np.arange(NUM_SAMPLES) * velocity)[:, None, None].astype(np.uint8)
        if curvature:
            frames[:, :, slice(0, 2) if curvature > 0 else slice(2, 4), 1] = round(abs(curvature) * 1000)
        return [Clip(frames, 10.0)]

    def prepare(self, record: dict[str, Any], clips: list[Clip]) -> tuple[dict[str, Any], Clip]:
        return record, clips[0]

    def generate(self, samples: Sequence[tuple[dict[str, Any], Clip]]) -> list[Generated]:
        self.num_asked += len(samples)
        self.batches.append(len(samples))
        return [self._answer(record, clip.frames.astype(np.float64)) for record, clip in samples]

    def generate_constrained(self, samples: Sequence[tuple[dict[str, Any], Clip]]) -> list[Generated]:
        return [self._see(clip.frames.astype(np.float64)) for _, clip in samples]

    def draw(self, samples, names: Sequence[str], sampling: Any, index: int) -> list[Generated]:
        """Sample 0 is what is seen, the next 1 m/s faster, and so on; number 3 is cut in the middle."""
        drawn = [self._see(clip.frames.astype(np.float64), faster=index) for _, clip in samples]
        return [Generated(one.text[:20], 20, True, 100) if index == 3 else one for one in drawn]

    def _answer(self, record: dict[str, Any], frames: np.ndarray) -> Generated:
        seen = self._see(frames)
        if self.answer is None:
            return seen
        text = self.answer(record["id"], seen.text)
        return Generated(text, len(text), False, 100)

    def _see(self, frames: np.ndarray, faster: float = 0.0) -> Generated:
        velocity = float(np.diff(frames[:, 0, 0, 0]).mean()) + faster
        curvature = (frames[0, 0, 0, 1] - frames[0, 0, -1, 1]) / 1000
        text = self.dataset.format(velocity, curvature)
        return Generated(text, len(text), False, 100)


@pytest.fixture
def seeing_engine(small_dataset: SmallDataset) -> Callable[..., SeeingEngine]:
    """seeing_engine(answer=None) -> an engine over the small dataset; `answer(id, text)` may change what it says."""
    return lambda answer=None: SeeingEngine(small_dataset, answer)


@pytest.fixture
def add_row(small_dataset: SmallDataset) -> Callable[..., None]:
    """add_row(id, group, split, motion, answer="") puts a row into the small dataset and writes it again."""

    def add(*row: Any) -> None:
        small_dataset.rows.append(Row(*row))
        small_dataset.write()

    return add
