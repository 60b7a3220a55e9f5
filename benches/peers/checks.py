"""Whether two contenders computed the same thing: text for the table, from the answers of all rounds."""

import math


def losses(ours, theirs):
    """Losses of the first steps."""
    pairs = list(zip(ours[0]["losses"], theirs[0]["losses"]))
    worst = max(abs(a - b) for a, b in pairs)
    fell = f"{pairs[0][1]:.3f} to {pairs[-1][1]:.3f}"
    return f"losses of {len(pairs)} steps ({fell}) differ by {worst:.1e} at most"


def ids(ours, theirs):
    """Greedy tokens, answer by answer. After a first difference an answer goes its own way, so whole answers are counted."""
    pairs = [pair for a, b in zip(ours, theirs) for pair in zip(a["ids"], b["ids"])]
    equal = sum(a == b for a, b in pairs)
    text = f"{equal} of {len(pairs)} answers equal"
    if equal < len(pairs):
        shared = [next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a)) for a, b in pairs]
        text += f", {sum(shared) / sum(len(a) for a, _ in pairs):.0%} of tokens before the first difference"
    return text


def vectors(ours, theirs):
    """Cosines of the vectors of the first round."""
    pairs = zip(ours[0]["vectors"], theirs[0]["vectors"])
    return f"cosine {min(cosine(a, b) for a, b in pairs):.6f} at least"


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def hits(ours, theirs):
    """Neighbours that both found."""
    pairs = list(zip(ours[0]["ids"], theirs[0]["ids"]))
    shared = sum(len(set(a) & set(b)) for a, b in pairs)
    return f"{shared / sum(len(a) for a, _ in pairs):.1%} of neighbours found by both"


def logits(ours, theirs):
    """Logits after one prompt, or why there are none."""
    if problems := [problem for problem in (ours, theirs) if isinstance(problem, str)]:
        return f"no logits: {problems[0]}"
    return f"logits differ by {max(abs(a - b) for a, b in zip(ours, theirs)):.1e} at most"


BY_WORK = {"train": losses, "generate": ids, "embed": vectors, "index": hits}
