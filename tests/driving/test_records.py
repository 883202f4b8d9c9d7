"""Training records and chat messages: both ways, and every fault by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driving.errors import RecordError
from driving.records import (
    build_messages,
    check_record,
    clean_messages,
    conversations_from_messages,
    media_paths,
    messages_from_record,
    record_group,
    record_name,
)

VIDEO_RECORD = {
    "id": "a",
    "video": "a.mp4",
    "conversations": [
        {"from": "system", "value": "S"},
        {"from": "human", "value": "<video>\nQ"},
        {"from": "gpt", "value": "A"},
    ],
}


def record_of(*turns: tuple[str, str], **more) -> dict:
    return {"id": "r1", "conversations": [{"from": who, "value": what} for who, what in turns], **more}


def test_the_video_stands_before_the_question():
    assert build_messages("S", "a.mp4", "Q", "A")[1] == {
        "role": "user",
        "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "Q"}],
    }


def test_an_empty_system_prompt_is_no_turn():
    assert [message["role"] for message in build_messages("", "a.mp4", "Q", "A")] == ["user", "assistant"]


def test_messages_become_a_training_record():
    record = conversations_from_messages(build_messages("S", "a.mp4", "Q", "A"))
    assert record == {key: VIDEO_RECORD[key] for key in ("video", "conversations")}


def test_without_a_system_turn_its_text_stands_between_video_and_question():
    record = conversations_from_messages(build_messages("S", "a.mp4", "Q", "A"), keep_system=False)
    assert record["conversations"] == [{"from": "human", "value": "<video>\nS\nQ"}, {"from": "gpt", "value": "A"}]


def test_several_media_stay_in_front_of_the_system_text_in_their_order():
    content = [{"type": "image", "image": "1.png"}, {"type": "video", "video": "v.mp4"}, {"type": "text", "text": "Q"}]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": content}]
    record = conversations_from_messages(messages, keep_system=False)
    assert record["conversations"][0]["value"] == "<image>\n<video>\nS\nQ"


def test_one_path_stands_without_brackets_and_two_with():
    content = [{"type": "image", "image": "1.png"}, {"type": "image", "image": "2.png"}, {"type": "text", "text": "Q"}]
    assert conversations_from_messages([{"role": "user", "content": content}])["image"] == ["1.png", "2.png"]


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="abc .,\n", max_size=12), st.text(alphabet="abc .,", min_size=1, max_size=12), st.integers(0, 3)
)
def test_messages_survive_the_way_to_a_record_and_back(system, question, num_images):
    images = [{"type": "image", "image": f"{index}.png"} for index in range(num_images)]
    messages = build_messages(system, "a.mp4", question, "A")
    messages[-2]["content"] = [*images, *messages[-2]["content"]]
    assert messages_from_record(conversations_from_messages(messages)) == messages


def test_a_placeholder_in_the_middle_of_the_text_is_replaced_where_it_stands():
    record = record_of(("human", "look: <image>\nthen <image>\ndone"), ("gpt", "A"), image=["1.png", "2.png"])
    assert messages_from_record(record)[0]["content"] == [
        {"type": "text", "text": "look: "},
        {"type": "image", "image": "1.png"},
        {"type": "text", "text": "then "},
        {"type": "image", "image": "2.png"},
        {"type": "text", "text": "done"},
    ]


def test_a_placeholder_in_an_answer_is_text():
    record = record_of(("human", "what marks a video?"), ("gpt", "<video>"))
    assert messages_from_record(record)[1]["content"] == [{"type": "text", "text": "<video>"}]


def test_an_empty_answer_is_still_a_text_block():
    record = record_of(("human", "Q"), ("gpt", ""))
    assert messages_from_record(record)[1]["content"] == [{"type": "text", "text": ""}]


def test_nones_that_arrow_wrote_are_dropped():
    block = {"type": "text", "text": "Q", "video": None}
    assert clean_messages([{"role": "user", "content": [block]}]) == [
        {"role": "user", "content": [{"type": "text", "text": "Q"}]}
    ]


def test_a_plain_text_message_is_left_as_it_is():
    assert clean_messages([{"role": "user", "content": "Q"}]) == [{"role": "user", "content": "Q"}]


def test_an_unknown_role_is_refused():
    with pytest.raises(RecordError, match="role 'tool' is none of system, user, assistant"):
        conversations_from_messages([{"role": "tool", "content": "x"}])


def test_an_unknown_block_is_refused():
    with pytest.raises(RecordError, match="content block of type 'audio'; text, image and video are known"):
        conversations_from_messages([{"role": "user", "content": [{"type": "audio", "audio": "x"}]}])


def test_a_whole_record_is_accepted():
    assert check_record(VIDEO_RECORD) is None


def test_several_rounds_are_accepted():
    assert check_record(record_of(("human", "1"), ("gpt", "2"), ("human", "3"), ("gpt", "4"))) is None


@pytest.mark.parametrize("turns", [None, [], "text"])
def test_a_record_without_turns_is_refused(turns):
    with pytest.raises(RecordError, match="r1 has no conversations"):
        check_record({"id": "r1", "conversations": turns})


@pytest.mark.parametrize(
    "turn", ["hello", {"from": "human"}, {"from": "user", "value": "x"}, {"from": "gpt", "value": 3}]
)
def test_a_turn_of_another_shape_is_refused(turn):
    with pytest.raises(RecordError, match="r1: a turn needs from .system, human or gpt. and value"):
        check_record({"id": "r1", "conversations": [turn]})


@pytest.mark.parametrize(
    "speakers", [["human"], ["gpt", "human"], ["human", "human", "gpt"], ["system"], ["human", "gpt", "system", "gpt"]]
)
def test_turns_out_of_order_are_refused(speakers):
    with pytest.raises(RecordError, match="human and gpt must take turns, gpt last; the turns are " + speakers[0]):
        check_record(record_of(*[(speaker, "x") for speaker in speakers]))


@pytest.mark.parametrize(
    "question, video, counts",
    [
        ("Q", "a.mp4", "0 <video> .* 1 video"),
        ("<video><video>", "a.mp4", "2 <video> .* 1"),
        ("<video>", None, "1 <video> .* 0"),
    ],
)
def test_marks_and_paths_must_be_as_many(question, video, counts):
    with pytest.raises(RecordError, match=f"r1: {counts}"):
        check_record(record_of(("human", question), ("gpt", "A"), video=video))


def test_a_path_that_is_no_text_is_refused():
    with pytest.raises(RecordError, match="r1: video must be a path or a list of paths, got '7'"):
        check_record(record_of(("human", "<video>"), ("gpt", "A"), video=7))


def test_half_a_character_is_refused_and_can_be_named():
    with pytest.raises(RecordError, match=r"r1: a turn holds half a character \(a lone surrogate\): 'A\\ud800'"):
        check_record(record_of(("human", "Q"), ("gpt", "A\ud800")))
    assert record_name({"id": "x\ud800"}) == r"x\ud800"


def test_a_record_that_is_no_object_is_refused():
    with pytest.raises(RecordError, match="a training record is list, not an object"):
        check_record([1, 2])


@pytest.mark.parametrize(
    "record, name",
    [
        ({"id": "x"}, "x"),
        ({"id": 17}, "17"),
        ({"id": 0}, "0"),
        ({"video": "a.mp4"}, "a.mp4"),
        ({"image": ["1.png", "2.png"]}, "1.png"),
        ({"image": []}, "a record without id"),
        ({}, "a record without id"),
    ],
)
def test_a_record_is_called_by_its_id_or_its_first_file(record, name):
    assert record_name(record) == name


@pytest.mark.parametrize("value, paths", [(None, []), ("a.mp4", ["a.mp4"]), (["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"])])
def test_media_are_read_as_a_list(value, paths):
    assert media_paths({"video": value}, "video") == paths


@pytest.mark.parametrize("group, expected", [("ride", "ride"), (7, "7"), (0, "0"), (None, "r1"), ("", "r1")])
def test_a_row_that_names_no_recording_is_its_own(group, expected):
    assert record_group({"id": "r1", "group": group}) == expected


def test_a_row_without_the_key_is_its_own_recording_too():
    assert record_group({"id": "r1"}) == "r1"
