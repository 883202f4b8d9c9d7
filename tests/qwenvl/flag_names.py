"""The names of the flags of upstream and of ours."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from qwenvl.train.argument import DataArguments, ModelArguments, TrainingArguments


def list_own_flags() -> dict[str, Any]:
    """{flag: default}: all of two classes, and what the third adds to transformers' own or redefines."""
    return {
        field.name: field.default
        for kind in (ModelArguments, DataArguments, TrainingArguments)
        for field in fields(kind)
        if kind is not TrainingArguments or field.name in TrainingArguments.__annotations__
    }


def list_all_flags() -> dict[str, Any]:
    """These, and all that transformers takes besides."""
    return {
        field.name: field.default
        for kind in (TrainingArguments, ModelArguments, DataArguments)
        for field in fields(kind)
    }
