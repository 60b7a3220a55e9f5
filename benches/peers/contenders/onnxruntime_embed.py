"""ONNX Runtime: a graph exported from the same weights and fused for BERT, all graph optimisations on; texts are sorted by length and padded
within a batch."""

import json
import os

import embedding
import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Encoder:
    def __init__(self, settings):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        graph = os.path.join(settings.model, "model.onnx")
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.tokenizer = Tokenizer.from_file(os.path.join(settings.model, "tokenizer.json"))
        with open(os.path.join(settings.model, "sentence_bert_config.json"), encoding="utf-8") as file:
            self.tokenizer.enable_truncation(json.load(file)["max_seq_length"])
        self.tokenizer.no_padding()

    def encode(self, texts, batch):
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        parts = [order[first : first + batch] for first in range(0, len(order), batch)]
        pooled = np.concatenate([self.forward([rows[row] for row in part]) for part in parts])
        vectors = np.empty_like(pooled)
        vectors[order] = pooled
        return vectors

    def forward(self, rows):
        """Mean of the token vectors, at unit length."""
        tokens = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        states = self.session.run(None, {name: value for name, value in feed.items() if name in self.inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        pooled = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


if __name__ == "__main__":
    embedding.serve(Encoder, batches=(1, 4, 8, 16))
