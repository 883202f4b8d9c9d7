"""What README and FINETUNE tell people to type exists, and takes the flags they show."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from data_prep.download.options import DownloadOptions
from evaluation.evaluate import EvaluateOptions

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "FINETUNE.md", "CONTRIBUTING.md", "docs/scale.md"]


def bash_commands(document: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def ours(command: str) -> tuple[dict[str, str], str, list[str]] | None:
    """(environment, script, arguments) of a command that runs a file of this project; None for any other."""
    words = shlex.split(command)
    environment = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    while words and words[0] in ("uv", "run", "python", "--no-sync"):
        words.pop(0)
    if not words or not re.search(r"\.(py|sh)$", words[0]):
        return None
    return environment, words[0].removeprefix("./"), words[1:]


COMMANDS = sorted({command for document in DOCUMENTS for command in bash_commands(document) if ours(command)})


@cache
def help_text(script: str) -> str:
    result = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_documents_can_be_typed(command):
    environment, script, arguments = ours(command)
    assert (ROOT / script).is_file()
    flags = [word.split("=")[0] for word in arguments if word.startswith("--")]
    if script.endswith(".py"):
        assert [flag for flag in flags if flag not in help_text(script)] == []
    launchers = (ROOT / script).read_text() + (ROOT / "scripts/launch.sh").read_text()
    assert [name for name in environment if name not in launchers] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_file_that_a_document_links_to_exists(document):
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_flag_of_the_download_is_in_its_table():
    rows = [line.split("|")[1] for line in (ROOT / "FINETUNE.md").read_text().splitlines() if line.startswith("| `--")]
    documented = {flag for row in rows for flag in re.findall(r"`(--[a-z-]+)`", row)}
    flags = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(DownloadOptions)}
    assert flags - documented == set()


def test_every_flag_of_the_evaluation_is_in_the_walk_through():
    text = (ROOT / "FINETUNE.md").read_text(encoding="utf-8")
    flags = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(EvaluateOptions)]
    assert [flag for flag in flags if not re.search(rf"{flag}\b(?!-)", text)] == []


def launcher_variables() -> set[str]:
    text = "".join((ROOT / name).read_text() for name in ("train_physical_ai_lora.sh", "train_physical_ai.sh"))
    text += (ROOT / "scripts/launch.sh").read_text()
    internal = {"BASH_SOURCE", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "DEFAULT_DEEPSPEED_CONFIG"}
    return set(re.findall(r"\$\{([A-Z][A-Z_0-9]+)[:+-]", text)) - internal


def test_every_environment_variable_of_the_launchers_is_in_the_table():
    rows = [line for line in (ROOT / "FINETUNE.md").read_text().splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row.split("|")[1])}
    assert documented == launcher_variables()


def test_the_defaults_in_the_table_are_the_launchers():
    table = (ROOT / "FINETUNE.md").read_text()
    for launcher, column in (("train_physical_ai_lora.sh", 0), ("train_physical_ai.sh", 1)):
        text = (ROOT / launcher).read_text()
        for name in (
            "MODEL_PATH",
            "DATASET",
            "OUTPUT_DIR",
            "LEARNING_RATE",
            "BATCH_SIZE",
            "GRAD_ACCUM_STEPS",
            "EPOCHS",
        ):
            default = re.search(rf"\${{{name}:-([^}}]*)}}", text).group(1)
            cell = next(line for line in table.splitlines() if line.startswith(f"| `{name}`")).split("|")[2]
            shown = [part.strip().strip("`") for part in cell.split(" / ")]
            assert shown[min(column, len(shown) - 1)] == default, f"{name} of {launcher}"
