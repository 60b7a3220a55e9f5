"""Documents into a searchable index, and questions into passages: Model2Vec vectors in numpy, the graph by hnswlib."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import hnswlib
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from data import Document

MAX_TOKENS = 512


@dataclass(frozen=True)
class Chunk:
    document: str
    title: str
    text: str


@dataclass(frozen=True)
class Hit:
    chunk: int
    score: float
    in_exact: bool | None


class StaticEmbedder:
    """One vector per token, summed over a text and scaled to unit length."""

    def __init__(self, folder: Path):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        unknown = json.loads((folder / "tokenizer.json").read_text())["model"].get("unk_token")
        self.unknown = self.tokenizer.token_to_id(unknown) if unknown else None
        tensors = load_file(folder / "model.safetensors")
        table = tensors["embeddings"].astype(np.float32)
        if "mapping" in tensors:
            table = table[tensors["mapping"]]
        if "weights" in tensors:
            table *= tensors["weights"].astype(np.float32)[:, None]
        self.table = table

    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors, one row per text; a text without known tokens gives zeros."""
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.array([id for id in encoding.ids if id != self.unknown][:MAX_TOKENS], dtype=np.int64) for encoding in encodings]
        vectors = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        lengths = np.array([len(row) for row in ids])
        known = np.flatnonzero(lengths)
        if known.size:
            starts = np.concatenate([[0], np.cumsum(lengths[known])[:-1]])
            vectors[known] = np.add.reduceat(self.table[np.concatenate(ids)], starts, axis=0)
            vectors[known] /= np.linalg.norm(vectors[known], axis=1, keepdims=True)
        return vectors


def chunk_documents(documents: list[Document], max_tokens: int, count_tokens) -> list[Chunk]:
    """Pieces of at most `max_tokens` tokens, cut at paragraphs, else sentences, else words."""
    chunks = []
    counts = count_tokens([document.text.strip() for document in documents])
    for document, count in zip(documents, counts):
        text = document.text.strip()
        pieces = [text] if count <= max_tokens else _split(text, max_tokens, count_tokens)
        chunks += [Chunk(document.id, document.title, piece) for piece in pieces if piece]
    return chunks


def _split(text: str, max_tokens: int, count_tokens) -> list[str]:
    for boundary in (r"(?<=\n)\n+", r"(?<=[.!?])\s+", r"\s+"):
        parts = re.split(boundary, text)
        if len(parts) > 1:
            break
    else:
        return [text]
    joiner, pieces = " " if boundary != r"(?<=\n)\n+" else "\n", []
    for part in parts:
        joined = f"{pieces[-1]}{joiner}{part}" if pieces else part
        if pieces and count_tokens([joined])[0] <= max_tokens:
            pieces[-1] = joined
        elif count_tokens([part])[0] <= max_tokens:
            pieces.append(part)
        else:
            pieces += _split(part, max_tokens, count_tokens)
    return [piece.strip() for piece in pieces]


class Found(list):
    """Hits, and the rows that exact search has."""

    def __init__(self, hits, exact: list[int]):
        super().__init__(hits)
        self.exact = exact


class Retriever:
    """The index over the chunks, with exact search beside it."""

    def __init__(self, chunks: list[Chunk], embedder: StaticEmbedder, settings: dict, threads: int):
        self.chunks, self.embedder, self.top_k = chunks, embedder, settings["top_k"]
        texts = [f"{chunk.title}\n{chunk.text}" if chunk.title else chunk.text for chunk in chunks]
        self.vectors = embedder.embed(texts)
        hnsw = settings["hnsw"]
        self.index = hnswlib.Index(space="ip", dim=self.vectors.shape[1])
        self.index.init_index(len(chunks), M=hnsw["m"], ef_construction=hnsw["ef_construction"], random_seed=1)
        self.index.add_items(self.vectors, num_threads=threads)
        self.index.set_ef(hnsw["ef_search"])
        self.threads = threads
        self.rows_of: dict[str, list[int]] = {}
        for row, chunk in enumerate(chunks):
            self.rows_of.setdefault(chunk.document, []).append(row)

    def search(self, questions: list[str], shadow: bool) -> list[list[Hit]]:
        """The best passages of every question, best first, ties by row; `shadow` also searches exactly and marks the hits it agrees with."""
        queries = self.embedder.embed(questions)
        rows, _ = self.index.knn_query(queries, k=self.top_k, num_threads=self.threads if len(questions) > 1 else 1)
        rows = rows.astype(np.int64)
        scores = np.einsum("qd,qkd->qk", queries, self.vectors[rows])
        order = np.lexsort((rows, -scores), axis=1)
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        agrees, exact = np.full(rows.shape, None), np.empty((len(questions), 0), np.int64)
        if shadow:
            every = queries @ self.vectors.T
            exact = np.argpartition(-every, self.top_k - 1, axis=1)[:, : self.top_k]
            worst = np.take_along_axis(every, exact, 1).min(axis=1)
            # The two inner products are rounded differently in the last bits.
            agrees = scores >= worst[:, None] - 1e-6
        lists = zip(rows.tolist(), scores.tolist(), agrees.tolist(), exact.tolist())
        return [Found((Hit(*hit) for hit in zip(row, score, agree)), best) for row, score, agree, best in lists]

    def gold(self, relevant: list[str]) -> list[Hit]:
        """The relevant documents' chunks, in corpus order."""
        rows = sorted(row for document in relevant for row in self.rows_of.get(document, []))
        return [Hit(row, 0.0, None) for row in rows[: self.top_k]]

    def random(self, relevant: list[str], key: str) -> list[Hit]:
        """As many chunks of other documents, drawn for this question."""
        rng, barred, rows = random.Random(key), {row for document in relevant for row in self.rows_of.get(document, [])}, []
        while len(rows) < min(self.top_k, len(self.chunks) - len(barred)):
            row = rng.randrange(len(self.chunks))
            if row not in barred and row not in rows:
                rows.append(row)
        return [Hit(row, 0.0, None) for row in rows]
