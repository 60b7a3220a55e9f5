"""The run's settings: the same files that `ragft run` reads, so that the two cannot drift apart."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = ROOT / "harness/default-spec.toml"
QUICKSTART = ROOT / "harness/quickstart.toml"
MODEL = ROOT / "harness/assets/model"
EMBEDDER = ROOT / "harness/assets/embedder"
DATASET = ROOT / "datasets/factworld"

# Variants: where do their passages come from, and with which adapter do they answer?
CONTEXT = {
    "baseline": None,
    "rag": "search",
    "finetuned": None,
    "hybrid": "search",
    "hybrid_raft": "search",
    "oracle": "gold",
    "random": "random",
}
ADAPTER = dict.fromkeys(CONTEXT) | {"finetuned": "finetuned", "hybrid": "finetuned", "hybrid_raft": "hybrid_raft"}


def read(spec: Path = QUICKSTART) -> dict:
    """The spec over the defaults, as nested dictionaries."""
    with DEFAULTS.open("rb") as defaults, spec.open("rb") as changes:
        return _merge(tomllib.load(defaults), tomllib.load(changes))


def _merge(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merge(base[key], value) if isinstance(value, dict) else value
    return merged
