"""Figures, and a report in HTML and Markdown."""

from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import pandas as pd

import settings

COLOURS = dict(zip(settings.CONTEXT, plt.get_cmap("tab10").colors))


def write(folder: Path, quality: pd.DataFrame, contrasts: pd.DataFrame, latency: pd.DataFrame, training: pd.DataFrame, variants) -> None:
    plots = folder / "plots"
    plots.mkdir()
    _bars(plots / "slices.svg", quality, variants)
    _training(plots / "training.svg", training)
    _stages(plots / "stages.svg", latency, variants)
    sections = [
        ("Exact match", exact_match(quality, variants), "slices.svg"),
        ("Differences", contrasts.query("slice == 'all' and metric == 'exact_match'"), None),
        ("Latency in milliseconds", latency, "stages.svg"),
        ("Training", training.groupby("adapter").last().reset_index(), "training.svg"),
    ]
    _html(folder / "report.html", sections)
    _markdown(folder / "report.md", sections)


def exact_match(quality: pd.DataFrame, variants) -> pd.DataFrame:
    """Percent with interval by slice (rows) and variant (columns)."""
    rows = quality[quality.metric == "exact_match"]
    cell = rows.apply(lambda row: f"{100 * row.point:.0f} ({100 * row.ci_low:.0f} to {100 * row.ci_high:.0f})", axis=1)
    table = rows.assign(cell=cell).pivot(index=["slice", "n"], columns="variant", values="cell")[variants]
    return table.reset_index().sort_values("slice", key=lambda names: names != "all", kind="stable")


def _bars(path: Path, quality: pd.DataFrame, variants) -> None:
    rows = quality[(quality.metric == "exact_match") & quality.slice.str.contains("^(?:all|knowledge=.*|task=.*)$")]
    names = list(dict.fromkeys(rows.slice))
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    width = 0.8 / len(variants)
    for index, variant in enumerate(variants):
        own = rows[rows.variant == variant].set_index("slice").loc[names]
        at = [position + (index - (len(variants) - 1) / 2) * width for position in range(len(names))]
        error = [100 * (own.point - own.ci_low).clip(lower=0), 100 * (own.ci_high - own.point).clip(lower=0)]
        axes.bar(at, 100 * own.point, 0.95 * width, yerr=error, capsize=2, label=variant, color=COLOURS[variant])
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("exact match, %")
    axes.legend()
    _save(figure, path)


def _training(path: Path, training: pd.DataFrame) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for adapter, rows in training.groupby("adapter"):
        (line,) = axes.plot(rows.step, rows.train_loss, label=adapter)
        evaluated = rows.dropna(subset="eval_loss")
        axes.plot(evaluated.step, evaluated.eval_loss, "o", color=line.get_color(), label=f"{adapter}, validation")
    axes.set(xlabel="optimizer step", ylabel="loss")
    axes.legend()
    _save(figure, path)


def _stages(path: Path, latency: pd.DataFrame, variants) -> None:
    parts = latency[latency.stage.isin(["search", "prompt", "prefill", "decode"])]
    table = parts.pivot(index="variant", columns="stage", values="mean").loc[variants, ["search", "prompt", "prefill", "decode"]]
    axes = table.plot.barh(stacked=True, figsize=(7, 3))
    axes.set(xlabel="milliseconds per question", ylabel="")
    axes.figure.tight_layout()
    _save(axes.figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)


def _html(path: Path, sections) -> None:
    parts = ["<!doctype html><meta charset=utf-8><title>ragft twin</title><style>body{font:14px sans-serif;margin:2em}td,th{padding:2px 8px}</style>"]
    for title, table, plot in sections:
        figure = (path.parent / "plots" / plot).read_text().partition("<svg")[2] if plot else ""
        svg = f"<svg{figure}" if figure else ""
        parts.append(f"<h2>{escape(title)}</h2>{svg}{table.to_html(index=False, float_format='{:.3f}'.format)}")
    path.write_text("\n".join(parts))


def _markdown(path: Path, sections) -> None:
    parts = ["# ragft twin"]
    for title, table, plot in sections:
        parts += [f"## {title}", f"![{title}](plots/{plot})" if plot else "", _pipe_table(table)]
    path.write_text("\n\n".join(part for part in parts if part) + "\n")


def _pipe_table(table: pd.DataFrame) -> str:
    text = lambda value: f"{value:.3f}" if isinstance(value, float) else str(value)
    lines = [list(table.columns), ["---"] * len(table.columns)] + table.map(text).to_numpy().tolist()
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
