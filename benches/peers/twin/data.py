"""Questions, documents and splits from a folder in ragft's own format."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Document:
    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Sample:
    id: str
    question: str
    references: list[str]
    relevant: list[str]
    cluster: str
    slices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    documents: list[Document]
    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]


def load(folder: Path) -> Dataset:
    """Reads the four files of the folder."""
    documents = [Document(row["id"], row.get("title", ""), row["text"]) for row in _rows(folder / "documents.jsonl")]
    splits = {split: [_sample(row) for row in _rows(folder / f"{split}.jsonl")] for split in ("train", "validation", "test")}
    return Dataset(documents, **splits)


def _rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _sample(row: dict) -> Sample:
    relevant = row.get("relevant", [])
    cluster = row.get("cluster") or (relevant[0] if relevant else row["id"])
    return Sample(row["id"], row["question"], row["references"], relevant, cluster, row.get("slices", {}))
