"""An Inspection as a person reads it, and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.ledger import Skip
from qwenvl.data.inspection import Inspection

NUM_BINS, BAR_WIDTH = 10, 40
NUM_SHOWN = 5  # of each kind of fault
NUM_SIZES_SHOWN = 12


def describe_inspection(inspection: Inspection) -> dict[str, Any]:
    """The whole report as JSON values."""
    facts = inspection.facts
    long = inspection.too_long
    all_tokens = [row.tokens for row in facts] + [skip.values["tokens"] for skip in long]
    return {
        "rows": inspection.num_rows,
        "rows_by_dataset": inspection.num_by_name,
        "groups": inspection.num_groups,
        "track": inspection.track,
        "usable_rows": len(facts),
        "tokens": summarise([row.tokens for row in facts]),
        "visual_tokens": summarise([row.visual_tokens for row in facts]),
        "supervised_tokens": summarise([row.supervised_tokens for row in facts]),
        "supervised_share": divide(sum(r.supervised_tokens for r in facts), sum(r.tokens for r in facts)),
        "model_max_length": inspection.model_max_length,
        "too_long": len(long),
        "too_long_share": divide(len(long), len(all_tokens)),
        "longest_tokens": max(all_tokens, default=0),
        "clips": count_sizes(inspection),
        "images": [{"shown": list(size), "number": n} for size, n in count_images(inspection)],
        "skipped": len(inspection.skips),
        "skipped_by_reason": [
            {"reason": reason, "rows": len(skips), "first": [skip.id for skip in skips[:NUM_SHOWN]]}
            for reason, skips in group_by_reason(inspection.skips)
        ],
        "answers_not_in_format": None if inspection.bad_answers is None else len(inspection.bad_answers),
        "repeated_ids": inspection.repeated_ids,
        "shared_groups": inspection.shared_groups,
        "decoded_rows": inspection.num_decoded,
    }


def summarise(values: Sequence[int]) -> dict[str, int]:
    """min, median, p95, max and total; each but the total is a value that some row has."""
    if not values:
        return {}
    array = np.array(values)
    median, p95 = np.percentile(array, [50, 95], method="inverted_cdf")
    return {
        "min": int(array.min()), "median": int(median), "p95": int(p95), "max": int(array.max()),
        "total": int(array.sum()),
    }  # fmt: skip


def divide(part: int, whole: int) -> float:
    """A share from 0 to 1; 0 of nothing is 0."""
    return round(part / whole, 6) if whole else 0.0


def count_sizes(inspection: Inspection) -> list[dict[str, Any]]:
    """Each kind of clip, the most frequent first: size as recorded, frames and size as shown, how many clips."""
    counts = Counter(video for row in inspection.facts for video in row.videos)
    return [
        {"recorded": list(recorded), "frames": shown[0], "shown": list(shown[1:]), "clips": number}
        for (recorded, shown), number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def count_images(inspection: Inspection) -> list[tuple[tuple[int, int], int]]:
    counts = Counter(image for row in inspection.facts for image in row.images)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def group_by_reason(skips: Sequence[Skip]) -> list[tuple[str, list[Skip]]]:
    """Skips whose reasons say the same of different rows, the largest group first; "..." stands for what differs."""
    groups: dict[str, list[Skip]] = {}
    for skip in skips:
        reason = skip.reason.replace(skip.id, "...") if skip.id else skip.reason
        reason = re.sub(r"'[^']*'|\"[^\"]*\"", "...", reason)
        reason = re.sub(r"\S*/\S*|\S+\.(?:mp4|png|jpg|avi|mkv|hevc|zip)\b", "...", reason)
        reason = re.sub(r"\d[\d,.]*", "N", reason)
        groups.setdefault(reason, []).append(skip)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def format_inspection(inspection: Inspection) -> str:
    """The report as text for a terminal."""
    facts = describe_inspection(inspection)
    lines = [f"rows         {name}: {number:,}" for name, number in facts["rows_by_dataset"].items()]
    lines.append(
        f"             {facts['rows']:,} rows of {facts['groups']:,} recordings, {facts['usable_rows']:,} usable"
    )
    if inspection.track:
        lines.append(f"track        {inspection.track}")
    for clip in facts["clips"][:NUM_SIZES_SHOWN]:
        lines.append(
            f"clips        {clip['frames']} frames of {format_size(clip['shown'])} px, "
            f"recorded at {format_size(clip['recorded'])}: {clip['clips']:,}"
        )
    if len(facts["clips"]) > NUM_SIZES_SHOWN:
        lines.append(f"             and {len(facts['clips']) - NUM_SIZES_SHOWN:,} more sizes")
    for image in facts["images"][:NUM_SIZES_SHOWN]:
        lines.append(f"images       {format_size(image['shown'])} px: {image['number']:,}")
    if len(facts["images"]) > NUM_SIZES_SHOWN:
        lines.append(f"             and {len(facts['images']) - NUM_SIZES_SHOWN:,} more sizes")
    for title, key in (("tokens", "tokens"), ("  visual", "visual_tokens"), ("  supervised", "supervised_tokens")):
        if facts[key]:
            shown = ", ".join(f"{name} {number:,}" for name, number in facts[key].items())
            lines.append(f"{title:<12} {shown}")
    if facts["tokens"]:
        lines.append(f"             {facts['supervised_share']:.1%} of all tokens are supervised")
        lines += [f"             {line}" for line in format_histogram([row.tokens for row in inspection.facts])]
    lines.append(
        f"too long     {facts['too_long']:,} rows ({facts['too_long_share']:.1%}) over --model_max_length "
        f"{facts['model_max_length']:,}; the longest row has {facts['longest_tokens']:,} tokens"
    )
    lines.append(
        f"decoded      {facts['decoded_rows']:,} rows to the last frame"
        + ("" if facts["decoded_rows"] else " (--decode)")
    )
    lines += format_faults("unusable", inspection.skips)
    if inspection.bad_answers is None:
        lines.append("answers      the dataset names no answer format")
    else:
        lines += format_faults("answers", inspection.bad_answers, "all in the dataset's format")
    if inspection.repeated_ids:
        shown = ", ".join(inspection.repeated_ids[:NUM_SHOWN])
        lines.append(f"ids          {len(inspection.repeated_ids):,} carried by several rows: {shown}")
    for pair, common in inspection.shared_groups.items():
        lines.append(f"leak         {pair} share {len(common):,} recordings: {', '.join(common[:NUM_SHOWN])}")
    return "\n".join(lines)


def format_faults(title: str, skips: Sequence[Skip], fine: str = "none") -> list[str]:
    """One line a reason, and the first rows under it."""
    if not skips:
        return [f"{title:<12} {fine}"]
    lines = []
    for reason, same in group_by_reason(skips):
        lines.append(f"{title:<12} {len(same):,} rows: {reason}")
        lines += [f"             {skip.id}: {skip.reason}" for skip in same[:NUM_SHOWN]]
        if len(same) > NUM_SHOWN:
            lines.append(f"             and {len(same) - NUM_SHOWN:,} more")
    return lines


def format_size(size: Sequence[int]) -> str:
    """Height x width."""
    return f"{size[0]}x{size[1]}"


def format_histogram(values: Sequence[int]) -> list[str]:
    """One line a bin of equal width: its range, a bar, the number of rows."""
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // NUM_BINS))
    counts = Counter((value - low) // width for value in values)
    digits = len(f"{high:,}")
    lines = []
    for index in range((high - low) // width + 1):
        start, stop = low + index * width, min(low + (index + 1) * width - 1, high)
        number = counts[index]
        bar = "#" * max(number > 0, round(BAR_WIDTH * number / max(counts.values())))
        lines.append(f"{start:>{digits},} - {stop:>{digits},}  {bar:<{BAR_WIDTH}} {number:,}".rstrip())
    return lines
