"""How often the predicted motion would be too rough for a car, beside how often the true one was."""

from __future__ import annotations

from typing import Any

import numpy as np

from driving.feasibility import LIMITS, WINDOW_S, count_violations
from evaluation.scoring.fitted import Motion
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.truth import Truth


def measure_feasibility(
    motions: dict[str, Motion], is_parsed: np.ndarray, truth: Truth, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Share of rows that cross each limit of driving.feasibility.

    The model and the truth are counted on the answers that could be read, `excess` is the paired difference
    (positive: rougher than the drivers were); `baselines` on all rows.
    """
    ours = count_violations(*motions["model"], truth.interval_s)
    true = count_violations(truth.velocity_mps, truth.curvature_per_m, truth.interval_s)
    ours = {name: np.where(is_parsed, column, np.nan) for name, column in ours.items()}
    true = {name: np.where(is_parsed, column, np.nan) for name, column in true.items()}
    bootstrap.prepare([*ours.values(), *true.values()])
    result: dict[str, Any] = {"smoothed_over_s": min(WINDOW_S, truth.num_samples * truth.interval_s), "limits": {}}
    for name in ours:
        low, high, unit = LIMITS.get(name, (None, None, ""))
        result["limits"][name] = {
            "low": low,
            "high": high,
            "unit": unit,
            "model": bootstrap.mean(ours[name]).to_json(),
            "truth": bootstrap.mean(true[name]).to_json(),
            "excess": bootstrap.difference(true[name], ours[name]).to_paired_json(),
        }
    others = {who: motion for who, motion in motions.items() if who not in ("model", "representation_floor")}
    rough = {who: count_violations(*motion, truth.interval_s)["any"] for who, motion in others.items()}
    bootstrap.prepare(rough.values())
    result["baselines"] = {who: bootstrap.mean(column).to_json() for who, column in rough.items()}
    return result
