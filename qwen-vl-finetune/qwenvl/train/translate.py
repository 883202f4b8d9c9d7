"""Command lines as people type them, rewritten into what this transformers and this machine know. Strings only.

["--warmup_ratio", "0.03", "--bf16", "True"] ──translate_argv──▶ ["--warmup_steps", "0.03", ...]
                                             ──resolve_machine──▶ ["--precision", "fp32", ...]   (on a CPU)
"""

from __future__ import annotations

import argparse
import difflib
import os

from driving.errors import DrivingError
from driving.option_values import parse_pixels

PIXEL_FLAGS = ("max_pixels", "min_pixels", "video_max_pixels", "video_min_pixels", "video_frame_pixels")
# What transformers 5 calls otherwise, and what it no longer has because nothing needs to be said any more.
RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "overwrite_output_dir": "overwrite_output",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}
GONE = {
    "fp16_backend": "torch's own is used",
    "fp16_opt_level": "torch's own is used",
    "half_precision_backend": "torch's own is used",
    "include_tokens_per_second": "the log always says them",
    "ray_scope": "nothing is searched for",
    "use_mps_device": "the device is found",
}
YES = ("true", "1", "yes")


def translate_argv(argv: list[str]) -> tuple[list[str], list[str]]:
    """Rewrite flags that transformers 5 dropped, and pixel counts written as products; returns (argv, notes)."""
    flags = split_flags(["--help" if token == "-h" else token for token in argv])
    notes: list[str] = []
    out: list[str] = []
    for name, values in flags:
        value = values[0] if values else "True"
        if name == "warmup_ratio":
            if _given(flags, "warmup_steps"):
                notes.append(f"--warmup_ratio {value} gives way to --warmup_steps")
                continue
            name, values = "warmup_steps", [value]
            if not _is_share(value):
                raise DrivingError(f"--warmup_ratio {value} is not a share below 1; --warmup_steps counts steps")
        elif name in RENAMED:
            name = RENAMED[name]
        elif name == "adafactor":
            if value.lower() not in YES:
                continue
            name, values = "optim", ["adafactor"]
        elif name in GONE:
            notes.append(f"--{name} {value} is gone from transformers; {GONE[name]}")
            continue
        elif name == "logging_dir":
            os.environ["TENSORBOARD_LOGGING_DIR"] = value
            notes.append(f"--logging_dir {value} is where TensorBoard files go (TENSORBOARD_LOGGING_DIR)")
            continue
        elif name == "save_safetensors":
            if value.lower() not in YES:
                raise DrivingError("--save_safetensors False is gone: weights are always written as safetensors")
            continue
        elif name == "base_interval":
            notes.append(f"--base_interval {value} did nothing upstream either; --video_fps chooses frames")
            continue
        elif name in PIXEL_FLAGS and values:
            values = [str(_multiply(name, value))]
        out += ([f"--{name}"] if name else []) + list(values)
    return out, notes


def split_flags(argv: list[str]) -> list[tuple[str, list[str]]]:
    """[(flag with underscores, its values)]; both --a_b and --a-b, both `--a b` and `--a=b`."""
    flags: list[tuple[str, list[str]]] = []
    for token in argv:
        if token.startswith("--") and len(token) > 2:
            name, mark, value = token[2:].partition("=")
            flags.append((name.replace("-", "_"), [value] if mark else []))
        elif flags:
            flags[-1][1].append(token)
        else:
            flags.append(("", [token]))
    return flags


def _given(flags: list[tuple[str, list[str]]], name: str) -> bool:
    return any(flag == name for flag, _ in flags)


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) < 1
    except ValueError:
        return False


def _multiply(name: str, text: str) -> int:
    try:
        return parse_pixels(text)
    except argparse.ArgumentTypeError as error:
        raise DrivingError(f"--{name} {error}") from error


def check_flags(argv: list[str], known: set[str]) -> None:
    """Raise for a flag that nothing reads, naming the nearest one that something does."""
    for token in argv:
        if token.startswith("--") and token not in known:
            near = difflib.get_close_matches(token, sorted(known), n=1)
            raise DrivingError(
                f"{token} is not a flag of this program" + (f"; did you mean {near[0]}?" if near else "")
            )
        if not token.startswith("--") and token == argv[0]:
            raise DrivingError(f"{token!r} stands before the first flag; every value follows its --flag")


def resolve_machine(argv: list[str], checkpointing_name: str = "gradient_checkpointing") -> tuple[list[str], list[str]]:
    """Turn --precision, --bf16, --fp16 and --gradient_checkpointing auto into what this machine can do.

    Returns:
        (argv, notes)
    """
    import torch

    precision, halves, rest = "auto", {}, []
    flags = split_flags(argv)
    use_cpu = any(name == "use_cpu" and (not values or values[0].lower() in YES) for name, values in flags)
    has_gpu = torch.cuda.is_available() and not use_cpu
    for name, values in flags:
        value = values[0] if values else "True"
        if name == "precision":
            precision = value
        elif name in ("bf16", "fp16"):
            halves[name] = value.lower() in YES
        elif name in ("gradient_checkpointing", "activation_checkpointing"):
            # On a CPU memory is plenty and time is short.
            is_on = has_gpu if value == "auto" else value.lower() in YES
            rest += [f"--{checkpointing_name}", str(is_on)]
        else:
            rest += [f"--{name}", *values]
    asked = _choose_precision(precision, [name for name, is_on in halves.items() if is_on])
    has_bf16 = has_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    best = "bf16" if has_bf16 else "fp16" if has_gpu else "fp32"
    chosen, notes = asked, []
    if asked == "auto":
        chosen = best
    elif (asked == "bf16" and not has_bf16) or (asked == "fp16" and not has_gpu):
        chosen = best
        notes.append(
            f"{asked} was asked for; this machine has {'no GPU' if not has_gpu else 'no bf16'}, {best} is used"
        )
    rest += ["--precision", chosen, "--bf16", str(chosen == "bf16"), "--fp16", str(chosen == "fp16")]
    return rest, notes


def _choose_precision(precision: str, halves: list[str]) -> str:
    """What --precision, --bf16 and --fp16 say together; they must not contradict each other."""
    if precision not in ("auto", "bf16", "fp16", "fp32"):
        raise DrivingError(f"--precision {precision!r} is none of auto, bf16, fp16, fp32")
    asked = {precision, *halves} - {"auto"}
    if len(asked) > 1:
        flags = ([] if precision == "auto" else [f"--precision {precision}"]) + [f"--{name} True" for name in halves]
        raise DrivingError(f"{' and '.join(flags)} contradict each other; keep one")
    return asked.pop() if asked else "auto"
