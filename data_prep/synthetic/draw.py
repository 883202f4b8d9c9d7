"""Random drives whose speed cannot be guessed from the road they are on.

    draw_speed (time -> speed) ─┐
                                ├─▶ Motion        the two are drawn from separate random streams
    draw_road (way -> curvature)┘

**Speed and road are independent.** A real driver brakes for a bend, so a bend seen in one frame tells the speed; here
it does not, or a network could score on speed without looking at motion at all. The price: the same bends are driven at
every speed, and a fast drive through a tight bend pulls more sideways than tyres hold. Curvature ends at
MAX_CURVATURE_PER_M so that the mean stays near 2 m/s^2. Nothing physical rests on these drives; a recording with a
chosen motion is one `Motion`.
"""

from __future__ import annotations

import numpy as np

from data_prep.synthetic.motion import Motion

MAX_SPEED_MPS = 32.0
MIN_CURVATURE_PER_M = 0.005
MAX_CURVATURE_PER_M = 0.025
PEAK_ACCELERATION_MPS2 = 3.0
GOLDEN = 0.6180339887498949

# Every 25 recordings in a row hold this mix, in an order that the seed decides.
SPEED_KINDS = ("cruise",) * 16 + ("stop",) * 4 + ("start",) * 3 + ("stand", "reverse")
ROAD_KINDS = ("left",) * 3 + ("right",) * 3 + ("straight",) * 2

SPEED_STREAM, ROAD_STREAM, SCENE_STREAM, CLOCK_STREAM, KIND_STREAM, SPLIT_STREAM, META_STREAM = range(7)


def random_stream(seed: int, index: int, stream: int) -> np.random.Generator:
    """The generator of one aspect of one recording: independent of every other, and of how many there are."""
    return np.random.default_rng([seed, index, stream])


def speed_kind(seed: int, index: int) -> str:
    """What a recording's speed does: cruise, stop, start, stand or reverse."""
    block, place = divmod(index, len(SPEED_KINDS))
    order = random_stream(seed, block, KIND_STREAM).permutation(len(SPEED_KINDS))
    return SPEED_KINDS[order[place]]


def draw_motion(seed: int, index: int, duration_s: float) -> Motion:
    """The drive of recording `index`: known up to `duration_s`, held after."""
    times_s, speeds = draw_speed(seed, index, duration_s)
    road_m, curvatures = draw_road(seed, index, duration_s)
    return Motion(times_s, speeds, road_m, curvatures)


def draw_speed(seed: int, index: int, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Speed every 0.05 s. Base speeds fill 0-32 m/s evenly over recordings (golden-ratio sequence)."""
    rng = random_stream(seed, index, SPEED_STREAM)
    offset = random_stream(seed, 0, KIND_STREAM + 100).random()
    base_mps = MAX_SPEED_MPS * ((offset + index * GOLDEN) % 1.0)
    plans = {"cruise": _cruise, "stop": _stop, "start": _start, "stand": _stand, "reverse": _reverse}
    knots = plans[speed_kind(seed, index)](rng, base_mps, duration_s)
    times_s = np.arange(-1.0, duration_s + 1.0, 0.05)
    return times_s, _smooth(times_s, knots)


def _cruise(rng: np.random.Generator, base_mps: float, duration_s: float) -> list[tuple[float, float]]:
    knots = [(-1.0 - 3 * rng.random(), float(np.clip(base_mps + rng.uniform(-3, 3), 0, MAX_SPEED_MPS)))]
    while knots[-1][0] < duration_s + 1:
        step_s = rng.uniform(2.5, 5.0)
        reach = PEAK_ACCELERATION_MPS2 / 1.5 * step_s
        wanted = float(np.clip(base_mps + rng.uniform(-5, 5), 0, MAX_SPEED_MPS))
        knots.append((knots[-1][0] + step_s, float(np.clip(wanted, knots[-1][1] - reach, knots[-1][1] + reach))))
    return knots


def _stop(rng: np.random.Generator, base_mps: float, duration_s: float) -> list[tuple[float, float]]:
    before, after = 0.5 * base_mps + 1, rng.uniform(2, 14)
    brake_s = rng.uniform(1, 6)
    stand_s = brake_s + before / 2 + 1
    go_s = stand_s + rng.uniform(2, 5)
    return [(-1.0, before), (brake_s, before), (stand_s, 0.0), (go_s, 0.0), (go_s + after / 1.5 + 1, after)]


def _start(rng: np.random.Generator, base_mps: float, duration_s: float) -> list[tuple[float, float]]:
    go_s, after = rng.uniform(2, 7), 0.6 * base_mps + 2
    return [(-1.0, 0.0), (go_s, 0.0), (go_s + after / 1.8 + 1, after)]


def _stand(rng: np.random.Generator, base_mps: float, duration_s: float) -> list[tuple[float, float]]:
    return [(-1.0, 0.0)]


def _reverse(rng: np.random.Generator, base_mps: float, duration_s: float) -> list[tuple[float, float]]:
    back, go_s = -rng.uniform(1.5, 4), rng.uniform(0.5, 3)
    turn_s = go_s + rng.uniform(7, 10)
    return [(-1.0, 0.0), (go_s, 0.0), (go_s + 3, back), (turn_s, back), (turn_s + 3, 0.0)]


def _smooth(times_s: np.ndarray, knots: list[tuple[float, float]]) -> np.ndarray:
    """Join knots by 3 u^2 - 2 u^3: no jerk at the knots, steepest slope 1.5 times the mean."""
    at, values = np.array(knots).T
    right = np.clip(np.searchsorted(at, times_s, side="right"), 1, max(1, len(at) - 1))
    if len(at) == 1:
        return np.full(len(times_s), values[0])
    left = right - 1
    u = np.clip((times_s - at[left]) / (at[right] - at[left]), 0.0, 1.0)
    return values[left] + (values[right] - values[left]) * u * u * (3 - 2 * u)


def draw_road(seed: int, index: int, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Curvature every metre: straights and bends of 60-160 m in random order, as many left as right.

    The road begins at a random place of its first piece well behind the car, so what is near the car at t = 0 is drawn
    from the same distribution as everywhere else.
    """
    rng = random_stream(seed, index, ROAD_STREAM)
    first_m = -200.0
    last_m = MAX_SPEED_MPS * (duration_s + 1) + 200.0
    road_m = np.arange(first_m, last_m, 1.0)
    curvatures = np.zeros(len(road_m))
    at_m = first_m - rng.uniform(0, 160)
    while at_m < last_m:
        for kind in rng.permutation(ROAD_KINDS):
            length_m, ramp_m = rng.uniform(60, 160), rng.uniform(15, 25)
            size = np.exp(rng.uniform(np.log(MIN_CURVATURE_PER_M), np.log(MAX_CURVATURE_PER_M)))
            sign = {"left": 1.0, "right": -1.0, "straight": 0.0}[kind]
            u = np.clip(np.minimum(road_m - at_m, at_m + length_m - road_m) / ramp_m, 0.0, 1.0)
            curvatures += sign * size * u * u * (3 - 2 * u)
            at_m += length_m
    return road_m, curvatures
