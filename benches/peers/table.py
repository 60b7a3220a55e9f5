"""Records of a contest as lines of the ratio table, and the table as Markdown."""

from statistics import median

import checks
import works

HEAD = (
    "work",
    "peer",
    "ours",
    "peer's",
    "speed ours / peer",
    "at least",
    "aim",
    "peak memory, MB: ours, peer",
    "memory ours / peer",
    "same result",
)
MISSING = "not measured: "


def spread(values, digits):
    """Median, and the lowest and highest."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def digits_of(values):
    """Three significant digits at least."""
    middle = median(values)
    return 0 if middle >= 100 else 1 if middle >= 10 else 2


def rate(measure, answer):
    """Units per second of one answer."""
    seconds = answer[measure.seconds]
    if isinstance(seconds, list):
        return answer[measure.amount] / len(seconds) / median(seconds)
    return answer[measure.amount] / seconds


def rates(measure, answers):
    """Of the rounds that count."""
    return [rate(measure, answer) for answer in answers[1:]]


def peak(answers):
    return max(answer["peak_rss_bytes"] or 0 for answer in answers) / 1e6


def lines_of(work, record):
    """The lines of one work: one per measure and peer, and one for the best peer where the target asks for that."""
    lines = []
    for measure in work.measures:
        for peer in work.peers:
            lines.append(line(work, measure, peer, record))
        if works.BEST in measure.targets:
            lines.append(best_line(work, measure, record))
    return lines


def line(work, measure, peer, record):
    least, aim = measure.targets.get(peer, (None, None))
    result = {"work": work.name, "measure": measure.name, "title": measure.title, "unit": measure.unit, "peer": peer, "least": least, "aim": aim}
    for name in (works.OURS, peer):
        if name in record["missing"]:
            # What one of them did is shown none the less.
            measured = peer if name == works.OURS else works.OURS
            if measured in record["answers"]:
                result |= {"ours" if measured == works.OURS else "theirs": rates(measure, record["answers"][measured])}
            return result | {"missing": f"{name}: {record['missing'][name]}"}
    ours, theirs = record["answers"][works.OURS], record["answers"][peer]
    our_rates, their_rates = rates(measure, ours), rates(measure, theirs)
    return result | {
        "ours": our_rates,
        "theirs": their_rates,
        "ratios": [a / b for a, b in zip(our_rates, their_rates)],
        "our_peak_mb": peak(ours),
        "their_peak_mb": peak(theirs),
        "memory_target": work.memory_target,
        "same": same(work, ours, theirs, record.get("logits", {}), peer),
        "choice": theirs[0].get("choice"),
    }


def same(work, ours, theirs, logits, peer):
    text = checks.BY_WORK[work.command["work"]](ours, theirs)
    return f"{text}; {checks.logits(logits[works.OURS], logits[peer])}" if works.OURS in logits and peer in logits else text


def best_line(work, measure, record):
    """Beside the peer that was fastest, by its median."""
    lines = [line(work, measure, peer, record) for peer in work.peers]
    whole = [one for one in lines if "ratios" in one]
    chosen = max(whole, key=lambda one: median(one["theirs"])) if whole else lines[0]
    least, aim = measure.targets[works.BEST]
    return chosen | {"peer": f"best of them ({chosen['peer']})" if whole else works.BEST, "least": least, "aim": aim, "choice": None}


def cells(line):
    def number(value):
        return "" if value is None else f"{value:g}"

    shown = [line["title"], line["peer"]]
    for key in ("ours", "theirs"):
        shown.append(f"{spread(line[key], digits_of(line[key]))} {line['unit']}" if line.get(key) else "")
    if "missing" in line:
        return [*shown, MISSING + line["missing"], number(line["least"]), number(line["aim"]), "", "", ""]
    memory = line["our_peak_mb"] / line["their_peak_mb"] if line["their_peak_mb"] else float("nan")
    bound = "" if line["memory_target"] is None else f" (at most {line['memory_target']:g})"
    return [
        *shown,
        f"{spread(line['ratios'], 2)}{verdict(line)}",
        number(line["least"]),
        number(line["aim"]),
        f"{line['our_peak_mb']:.0f}, {line['their_peak_mb']:.0f}",
        f"{memory:.2f}{bound}",
        line["same"],
    ]


def verdict(line):
    if line["least"] is None:
        return ""
    ratio = median(line["ratios"])
    return ": aim met" if ratio >= line["aim"] else ": met" if ratio >= line["least"] else ": **not met**"


def markdown(lines, head):
    """The table, under what it was measured on, and above how the peers were set."""
    rows = [cells(line) for line in lines]
    text = [head, "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    text += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    choices = sorted({f"{line['work']}, {line['peer']}: {line['choice']}" for line in lines if line.get("choice")})
    if choices:
        text += ["", "What was fastest for each peer: " + "; ".join(choices) + "."]
    return "\n".join(text) + "\n"


def csv_rows(records):
    """Every answer of every round, for other tools."""
    yield ("work", "round", "contender", "place", "measure", "rate", "unit", "peak_rss_bytes")
    by_name = {work.name: work for work in works.WORKS}
    for record in records:
        work = by_name[record["work"]]
        for name, answers in record["answers"].items():
            for number, answer in enumerate(answers):
                for measure in work.measures:
                    place = record["orders"][number].index(name)
                    yield (work.name, number, name, place, measure.name, rate(measure, answer), measure.unit, answer["peak_rss_bytes"])
