"""sentence-transformers: `encode`, which sorts texts by length and pads within a batch."""

import embedding
import torch
from sentence_transformers import SentenceTransformer


class Encoder:
    def __init__(self, settings):
        torch.set_num_threads(settings.threads)
        self.model = SentenceTransformer(settings.model, device="cpu")

    def encode(self, texts, batch):
        return self.model.encode(texts, batch_size=batch, convert_to_numpy=True, normalize_embeddings=True)


if __name__ == "__main__":
    embedding.serve(Encoder, batches=(4, 8, 16, 32))
