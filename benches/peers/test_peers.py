"""`python3 -m unittest discover benches/peers`: the table's arithmetic on answers made up here, without a contender."""

import unittest

import checks
import table
import works

WORK = works.Work(
    name="w",
    command={"work": "generate"},
    peers=("llama.cpp", "transformers"),
    measures=(works.Measure("m", "decode", "tokens/s", targets={works.BEST: (1.0, 2.0)}),),
    needs=(),
)


def answers(*seconds):
    """A warm-up that must not count, then rounds of 60 tokens."""
    return [{"seconds": s, "tokens": 60, "ids": [[1, 2]], "peak_rss_bytes": 2e6} for s in (99.0, *seconds)]


class Table(unittest.TestCase):
    def record(self, **change):
        found = {"ragft": answers(1.0, 2.0, 3.0), "llama.cpp": answers(2.0, 2.0, 2.0), "transformers": answers(6.0, 6.0, 6.0)}
        return {"work": "w", "answers": found, "missing": {}, "orders": []} | change

    def test_ratios_are_taken_within_rounds_and_the_warm_up_is_left_out(self):
        one = table.line(WORK, WORK.measures[0], "llama.cpp", self.record())
        self.assertEqual(one["ours"], [60.0, 30.0, 20.0])
        self.assertEqual([round(ratio, 3) for ratio in one["ratios"]], [2.0, 1.0, 0.667])
        self.assertEqual(table.cells(one)[4], "1.00 (0.67 to 2.00)")

    def test_the_best_peer_is_the_one_with_the_highest_median(self):
        best = table.lines_of(WORK, self.record())[-1]
        self.assertEqual(best["peer"], "best of them (llama.cpp)")
        self.assertEqual(table.cells(best)[4], "1.00 (0.67 to 2.00): met")

    def test_a_contender_without_figures_is_shown_with_the_reason(self):
        record = self.record(missing={"llama.cpp": "no compiler"})
        del record["answers"]["llama.cpp"]
        lines = table.lines_of(WORK, record)
        self.assertEqual([one["peer"] for one in lines], ["llama.cpp", "transformers", "best of them (transformers)"])
        self.assertIn("not measured: llama.cpp: no compiler", table.cells(lines[0]))
        self.assertTrue(table.cells(lines[0])[2].startswith("30.0 (20.0 to 60.0)"))

    def test_steps_of_one_command_count_by_their_median(self):
        measure = works.Measure("step", "step", "tokens/s", seconds="step_seconds")
        self.assertEqual(table.rate(measure, {"step_seconds": [1.0, 2.0, 30.0], "tokens": 300}), 50.0)

    def test_every_work_has_a_script_and_files_for_every_peer(self):
        for work in works.WORKS:
            self.assertTrue(works.inputs(work, works.Path("data")))
            for peer in work.peers:
                self.assertIn((peer, work.command["work"]), works.SCRIPTS)


class Checks(unittest.TestCase):
    def test_answers_are_compared_whole_and_up_to_their_first_difference(self):
        ours, theirs = [{"ids": [[1, 2, 3, 4], [5, 6, 7, 8]]}], [{"ids": [[1, 2, 3, 4], [5, 6, 0, 8]]}]
        self.assertEqual(checks.ids(ours, theirs), "1 of 2 answers equal, 75% of tokens before the first difference")
        self.assertEqual(checks.ids(ours, ours), "2 of 2 answers equal")

    def test_losses_and_vectors(self):
        ours, theirs = [{"losses": [3.0, 2.0]}], [{"losses": [3.0, 2.00005]}]
        self.assertEqual(checks.losses(ours, theirs), "losses of 2 steps (3.000 to 2.000) differ by 5.0e-05 at most")
        self.assertEqual(checks.vectors([{"vectors": [[1.0, 0.0]]}], [{"vectors": [[2.0, 0.0]]}]), "cosine 1.000000 at least")


if __name__ == "__main__":
    unittest.main()
