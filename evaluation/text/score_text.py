"""The door's body: two files in, scores with intervals and controls out.

read_rows ──▶ rows ──task.score──▶ measures ──estimate_all──▶ scores, by type
                 └──controls──▶ the same measures ──▶ controls, and the gain over each, paired
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import RecordError
from driving.option_values import parse_count, whole_number
from driving.options import option, parse_options
from driving.whole_files import write_json
from evaluation.text.rows import MAX_CHARACTERS, STATES
from evaluation.versions import read_versions

if TYPE_CHECKING:
    from evaluation.scoring.statistics import Bootstrap
    from evaluation.text.rows import TextRow
    from evaluation.text.task_scores import Task

FORMAT_VERSION = 1
_PACKAGES = ("sacrebleu", "rouge-score", "jsonschema", "numpy")
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class ScoreTextOptions:
    """Score answers in words against references, with intervals over clips and controls that cannot see.

    Both files hold one JSON object a line, joined by "id". An answer:
      {"id": "a1", "text": "yes"}                     (predictions.jsonl of scripts/evaluate.py is read as it is)
    A reference, by task; "group" is the clip, ride or scene, "type" (optional) splits the tables:
      qa       {"id": "a1", "group": "scene-7", "type": "exist", "text": "yes"}
      yesno    {"id": "a1", "group": "scene-7", "type": "adversarial", "text": "no"}
      json     {"id": "a1", "group": "ride-3", "fields": {"weather": "rainy", "lane_count": 2}}
      caption  {"id": "a1", "group": "ride-3", "type": "detail", "texts": ["A bus waits ...", "..."],
                "objects": ["bus", "car"], "motion": ["brakes", "stops"]}
    "objects" are all classes that are really there, "motion" all of accelerates, brakes, stops, starts, reverses,
    turns_left, turns_right that the car really did; each is optional and adds hallucination or motion scores.
    A reference without an answer counts as an empty answer; nothing is dropped.

    Writes one JSON file and prints a table. Running twice is safe: the same files give the same bytes.
    """

    predictions: Path = option(positional=True, help="answers, JSON lines of id and text")
    references: Path = option(positional=True, help="what they should say, JSON lines of id, group and more")
    task: str = option(choices=("json", "qa", "caption", "yesno"), help="what kind of answers they are")
    out: Path | None = option(None, help="where the scores go; default: beside the answers, ending in .scores.json")
    schema: Path | None = option(
        None, help="json: a JSON Schema (2020-12) of the object; default: the fields and kinds that the references hold"
    )
    ordered: tuple[str, ...] = option(
        (), help="json: fields whose values rise, as risk_factor=low,medium,high; adds kappa, steps off, missed highest"
    )
    synonyms: Path | None = option(
        None, help="qa, json: a JSON object of spelling: meaning; default: driving words such as bike: bicycle"
    )
    ontology: str = option("bdd100k", help="caption: which words name which object: bdd100k, nuscenes or a JSON file")
    max_characters: int = option(
        MAX_CHARACTERS,
        unit="characters",
        parse=whole_number(1),
        help="a longer answer ran away and counts as an empty one",
    )
    examples: int = option(20, parse=parse_count, help="wrong answers to keep in the file, with what is wrong")
    bootstrap: int = option(2000, parse=whole_number(1), help="resamples of the groups behind each interval")
    seed: int = option(7, parse=parse_count, help="seed of the resamples")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    options = parse_options(ScoreTextOptions, argv)
    from evaluation.text.table import format_scores

    scores = run(options)
    print(format_scores(scores))
    print(summarise(scores, choose_out(options)))
    return 0


def run(options: ScoreTextOptions) -> dict[str, Any]:
    """Score, write the file, and return its content.

    Raises:
        DrivingError: Something the user can mend; see the message.
    """
    from evaluation.text.normalise import read_synonyms
    from evaluation.text.rows import read_rows
    from evaluation.text.task_scores import build_task

    out = choose_out(options)
    reads = [options.predictions, options.references, options.schema, options.synonyms, Path(options.ontology)]
    if out.resolve() in {path.resolve() for path in reads if path is not None}:
        raise RecordError(f"{out} is also what this run reads; choose another --out")
    rows = read_rows(options.predictions, options.references, options.max_characters)
    task = build_task(
        options.task,
        rows,
        schema=options.schema,
        ordered=options.ordered,
        ontology=options.ontology,
        synonyms=None if options.synonyms is None else read_synonyms(options.synonyms),
    )
    scores = {
        "format_version": FORMAT_VERSION,
        "task": options.task,
        **score_rows(rows, task, num_resamples=options.bootstrap, seed=options.seed, num_examples=options.examples),
        "sources": {"predictions": options.predictions.name, "references": options.references.name},
        "versions": read_versions(_PACKAGES),
    }
    write_json(out, scores)
    return scores


def choose_out(options: ScoreTextOptions) -> Path:
    """Where the scores go."""
    return options.out or options.predictions.with_suffix(".scores.json")


def score_rows(
    rows: Sequence[TextRow], task: Task, *, num_resamples: int = 2000, seed: int = 7, num_examples: int = 20
) -> dict[str, Any]:
    """All that the file says of rows; JSON values. The seam for other systems: no files, no options."""
    import numpy as np

    from evaluation.scoring.statistics import Bootstrap
    from evaluation.text.measures import estimate_all

    bootstrap = Bootstrap([row.group for row in rows], num_resamples, seed)
    scored = task.score(rows)
    kinds = np.array([task.kind_of(row) for row in rows])
    by_type = {}
    for kind in sorted(set(kinds.tolist())) if len(set(kinds.tolist())) > 1 else []:
        within = {name: one.within(kinds == kind) for name, one in scored.measures.items()}
        by_type[kind or "no type"] = {"num_rows": int((kinds == kind).sum()), "scores": estimate_all(within, bootstrap)}
    return {
        "rows": _count_rows(rows, bootstrap),
        "scores": estimate_all(scored.measures, bootstrap),
        "by_type": by_type,
        "controls": _score_controls(rows, task, scored.measures, bootstrap),
        "facts": scored.facts,
        "examples": [
            {"id": rows[index].id, "state": rows[index].state, "problem": problem[:_SHOWN_CHARACTERS],
             "text": rows[index].text[:_SHOWN_CHARACTERS]}
            for index, problem in sorted(scored.problems.items())[:num_examples]
        ],
    }  # fmt: skip


def _score_controls(rows: Sequence[TextRow], task: Task, ours: dict, bootstrap: Bootstrap) -> dict[str, Any]:
    """Each control's scores, and what the model's are above them on the same rows."""
    import numpy as np

    from evaluation.text.controls import DESCRIPTIONS, swap_answers
    from evaluation.text.measures import estimate_all

    swapped, is_swapped = swap_answers(rows)
    altered = {name: (given, np.ones(len(rows), dtype=bool)) for name, given in task.constants(rows).items()}
    if is_swapped.any():
        altered = {"swapped": (swapped, is_swapped), **altered}
    controls = {}
    for name, (given, used) in altered.items():
        theirs = {key: one.within(used) for key, one in task.score(given).measures.items()}
        gains = {key: ours[key].within(used).less(one) for key, one in theirs.items()}
        controls[name] = {
            "description": DESCRIPTIONS[name],
            "num_rows": int(used.sum()),
            "scores": estimate_all(theirs, bootstrap),
            "gain": estimate_all(gains, bootstrap),
        }
    return controls


def _count_rows(rows: Sequence[TextRow], bootstrap: Bootstrap) -> dict[str, int]:
    states = Counter(row.state for row in rows)
    return {
        "num_rows": len(rows),
        "num_groups": bootstrap.num_clusters,
        **{f"num_{state}": states[state] for state in STATES},
    }


def summarise(scores: dict[str, Any], out: Path) -> str:
    """The last line of output."""
    rows = scores["rows"]
    silent = [f"{rows[f'num_{state}']:,} {state}" for state in ("empty", "missing", "oversized")]
    return f"{rows['num_rows']:,} answers of {rows['num_groups']:,} groups, {', '.join(silent)}; {out}"
