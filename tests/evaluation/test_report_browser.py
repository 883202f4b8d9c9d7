"""The pages in a real headless Chromium: what came from outside makes no element, and nothing sticks out sideways."""

from __future__ import annotations

import json

import pytest

from benchmarks.browser import find_chromium, open_page
from evaluation.comparing.tool import CompareOptions
from evaluation.comparing.tool import run as compare
from evaluation.evaluate import EvaluateOptions, run

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

EVIL = "<evil-id><img src=x onerror=alert(1)>"
ANSWERS = [
    "</pre><script>document.title='taken'</script><evil-answer>",
    "<svg/onload=alert(1)><evil-answer>",
    "\u202e\x00",
]
# Elements that a text from outside would have made, and what only this module's pages may hold.
ASK = """[
    doc.querySelectorAll("evil-id, evil-answer, script, iframe, object, link, form").length,
    [...doc.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on"))).length,
    [...doc.images].filter(image => !image.src.startsWith("data:")).length,
    doc.documentElement.scrollWidth,
    doc.body.innerText.includes("<evil-id>"),
    doc.title
]"""


@pytest.fixture
def pages(small_dataset, seeing_engine, add_row, tmp_path):
    """A report and a comparison of rows and answers that try to be markup."""
    add_row(EVIL, EVIL, "test", (30.0, 0.05))
    small_dataset.write(sources={EVIL: 3}, warnings=[EVIL], num_recordings=EVIL, labels={"test": {"num_segments": {}}})
    (small_dataset.folder / "commands.json").write_text(json.dumps([f"make --out {EVIL}"]))
    (small_dataset.model / "train_plan.json").write_text(json.dumps({"command": f"train {EVIL}"}))
    names = [row.id for row in small_dataset.test_rows]
    answers = dict(zip([EVIL, *names[:2]], ANSWERS, strict=True))
    engines = [seeing_engine(lambda name, text: answers.get(name, text)), seeing_engine()]
    facts = {"model": {"num_parameters": 2_000_000, "model_type": "<evil-id>"}, "max_new_tokens": 99}
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, engine in zip(folders, engines, strict=True):
        options = EvaluateOptions(
            model=str(small_dataset.model), test_data=small_dataset.test_data, output_dir=folder, bootstrap=50
        )
        run(options, lambda planned, asked, engine=engine: (engine, facts))
    compare(CompareOptions(*folders, out=tmp_path / "comparison.html", bootstrap=50))
    return {"report": folders[0] / "report.html", "comparison": tmp_path / "comparison.html"}


@pytest.mark.parametrize("name, width", [("report", 390), ("report", 1280), ("comparison", 390)])
def test_what_came_from_outside_makes_no_element_and_the_page_fits_its_window(pages, name, width):
    seen = open_page(pages[name], ASK, width=width)
    made, handlers, fetched, wide, is_shown, title = seen.value
    assert (made, handlers, fetched) == (0, 0, 0)
    assert wide <= width
    assert is_shown
    assert title != "taken"
    assert seen.load_ms > 0
