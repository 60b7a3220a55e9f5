//! After how many questions one variant's total cost falls below another's.

/// Total cost over `q` questions: `setup + q * query`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Before the first question.
    pub setup: f64,
    /// With every question.
    pub query: f64,
}

/// Which of two lines is the lower one, and where that changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BreakEven {
    /// The left is cheaper from the first question on, whatever their number.
    AlwaysCheaper,
    /// The left is never cheaper.
    NeverCheaper,
    /// The left costs more to set up and less per question: cheaper beyond this many questions.
    CheaperBeyond(f64),
    /// The left costs less to set up and more per question: cheaper up to this many questions.
    CheaperUpTo(f64),
    /// No difference at all.
    Equal,
}

impl Line {
    /// Total cost over `queries` questions.
    pub fn total(self, queries: f64) -> f64 {
        self.setup + queries * self.query
    }

    /// This line against another. They cross at `N = (setup - setup') / (query' - query)`, which counts only where it is positive.
    pub fn against(self, other: Self) -> BreakEven {
        let more_setup = self.setup - other.setup;
        let less_query = other.query - self.query;
        if more_setup == 0.0 && less_query == 0.0 {
            BreakEven::Equal
        } else if more_setup <= 0.0 && less_query >= 0.0 {
            BreakEven::AlwaysCheaper
        } else if more_setup >= 0.0 && less_query <= 0.0 {
            BreakEven::NeverCheaper
        } else if more_setup > 0.0 {
            BreakEven::CheaperBeyond(more_setup / less_query)
        } else {
            BreakEven::CheaperUpTo(more_setup / less_query)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(left: (f64, f64), right: (f64, f64), expected: BreakEven) {
        let line = |(setup, query)| Line { setup, query };
        assert_eq!(line(left).against(line(right)), expected);
    }

    #[test]
    fn signs_decide_who_is_cheaper_when() {
        check((80.0, 0.001), (0.0, 0.005), BreakEven::CheaperBeyond(20_000.0));
        check((0.0, 0.005), (80.0, 0.001), BreakEven::CheaperUpTo(20_000.0));
        check((1.0, 1.0), (2.0, 2.0), BreakEven::AlwaysCheaper);
        check((2.0, 2.0), (1.0, 1.0), BreakEven::NeverCheaper);
        check((1.0, 2.0), (1.0, 2.0), BreakEven::Equal);
        check((1.0, 1.0), (1.0, 2.0), BreakEven::AlwaysCheaper);
        check((1.0, 1.0), (0.0, 1.0), BreakEven::NeverCheaper);
    }

    #[test]
    fn totals_meet_at_the_break_even() {
        let (left, right) = (Line { setup: 12.0, query: 0.25 }, Line { setup: 2.0, query: 0.5 });
        let BreakEven::CheaperBeyond(queries) = left.against(right) else { panic!("signs differ") };
        assert_eq!(queries, 40.0);
        assert_eq!(left.total(queries), right.total(queries));
    }
}
