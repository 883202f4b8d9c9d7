"""Scores of answers in words: JSON, questions, captions, yes or no.

    predictions.jsonl, references.jsonl ──rows──▶ TextRow (B,) ──a task──▶ Measure a score ──measures──▶ intervals
                                                       └─controls─▶ the same answers dealt to other clips, a constant

`task_scores.TASKS` names the tasks; `score_text.run` is the door's body; each file below it can be used alone.
"""
