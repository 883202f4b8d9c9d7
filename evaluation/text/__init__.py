"""Scores of answers in words: JSON, questions, captions, yes or no.

    predictions.jsonl, references.jsonl ──rows──▶ TextRow (B,) ──a task──▶ Measure a score ──measures──▶ intervals
                                                       └─controls─▶ the same answers dealt to other clips, a constant

Another system scores its own rows without any file:

    rows = [TextRow(id, group, answer, {"type": ..., "fields": {...}}, "answered"), ...]
    scores = score_text.score_rows(rows, build_task("json", rows, schema=Path("adas.schema.json")))

`task_scores.TASKS` names the tasks; `score_text.run` is the door's body; each file below it can be used alone.
"""
