//! Two factors: does fine-tuning add as much on top of retrieval as it adds alone?

/// Scores of the four variants, as shares.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "fields are called as the variants")]
pub struct Cells {
    pub baseline: f64,
    pub rag: f64,
    pub finetuned: f64,
    pub hybrid: f64,
}

impl Cells {
    /// (hybrid - rag) - (finetuned - baseline).
    pub fn additive(&self) -> f64 {
        (self.hybrid - self.rag) - (self.finetuned - self.baseline)
    }

    /// The same in log-odds, where room near 0 and 1 is not used up by what is already there; not finite where a share is 0 or 1.
    pub fn log_odds(&self) -> f64 {
        let odds = |share: f64| (share / (1.0 - share)).ln();
        (odds(self.hybrid) - odds(self.rag)) - (odds(self.finetuned) - odds(self.baseline))
    }

    /// Shares with half a right and half a wrong answer added (Haldane and Anscombe), so that log-odds are finite.
    pub fn smoothed(&self, n: usize) -> Self {
        let of = |share: f64| smoothed(share, n);
        Self { baseline: of(self.baseline), rag: of(self.rag), finetuned: of(self.finetuned), hybrid: of(self.hybrid) }
    }
}

/// `(successes + 1/2) / (n + 1)`.
pub fn smoothed(share: f64, n: usize) -> f64 {
    (share * n as f64 + 0.5) / (n as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published 2x2 results: baseline, RAG, fine-tuned, both, and the interaction in points.
    const PUBLISHED: [(&str, [f64; 4], f64); 14] = [
        ("Ovadia 2023, current events, Mistral-7B, regular", [48.1, 87.5, 50.4, 81.0], -8.8),
        ("Ovadia 2023, current events, Mistral-7B, paraphrases", [48.1, 87.5, 58.8, 83.0], -15.2),
        ("Ovadia 2023, current events, Llama2-7B, regular", [35.3, 58.5, 21.9, 32.6], -12.5),
        ("Ovadia 2023, current events, Llama2-7B, paraphrases", [35.3, 58.5, 39.2, 52.0], -10.4),
        ("Ovadia 2023, current events, Orca2-7B, regular", [45.6, 87.6, 51.1, 82.0], -11.1),
        ("Ovadia 2023, current events, Orca2-7B, paraphrases", [45.6, 87.6, 56.6, 82.6], -16.0),
        ("Ovadia 2023, MMLU subjects, gains", [0.0, 6.1, 1.5, 5.4], -2.2),
        ("Soudani 2024, StableLM2-1.6B", [17.0, 76.1, 21.8, 82.1], 1.2),
        ("Soudani 2024, Mistral-7B", [21.5, 80.3, 30.7, 78.4], -11.0),
        ("Soudani 2024, Llama3-8B", [32.5, 81.3, 32.8, 81.5], 0.0),
        ("RAFT 2024, PubMedQA", [56.5, 58.8, 59.7, 71.6], 9.6),
        ("RAFT 2024, HotpotQA", [0.54, 0.03, 6.4, 4.4], -1.5),
        ("NehaBharti08, statutes", [0.3, 83.7, 0.9, 87.5], 3.2),
        ("diliprc96, physics", [20.0, 22.0, 12.0, 8.0], -6.0),
    ];

    #[test]
    fn published_cells_give_the_interactions_that_were_printed() {
        for (name, [baseline, rag, finetuned, hybrid], printed) in PUBLISHED {
            // Cells are rounded to a tenth, and some interactions were made from unrounded ones.
            let found = Cells { baseline, rag, finetuned, hybrid }.additive();
            assert!((found - printed).abs() < 0.11, "{name}: {found} against {printed}");
        }
    }

    #[test]
    fn near_the_ceiling_the_scales_disagree() {
        let cells = Cells { baseline: 0.5, rag: 0.9, finetuned: 0.7, hybrid: 0.96 };
        assert!(cells.additive() < 0.0 && cells.log_odds() > 0.0);
        let full = Cells { baseline: 0.0, rag: 1.0, finetuned: 0.5, hybrid: 1.0 };
        assert!(!full.log_odds().is_finite() && full.smoothed(100).log_odds().is_finite());
        assert_eq!(smoothed(0.0, 9), 0.05);
    }
}
