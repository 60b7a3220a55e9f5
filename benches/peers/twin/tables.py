"""Tables with intervals: the percentile bootstrap over clusters, vectorised over metrics, in numpy and pandas."""

from statistics import NormalDist

import numpy as np
import pandas as pd

PAIRS = [("rag", "baseline"), ("finetuned", "baseline"), ("hybrid", "rag"), ("hybrid", "finetuned"), ("rag", "finetuned")]
INTERACTION = {"hybrid": 1, "rag": -1, "finetuned": -1, "baseline": 1}
STAGES = ["search", "prompt", "prefill", "decode", "ttft", "e2e"]
# A percentile needs so many values that one lies beyond it with probability 0.95.
PERCENTILES = {"p90": (0.90, 29), "p95": (0.95, 59), "p99": (0.99, 299)}


class Resampler:
    """Draws of clusters, made once and used for every column: differences are paired."""

    def __init__(self, clusters: np.ndarray, settings: dict, seed: int):
        self.codes, names = pd.factorize(clusters, sort=True)
        self.clusters, self.confidence = len(names), settings["confidence"]
        rng = np.random.default_rng(seed)
        # [R, C]: how often each cluster was drawn.
        self.draws = rng.multinomial(self.clusters, np.full(self.clusters, 1 / self.clusters), settings["bootstrap_resamples"]).astype(float)

    def means(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Point, lower end, upper end and count of every column of `values` `[N, M]`; NaN was not measured."""
        measured = ~np.isnan(values)
        filled = np.where(measured, values, 0.0)
        sums, counts = np.zeros((self.clusters, values.shape[1])), np.zeros((self.clusters, values.shape[1]))
        np.add.at(sums, self.codes, filled)
        np.add.at(counts, self.codes, measured)
        with np.errstate(invalid="ignore", divide="ignore"):
            statistics = (self.draws @ sums) / (self.draws @ counts)
            point = sums.sum(0) / counts.sum(0)
        tail = (1 - self.confidence) / 2
        quantile = np.nanquantile if np.isnan(statistics).any() else np.quantile
        low, high = quantile(statistics, [tail, 1 - tail], axis=0)
        return point, low, high, measured.sum(0)

    def shares(self, values: np.ndarray):
        """As `means`; where all scores are 0, or all 1, the interval is Wilson's with the clusters as trials."""
        point, low, high, count = self.means(values)
        z = NormalDist().inv_cdf(0.5 + self.confidence / 2)
        for column in np.flatnonzero((count > 0) & ((point == 0) | (point == 1))):
            trials = len(np.unique(self.codes[~np.isnan(values[:, column])]))
            width = z * z / trials / (1 + z * z / trials)
            low[column], high[column] = (0.0, width) if point[column] == 0 else (1 - width, 1.0)
        return point, low, high, count


def slices(samples) -> dict[str, np.ndarray]:
    """Indices of the samples of every slice, `all` first."""
    tags: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        for tag, value in sample.slices.items():
            tags.setdefault(f"{tag}={value}", []).append(index)
    return {"all": np.arange(len(samples))} | {name: np.array(tags[name]) for name in sorted(tags)}


def quality_and_contrasts(predictions: pd.DataFrame, samples, variants: list[str], metrics: list[str], settings: dict, seed: int):
    """Means by variant, slice and metric; and paired differences between variants."""
    by_variant = {name: rows[metrics].to_numpy(float) for name, rows in predictions.groupby("variant", sort=False)}
    clusters = np.array([sample.cluster for sample in samples])
    sides = [(left, right, by_variant[left] - by_variant[right]) for left, right in PAIRS if {left, right} <= by_variant.keys()]
    if INTERACTION.keys() <= by_variant.keys():
        sides.append(("hybrid-rag", "finetuned-baseline", sum(sign * by_variant[name] for name, sign in INTERACTION.items())))
    quality, contrasts = [], []
    for name, members in slices(samples).items():
        resampler = Resampler(clusters[members], settings, seed)
        # All variants and metrics at once: one product of the draws with the cluster sums.
        scores = resampler.shares(np.hstack([by_variant[variant][members] for variant in variants]))
        keys = [{"variant": variant, "slice": name, "metric": metric} for variant in variants for metric in metrics]
        quality += _rows(keys, scores)
        differences = resampler.means(np.hstack([values[members] for _, _, values in sides]))
        keys = [{"left": left, "right": right, "slice": name, "metric": metric} for left, right, _ in sides for metric in metrics]
        contrasts += _rows(keys, differences)
    contrasts = pd.DataFrame(contrasts)
    contrasts["verdict"] = np.select([contrasts.ci_low > 0, contrasts.ci_high < 0], ["higher", "lower"], "no_difference_shown")
    return pd.DataFrame(quality), contrasts


def _rows(keys: list[dict], columns) -> list[dict]:
    values = zip(*(column.tolist() for column in columns))
    named = [key | dict(zip(("point", "ci_low", "ci_high", "n"), row)) for key, row in zip(keys, values)]
    return [row for row in named if row["n"] > 0]


def latency(timings: pd.DataFrame, settings: dict, seed: int) -> pd.DataFrame:
    """Milliseconds by variant and stage; a question asked more than once counts with its mean."""
    rows = []
    for variant, of_variant in timings.groupby("variant", sort=False):
        questions = of_variant.groupby(["sample_id", "cluster"], sort=False)[STAGES].mean() * 1e3
        resampler = Resampler(questions.index.get_level_values("cluster").to_numpy(), settings, seed)
        point, low, high, count = resampler.means(questions.to_numpy())
        for index, stage in enumerate(STAGES):
            times = questions[stage].to_numpy()
            row = {"variant": variant, "stage": stage, "n": len(of_variant), "n_questions": int(count[index])}
            row |= {"mean": point[index], "ci_low": low[index], "ci_high": high[index], "p50": np.median(times)}
            rows.append(row | {name: np.quantile(times, p) if len(times) >= least else None for name, (p, least) in PERCENTILES.items()})
    return pd.DataFrame(rows)
