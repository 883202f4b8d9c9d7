"""Baselines that are fitted to the training rows' own motion: they know how the car moved, and never see a pixel.

    train rows (observed, targets) ──fit──▶ speed bins, ridge, small network ──▶ (v, kappa) of the rows to score

On nuScenes such a network is as good as planners with cameras (Li et al., "Is Ego Status All You Need for Open-Loop
End-to-End Autonomous Driving?", CVPR 2024), so every score of a model that was told its past is read beside it.

N = training rows, B = rows, T' = observed samples, T = label samples, F = features, D = 2 T outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.scoring.train_labels import TrainMotion

Motion = tuple[np.ndarray, np.ndarray]
MIN_FIT_ROWS = 100
SPEED_BIN_MPS = 2.0
MAX_PARTS = 10  # the observed second is averaged to so many parts
RIDGE_SHARE = 1e-3  # penalty on standardised weights, as a share of the number of rows
HIDDEN = 64
BATCH_ROWS = 64  # small products, which a linear algebra library does on one thread
NUM_EPOCHS = 40
MIN_STEPS, MAX_STEPS = 200, 2000
PEAK_RATE = 1e-2
SEED = 7


def predict_fitted(observed: np.ndarray, num_samples: int, train: TrainMotion | None) -> dict[str, Motion]:
    """Every fitted baseline by name; none where fewer than MIN_FIT_ROWS training rows hold an observed second.

    Args:
        observed: (B, T', 2) of the rows to predict.
        num_samples: T.
        train: of the same T' and T, else nothing can be fitted.
    """
    if train is None or len(train.observed) < MIN_FIT_ROWS:
        return {}
    if train.observed.shape[1] != observed.shape[1] or train.targets.shape[1] != num_samples:
        return {}
    problem = _standardise(train)
    rows, last = problem.standardise(motion_features(observed)), observed[:, -1]
    ridge = rows @ fit_ridge(problem.inputs, problem.outputs)
    network = fit_network(problem.inputs, problem.outputs)(rows)
    return {
        "speed_bin_mean": predict_speed_bins(train, observed),
        "ridge": problem.restore(ridge, last),
        "ego_mlp": problem.restore(network, last),
    }


def predict_speed_bins(train: TrainMotion, observed: np.ndarray) -> Motion:
    """The mean training answer of the row's speed bin; of all training rows where the bin is empty."""
    bins = np.floor(train.observed[:, -1, 0] / SPEED_BIN_MPS).astype(int)
    asked = np.floor(observed[:, -1, 0] / SPEED_BIN_MPS).astype(int)
    means = np.tile(train.targets.mean(axis=0), (len(observed), 1, 1))
    for index in np.intersect1d(bins, asked):
        means[asked == index] = train.targets[bins == index].mean(axis=0)
    return means[..., 0], means[..., 1]


def motion_features(observed: np.ndarray) -> np.ndarray:
    """(B, T', 2) -> (B, F): speed, curvature and yaw rate, each averaged to at most ten parts, and the last of each."""
    values = np.concatenate([observed, observed[..., :1] * observed[..., 1:]], axis=-1)
    num_parts = max(n for n in range(1, MAX_PARTS + 1) if values.shape[1] % n == 0)
    parts = values.reshape(len(values), num_parts, -1, 3).mean(axis=2)
    return np.concatenate([parts.reshape(len(values), -1), values[:, -1]], axis=1)


def fit_ridge(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """(F, D) weights that minimise |outputs - inputs w|^2 + RIDGE_SHARE N |w|^2."""
    penalty = RIDGE_SHARE * len(inputs) * np.eye(inputs.shape[1])
    return np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ outputs)


@dataclass(frozen=True)
class Network:
    """One hidden layer of tanh units: (B, F) -> (B, D)."""

    weights: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        first, first_bias, second, second_bias = self.weights
        return np.tanh(inputs @ first + first_bias) @ second + second_bias


def fit_network(inputs: np.ndarray, outputs: np.ndarray, seed: int = SEED) -> Network:
    """Fit the network to the squared error with Adam, the rate falling to zero; a pure function of its arguments."""
    rng = np.random.default_rng(seed)
    num_inputs, num_outputs = inputs.shape[1], outputs.shape[1]
    weights = [
        rng.normal(0, num_inputs**-0.5, (num_inputs, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0, 0.1 * HIDDEN**-0.5, (HIDDEN, num_outputs)),
        np.zeros(num_outputs),
    ]
    means, squares = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    num_steps = int(np.clip(NUM_EPOCHS * len(inputs) // BATCH_ROWS, MIN_STEPS, MAX_STEPS))
    for step in range(1, num_steps + 1):
        batch = rng.integers(len(inputs), size=min(BATCH_ROWS, len(inputs)))
        gradients = _differentiate(weights, inputs[batch], outputs[batch])
        rate = PEAK_RATE * (1 - (step - 1) / num_steps)
        for place, gradient in enumerate(gradients):
            means[place] = 0.9 * means[place] + 0.1 * gradient
            squares[place] = 0.999 * squares[place] + 0.001 * gradient**2
            root = np.sqrt(squares[place] / (1 - 0.999**step)) + 1e-8
            weights[place] = weights[place] - rate * (means[place] / (1 - 0.9**step)) / root
    return Network(tuple(weights))


def _differentiate(weights: list[np.ndarray], inputs: np.ndarray, outputs: np.ndarray) -> list[np.ndarray]:
    """Gradients of half the mean squared error of each row."""
    first, first_bias, second, second_bias = weights
    hidden = np.tanh(inputs @ first + first_bias)
    error = (hidden @ second + second_bias - outputs) / len(inputs)
    back = (error @ second.T) * (1 - hidden**2)
    return [inputs.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


@dataclass(frozen=True)
class _Problem:
    """Training rows with mean 0 and spread 1 in every column; a column that never changes stays 0.

    The outputs are what changed since the last observed sample: a fit that learned nothing says that all stays so.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    input_mean: np.ndarray
    input_spread: np.ndarray
    output_mean: np.ndarray
    output_spread: np.ndarray

    def standardise(self, features: np.ndarray) -> np.ndarray:
        return (features - self.input_mean) / self.input_spread

    def restore(self, outputs: np.ndarray, last: np.ndarray) -> Motion:
        """(B, D) outputs and (B, 2) last observed pairs -> speeds and curvatures."""
        change = outputs * self.output_spread + self.output_mean
        pairs = change.reshape(len(change), -1, 2) + last[:, None]
        return pairs[..., 0], pairs[..., 1]


def _standardise(train: TrainMotion) -> _Problem:
    features = motion_features(train.observed)
    change = (train.targets - train.observed[:, -1:]).reshape(len(train.targets), -1)
    (mean, spread), (change_mean, change_spread) = _moments(features), _moments(change)
    return _Problem(
        (features - mean) / spread, (change - change_mean) / change_spread, mean, spread, change_mean, change_spread
    )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = values.mean(axis=0), values.std(axis=0)
    return mean, np.where(spread > 1e-9, spread, 1.0)
