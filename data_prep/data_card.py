"""The README.md beside every dataset that we write: licence, provenance, splits, labels, options.

dataset.json + the plans of the stages ──build_card──▶ README.md, with the header that the Hugging Face Hub reads
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.licences import read_licences
from data_prep.provenance import describe_origin, hash_code
from driving.whole_files import dump_json, write_text

CARD_NAME = "README.md"
# Licences whose identifier the Hub knows; any other is "other" with its name.
HUB_LICENCES = ("mit", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0")


def write_card(
    folder: Path,
    title: str,
    purpose: str,
    facts: dict[str, Any],
    plans: dict[str, dict[str, Any]],
    stamps: Sequence[str] = (),
) -> None:
    """Write the card of a dataset; the same dataset and code give the same bytes.

    Args:
        purpose: what it is and how it is read, in Markdown.
        facts: dataset.json.
        plans: what decided the bytes, tool by tool, oldest first.
        stamps: sentences that nobody may overlook.
    """
    write_text(folder / CARD_NAME, build_card(title, purpose, facts, plans, stamps))


def build_card(
    title: str,
    purpose: str,
    facts: dict[str, Any],
    plans: dict[str, dict[str, Any]],
    stamps: Sequence[str] = (),
) -> str:
    """The text of a card; see `write_card`."""
    licence = read_licences(facts)
    parts = [
        format_header(title, licence),
        f"# {title}",
        *(f"> **{stamp}**" for stamp in stamps),
        purpose,
        "## Licence",
        format_licence(licence),
        "## Provenance",
        _format_table(("what", "value"), list_provenance(facts)),
        "## Splits",
        _format_table(("split", "rows"), [(name, f"{count:,}") for name, count in facts.get("splits", {}).items()]),
        "## Labels",
        format_labels(facts.get("labels", {})),
        *(f"- {warning}" for warning in facts.get("warnings", [])),
        "## Options",
        "What decided the bytes, tool by tool.",
        *(f"`{tool}`\n\n{_format_code(plan)}" for tool, plan in plans.items() if plan),
    ]
    return "\n\n".join(parts) + "\n"


def format_header(title: str, licence: dict[str, Any]) -> str:
    """The YAML that the Hub reads: one licence for all, or "other"."""
    terms = list(licence["origins"].values())
    names = {one["name"] for one in terms}
    (name,) = names if len(names) == 1 else ("several",)
    lines = ["---", f"pretty_name: {dump_json(title)}"]
    if name in HUB_LICENCES:
        lines.append(f"license: {name}")
    else:
        # The Hub takes small letters, digits, dots and dashes.
        lines += ["license: other", f"license_name: {re.sub('[^a-z0-9.]+', '-', name.lower())}"]
        lines += [f"license_link: {terms[0]['url']}"] if len(terms) == 1 and terms[0]["url"] else []
    return "\n".join([*lines, "task_categories:", "- video-text-to-text", "tags:", "- driving", "---"])


def format_licence(licence: dict[str, Any]) -> str:
    """A sentence, and the terms of every origin."""
    if licence["may_be_passed_on"]:
        said = "May be passed on under the terms below."
    else:
        said = "**May not be passed on**, neither this dataset nor what is made from it."
    rows = [
        (name, one["name"], "yes" if one["may_be_passed_on"] else "**no**", one["terms"], one["url"])
        for name, one in licence["origins"].items()
    ]
    return f"{said}\n\n" + _format_table(("source", "licence", "may be passed on", "terms", "published"), rows)


def list_provenance(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of how the data came to be."""
    provenance = facts.get("provenance", {})
    sources = ", ".join(f"{name} ({count:,} rows)" for name, count in facts.get("sources", {}).items())
    return [
        ("sources", sources or "unknown"),
        ("drawn by a program", "yes, some or all" if facts.get("synthetic") else "no"),
        ("revision of the source", describe_origin(provenance.get("origin", {}))),
        ("recordings", f"{facts.get('num_recordings', 0):,}"),
        ("frames", f"{facts.get('num_frames')} a clip, {facts.get('fps')} a second"),
        ("split rule", f"`{dump_json(facts.get('split_rule', {}))}`"),
        ("index of segments (sha256)", provenance.get("segments_sha256", "unknown")),
        ("code (sha256 of data_prep, driving, video_io)", hash_code()),
    ]


def format_labels(labels: dict[str, Any]) -> str:
    """One column a split, one row a statistic."""
    if not labels:
        return "No statistics are known."
    names = list(dict.fromkeys(key for side in labels.values() for key in side if key != "num_segments"))
    rows = [(name, *(_format_number(side.get(name)) for side in labels.values())) for name in names]
    claims = list(dict.fromkeys(key for side in labels.values() for key in side.get("num_segments", {})))
    rows += [
        (f"segments: {name}", *(_format_number(side.get("num_segments", {}).get(name)) for side in labels.values()))
        for name in claims
    ]
    return _format_table(("", *labels), rows)


def _format_number(value: float | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _format_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _format_code(value: Any) -> str:
    # Indented, not fenced: a prompt inside may hold a fence.
    return "\n".join("    " + line for line in dump_json(value, indent=2).splitlines())
