"""Five drives with closed forms, answered in text: the truth scores nothing, a known change scores what it must.

Every expected number is arithmetic written here; the poses are closed forms, not the integration under test.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from driving.answer_format import AnswerFormat, format_answer
from driving.trajectory import Trajectory
from evaluation.scoring.answers import read_answers
from evaluation.scoring.baselines import label_floor
from evaluation.scoring.score import score_rows
from evaluation.scoring.truth import Truth

T = 30
DT = 1 / T
FORMAT = AnswerFormat()  # signed: one decimal of speed, four of curvature
NEVER = (np.full((1, T), np.nan), np.full((1, T), np.nan))  # a fallback that would show in every number


def build(velocity, curvature, poses):
    """One row of truth."""
    return Truth(
        ids=np.array(["row"], dtype=object),
        groups=np.array(["clip"], dtype=object),
        velocity_mps=np.asarray(velocity, float)[None],
        curvature_per_m=np.asarray(curvature, float)[None],
        poses=np.asarray(poses, float)[None],
        observed=None,
        interval_s=DT,
        facts=[{}],
    )


def circle(velocity, curvature):
    """Left or right on a circle: x = sin(a) / k, y = (1 - cos(a)) / k, a = k v t."""
    angle = curvature * velocity * DT * np.arange(T + 1)
    poses = np.stack([np.sin(angle) / curvature, (1 - np.cos(angle)) / curvature, angle], axis=1)
    return build([velocity] * T, [curvature] * T, poses)


def straight(velocity):
    times_s = DT * np.arange(T + 1)
    return build([velocity] * T, [0.0] * T, np.stack([velocity * times_s, 0 * times_s, 0 * times_s], axis=1))


def stop():
    """6 m/s, then the brake: 9 m/s2 less each second, standing after 2 / 3 s and 2 m: x = 6 t - 4.5 t^2."""
    middles_s, times_s = DT * (np.arange(T) + 0.5), np.minimum(DT * np.arange(T + 1), 2 / 3)
    x = 6 * times_s - 4.5 * times_s**2
    return build(np.maximum(6 - 9 * middles_s, 0), [0.0] * T, np.stack([x, 0 * x, 0 * x], axis=1))


def s_curve():
    """10 m/s, half a second on a circle of 20 m to the left, half a second to the right."""
    angle = 10 * DT * np.arange(16) / 20
    first = np.stack([20 * np.sin(angle), 20 * (1 - np.cos(angle)), angle], axis=1)
    # the second arc is the first one turned by half a turn about the meeting point
    second = np.stack([2 * first[-1, 0] - first[-2::-1, 0], 2 * first[-1, 1] - first[-2::-1, 1], first[-2::-1, 2]], 1)
    return build([10.0] * T, [0.05] * 15 + [-0.05] * 15, np.concatenate([first, second]))


DRIVES = {
    "circle": lambda: circle(12.0, 0.025),
    "circle to the right": lambda: circle(4.0, -0.125),
    "straight": lambda: straight(27.5),
    "standing": lambda: straight(0.0),
    "reverse": lambda: straight(-2.5),
    "reverse in a bend": lambda: circle(-2.5, 0.1),
    "S-curve": s_curve,
}


def answer(truth, faster=0.0, bend=0.0):
    """The truth in text, every speed and every curvature changed by so much; then scored."""
    motion = Trajectory(truth.velocity_mps[0] + faster, truth.curvature_per_m[0] + bend)
    answers = read_answers([format_answer(motion, FORMAT)], [False], [1], FORMAT, NEVER)
    assert answers.parsed[0].parsing == "strict"
    return {
        name: float(column[0])
        for name, column in score_rows((answers.velocity_mps, answers.curvature_per_m), truth).items()
    }


@pytest.mark.parametrize("name", DRIVES)
def test_the_truth_in_text_has_no_error(name):
    errors = answer(DRIVES[name]())
    wanted = ("ade_m", "fde_m", "corner_m", "heading_error_rad", "velocity_mae_mps", "yaw_rate_mae_radps")
    assert [errors[key] for key in wanted] == pytest.approx([0] * 6, abs=1e-12)


def test_a_stop_in_text_errs_by_the_rounding_of_its_speeds_and_no_more():
    errors = answer(stop())
    assert 0 < errors["velocity_mae_mps"] <= 0.05
    assert errors["fde_m"] <= 0.05  # a second of at most half a decimal


@pytest.mark.parametrize("velocity", [27.5, 3.0, -2.5])
def test_two_metres_a_second_too_fast_on_a_straight(velocity):
    errors = answer(straight(velocity), faster=2.0)
    assert errors["fde_m"] == pytest.approx(2.0, abs=1e-9)
    assert errors["ade_m"] == pytest.approx(2.0 * 31 / 60, abs=1e-9)  # mean of k / 30 over k = 1..30, twice
    assert errors["corner_m"] == pytest.approx(errors["ade_m"], abs=1e-9)  # every corner is as far ahead
    assert errors["velocity_mae_kmph"] == pytest.approx(7.2, abs=1e-9)
    assert errors["velocity_mse_m2ps2"] == pytest.approx(4.0, abs=1e-9)
    assert errors["velocity_rmse_mps"] == pytest.approx(4.0, abs=1e-9)  # the column holds squares
    assert errors["miss_rate_1m"] == 1.0


def test_a_standing_car_that_is_said_to_roll():
    errors = answer(straight(0.0), faster=1.5)
    assert errors["ade_m"] == pytest.approx(1.5 * 31 / 60, abs=1e-9)
    assert math.isnan(errors["curvature_mae_per_m"])


def test_a_stop_that_is_driven_through():
    truth = stop()
    constant = np.full((1, T), 6.0), np.zeros((1, T))
    errors = score_rows(constant, truth)
    assert errors["fde_m"][0] == pytest.approx(4.0, abs=1e-12)  # 6 m driven, 2 m true
    assert errors["fde_half_m"][0] == pytest.approx(4.5 * 0.25, abs=1e-12)  # 4.5 t^2 after half a second
    braking = sum(4.5 * (k / 30) ** 2 for k in range(1, 21))  # to 2 / 3 s
    standing = sum(6 * k / 30 - 2 for k in range(21, 31))
    assert errors["ade_m"][0] == pytest.approx((braking + standing) / 30, abs=1e-12)


def test_a_circle_driven_straight():
    errors = answer(circle(10.0, 0.05), bend=-0.05)
    away = [math.hypot(k / 3 - 20 * math.sin(k / 60), 20 * (1 - math.cos(k / 60))) for k in range(1, 31)]
    assert errors["fde_m"] == pytest.approx(away[-1], abs=1e-9)
    assert errors["ade_m"] == pytest.approx(sum(away) / 30, abs=1e-9)
    assert errors["heading_error_rad"] == pytest.approx(0.5, abs=1e-9)
    assert errors["lateral_acceleration_mae_mps2"] == pytest.approx(5.0, abs=1e-9)
    assert errors["curvature_sign_accuracy"] == 0.0


def test_a_circle_driven_to_the_other_side_ends_twice_as_far_aside():
    errors = answer(circle(10.0, 0.05), bend=-0.1)
    aside = 20 * (1 - math.cos(0.5))
    assert errors["fde_m"] == pytest.approx(2 * aside, abs=1e-9)
    assert errors["heading_error_rad"] == pytest.approx(1.0, abs=1e-9)


def test_the_wrong_radius_on_a_circle():
    # 20 m asked, 25 m answered: two closed forms, a quarter of a radian apart at the end
    errors = answer(circle(10.0, 0.05), bend=-0.01)
    x, y = 25 * math.sin(0.4) - 20 * math.sin(0.5), 25 * (1 - math.cos(0.4)) - 20 * (1 - math.cos(0.5))
    assert errors["fde_m"] == pytest.approx(math.hypot(x, y), abs=1e-9)
    assert errors["heading_error_rad"] == pytest.approx(0.1, abs=1e-9)
    # along and across the true final heading, half a radian
    along = x * math.cos(0.5) + y * math.sin(0.5)
    assert errors["longitudinal_m"] == pytest.approx(abs(along), abs=1e-9)
    assert errors["lateral_m"] == pytest.approx(abs(-x * math.sin(0.5) + y * math.cos(0.5)), abs=1e-9)


def test_a_reverse_that_is_read_as_forward():
    truth = straight(-2.5)
    errors = score_rows((np.full((1, T), 2.5), np.zeros((1, T))), truth)
    assert errors["fde_m"][0] == pytest.approx(5.0, abs=1e-12)
    assert errors["ade_m"][0] == pytest.approx(5.0 * 31 / 60, abs=1e-12)
    assert errors["velocity_bias_mps"][0] == pytest.approx(5.0)


def test_an_s_curve_driven_straight_ends_beside_the_road_and_in_its_direction():
    truth = s_curve()
    errors = score_rows((np.full((1, T), 10.0), np.zeros((1, T))), truth)
    along, aside = 2 * 20 * math.sin(0.25), 2 * 20 * (1 - math.cos(0.25))
    assert errors["fde_m"][0] == pytest.approx(math.hypot(10 - along, aside), abs=1e-9)
    assert errors["heading_error_rad"][0] == pytest.approx(0, abs=1e-9)
    assert errors["lateral_m"][0] == pytest.approx(aside, abs=1e-9)


def test_the_corners_of_a_car_that_turned_on_the_spot():
    # A quarter turn about the rear axle: a corner at distance r moves by r times the root of two.
    truth = straight(0.0)
    poses = truth.poses.copy()
    poses[0, 1:, 2] = math.pi / 2
    turned = build([0.0] * T, [0.0] * T, poses[0])
    errors = score_rows((np.zeros((1, T)), np.zeros((1, T))), turned)
    mean_radius = (math.hypot(3.8, 0.95) + math.hypot(1.0, 0.95)) / 2
    assert errors["corner_m"][0] == pytest.approx(mean_radius * math.sqrt(2), abs=1e-9)
    assert errors["ade_m"][0] == 0


def test_the_label_floor_is_decimal_rounding_to_1e_9():
    rng = np.random.default_rng(4)
    velocity, curvature = rng.uniform(-5, 40, T), rng.normal(0, 0.05, T)
    floor = label_floor(build(velocity, curvature, np.zeros((T + 1, 3))), FORMAT)

    def printed(value, digits):
        return float(Decimal(float(value)).quantize(Decimal(digits), ROUND_HALF_EVEN))

    assert floor[0][0] == pytest.approx([printed(v, "0.1") for v in velocity], abs=1e-9)
    assert floor[1][0] == pytest.approx([printed(k, "0.0001") for k in curvature], abs=1e-9)


PAIRS = [f"({v:.1f}, {k:.4f})" for v, k in zip(np.linspace(5, 8, T), np.linspace(-0.01, 0.02, T), strict=True)]
LIST = f"[{', '.join(PAIRS)}]"


@pytest.mark.parametrize(
    "text, parsing, count_error",
    [
        (LIST, "strict", 0),
        (f"[{', '.join(PAIRS[:29])}]", "failed", -1),
        (f"[{', '.join([*PAIRS, PAIRS[0]])}]", "failed", 1),
        (f"The car will do this: {LIST}. Drive safely!", "lenient", 0),
        (LIST.replace("(5.0,", "(nan,"), "failed", -1),
        (LIST.replace("(5.0,", "(5,0,"), "failed", -1),
        (LIST[:-1], "lenient", 0),
        (LIST[:-2], "failed", -1),
        (f"[{', '.join(PAIRS[:1] * 10_000)}]", "failed", None),
        (LIST.replace("-", "\u2212"), "lenient", 0),
        ("", "failed", -30),
        ("   \n", "failed", -30),
        (LIST.replace("0.0200", "1e999"), "failed", 0),
        (LIST + LIST, "failed", 30),
        (LIST.replace("(5.0,", "(1e300,"), "failed", 0),
        (LIST.replace("(5.0,", "(150.1,"), "failed", 0),
        (LIST.replace("(5.0,", "(-150.1,"), "failed", 0),
        (LIST.replace("0.0200", "-1.0100"), "failed", 0),
        (LIST.replace("(8.0, 0.0200)", "(8.0, 0.8000)"), "failed", 0),
    ],
    ids=["as asked", "29 pairs", "31 pairs", "prose", "NaN", "a number with a comma", "no closing bracket of the list",
         "no closing bracket of a pair", "10,000 pairs", "unicode minus", "empty", "only spaces", "too large", "twice",
         "no speed", "a speed of 540 km/h", "backwards", "on the spot", "a turn in a second"],
)  # fmt: skip
def test_bad_answers_are_read_or_fail_as_they_deserve(text, parsing, count_error):
    fallback = np.full((1, T), 6.5), np.zeros((1, T))
    answers = read_answers([text], [False], [1], FORMAT, fallback)
    assert answers.parsed[0].parsing == parsing
    if count_error is None:
        assert answers.parsed[0].count_error > 5000
    else:
        assert answers.parsed[0].count_error == count_error
    if parsing == "failed":
        assert answers.velocity_mps.tolist() == [[6.5] * T]
    else:
        assert answers.velocity_mps[0] == pytest.approx(np.linspace(5, 8, T), abs=0.05)
        assert answers.curvature_per_m[0] == pytest.approx(np.linspace(-0.01, 0.02, T), abs=5e-5)


@pytest.mark.parametrize(
    "pair, said",
    [("(1e300, 1e300)", "1e+300 m/s (at most 150)"), ("(-999.0, 9.0000)", "-999 m/s (at most 150)"),
     ("(3.0, -99.9999)", "-99.9999 1/m (at most 1)"), ("(150.0, 1.0000)", "150 rad/s of turning (at most 6.283)")],
)  # fmt: skip
def test_circling_on_the_spot_at_an_absurd_speed_is_a_failure_and_no_small_error(pair, said):
    # Held at a limit it would stay within a few metres of where it began: 2.6 m of ADE where standing still has 5.2.
    text = f"[{', '.join([pair] * T)}]"
    answers = read_answers([text], [False], [1], FORMAT, (np.full((1, T), 6.5), np.zeros((1, T))))
    assert answers.parsed[0].parsing == "failed"
    assert said in answers.parsed[0].error
    errors = score_rows((answers.velocity_mps, answers.curvature_per_m), straight(10.0))
    assert errors["ade_m"][0] == pytest.approx(3.5 * 31 / 60, abs=1e-9)  # the fallback's: 3.5 m/s too slow


@pytest.mark.parametrize("pair", ["(150.0, 0.0400)", "(-20.0, 0.2000)", "(0.3, 1.0000)", "(6.2, 1.0000)"])
def test_what_a_vehicle_might_just_do_is_scored_as_it_is(pair):
    answers = read_answers([f"[{', '.join([pair] * T)}]"], [False], [1], FORMAT, NEVER)
    assert answers.parsed[0].parsing == "strict"
    velocity, curvature = (float(value) for value in pair.strip("()").split(", "))
    assert answers.velocity_mps.tolist() == [[velocity] * T]
    assert answers.curvature_per_m.tolist() == [[curvature] * T]
