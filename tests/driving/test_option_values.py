"""Numbers of flags outside their bounds are refused when the command line is read."""

from __future__ import annotations

import argparse

import pytest

from data_prep.audit.tool import AuditOptions
from data_prep.dataset_options import DatasetOptions
from data_prep.label_floor import LabelFloorOptions
from data_prep.segment_options import SegmentOptions
from data_prep.synthetic.tool import SyntheticOptions
from driving.option_values import number, parse_share, whole_number
from driving.options import parse_options
from evaluation.evaluate import EvaluateOptions


@pytest.mark.parametrize("text", ["0", "7", "1_000"])
def test_a_count_is_zero_or_more(text):
    assert whole_number(0)(text) == int(text)


@pytest.mark.parametrize("text", ["0", "0.02", "1"])
def test_a_share_is_from_zero_to_one(text):
    assert parse_share(text) == float(text)


@pytest.mark.parametrize(
    "parse, text, complaint",
    [
        (whole_number(-1), "-2", "'-2' is not a whole number of -1 or more"),
        (whole_number(1, 2000), "2001", "from 1 to 2,000"),
        (whole_number(0), "1.5", "'1.5' is not a whole number of 0 or more"),
        (number(0, above=True), "0", "'0' is not a number above 0"),
        (number(0, 600, above=True), "601", "above 0, at most 600"),
        (number(0), "nan", "'nan' is not a number of 0 or more"),
        (number(0), "inf", "'inf' is not a number"),
    ],
)
def test_a_number_out_of_bounds_says_what_it_may_be(parse, text, complaint):
    with pytest.raises(argparse.ArgumentTypeError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    "options, flag, text",
    [
        (SegmentOptions, "--max_clips", "-1"),
        (SegmentOptions, "--workers", "-1"),
        (SegmentOptions, "--video_frame_pixels", "0"),
        (SegmentOptions, "--video_frame_pixels", "99999999999"),
        (SegmentOptions, "--max-bad-fraction", "nan"),
        (SegmentOptions, "--max-bad-fraction", "1.5"),
        (DatasetOptions, "--max-samples", "-1"),
        (DatasetOptions, "--answer-hz", "nan"),
        (DatasetOptions, "--test-ratio", "nan"),
        (DatasetOptions, "--max-bad-fraction", "2"),
        (AuditOptions, "--max-clips", "-1"),
        (LabelFloorOptions, "--max-segments", "-1"),
        (LabelFloorOptions, "--answer-hz", "nan"),
        (SyntheticOptions, "--gap-clips", "-2"),
        (SyntheticOptions, "--workers", "-1"),
        (SyntheticOptions, "--seconds", "601"),
        (EvaluateOptions, "--max-samples", "-1"),
        (EvaluateOptions, "--control-samples", "-1"),
        (EvaluateOptions, "--bootstrap", "-1"),
        (EvaluateOptions, "--max-new-tokens", "-1"),
        (EvaluateOptions, "--max-bad-fraction", "nan"),
        (EvaluateOptions, "--device", "xyz"),
    ],
)
def test_a_tool_refuses_a_value_it_cannot_use_in_one_line(options, flag, text, capsys):
    required = ["recordings"] if options is AuditOptions else []
    with pytest.raises(SystemExit) as stopped:
        parse_options(options, [*required, flag, text])
    assert stopped.value.code == 2
    assert f"{text!r} is n" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices_that_exist_are_taken(device):
    assert parse_options(EvaluateOptions, ["--device", device]).device == device
