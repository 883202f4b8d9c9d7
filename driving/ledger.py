"""What was skipped and why; and output folders that are complete, continued, or refused.

A stage that writes a folder goes through `claim_output`:

    claim_output(folder, plan) ──▶ "complete"   same plan, manifest present: nothing to do
                               ──▶ "new" | "continue"   lock held; write; then finish(manifest) last
                               ──▶ LedgerError  another plan, a stranger's folder, or a second writer
    a complete folder that lost files since is "continue": what is missing is made again

Files appear under their name only when they are whole, see `driving.whole_files`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driving.completeness import find_damage, measure_files
from driving.errors import LedgerError
from driving.output_lock import LOCK_NAME, explain_unwritable, lock_alone, lock_shared
from driving.whole_files import dump_json, read_json, remove_leftovers, write_json, write_text

LEDGER_NAME = "skipped.jsonl"
MANIFEST_NAME = "manifest.json"
PLAN_NAME = "plan.json"
COMMANDS_NAME = "commands.json"
PAPERS = (LOCK_NAME, PLAN_NAME, MANIFEST_NAME, COMMANDS_NAME)
MAX_BAD_FRACTION = 0.02
_REMAKE = "remove the folder, or make it again with --overwrite-output"
MIN_BAD_TO_FAIL = 3  # up to three bad samples never stop a stage, however few samples there are


@dataclass(frozen=True)
class Skip:
    """One sample that cannot be used.

    Attributes:
        id: the recording, segment or row.
        stage: where it was found out: "plan", "read", "label", "cut", "load", ...
        reason: one sentence with the value that was wrong.
        values: further facts, JSON values only.
    """

    id: str
    stage: str
    reason: str
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return dump_json({"id": self.id, "stage": self.stage, "reason": self.reason, "values": self.values})


def write_ledger(path: Path, skips: Sequence[Skip]) -> None:
    """Write `skipped.jsonl`, sorted, one line a skip; an empty file says that nothing was skipped."""
    lines = sorted(skip.to_json() for skip in skips)
    write_text(path, "".join(line + "\n" for line in lines))


def read_ledger(path: Path) -> list[Skip]:
    """Read `skipped.jsonl`; no file is an empty ledger."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_parse_skip(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line]


