"""The quickstart of `ragft run`, written with transformers, PEFT, hnswlib and pandas. See README.md."""

import time

BEGIN = time.perf_counter()

import argparse
import json
import os
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder for tables, figures and report")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of torch, tokenizers and hnswlib")
    parser.add_argument("--spec", type=Path, help="a spec of ragft (default: the built-in quickstart)")
    return parser.parse_args()


ARGUMENTS = arguments()
# Before the libraries start their pools.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = str(ARGUMENTS.threads)
os.environ |= {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import pandas as pd
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

import data
import finetune
import settings
import tables
from generation import Generator
from measure import Bench
from prompts import Prompter
from retrieval import Retriever, StaticEmbedder, chunk_documents


class Phases:
    """Seconds by phase, in order."""

    def __init__(self):
        self.last, self.seconds = BEGIN, {}

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now


def main() -> None:
    phases = Phases()
    phases.end("import")
    torch.set_num_threads(ARGUMENTS.threads)
    disable_progress_bar()
    spec = settings.read(ARGUMENTS.spec or settings.QUICKSTART)
    seed, variants, output = spec["seeds"][0], spec["variants"], ARGUMENTS.output
    output.mkdir(parents=True)

    dataset = data.load(settings.DATASET)
    prompter = Prompter(settings.MODEL, spec)
    model = AutoModelForCausalLM.from_pretrained(settings.MODEL, dtype=torch.float32, attn_implementation="sdpa").eval()
    context = model.config.max_position_embeddings
    phases.end("load")

    chunks = chunk_documents(dataset.documents, spec["retrieval"]["chunk"]["max_tokens"], prompter.count)
    retriever = Retriever(chunks, StaticEmbedder(settings.EMBEDDER), spec["retrieval"], ARGUMENTS.threads)
    phases.end("index")
    found = retriever.search([sample.question for sample in dataset.test], shadow=True)
    phases.end("search")

    adapted, logs, training = train(spec, dataset, model, prompter, retriever, context, output)
    phases.end("train")

    stop = spec["generation"]["stop"]
    generator = Generator(prompter.tokenizer, model.config.eos_token_id, stop, spec["generation"]["max_new_tokens"])
    models = {variant: adapted.get(settings.ADAPTER[variant], model) for variant in variants}
    bench = Bench(spec, dataset.test, retriever, prompter, generator, models, context)
    answers = [row for variant in variants for row in bench.accuracy(variant, found)]
    predictions = pd.DataFrame(answers)
    predictions.to_csv(output / "predictions.csv", index=False)
    phases.end("accuracy")
    counts = {(row["variant"], row["sample_id"]): row["completion_tokens"] for row in answers}
    timings = pd.DataFrame(bench.latency(counts, seed))
    timings.to_csv(output / "timings.csv", index=False)
    phases.end("latency")

    first = list(predictions.columns).index("completion_tokens") + 1
    metrics = [column for column in predictions.columns[first:] if column not in ("answer", "finish")]
    quality, contrasts = tables.quality_and_contrasts(predictions, dataset.test, variants, metrics, spec["measure"], seed)
    latency = tables.latency(timings, spec["measure"], seed)
    for name, table in [("quality", quality), ("contrasts", contrasts), ("latency", latency)]:
        table.to_csv(output / f"{name}.csv", index=False)
    phases.end("tables")

    import report

    report.write(output, quality, contrasts, latency, pd.DataFrame(logs), variants)
    phases.end("report")
    overall = quality[(quality.slice == "all") & (quality.metric == "exact_match")].set_index("variant")
    result = {
        "phases": phases.seconds,
        "training": training,
        "exact_match": {variant: overall.point[variant] for variant in variants},
        "threads": ARGUMENTS.threads,
    }
    (output / "result.json").write_text(json.dumps(result, indent=1))
    print(overall[["point", "ci_low", "ci_high", "n"]].mul([100, 100, 100, 1]).round(1).to_string(), file=sys.stderr)
    print(json.dumps(result))


def train(spec, dataset, model, prompter, retriever, context, output):
    """The adapters that the variants need, merged into copies of the base: one on bare questions, one on questions with passages."""
    wanted = dict.fromkeys(adapter for adapter in map(settings.ADAPTER.get, spec["variants"]) if adapter)
    room = min(context - spec["generation"]["max_new_tokens"], spec["finetune"]["max_length"])
    adapted, logs, seconds = {}, [], {}
    for name in wanted:
        splits = []
        for samples in (dataset.train, dataset.validation):
            questions = [sample.question for sample in samples]
            hits = retriever.search(questions, shadow=True) if name == "hybrid_raft" else [[] for _ in questions]
            prompts = prompter.prompts(questions, hits, retriever.chunks, room)
            # A question without an answer teaches to say so.
            answers = [(sample.references or spec["prompt"]["abstention"])[0] for sample in samples]
            labels = [f"{spec['prompt']['answer_prefix']}{answer}{spec['prompt']['answer_suffix']}" for answer in answers]
            splits.append(finetune.rows(prompts, prompter.answers(labels), spec["finetune"]["max_length"]))
        folder = output / "adapters" / name
        adapted[name], log, seconds[name] = finetune.train(model, *splits, spec["finetune"], spec["seeds"][0], folder)
        logs += log
    steps = {name: sum(row["adapter"] == name for row in logs) for name in wanted}
    tokens = {name: sum(row["tokens"] for row in logs if row["adapter"] == name) for name in wanted}
    return adapted, logs, {name: {"steps": steps[name], "tokens": tokens[name], "seconds": seconds[name]} for name in wanted}


if __name__ == "__main__":
    main()
