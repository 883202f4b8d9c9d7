"""How contenders and metrics are called in the report, and in which digits they are shown."""

from __future__ import annotations

from typing import Any

from evaluation.report.svg import Bar

Metrics = dict[str, Any]  # metrics.json's content
NAMES = {
    "model": "this model",
    "train_mean": "training mean",
    "train_median": "training median",
    "clip_mean": "rest of the clip",
    "frame_motion": "frame motion",
    "last_value": "last value",
    "constant_velocity": "constant velocity",
    "ctrv": "CTRV",
    "ca_cc": "CA + CC",
    "ctra": "CTRA",
    "speed_bin_mean": "mean of its speed bin",
    "ridge": "ridge on the past second",
    "ego_mlp": "ego network",
    "representation_floor": "representation floor",
    "label_floor": "label floor",
}
SHORT = {"velocity_mae_mps": "speed error", "curvature_mae_per_m": "curvature error", "ade_m": "ADE", "fde_m": "FDE"}
SHOWN = {"velocity_mae_mps": 2, "curvature_mae_per_m": 4, "ade_m": 2, "fde_m": 2}


def bar_of(label: str, estimate: dict[str, Any], style: str) -> Bar | None:
    """An estimate as a bar; None where there is no value."""
    if estimate["value"] is None:
        return None
    return Bar(label, estimate["value"], estimate["low"], estimate["high"], style)
