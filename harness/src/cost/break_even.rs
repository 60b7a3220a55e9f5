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

/// A break-even with what the measured costs per question leave open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// By the costs as measured; a saving per question that was not shown counts as none.
    pub outcome: BreakEven,
    /// Fewest and most questions at which the dearer set-up may be paid off; the upper end is infinite where that may be never. Nothing
    /// where nothing is to be paid off, or costs are counted.
    pub interval: Option<(f64, f64)>,
    /// The difference per question is more than the measurement's noise.
    pub is_shown: bool,
}

impl Line {
    /// This line against another, where the saving per question of this one has the interval `saving` (nothing for counted costs).
    pub fn crossing(self, other: Self, saving: Option<(f64, f64)>) -> Crossing {
        let is_shown = saving.is_none_or(|(low, high)| low > 0.0 || high < 0.0 || (low == 0.0 && high == 0.0));
        let (mut left, mut right) = (self, other);
        if !is_shown {
            let mean = f64::midpoint(left.query, right.query);
            (left.query, right.query) = (mean, mean);
        }
        let more_setup = self.setup - other.setup;
        // Savings per question of the side that is dearer to set up.
        let interval = saving.filter(|_| more_setup != 0.0).map(|(low, high)| if more_setup > 0.0 { (low, high) } else { (-high, -low) });
        let interval = interval.filter(|(_, high)| *high > 0.0).map(|(low, high)| {
            let paid_off = |saving: f64| if saving > 0.0 { more_setup.abs() / saving } else { f64::INFINITY };
            (paid_off(high), paid_off(low))
        });
        Crossing { outcome: left.against(right), interval, is_shown }
    }

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
    fn a_saving_with_an_interval_gives_a_break_even_with_one() {
        let line = |setup, query| Line { setup, query };
        let crossing = line(80.0, 0.001).crossing(line(0.0, 0.005), Some((0.002, 0.008)));
        assert_eq!((crossing.outcome, crossing.is_shown), (BreakEven::CheaperBeyond(20_000.0), true));
        assert_eq!(crossing.interval, Some((10_000.0, 40_000.0)));
        // The other side sees the same questions.
        let other = line(0.0, 0.005).crossing(line(80.0, 0.001), Some((-0.008, -0.002)));
        assert_eq!((other.outcome, other.interval), (BreakEven::CheaperUpTo(20_000.0), Some((10_000.0, 40_000.0))));
    }

    #[test]
    fn a_saving_that_was_not_shown_may_never_pay_off() {
        let line = |setup, query| Line { setup, query };
        let crossing = line(80.0, 0.001).crossing(line(0.0, 0.002), Some((-0.001, 0.004)));
        assert_eq!((crossing.outcome, crossing.is_shown), (BreakEven::NeverCheaper, false));
        assert_eq!(crossing.interval, Some((20_000.0, f64::INFINITY)));
        let dearer = line(80.0, 0.005).crossing(line(0.0, 0.002), Some((-0.004, -0.002)));
        assert_eq!((dearer.outcome, dearer.interval), (BreakEven::NeverCheaper, None));
        assert_eq!(line(1.0, 2.0).crossing(line(3.0, 1.0), None).interval, None);
    }

    #[test]
    fn totals_meet_at_the_break_even() {
        let (left, right) = (Line { setup: 12.0, query: 0.25 }, Line { setup: 2.0, query: 0.5 });
        let BreakEven::CheaperBeyond(queries) = left.against(right) else { panic!("signs differ") };
        assert_eq!(queries, 40.0);
        assert_eq!(left.total(queries), right.total(queries));
    }
}
