"""A small web page on this machine: choose a clip, see it, ask the model, see its answer, path and curves.

    test.json, truth.parquet, model ──load_demo──▶ Demo ──serve_page──▶ http://127.0.0.1:7860

Everything is local: the page listens on 127.0.0.1 and loads nothing from elsewhere.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError
from driving.option_values import parse_auto_tokens, parse_device, whole_number
from driving.options import option, parse_options

if TYPE_CHECKING:
    from evaluation.demo.model import Demo


@dataclass(frozen=True)
class DemoOptions:
    """Serve a small web page on this machine, to try a model on held-out clips and on videos of your own.

    Reads a model folder and, where it is there, a training JSON with truth.parquet beside it; writes nothing but
    temporary files. It needs gradio: uv sync --inexact --extra demo. Running twice is safe.
    """

    model: str = option("checkpoints/physical_ai_driving_lora", help="adapter folder or full model folder")
    test_data: Path = option(
        Path("qwen_video_dataset_training/test.json"), help="rows to choose from; none where the file is missing"
    )
    base_model: str = option("", help="where an adapter's base model is now; default: where it was in training")
    server: str = option("", help="address of a server that answers in the model's place; the folder gives its papers")
    served_name: str = option("", help="what the server calls the model; default: the only one it serves")
    max_rows: int = option(200, parse=whole_number(1), help="offer this many rows, spread over the recordings")
    max_new_tokens: int | str = option(
        "auto", unit="tokens", parse=parse_auto_tokens, help="longest answer; auto: what the answer format can need"
    )
    device: str = option("auto", parse=parse_device, help="auto, cpu, cuda or cuda:N")
    host: str = option("127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in, without a password")
    port: int = option(7860, parse=whole_number(1, 65535), help="port to listen on")
    force: bool = option(False, help="go on although prompt or base model are not those of training")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    options = parse_options(DemoOptions, argv)
    check_gradio()
    with tempfile.TemporaryDirectory(prefix="driving_demo_") as folder:
        demo = load_demo(options, Path(folder))
        from evaluation.demo.page import serve_page

        serve_page(demo, options.host, options.port)
    return 0


def check_gradio() -> None:
    """Raise where the page's library is not here.

    Raises:
        DrivingError: With how it is installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise DrivingError("the demo needs gradio, which is not installed; run uv sync --inexact --extra demo")


def load_demo(options: DemoOptions, folder: Path) -> Demo:
    """Load the model (or find its server) and the rows.

    Raises:
        DrivingError: A paper is missing, the model cannot be loaded, or nothing serves it.
    """
    from driving.records import record_name
    from driving.row_choice import choose_evenly
    from evaluation.demo.model import Demo
    from evaluation.scoring.truth_table import TRUTH_NAME, read_truth
    from evaluation.serving.vllm_command import read_format
    from qwenvl.data.dataset import read_records

    engine = _load_engine(options)
    answer_format = read_format(engine.preprocessing)
    records, truth = [], None
    if options.test_data.exists():
        rows = read_records(options.test_data)
        records = [rows[row] for row in choose_evenly(rows, options.max_rows, 7)]
        table_path = options.test_data.parent / TRUTH_NAME
        if table_path.exists() and answer_format is not None:
            table = read_truth(table_path, answer_format.duration_s)
            truth = table.rows([record_name(record) for record in records])
    by_id = {record_name(record): record for record in records}
    return Demo(engine, engine.preprocessing, answer_format, by_id, truth, folder)


def _load_engine(options: DemoOptions) -> Any:
    from evaluation.asking.answer_limit import choose_answer_limit
    from evaluation.serving.vllm_command import read_format

    folders = [options.test_data.parent, Path.cwd()]
    if options.server:
        from evaluation.serving.engine import load_served_engine

        engine: Any = load_served_engine(
            options.model, options.server, folders, served_name=options.served_name, force=options.force
        )
    else:
        from evaluation.agreement import check_papers
        from evaluation.asking.engine import load_engine
        from evaluation.checkpoint import read_checkpoint

        checkpoint = read_checkpoint(options.model, options.base_model)
        check_papers(checkpoint, force=options.force)
        engine = load_engine(options.model, options.device, folders, base_model=options.base_model, force=options.force)
    limit = choose_answer_limit(read_format(engine.preprocessing), engine.processor.tokenizer)
    engine.max_new_tokens = limit if options.max_new_tokens == "auto" else int(options.max_new_tokens)
    return engine
