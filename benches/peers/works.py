"""What is compared: every line of the table comes from here."""

from dataclasses import dataclass, field
from pathlib import Path

OURS = "ragft"
ADAPTER = {"rank": 16, "alpha": 32.0, "seed": 20}
BEST = "best of"


@dataclass(frozen=True)
class Measure:
    """One quantity of an answer: `amount` units done in `seconds`."""

    name: str
    title: str
    unit: str
    # Keys of the answer; `step_seconds` is a list, of which the median counts.
    seconds: str = "seconds"
    amount: str = "tokens"
    # Peer -> (at least, aim), as ratios of speed ours / peer.
    targets: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A command that all contenders get in every round."""

    name: str
    command: dict
    peers: tuple
    measures: tuple
    # What `make_models.py` must have made.
    needs: tuple
    dtype: str = "f32"
    # Peak memory of ours / peer that is asked for, at most.
    memory_target: float | None = None
    # Contenders whose logits are compared as well.
    logits: tuple = ()
    # The untimed first round, where it differs.
    warm_up: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)
    # Rounds for every one that is asked for: commands of a second are disturbed more than those of ten.
    repeats: int = 1

    @property
    def contenders(self):
        return (OURS, *self.peers)


def training(model, method, batch, length, steps, targets, title):
    command = {
        "work": "train",
        "method": method,
        "batch": batch,
        "length": length,
        "steps": steps,
        "seed": ADAPTER["seed"],
        "learning_rate": 1e-3 if method == "lora" else 3e-4,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    }
    return Work(
        name=f"train-{model}-{method}",
        command=command,
        peers=("torch",),
        measures=(Measure("step", title, "tokens/s", seconds="step_seconds", targets=targets),),
        needs=(model, f"{model}.adapter") if method == "lora" else (model,),
        memory_target=0.5,
        # Ten steps, whose losses are compared.
        warm_up={"steps": 10},
        quick={"steps": 1},
    )


def generation(name, batch, prompt, new, peers, targets, dtype="f32"):
    kind = "" if dtype == "f32" else f", {dtype}"
    prefill = Measure(
        "prefill", f"prefill {batch} x {prompt} tokens, 135M{kind}", "tokens/s", "prefill_seconds", "prefill_tokens", targets.get("prefill", {})
    )
    decode = Measure(
        "decode", f"decode batch {batch}, 135M{kind}", "tokens/s", "decode_seconds", "decode_tokens", targets.get("decode", {})
    )
    return Work(
        name=name,
        command={"work": "generate", "batch": batch, "prompt": prompt, "new": new},
        peers=peers,
        measures=(prefill, decode) if new > 1 else (prefill,),
        needs=("135m", f"135m.gguf/{dtype}") if "llama.cpp" in peers else ("135m",),
        dtype=dtype,
        logits=(OURS, "transformers") if new == 1 else (),
        quick={"new": min(new, 8)},
        repeats=3 if new == 1 else 1,
    )


BOTH = ("llama.cpp", "transformers")
WORKS = (
    training("tiny", "lora", 8, 256, 3, {"torch": (1.2, 1.6)}, "LoRA r=16 step, tiny, 8 x 256 tokens"),
    training("135m", "lora", 2, 256, 1, {"torch": (1.2, 1.5)}, "LoRA r=16 step, 135M, 2 x 256 tokens"),
    training("tiny", "full", 8, 256, 3, {"torch": (1.2, 1.5)}, "full step, tiny, 8 x 256 tokens"),
    generation("prefill-512", 1, 512, 1, BOTH, {"prefill": {BEST: (0.95, 1.1)}}),
    generation("decode-b1", 1, 64, 64, BOTH, {"decode": {"llama.cpp": (0.95, 1.1)}}),
    generation("decode-b1-q8", 1, 64, 64, ("llama.cpp",), {"decode": {"llama.cpp": (0.95, 1.1)}}, dtype="q8_0"),
    generation("decode-b1-bf16", 1, 64, 64, BOTH, {}, dtype="bf16"),
    generation("decode-b8", 8, 64, 64, BOTH, {"decode": {"llama.cpp": (1.0, 1.3), "transformers": (1.5, 3.0)}}),
    generation("decode-b32", 32, 16, 64, BOTH, {"decode": {"llama.cpp": (1.0, 1.3), "transformers": (1.5, 3.0)}}),
    Work(
        name="embed",
        command={"work": "embed", "vectors": False},
        peers=("onnxruntime", "sentence-transformers"),
        measures=(Measure("embed", "embedding, MiniLM, texts of 5 to 200 words", "texts/s", amount="texts", targets={BEST: (1.0, 1.5)}),),
        needs=("minilm", "minilm.onnx", "texts"),
        warm_up={"vectors": True},
    ),
    Work(
        name="index",
        command={
            "work": "index",
            "dimension": 384,
            "queries": 500,
            "m": 16,
            "ef_construction": 200,
            "ef_search": 32,
            "top_k": 10,
        },
        peers=("hnswlib",),
        measures=(
            Measure("build", "HNSW build, 5,000 vectors, one thread", "vectors/s", "build_seconds", "vectors"),
            Measure("search", "HNSW search, ef 32, one query at a time", "queries/s", "search_seconds", "queries"),
        ),
        needs=("vectors",),
    ),
)


def inputs(work, data):
    """The files of a command, which all contenders read."""
    kind, model = work.command["work"], work.needs[0]
    if kind == "train":
        files = {"tokens": data / f"{model}.tokens"}
        return files | ({"adapter": data / f"{model}.adapter"} if work.command["method"] == "lora" else {})
    return {"generate": {"tokens": data / f"{model}.tokens"}, "embed": {"texts": data / "texts.txt"}, "index": {"vectors": data / "vectors.f32"}}[kind]


def needed(work, contender):
    """What must have been made for this contender."""
    own = {"llama.cpp": ".gguf/", "onnxruntime": ".onnx"}
    foreign = [mark for name, mark in own.items() if name != contender]
    return [thing for thing in work.needs if not any(mark in thing for mark in foreign)]


SCRIPTS = {
    ("torch", "train"): "torch_train.py",
    ("transformers", "generate"): "transformers_generate.py",
    ("llama.cpp", "generate"): "llama_cpp_generate.py",
    ("sentence-transformers", "embed"): "sentence_transformers_embed.py",
    ("onnxruntime", "embed"): "onnxruntime_embed.py",
    ("hnswlib", "index"): "hnswlib_index.py",
}


def weights(work, contender, data):
    """What a contender loads: the folder that the others load, or the same weights in its own format."""
    model = work.needs[0]
    return data / f"{model}-{work.dtype}.gguf" if contender == "llama.cpp" else data / model


def command_line(work, contender, setup):
    """How a contender's process is started."""
    flags = ["--model", weights(work, contender, setup.data), "--threads", setup.threads, "--dtype", work.dtype]
    if contender == OURS:
        return [setup.ours, *flags]
    script = Path(__file__).parent / "contenders" / SCRIPTS[contender, work.command["work"]]
    return [setup.python, script, *flags]
