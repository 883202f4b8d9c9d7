"""One frozen dataclass = one command line: its docstring is the help, its fields are the flags.

    @dataclass(frozen=True)              option(default, unit=..., help=...)
    class CutOptions:            ──────▶ --window-s / --window_s
        '''Cut ...'''                     parse_options(CutOptions, argv) -> CutOptions

Every flag is taken with dashes and with underscores. A bool field is `--flag`, `--no-flag` and `--flag True|False`.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    unit: str = "",
    choices: Sequence[str] | None = None,
    positional: bool = False,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """Declare one flag: its default, what it does, its unit and what it may be.

    A field without default is required. A tuple field takes one or more values. `parse` turns the text into the value
    where the field's type alone cannot (`30` or `auto`).
    """
    metadata = {"help": help, "unit": unit, "choices": choices, "positional": positional, "parse": parse}
    return dataclasses.field(default=default, metadata=metadata)


def parse_options(options_class: type[T], argv: Sequence[str] | None = None, prog: str | None = None) -> T:
    """Read a command line into its frozen dataclass.

    Usage mistakes print the usage and leave with exit code 2, as argparse does.
    """
    parser = build_parser(options_class, prog)
    values = vars(parser.parse_args(argv))
    return options_class(**{field.name: _freeze(values[field.name]) for field in dataclasses.fields(options_class)})


def describe_options(options: Any) -> dict[str, Any]:
    """The options as plain JSON values, for a manifest or a printed plan."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def format_command(script: str, options: Any, leave_out: Sequence[str] = ()) -> str:
    """The command line that gives these options; what is at its default is not named. Undoes `parse_options`."""
    return shlex.join(["uv", "run", "python", script, *format_flags(options, leave_out)])


def format_flags(options: Any, leave_out: Sequence[str] = ()) -> list[str]:
    """The words after a script's name that give these options."""
    positional, flags = [], []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in leave_out or value is None or value == field.default:
            continue
        words = [str(part) for part in (value if isinstance(value, tuple) else (value,))]
        dashed = field.name.replace("_", "-")
        if field.metadata.get("positional"):
            positional += words
        elif isinstance(value, bool):
            flags.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif len(words) == 1 and words[0].startswith("-"):  # argparse would take the value for a flag
            flags.append(f"--{dashed}={words[0]}")
        else:
            flags += [f"--{dashed}", *words]
    return [*positional, *flags]


def build_parser(options_class: type, prog: str | None = None) -> argparse.ArgumentParser:
    """The argparse parser behind `parse_options`."""
    description = _dedent(options_class.__doc__ or "")
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    hints = typing.get_type_hints(options_class)
    for field in dataclasses.fields(options_class):
        _add_flag(parser, field, hints[field.name])
    return parser


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any) -> None:
    meta = field.metadata
    required = field.default is dataclasses.MISSING
    value_type, is_many = _value_type(hint)
    help_text = meta.get("help", "").replace("%", "%%")
    if meta.get("unit"):
        help_text += f" [{meta['unit']}]"
    if not required and field.default not in (None, (), ""):
        shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        help_text += f" (default: {str(shown).replace('%', '%%')})"
    kwargs: dict[str, Any] = {"help": help_text, "default": None if required else field.default}
    if value_type is bool:
        _add_bool_flag(parser, field, kwargs)
        return
    kwargs["type"] = meta.get("parse") or value_type
    if meta.get("choices"):
        kwargs["choices"] = list(meta["choices"])
    if is_many:
        kwargs["nargs"] = "+" if required or not meta.get("positional") else "*"
    if meta.get("positional"):
        if not required and not is_many:
            kwargs["nargs"] = "?"
        kwargs["metavar"] = field.name.upper()
        parser.add_argument(field.name, **kwargs)
        return
    parser.add_argument(*_spellings(field.name), dest=field.name, required=required, **kwargs)


def _add_bool_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, kwargs: dict[str, Any]) -> None:
    parser.add_argument(
        *_spellings(field.name), dest=field.name, nargs="?", const=True, type=_parse_bool, metavar="BOOL", **kwargs
    )
    parser.add_argument(
        *_spellings(f"no_{field.name}"), dest=field.name, action="store_false", default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )  # fmt: skip


def _spellings(name: str) -> list[str]:
    dashed, underscored = "--" + name.replace("_", "-"), "--" + name
    return [dashed] if dashed == underscored else [dashed, underscored]


def _parse_bool(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _value_type(hint: Any) -> tuple[Callable[[str], Any], bool]:
    """(type of one value, whether the flag takes several)."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _dedent(text: str) -> str:
    first, _, rest = text.partition("\n")
    lines = rest.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join([first, *(line[indent:] for line in lines)]).strip()
