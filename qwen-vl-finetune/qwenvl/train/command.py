"""The command that started a run, as train_plan.json keeps it, for the report of whoever evaluates the result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

HIDDEN = "HIDDEN"


def format_train_command(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The flags as they were typed, behind the program that started the ranks; values of tokens are left out.

    Args:
        environment: of this rank; torchrun says in it how many ranks there are.
    """
    words = ["uv", "run", "python", "-m"]
    if "TORCHELASTIC_RUN_ID" in environment:
        on_machine, in_all = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
        words += ["qwenvl.train.torchrun", "--nproc_per_node", str(on_machine)]
        words += ["--nnodes", str(in_all // on_machine)] if in_all > on_machine else []
        words.append("-m")
    return shlex.join([*words, "qwenvl.train.train_qwen", *_hide_tokens(argv)])


def _hide_tokens(argv: Sequence[str]) -> list[str]:
    shown: list[str] = []
    hides_next = False
    for word in argv:
        name, equals, _ = word.partition("=")
        is_flag = word.startswith("--")
        if hides_next and not is_flag:
            word = HIDDEN
        elif is_flag and equals and name.endswith("token"):
            word = f"{name}={HIDDEN}"
        hides_next = is_flag and not equals and name.endswith("token")
        shown.append(word)
    return shown
