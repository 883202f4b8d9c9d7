"""The demo's page. The only file that imports gradio; what is asked and shown is demo.model's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError
from evaluation.demo.charts import STYLE

if TYPE_CHECKING:
    from evaluation.demo.model import Asked, Demo

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: it would call home

FONTS = ["system-ui", "sans-serif"]  # the library's own are fetched from the network
HOUR_S = 3600


def build_page(demo: Demo) -> Any:
    """The page as a gradio Blocks: rows where there are any, a video of one's own, and the answer below."""
    import gradio

    names = list(demo.records)
    with gradio.Blocks(title="Driving model", analytics_enabled=False, delete_cache=(HOUR_S, HOUR_S)) as page:
        gradio.Markdown("## What does the model see coming?\nChoose a clip, ask, and see the second after it.")
        with gradio.Row():
            if names:
                row = gradio.Dropdown(names, value=names[0], label="held-out clip", scale=3)
                ask_row = gradio.Button("Ask about this clip", variant="primary", scale=1)
        with gradio.Accordion("a video of your own", open=not names), gradio.Row():
            upload = gradio.File(file_types=["video"], label="video file", type="filepath", height=120, scale=3)
            start_s = gradio.Number(0, minimum=0, label="from second", scale=1)
            ask_video = gradio.Button("Ask about this video", scale=1)
        with gradio.Row():
            video = gradio.Video(
                label="what the model saw", autoplay=True, loop=True, interactive=False, buttons=[], min_width=320
            )
            picture = gradio.Image(label="the last frame, and the path", interactive=False, buttons=[], min_width=320)
        text = gradio.Textbox(label="answer", lines=3, max_lines=12, interactive=False, buttons=["copy"])
        facts = gradio.Textbox(label="how it was read", interactive=False)
        charts = gradio.HTML()
        shown = [video, picture, text, facts, charts]
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model", "outputs": shown}
        if names:
            for event in (page.load, row.change):
                event(lambda name: show_unasked(demo, name), [row], shown, api_visibility="private")
            ask_row.click(lambda name: _show(demo.ask_row, name), inputs=[row], api_name="ask_row", **one_at_a_time)
        ask_video.click(
            lambda path, start: _show(_ask_upload, demo, path, start),
            inputs=[upload, start_s],
            api_name="ask_video",
            **one_at_a_time,
        )
    return page


def serve_page(demo: Demo, host: str, port: int) -> None:
    """Open the page until it is interrupted.

    Raises:
        DrivingError: The port is taken.
    """
    import gradio

    page = build_page(demo)
    theme = gradio.themes.Default(primary_hue="blue", font=FONTS, font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            show_error=False,
            theme=theme,
            css=STYLE,
            allowed_paths=[str(demo.folder)],
            max_file_size="2gb",
        )
    except OSError as error:
        raise DrivingError(f"port {port} of {host} cannot be opened ({error}); pass another --port") from error
    print(f"{address} is open; stop it with Ctrl-C", flush=True)
    page.block_thread()


def show_unasked(demo: Demo, name: str) -> tuple[Any, ...]:
    """The outputs of the page for a row that nobody asked about yet: its clip, and no answer to another."""
    return str(_say(demo.show_row, name)), None, "", "", ""


def _ask_upload(demo: Demo, path: str | None, start_s: float | None) -> Asked:
    if not path:
        raise DrivingError("there is no video yet; choose a file first")
    return demo.ask_video(path, float(start_s or 0))


def _show(ask: Any, *given: Any) -> tuple[Any, ...]:
    """The outputs of the page."""
    asked = _say(ask, *given)
    return str(asked.video), asked.picture, asked.text, asked.facts, asked.charts


def _say(ask: Any, *given: Any) -> Any:
    """Call, and show what the user can mend as one line, without a traceback."""
    try:
        return ask(*given)
    except DrivingError as error:
        import gradio

        raise gradio.Error(str(error), duration=None, print_exception=False) from error
