"""hnswlib: built on one thread in row order, as an index that must be reproducible is, and searched one query after another."""

from time import perf_counter

import hnswlib
import numpy as np
import protocol


class Index:
    def __init__(self, _settings, command):
        rows = np.fromfile(command["vectors"], dtype="<f4").reshape(-1, command["dimension"])
        self.vectors, self.queries = rows[: -command["queries"]], rows[-command["queries"] :]

    def __call__(self, command):
        start = perf_counter()
        index = hnswlib.Index(space="ip", dim=command["dimension"])
        index.init_index(len(self.vectors), M=command["m"], ef_construction=command["ef_construction"])
        index.add_items(self.vectors, num_threads=1)
        built = perf_counter()
        index.set_ef(command["ef_search"])
        ids = [index.knn_query(query, k=command["top_k"], num_threads=1)[0][0].tolist() for query in self.queries]
        return {
            "build_seconds": built - start,
            "search_seconds": perf_counter() - built,
            "vectors": len(self.vectors),
            "queries": len(self.queries),
            "ids": ids,
        }


if __name__ == "__main__":
    protocol.serve({"index": Index})
