"""What costs nothing to predict: every score is read beside these, on the same rows.

`train_mean` and `train_median` know what a video-only model was given: the training labels. Most others also know how
the car moved in the second that was seen, which a video-only model is not told: for it they are an upper reference.
KNOWS says it of each.

B = rows, T = label samples, T' = observed samples. All return (velocity_mps (B, T), curvature_per_m (B, T)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from driving.answer_format import AnswerFormat, format_answer, parse_answer
from driving.metrics import MOVING_MPS
from driving.trajectory import Trajectory, repeat_to_rate
from evaluation.scoring.fitted import Motion, predict_fitted
from evaluation.scoring.train_labels import TrainLabels
from evaluation.scoring.truth import Truth

CTRV_WINDOW_S = 0.2
SLOPE_WINDOW_S = 0.5
DESCRIPTIONS = {
    "train_mean": "the mean training answer, whatever the video shows",
    "train_median": "the median training answer (of at most 100,000 rows, evenly chosen): the best constant for a mean "
    "absolute error",
    "clip_mean": "the mean true answer of the clip's other rows: what knowing the place, but not the moment, is worth",
    "frame_motion": "ridge regression of the training answers on differences and flow between the frames, without a "
    "network",
    "last_value": "the last observed speed and curvature, held",
    "constant_velocity": "the last observed speed, straight on",
    "ctrv": "constant turn rate and velocity: their means over the last 0.2 s seen",
    "ca_cc": "constant acceleration (fitted over the last 0.5 s seen) and constant curvature",
    "ctra": "constant turn rate (mean over the last 0.2 s seen) and acceleration (fitted over the last 0.5 s seen)",
    "speed_bin_mean": "the mean training answer of rows that were last seen at the same speed, in bins of 2 m/s",
    "ridge": "ridge regression of the training answers on the observed second",
    "ego_mlp": "a small network fitted to the training answers, which sees the observed second and no pixel",
    "representation_floor": "the true speed and curvature driven as arcs: what the recorded path loses as such pairs",
    "label_floor": "the truth written in the answer format and read back: no answer can do better",
}
NEEDS_HISTORY = ("last_value", "constant_velocity", "ctrv", "ca_cc", "ctra", "speed_bin_mean", "ridge", "ego_mlp")
_FITTED = ("speed_bin_mean", "ridge", "ego_mlp")
FLOORS = ("representation_floor", "label_floor")  # know the truth: bounds from below, not to be beaten
# What each is told. A model is fairly compared with those that are told no more than it is.
LABELS, HISTORY, FITTED = "training labels", "the clip's past motion", "past motion and training rows"
OTHER_ROWS, TRUTH = "the clip's other answers", "the truth"
FRAMES = "the frames and training rows"
KNOWS = (
    dict.fromkeys(("train_mean", "train_median"), LABELS)
    | {"clip_mean": OTHER_ROWS, "frame_motion": FRAMES}
    | {name: FITTED if name in _FITTED else HISTORY for name in NEEDS_HISTORY}
    | dict.fromkeys(FLOORS, TRUTH)
)


def predict_baselines(
    truth: Truth, train_labels: TrainLabels, answer_format: AnswerFormat, frame_motion: Motion | None = None
) -> dict[str, Motion]:
    """Every baseline that these rows allow, by name; those from history only where all rows have an observed second.

    Args:
        frame_motion: what the baseline that reads the frames says of these rows, where it was asked for.
    """
    motions: dict[str, Motion] = {
        "train_mean": train_mean(train_labels, len(truth)),
        "train_median": train_median(train_labels, len(truth)),
    }
    if len(np.unique(truth.groups.astype(str))) < len(truth):
        motions["clip_mean"] = clip_mean(truth, motions["train_mean"])
    if frame_motion is not None:
        motions["frame_motion"] = frame_motion
    if truth.observed is not None:
        history: dict[str, Callable[[np.ndarray, float, int], Motion]] = {
            "last_value": last_value,
            "constant_velocity": constant_velocity,
            "ctrv": ctrv,
            "ca_cc": constant_acceleration_and_curvature,
            "ctra": ctra,
        }
        for name, predict in history.items():
            motions[name] = predict(truth.observed, truth.interval_s, truth.num_samples)
        motions |= predict_fitted(truth.observed, truth.num_samples, train_labels.motion)
    motions["representation_floor"] = truth.velocity_mps, truth.curvature_per_m
    motions["label_floor"] = label_floor(truth, answer_format)
    return motions


def train_mean(train_labels: TrainLabels, num_rows: int) -> Motion:
    """The mean over training rows of each of the T samples."""
    return _tile(train_labels.mean, num_rows)


def train_median(train_labels: TrainLabels, num_rows: int) -> Motion:
    """The median over training rows of each of the T samples."""
    return _tile(train_labels.median, num_rows)


def _tile(pairs: np.ndarray, num_rows: int) -> Motion:
    return np.tile(pairs[:, 0], (num_rows, 1)), np.tile(pairs[:, 1], (num_rows, 1))


def clip_mean(truth: Truth, alone: Motion) -> Motion:
    """The mean over the other rows of the same clip of each of the T samples; `alone` where there is no other row."""
    _, codes = np.unique(truth.groups.astype(str), return_inverse=True)
    others = np.bincount(codes)[codes][:, None] - 1
    is_alone = others == 0

    def average(values: np.ndarray, fallback: np.ndarray) -> np.ndarray:
        totals = np.zeros((codes.max() + 1, values.shape[1]))
        np.add.at(totals, codes, values)
        return np.where(is_alone, fallback, (totals[codes] - values) / np.maximum(others, 1))

    return average(truth.velocity_mps, alone[0]), average(truth.curvature_per_m, alone[1])


def last_value(observed: np.ndarray, interval_s: float, num_samples: int) -> Motion:
    """Hold the last observed speed and curvature."""
    return _hold(observed[:, -1, 0], num_samples), _hold(observed[:, -1, 1], num_samples)


def constant_velocity(observed: np.ndarray, interval_s: float, num_samples: int) -> Motion:
    """Hold the last observed speed, straight on."""
    velocity = _hold(observed[:, -1, 0], num_samples)
    return velocity, np.zeros_like(velocity)


def ctrv(observed: np.ndarray, interval_s: float, num_samples: int) -> Motion:
    """Constant turn rate and velocity, each the mean over the last 0.2 s; a standing car does not turn."""
    last = observed[:, -max(1, round(CTRV_WINDOW_S / interval_s)) :]
    velocity = last[..., 0].mean(axis=1)
    turn_rate_radps = (last[..., 0] * last[..., 1]).mean(axis=1)
    is_moving = np.abs(velocity) >= MOVING_MPS
    curvature = np.where(is_moving, turn_rate_radps / np.where(is_moving, velocity, 1.0), 0.0)
    return _hold(velocity, num_samples), _hold(curvature, num_samples)


def ctra(observed: np.ndarray, interval_s: float, num_samples: int) -> Motion:
    """Constant turn rate and acceleration; a braking car stops, and a standing car does not turn."""
    velocity = constant_acceleration(observed, interval_s, num_samples)
    last = observed[:, -max(1, round(CTRV_WINDOW_S / interval_s)) :]
    turn_rate_radps = (last[..., 0] * last[..., 1]).mean(axis=1)[:, None]
    is_moving = np.abs(velocity) >= MOVING_MPS
    return velocity, np.where(is_moving, turn_rate_radps / np.where(is_moving, velocity, 1.0), 0.0)


def constant_acceleration_and_curvature(observed: np.ndarray, interval_s: float, num_samples: int) -> Motion:
    """Constant acceleration, and the last observed curvature held."""
    velocity = constant_acceleration(observed, interval_s, num_samples)
    return velocity, _hold(observed[:, -1, 1], num_samples)


def constant_acceleration(observed: np.ndarray, interval_s: float, num_samples: int) -> np.ndarray:
    """(B, T): the least-squares slope of the last 0.5 s drawn on from the last speed; a braking car stops there.

    Which way it drives is what its last speed says, or, where it has just come to stand, the mean of those 0.5 s.
    """
    last = observed[:, -max(2, round(SLOPE_WINDOW_S / interval_s)) :, 0]
    times_s = (np.arange(last.shape[1]) - (last.shape[1] - 1) / 2) * interval_s
    spread = float((times_s**2).sum())
    slope_mps2 = (last * times_s).sum(axis=1) / spread if spread else np.zeros(len(last))
    start = observed[:, -1, 0]
    velocity = start[:, None] + slope_mps2[:, None] * (np.arange(num_samples) + 1) * interval_s
    heading = np.where(np.abs(start) >= MOVING_MPS, start, last.mean(axis=1))
    has_stopped = np.sign(velocity) * np.sign(heading)[:, None] < 0
    return np.where(has_stopped, 0.0, velocity)


def label_floor(truth: Truth, answer_format: AnswerFormat) -> Motion:
    """The truth formatted as an answer and parsed back: what the format and its rounding cost."""
    floors = []
    for velocity, curvature in zip(truth.velocity_mps, truth.curvature_per_m, strict=True):
        text = format_answer(Trajectory(velocity, curvature), answer_format)
        floors.append(repeat_to_rate(parse_answer(text, answer_format).trajectory, truth.num_samples))
    shape = truth.velocity_mps.shape
    velocities = np.array([floor.velocity_mps for floor in floors]).reshape(shape)
    return velocities, np.array([floor.curvature_per_m for floor in floors]).reshape(shape)


def _hold(values: np.ndarray, num_samples: int) -> np.ndarray:
    return np.repeat(values[:, None], num_samples, axis=1)
