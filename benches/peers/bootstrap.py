"""10,000 resamples of 12 differences over 10,000 questions: SciPy and NumPy beside `cargo bench -p ragft-benches --bench bootstrap`.

    python3 benches/peers/bootstrap.py [--threads N]      # needs numpy and scipy; prints our time if the bench has run
"""

import argparse
import json
import os
import pathlib
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", default=str(os.cpu_count()))
parser.add_argument("--resamples", type=int, default=10_000)
threads = parser.parse_args().threads
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = threads

import numpy  # noqa: E402
import scipy.stats  # noqa: E402

RESAMPLES, QUESTIONS, DIFFERENCES = parser.parse_args().resamples, 10_000, 12
rng = numpy.random.default_rng(1)
at = rng.uniform(size=(DIFFERENCES, QUESTIONS))
data = numpy.where(at < 0.11, 1.0, numpy.where(at < 0.2, -1.0, 0.0))


def by_scipy():
    """All differences in one call, so that they share the draws; batches keep it in memory."""
    result = scipy.stats.bootstrap((data,), numpy.mean, axis=-1, n_resamples=RESAMPLES, batch=100, method="BCa", rng=rng)
    return result.confidence_interval.low, result.confidence_interval.high


def by_numpy():
    """As one would write it by hand for means: counts of each question times differences, and the jackknife in closed form."""
    statistics = numpy.empty((DIFFERENCES, RESAMPLES))
    for start in range(0, RESAMPLES, 500):
        counts = numpy.empty((min(500, RESAMPLES - start), QUESTIONS))
        for row in counts:
            row[:] = numpy.bincount(rng.integers(0, QUESTIONS, QUESTIONS, dtype=numpy.uint32), minlength=QUESTIONS)
        statistics[:, start : start + len(counts)] = data @ counts.T / QUESTIONS
    point = data.mean(axis=1, keepdims=True)
    jackknife = (data.sum(axis=1, keepdims=True) - data) / (QUESTIONS - 1)
    away = jackknife.mean(axis=1, keepdims=True) - jackknife
    acceleration = (away**3).sum(axis=1) / (6 * (away**2).sum(axis=1) ** 1.5)
    bias = scipy.stats.norm.ppf(((statistics < point).sum(axis=1) + (statistics <= point).sum(axis=1)) / (2 * RESAMPLES))
    ends = []
    for tail in (0.025, 0.975):
        z = bias + scipy.stats.norm.ppf(tail)
        levels = scipy.stats.norm.cdf(bias + z / (1 - acceleration * z))
        ends.append(numpy.array([numpy.quantile(row, level) for row, level in zip(statistics, levels)]))
    return ends


def ours():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).parents[2] / "target"))
    found = target / "criterion" / "bootstrap" / "BCa, 10,000 clusters" / "new" / "estimates.json"
    return json.loads(found.read_text())["mean"]["point_estimate"] / 1e9 if found.exists() else None


ends = {}
for name, run in (("NumPy by hand", by_numpy), ("SciPy bootstrap", by_scipy)):
    start = time.perf_counter()
    ends[name] = run()
    print(f"{name:<16} {time.perf_counter() - start:8.2f} s   ({threads} threads at most)", flush=True)
seconds = ours()
print(f"{'ours':<16} " + (f"{seconds:8.2f} s" if seconds else "not measured: cargo bench -p ragft-benches --bench bootstrap"))
gaps = [abs(a - b).max() for a, b in zip(ends["NumPy by hand"], ends["SciPy bootstrap"])]
print(f"ends of NumPy's and SciPy's intervals differ by {max(gaps):.1e} at most; the data are 0 and ±1 over {QUESTIONS} questions")
