"""The accuracy pass (batched) and the latency pass (one question at a time)."""

from time import perf_counter

import numpy as np

from data import Sample
from scores import grounded, score_answer, score_ranking
from settings import CONTEXT


class Bench:
    """The loaded parts that answer questions. `models` holds a model per variant."""

    def __init__(self, settings, samples, retriever, prompter, generator, models, context_length):
        self.settings, self.samples, self.retriever, self.prompter = settings, samples, retriever, prompter
        self.generator, self.models = generator, models
        self.room = context_length - settings["generation"]["max_new_tokens"]

    def prompts(self, variant: str, samples: list[Sample], found: list) -> list[list[int]]:
        hits = [self.passages(variant, sample, row) for sample, row in zip(samples, found)]
        return self.prompter.prompts([sample.question for sample in samples], hits, self.retriever.chunks, self.room)

    def passages(self, variant: str, sample: Sample, found: list) -> list:
        """What a variant is given: what was found, the relevant documents' chunks, or chunks of others."""
        match CONTEXT[variant]:
            case "search":
                return found
            case "gold":
                return self.retriever.gold(sample.relevant)
            case "random":
                return self.retriever.random(sample.relevant, sample.id)
        return []

    def accuracy(self, variant: str, found: list) -> list[dict]:
        """One row per test question; batches of like length, the longest first."""
        prompts = self.prompts(variant, self.samples, found)
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        size, rows = self.settings["generation"]["batch_size"], [None] * len(prompts)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            answers = self.generator.generate(self.models[variant], [prompts[index] for index in batch])
            for index, answer in zip(batch, answers):
                rows[index] = self._row(variant, self.samples[index], len(prompts[index]), answer, found[index])
        return rows

    def _row(self, variant: str, sample: Sample, prompt_tokens: int, answer, hits) -> dict:
        row = {"variant": variant, "sample_id": sample.id, "cluster": sample.cluster, "answer": answer.text, "finish": answer.finish}
        row |= {"prompt_tokens": prompt_tokens, "completion_tokens": answer.tokens}
        abstention = self.settings["prompt"]["abstention"]
        row |= score_answer(answer.text, sample.references, abstention)
        shown = self.passages(variant, sample, hits)
        if shown:
            texts = [text for hit in shown for text in (self.retriever.chunks[hit.chunk].title, self.retriever.chunks[hit.chunk].text)]
            row |= grounded(answer.text, texts, abstention)
        if CONTEXT[variant] == "search":
            k = self.retriever.top_k
            row |= self.ranking(sample, hits)
            row[f"ann_recall_at_{k}"] = float(np.mean([hit.in_exact for hit in hits]))
        return row

    def ranking(self, sample: Sample, hits) -> dict[str, float]:
        """Scores of what was found, and recall of exact search; none without relevance labels."""
        if not sample.relevant:
            return {}
        k, documents = self.retriever.top_k, lambda rows: [self.retriever.chunks[row].document for row in rows]
        scores = score_ranking(documents(hit.chunk for hit in hits), sample.relevant, k)
        return scores | {f"exact_recall_at_{k}": score_ranking(documents(hits.exact), sample.relevant, k)[f"recall_at_{k}"]}

    def latency(self, counts: dict[tuple[str, str], int], seed: int) -> list[dict]:
        """Times single queries, the variants in mixed order, each computing as many tokens as its accuracy pass gave."""
        measure, rng = self.settings["measure"], np.random.default_rng(seed)
        variants = self.settings["variants"]
        chosen = np.sort(rng.choice(len(self.samples), min(measure["latency_samples"], len(self.samples)), replace=False))
        for index in range(measure["warmup"]):
            for variant in variants:
                self._time(variant, self.samples[index % len(self.samples)], counts)
        rows = []
        for repeat in range(measure["latency_repeats"]):
            for index in chosen:
                for variant in rng.permutation(variants):
                    rows.append({"repeat": repeat} | self._time(str(variant), self.samples[index], counts))
        return rows

    def _time(self, variant: str, sample: Sample, counts: dict) -> dict:
        start = perf_counter()
        found = self.retriever.search([sample.question], shadow=False) if CONTEXT[variant] == "search" else [[]]
        searched = perf_counter()
        prompt = self.prompts(variant, [sample], found)
        ready = perf_counter()
        answer = self.generator.generate(self.models[variant], prompt, forced=counts[variant, sample.id])[0]
        end = perf_counter()
        row = {"variant": variant, "sample_id": sample.id, "cluster": sample.cluster}
        row |= {"search": searched - start, "prompt": ready - searched, "prefill": answer.prefill, "decode": answer.decode}
        return row | {"ttft": ready - start + answer.prefill, "e2e": end - start}
