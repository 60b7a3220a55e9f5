"""Scores of one answer (as SQuAD's evaluate-v2.0.py and rouge-score compute them) and of one ranking (as trec_eval does)."""

import math
import re
import string
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
ROUGE_TOKEN = re.compile(r"[a-z0-9]+")


def normalise(text: str) -> str:
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))


def contains(answer: list[str], reference: list[str]) -> bool:
    if not reference:
        return not answer
    return any(answer[at : at + len(reference)] == reference for at in range(len(answer) - len(reference) + 1))


def rouge_l(answer: str, reference: str) -> float:
    left, right = ROUGE_TOKEN.findall(answer.lower()), ROUGE_TOKEN.findall(reference.lower())
    row = [0] * (len(right) + 1)
    for token in left:
        diagonal = 0
        for column, other in enumerate(right, 1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return 2 * row[-1] / (len(left) + len(right)) if row[-1] else 0.0


def score_answer(answer: str, references: list[str], abstention: list[str]) -> dict[str, float]:
    """The best of every score over the references."""
    normal = normalise(answer)
    if normal in {normalise(text) for text in abstention}:
        answer = normal = ""
    wanted = [text for text in map(normalise, references) if text] or [""]
    words = normal.split()
    return {
        "exact_match": float(normal in wanted),
        "token_f1": max(token_f1(words, text.split()) for text in wanted),
        "contains": float(any(contains(words, text.split()) for text in wanted)),
        "rouge_l": max((rouge_l(answer, text) for text in references), default=float(normal in wanted)),
    }


def grounded(answer: str, passages: list[str], abstention: list[str]) -> dict[str, float]:
    """Does the answer stand in a passage? Nothing for an answer that abstains."""
    normal = normalise(answer)
    if not normal or normal in {normalise(text) for text in abstention}:
        return {}
    return {"grounded": float(any(f" {normal} " in f" {normalise(text)} " for text in passages))}


def score_ranking(ranked: list[str], relevant: list[str], k: int) -> dict[str, float]:
    """Scores of documents, best first; one that was found twice counts at its first rank."""
    wanted = set(relevant)
    hits = [document in wanted for document in dict.fromkeys(ranked)]
    ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
    found = sum(hits[:k])
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(wanted), k) + 1))
    return {
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum(index / rank for index, rank in enumerate(ranks, 1)) / len(wanted),
        f"recall_at_{k}": found / len(wanted),
        f"precision_at_{k}": found / k,
        f"hit_at_{k}": float(found > 0),
        f"ndcg_at_{k}": sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / ideal,
    }
