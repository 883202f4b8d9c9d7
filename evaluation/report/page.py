"""The skeleton of report.html: one file, no script, no network; light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE_PATH = Path(__file__).with_name("style.css")


def render_page(title: str, body: str) -> str:
    """A whole HTML document; the policy forbids anything from outside the file."""
    style = STYLE_PATH.read_text(encoding="utf-8")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair cannot be written


def render_section(title: str, body: str, intro: str = "") -> str:
    """A titled card; `intro` is plain text."""
    note = f'<p class="sub">{escape(intro)}</p>' if intro else ""
    return f"<section><h2>{escape(title)}</h2>{note}{body}</section>\n"


def render_figure(title: str, chart: str, note: str = "") -> str:
    """A chart under its title; `chart` is markup, the rest plain text."""
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><h3>{escape(title)}</h3>{chart}{below}</figure>"


def render_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, marked: int | None = None, is_text: bool = False
) -> str:
    """A table of ready cells (markup): text in the first column, numbers in the others unless all of it `is_text`.

    Args:
        marked: place of the model's row.
    """

    def side(index: int) -> str:
        return "num" if index and not is_text else ""

    columns = "".join(f'<th class="{side(index)}">{escape(name)}</th>' for index, name in enumerate(head))
    lines = []
    for place, cells in enumerate(rows):
        line = "".join(f'<td class="{side(index)}">{cell}</td>' for index, cell in enumerate(cells))
        lines.append(f'<tr class="{"model" if place == marked else ""}">{line}</tr>')
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def render_facts(facts: dict[str, object]) -> str:
    """A two-column table of names and plain values."""
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def show_text(text: str, max_chars: int) -> str:
    """Markup of a text from outside: escaped, cut, and with what cannot be seen written out as \\u202e."""
    shown = "".join(sign if sign in "\n\t" or sign.isprintable() else _spell(sign) for sign in text[:max_chars])
    rest = f" \u2026 ({len(text):,} characters in all)" if len(text) > max_chars else ""
    return escape(shown + rest)


def _spell(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def format_number(value: float | None, digits: int) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None:
        return "\u2013"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", "\u2212")


def format_estimate(estimate: dict, digits: int, scale: float = 1.0) -> str:
    """Markup: value and, in small print, its interval."""
    value = estimate.get("value")
    text = format_number(None if value is None else scale * value, digits)
    if estimate.get("low") is None:
        return text
    low, high = format_number(scale * estimate["low"], digits), format_number(scale * estimate["high"], digits)
    return f'{text} <span class="ci">[{low}, {high}]</span>'
