"""Datasets that look further ahead than a second: no turn of the prompt says otherwise."""

from __future__ import annotations

import pytest

from data_prep.dataset_options import DatasetOptions
from data_prep.dataset_plan import plan_answer_format
from driving.prompts import PHYSICAL_AI_SYSTEM


@pytest.mark.parametrize("duration_s, said", [(2.0, "2 seconds"), (6.4, "6.4 seconds"), (0.5, "0.5 seconds")])
def test_system_and_question_ask_for_the_same_future(duration_s, said):
    asked = plan_answer_format(DatasetOptions(duration=duration_s), 10.0, round(10 * duration_s))
    assert f"predict the next {said} of ego motion" in asked.system_prompt
    assert f"for the next {said} as [" in asked.question


def test_for_a_second_it_is_the_usual_prompt():
    assert plan_answer_format(DatasetOptions(), 30.0, 30).system_prompt == PHYSICAL_AI_SYSTEM


def test_a_system_prompt_of_the_users_own_stays_as_it_is():
    own = "Predict the next second."
    assert plan_answer_format(DatasetOptions(duration=2.0, system_prompt=own), 10.0, 20).system_prompt == own
