"""Does the twin do what a recorded run of `ragft run` did? Prompts, passages, scores, and the answers of the untuned variants.

    python check.py RUN_FOLDER [--ragft target/release/ragft]

With `--ragft`, the prompts of every question are also compared as text, as `ragft show --prompts` prints them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import data
import settings
from generation import Generator
from measure import Bench
from prompts import Prompter
from retrieval import Retriever, StaticEmbedder, chunk_documents
from scores import grounded, score_answer


def load() -> tuple[Bench, list]:
    """The parts of a run that are there before training, and the passages of every test question."""
    spec = settings.read()
    dataset = data.load(settings.DATASET)
    prompter = Prompter(settings.MODEL, spec)
    model = AutoModelForCausalLM.from_pretrained(settings.MODEL, dtype=torch.float32).eval()
    chunks = chunk_documents(dataset.documents, spec["retrieval"]["chunk"]["max_tokens"], prompter.count)
    retriever = Retriever(chunks, StaticEmbedder(settings.EMBEDDER), spec["retrieval"], torch.get_num_threads())
    generator = Generator(prompter.tokenizer, model.config.eos_token_id, spec["generation"]["stop"], spec["generation"]["max_new_tokens"])
    models = dict.fromkeys(spec["variants"], model)
    found = retriever.search([sample.question for sample in dataset.test], shadow=True)
    return Bench(spec, dataset.test, retriever, prompter, generator, models, model.config.max_position_embeddings), found


def differences(bench: Bench, found: list, journal: dict) -> dict[str, list[str]]:
    """Ids of the rows that differ, by what differs in them."""
    wrong = {"prompt tokens": [], "passages": [], "marks of exact search": [], "scores": []}
    for variant in bench.settings["variants"]:
        prompts = bench.prompts(variant, bench.samples, found)
        for sample, prompt, hits in zip(bench.samples, prompts, found):
            row = journal[variant, sample.id]
            name = f"{variant}/{sample.id}"
            if settings.CONTEXT[variant] == "random":
                continue  # The two draw other passages.
            abstention = bench.settings["prompt"]["abstention"]
            scores = score_answer(row["answer"], sample.references, abstention)
            shown = bench.passages(variant, sample, hits)
            chunks = [bench.retriever.chunks[hit.chunk] for hit in shown]
            if shown:
                scores |= grounded(row["answer"], [text for chunk in chunks for text in (chunk.title, chunk.text)], abstention)
            if [chunk.document for chunk in chunks] != [hit["document_id"] for hit in row["hits"]]:
                wrong["passages"].append(name)
            if settings.CONTEXT[variant] == "search":
                scores |= bench.ranking(sample, hits)
                if [hit.in_exact for hit in hits] != [hit["in_exact"] for hit in row["hits"]]:
                    wrong["marks of exact search"].append(name)
            if len(prompt) != row["prompt_tokens"]:
                wrong["prompt tokens"].append(name)
            if scores.keys() != row["scores"].keys() or any(abs(scores[key] - row["scores"][key]) > 1e-9 for key in scores):
                wrong["scores"].append(name)
    return wrong


def different_texts(bench: Bench, found: list, run: Path, ragft: Path) -> list[str]:
    """Rows whose prompt `ragft show` prints otherwise."""
    variants = [name for name in bench.settings["variants"] if settings.CONTEXT[name] != "random"]
    prompts = {variant: bench.prompts(variant, bench.samples, found) for variant in variants}
    wrong = []
    for index, sample in enumerate(bench.samples):
        command = [str(ragft), "show", str(run), "--sample", sample.id, "--prompts"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        texts = {variant: bench.prompter.tokenizer.decode(prompts[variant][index]) for variant in variants}
        printed = dict(zip(bench.settings["variants"], _prompts(shown), strict=True))
        wrong += [f"{variant}/{sample.id}" for variant, text in texts.items() if text != printed[variant]]
    return wrong


def _prompts(shown: str) -> list[str]:
    """The prompts in what `ragft show` printed: the lines behind bars after each `prompt:`."""
    blocks = [block.splitlines()[1:] for block in shown.split("\n  prompt:")[1:]]
    quoted = [[line[6:] for line in block if line.startswith("    | ")] for block in blocks]
    return ["\n".join(lines) for lines in quoted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--ragft", type=Path)
    options = parser.parse_args()
    with (options.run / "journal.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    journal = {(row["variant"], row["sample_id"]): row for row in rows if row["phase"] == "accuracy"}
    bench, found = load()
    wrong = differences(bench, found, journal)
    if options.ragft:
        wrong["prompt texts"] = different_texts(bench, found, options.run, options.ragft)
    for what, names in wrong.items():
        print(f"{what}: {len(names)} of {len(journal)} rows differ {names[:3] if names else ''}")
    for variant in (name for name in bench.settings["variants"] if settings.ADAPTER[name] is None and settings.CONTEXT[name] != "random"):
        answers = {row["sample_id"]: row["answer"] for row in bench.accuracy(variant, found)}
        other = [sample for sample, answer in answers.items() if answer != journal[variant, sample]["answer"]]
        print(f"answers of {variant}: {len(other)} of {len(answers)} differ {other[:3] if other else ''}")
    # Answers may differ in the last bits of a tie; the rest must not.
    sys.exit(1 if any(wrong.values()) else 0)


if __name__ == "__main__":
    main()
