"""What the embedding contenders share: an encoder is a class with `encode(texts, batch)`; the batch size that is fastest here is found first."""

from functools import partial
from time import perf_counter

import protocol


def read_texts(command):
    with open(command["texts"], encoding="utf-8") as file:
        return file.read().splitlines()


def timed(encoder, texts, batch):
    start = perf_counter()
    vectors = encoder.encode(texts, batch)
    return perf_counter() - start, vectors


def fastest_batch(encoder_class, settings, command, batches):
    """On every third text."""
    encoder, texts = encoder_class(settings), read_texts(command)[::3]
    timed(encoder, texts, batches[0])
    return min(batches, key=lambda batch: timed(encoder, texts, batch)[0])


class Embedding:
    def __init__(self, encoder_class, batches, settings, command):
        self.batch = protocol.in_child(fastest_batch, encoder_class, settings, command, batches)
        self.encoder, self.texts = encoder_class(settings), read_texts(command)

    def __call__(self, command):
        seconds, vectors = timed(self.encoder, self.texts, self.batch)
        answer = {"seconds": seconds, "texts": len(self.texts), "choice": f"batches of {self.batch}"}
        return answer | ({"vectors": vectors.tolist()} if command["vectors"] else {})


def serve(encoder_class, batches):
    protocol.serve({"embed": partial(Embedding, encoder_class, batches)})