def _parse_skip(line: str, where: str) -> Skip:
    try:
        return Skip(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{where} is no line of a ledger: {_short(line)!r}; remove that line") from error


def check_bad_fraction(num_bad: int, num_all: int, max_fraction: float, ledger_path: Path) -> None:
    """Raise when more of the samples were bad than the user allows (and more than three)."""
    if num_bad > MIN_BAD_TO_FAIL and num_bad > max_fraction * num_all:
        raise LedgerError(
            f"{num_bad:,} of {num_all:,} samples are bad (at most {max_fraction:.1%} may be); "
            f"see {ledger_path}, mend the input or raise --max-bad-fraction"
        )


@dataclass
class Output:
    """A claimed output folder. `state` is "complete", "continue" or "new"; `finish` writes the manifest last."""

    folder: Path
    plan: dict[str, Any]
    state: str
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return self.state == "complete"

    def reopen(self) -> None:
        """Take the manifest away before a complete folder is changed: a kill in between must not leave it vouching."""
        (self.folder / MANIFEST_NAME).unlink(missing_ok=True)
        self.state = "continue"

    def finish(self, summary: dict[str, Any], holds: Iterable[str] = ()) -> None:
        """Mark the folder complete: the manifest holds the plan and the summary, and is written last.

        What a worker that was killed meanwhile left half written is removed first; nobody may be writing any more.

        Args:
            holds: files and folders that the output consists of; the next run looks whether they are still there.
        """
        remove_leftovers(self.folder)
        files = {"files": measure_files(self.folder, holds)} if holds else {}
        write_json(self.folder / MANIFEST_NAME, {"plan": self.plan, "summary": summary, **files})


@contextlib.contextmanager
def claim_output(
    folder: Path,
    plan: dict[str, Any],
    *,
    overwrite: bool = False,
    reads: Iterable[str | Path] = (),
    give_up: Callable[[Path], bool] | None = None,
) -> Iterator[Output]:
    """Take an output folder for one writer, and say what is in it.

    Args:
        folder: made where it is missing.
        plan: JSON values that decide the output's bytes; a folder made from another plan is refused. "tool" (or
            "stage") in it says whose output it is.
        overwrite: remove what is there first; never the home folder, a checkout, a folder we stand in, or the output of
            another tool.
        reads: files and folders that the run reads; the output may not be one of them, nor lie in one, nor hold one.
        give_up: asked where another plan's run did not finish: True when it made nothing worth keeping, its files
            are removed, and this plan may have the folder.

    Raises:
        LedgerError: Another plan (names the first difference), a stranger's folder, an input, or another writer.
    """
    plan = json.loads(dump_json(plan))  # as it will be read back: a tuple is a list
    check_apart(folder, reads)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise LedgerError(f"{folder} cannot be a folder, a file stands in its way; choose another") from error
    except OSError as error:
        raise explain_unwritable(folder, error) from error
    with lock_alone(folder):
        _check_owner(folder, plan)
        if overwrite:
            _empty(folder)
        found = _read_plan(folder)
        contents = [path.name for path in folder.iterdir() if path.name != LOCK_NAME and path.suffix != ".part"]
        if found is None and contents:
            raise LedgerError(
                f"{folder} holds files that this tool did not write ({sorted(contents)[0]}, ...); "
                "choose another output folder, or pass --overwrite-output to delete them"
            )
        manifest_path = folder / MANIFEST_NAME
        if found not in (None, plan) and give_up is not None and not manifest_path.exists() and give_up(folder):
            found = None
        if found is not None:
            check_plan(folder, found, plan)
        if found is not None and manifest_path.exists():
            manifest = read_manifest(folder)
            damaged = find_damage(folder, manifest.get("files", {}))
            if not damaged:
                yield Output(folder, plan, "complete", manifest)
                return
            _take_back(folder, damaged)
        remove_leftovers(folder)
        if found is None:
            write_json(folder / PLAN_NAME, plan)
        yield Output(folder, plan, "new" if found is None else "continue")


@contextlib.contextmanager
def join_output(folder: Path) -> Iterator[dict[str, Any]]:
    """Work on a folder that another run has claimed and planned, beside others that do; yields its plan.

    Raises:
        LedgerError: Nothing was planned there, or a run that writes it alone does not end.
    """
    with lock_shared(folder):
        plan = _read_plan(folder)
        if plan is None:
            raise LedgerError(f"{folder} is not a folder that a run has begun; begin it first")
        yield plan


def check_plan(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise where a folder was made from another plan, with the first difference."""
    asked = json.loads(dump_json(asked))  # as it is read back: a tuple is a list
    if found != asked:
        raise LedgerError(
            f"{folder} was made with {_first_difference(found, asked)}; pass --overwrite-output to replace it"
        )


def check_apart(folder: Path, reads: Iterable[str | Path]) -> None:
    """Raise where an output folder is an input, lies in one, or holds one: writing or emptying it would spoil both."""
    written = folder.resolve()
    for name in reads:
        read = Path(name).resolve()
        if read == written:
            raise LedgerError(f"{folder} is also what this run reads; choose another output folder")
        if read.is_relative_to(written) or written.is_relative_to(read):
            raise LedgerError(
                f"the output folder {folder} and the input {name} lie in one another; choose another output folder"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished folder says of itself.

    Raises:
        LedgerError: Its manifest.json is damaged.
    """
    path = folder / MANIFEST_NAME
    manifest = _read_object(path)
    if not all(isinstance(manifest.get(key), dict) for key in ("plan", "summary")):
        raise LedgerError(f"{path} is damaged: it holds no plan and summary; {_REMAKE}")
    return manifest


def list_entries(folder: Path) -> list[str]:
    """All that an output folder holds, but its own papers."""
    return sorted(path.name for path in folder.iterdir() if path.name not in PAPERS)


def check_whole(folder: Path, advice: str, names: Sequence[str] | None = None) -> None:
    """Raise where a finished folder lost files since, of these names or any; `advice` says what to do."""
    files = read_manifest(folder).get("files", {})
    damaged = find_damage(folder, {name: fact for name, fact in files.items() if names is None or name in names})
    if damaged:
        raise LedgerError(f"{folder} is not whole: {_list(damaged)} missing or of another size; {advice}")


def _take_back(folder: Path, damaged: Sequence[str]) -> None:
    """A complete folder that is not whole is an unfinished one, without the files that are half there."""
    print(f"{folder} was complete, but {_list(damaged)} missing or of another size; made again", flush=True)
    (folder / MANIFEST_NAME).unlink()
    for name in damaged:
        if (folder / name).is_file():
            (folder / name).unlink()


def _list(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more are"


def _check_owner(folder: Path, plan: dict[str, Any]) -> None:
    """Raise where another tool's output is in the folder, also where it is to be overwritten."""
    try:
        found = _read_plan(folder) or {}
    except LedgerError:
        return  # nobody's plan: refused as such, or overwritten
    owner, tool = (one.get("tool", one.get("stage")) for one in (found, plan))
    if owner and tool and owner != tool:
        raise LedgerError(
            f"{folder} holds the output of another tool ({owner}, this is {tool}); choose another output folder"
        )


def _read_plan(folder: Path) -> dict[str, Any] | None:
    path = folder / PLAN_NAME
    return _read_object(path) if path.exists() else None


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path, _REMAKE, LedgerError)
    if not isinstance(value, dict):
        raise LedgerError(f"{path} is damaged: it holds {_short(value)}, not an object; {_REMAKE}")
    return value


def _empty(folder: Path) -> None:
    here = folder.resolve()
    if here in (Path.home(), *Path.cwd().parents, Path.cwd()) or (here / ".git").exists():
        raise LedgerError(f"{folder} is too precious to be emptied by --overwrite-output; choose another output folder")
    for path in sorted(folder.iterdir()):
        if path.name == LOCK_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _first_difference(found: dict[str, Any], asked: dict[str, Any], within: str = "") -> str:
    for key in [*asked, *(key for key in found if key not in asked)]:
        before, now = found.get(key), asked.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            return _first_difference(before, now, f"{within}{key}.")
        return f"{within}{key} = {_short(before)}, this run asks for {_short(now)}"
    return "another plan"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
