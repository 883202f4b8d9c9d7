"""The two shapes of a training example, and the way between them.

    messages                                            conversations  (the training JSON)
    [{"role", "content": [{"type": "video",  ──────▶    {"id", "group", "video": "a.mp4",
       "video": "a.mp4"}, {"type": "text",               "conversations": [{"from": "human",
       "text": "Q"}]}, ...]                  ◀──────       "value": "<video>\nQ"}, {"from": "gpt", ...}]}

`messages` is the chat form of Hugging Face datasets; `conversations` is what upstream's trainer and its peers read.
"""

from __future__ import annotations

from typing import Any

from driving.errors import RecordError

MEDIA = ("image", "video")
WEIGHT_KEY = "sampling_weight"  # of a training row: how often an epoch uses it; 1 where it is not given
PLACEHOLDERS = {"image": "<image>", "video": "<video>"}
_ROLE_TO_FROM = {"system": "system", "user": "human", "assistant": "gpt"}
_FROM_TO_ROLE = {speaker: role for role, speaker in _ROLE_TO_FROM.items()}

Record = dict[str, Any]
Message = dict[str, Any]


def build_messages(system: str, video: str, question: str, answer: str) -> list[Message]:
    """One video question and its answer in chat form; the video stands before the question."""
    messages: list[Message] = []
    if system:
        messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
    content = [{"type": "video", "video": video}, {"type": "text", "text": question}]
    messages.append({"role": "user", "content": content})
    messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def clean_messages(messages: list[Message]) -> list[Message]:
    """Drop the None values that Arrow writes where blocks of one column have different keys.

    With them left in, Qwen3-VL's chat template takes every block for a video ("video" is a key of all of them).
    """
    return [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [{key: value for key, value in block.items() if value is not None} for block in message["content"]],
        }
        for message in messages
    ]


def conversations_from_messages(messages: list[Message], *, keep_system: bool = True) -> Record:
    """Chat form -> `{"video" | "image": path or list, "conversations": [...]}`.

    With `keep_system=False` the system text is put in front of the first question, for readers that would supervise a
    system turn.

    Raises:
        RecordError: A role or block type is unknown.
    """
    media: dict[str, list[str]] = {kind: [] for kind in MEDIA}
    turns: list[dict[str, str]] = []
    system_text = ""
    for message in clean_messages(messages):
        speaker = _ROLE_TO_FROM.get(message["role"])
        if speaker is None:
            raise RecordError(f"role {message['role']!r} is none of {', '.join(_ROLE_TO_FROM)}")
        value = _flatten_content(message["content"], media)
        if speaker == "system" and not keep_system:
            system_text = value
            continue
        if speaker == "human" and system_text:
            value, system_text = _put_after_media(value, system_text), ""
        turns.append({"from": speaker, "value": value})
    record: Record = {kind: paths[0] if len(paths) == 1 else paths for kind, paths in media.items() if paths}
    return {**record, "conversations": turns}


def _flatten_content(content: str | list[dict[str, Any]], media: dict[str, list[str]]) -> str:
    if isinstance(content, str):
        return content
    text = ""
    for block in content:
        kind = block.get("type")
        if kind in MEDIA:
            media[kind].append(block[kind])
            text += PLACEHOLDERS[kind] + "\n"
        elif kind == "text":
            text += block["text"]
        else:
            raise RecordError(f"content block of type {kind!r}; text, image and video are known")
    return text


def _put_after_media(value: str, system_text: str) -> str:
    """`<video>\\nQ` -> `<video>\\nsystem\\nQ`: placeholders stay in front, where upstream's readers look for them."""
    head = ""
    for placeholder in [PLACEHOLDERS[kind] + "\n" for kind in MEDIA] * 8:
        while value.startswith(placeholder):
            head, value = head + placeholder, value.removeprefix(placeholder)
    return f"{head}{system_text}\n{value}"


def messages_from_record(record: Record) -> list[Message]:
    """Training record -> chat form, each `<video>` and `<image>` replaced by its path in order.

    Raises:
        RecordError: See `check_record`.
    """
    check_record(record)
    waiting = {kind: list(media_paths(record, kind)) for kind in MEDIA}
    messages = []
    for turn in record["conversations"]:
        role = _FROM_TO_ROLE[turn["from"]]
        content: list[dict[str, Any]] = []
        rest = turn["value"]
        while role == "user" and rest:
            position, kind = min(
                ((rest.find(mark), kind) for kind, mark in PLACEHOLDERS.items() if mark in rest), default=(-1, "")
            )
            if not kind:
                break
            if rest[:position]:
                content.append({"type": "text", "text": rest[:position]})
            content.append({"type": kind, kind: waiting[kind].pop(0)})
            rest = rest[position + len(PLACEHOLDERS[kind]) :].removeprefix("\n")
        if rest or not content:
            content.append({"type": "text", "text": rest})
        messages.append({"role": role, "content": content})
    return messages


def media_paths(record: Record, kind: str) -> list[str]:
    """The record's videos or images as a list; one path may stand without brackets."""
    value = record.get(kind)
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def check_record(record: Record) -> None:
    """Raise unless a training record is well formed.

    Checked: turns exist and have known speakers; a system turn only comes first; human and gpt take turns and gpt has
    the last word; there are as many `<video>` and `<image>` marks in human turns as paths.

    Raises:
        RecordError: What is wrong, with the record's id.
    """
    if not isinstance(record, dict):
        raise RecordError(f"a training record is {type(record).__name__}, not an object: {str(record)[:80]!r}")
    name = record_name(record)
    for kind in MEDIA:
        if not all(isinstance(path, str) for path in media_paths(record, kind)):
            raise RecordError(f"{name}: {kind} must be a path or a list of paths, got {str(record[kind])[:80]!r}")
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RecordError(f"{name} has no conversations")
    for turn in turns:
        if (
            not isinstance(turn, dict)
            or not isinstance(turn.get("value"), str)
            or turn.get("from") not in _FROM_TO_ROLE
        ):
            raise RecordError(
                f"{name}: a turn needs from (system, human or gpt) and value (text), got {str(turn)[:80]!r}"
            )
        if not _is_unicode(turn["value"]):
            raise RecordError(f"{name}: a turn holds half a character (a lone surrogate): {turn['value'][:80]!a}")
    speakers = [turn["from"] for turn in turns]
    spoken = speakers[1:] if speakers[0] == "system" else speakers
    expected = ["human", "gpt"] * (len(spoken) // 2)
    if not spoken or spoken != expected:
        raise RecordError(f"{name}: human and gpt must take turns, gpt last; the turns are {', '.join(speakers)}")
    questions = "".join(turn["value"] for turn in turns if turn["from"] == "human")
    for kind, mark in PLACEHOLDERS.items():
        num_marks, num_paths = questions.count(mark), len(media_paths(record, kind))
        if num_marks != num_paths:
            raise RecordError(f"{name}: {num_marks} {mark} in the questions, {num_paths} {kind} paths in the record")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written; JSON's "\\ud800" alone cannot, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def record_name(record: Record) -> str:
    """How a record is called in messages: its id, else its first file, else "a record"."""
    for key in ("id", *MEDIA):
        value = record.get(key)
        if isinstance(value, list | tuple):
            value = value[0] if value else None
        if value not in (None, ""):  # an id may be the number 0
            return str(value).encode(errors="backslashreplace").decode()  # it is printed, and written to ledgers
    return "a record without id"


def record_group(record: Record) -> str:
    """The recording (clip, ride, scene) that a record comes from; one that names none, or null, is its own."""
    group = record.get("group")
    return record_name(record) if group in (None, "") else str(group)
