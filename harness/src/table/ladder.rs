//! Where answers are lost: for every variant, on the same questions, how far each question gets from "the corpus holds it" to a right and
//! well-formed answer, and what stopped those that did not arrive.
//!
//! Questions count that have an answer and relevance labels. With several seeds a question counts by the part of its rows.

use super::TableError;
use super::input::{Observation, RunData};
use super::metric::{EXACT_RECALL, GROUNDED};
use super::score::Scores;
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::{HitRow, Phase};

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The base model answers it exactly without passages.
    ClosedBook,
    /// A relevant document is in the corpus.
    InCorpus,
    /// Exact search finds one among its first `top_k`.
    FoundExact,
    /// The index finds one.
    Found,
    /// A passage of one is in the prompt.
    InPrompt,
    /// The answer stands in a passage of the prompt.
    Used,
    /// The answer holds a reference: `contains`.
    Right,
    /// The answer is a reference: `exact_match`.
    WellFormed,
}

impl Rung {
    /// From the first to the last.
    pub const ALL: [Self; 8] =
        [Self::ClosedBook, Self::InCorpus, Self::FoundExact, Self::Found, Self::InPrompt, Self::Used, Self::Right, Self::WellFormed];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedBook => "known_closed_book",
            Self::InCorpus => "in_corpus",
            Self::FoundExact => "found_by_exact_search",
            Self::Found => "found_by_index",
            Self::InPrompt => "in_prompt",
            Self::Used => "used",
            Self::Right => "right",
            Self::WellFormed => "well_formed",
        }
    }
}

/// Why a question was not answered exactly: the first thing that went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It was.
    None,
    /// The variant has no passages: the weights do not know it.
    NotKnown,
    /// Exact search ranks every relevant passage below the first `top_k`.
    RankedBelow,
    /// Exact search finds it and the index does not.
    LostByIndex,
    /// It was found, and no relevant passage fitted into the prompt.
    DidNotFit,
    /// A relevant passage is in the prompt and the answer is from nowhere in it.
    NotUsed,
    /// The answer is from a passage and is another one.
    Misread,
    /// The right answer is in it, in another form or with more around it.
    WrongForm,
    /// There is no answer.
    Failed,
}

impl Cause {
    /// In the order of tables and figures.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::WrongForm,
        Self::Misread,
        Self::NotUsed,
        Self::DidNotFit,
        Self::LostByIndex,
        Self::RankedBelow,
        Self::NotKnown,
        Self::Failed,
    ];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "answered_exactly",
            Self::NotKnown => "not_known",
            Self::RankedBelow => "ranked_below",
            Self::LostByIndex => "lost_by_index",
            Self::DidNotFit => "did_not_fit",
            Self::NotUsed => "not_used",
            Self::Misread => "misread",
            Self::WrongForm => "wrong_form",
            Self::Failed => "failed",
        }
    }
}

/// What a line of the ladder counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Questions that get so far.
    Rung(Rung),
    /// Questions that were lost for this.
    Cause(Cause),
}

impl Step {
    /// `rung` or `cause`.
    pub fn part(self) -> &'static str {
        match self {
            Self::Rung(_) => "rung",
            Self::Cause(_) => "cause",
        }
    }

    /// Name of the rung or cause.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rung(rung) => rung.name(),
            Self::Cause(cause) => cause.name(),
        }
    }
}

/// One line of the ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct LadderRow {
    /// The variant.
    pub variant: VariantKind,
    /// What is counted.
    pub step: Step,
    /// Questions that reach the rung, or were lost for the cause; nothing where the variant has no such rung, or what it needs was not
    /// measured.
    pub count: Option<f64>,
    /// Questions that count, the same for all variants.
    pub n: usize,
}

/// The ladder and the causes of every variant; empty if no question has an answer and relevance labels.
pub(super) fn ladder(data: &RunData, scores: &Scores) -> Result<Vec<LadderRow>, TableError> {
    let counted: Vec<bool> = (0..data.samples.len()).map(|index| data.samples.is_on_ladder(index)).collect();
    let n = counted.iter().filter(|counted| **counted).count();
    if n == 0 {
        return Ok(Vec::new());
    }
    let known = closed_book(scores, &counted);
    let mut rows = Vec::new();
    // Nothing is known of the prompts behind given answers.
    for variant in data.variants().into_iter().filter(|variant| !variant.is_predicted()) {
        let walked = Walked::of(data, variant, &counted)?;
        for rung in Rung::ALL {
            let count = match rung {
                Rung::ClosedBook => known,
                Rung::InCorpus => Some(n as f64),
                rung => walked.reached(rung),
            };
            rows.push(LadderRow { variant, step: Step::Rung(rung), count, n });
        }
        for cause in Cause::ALL {
            rows.push(LadderRow { variant, step: Step::Cause(cause), count: Some(walked.lost(cause)), n });
        }
    }
    Ok(rows)
}

/// Questions that the baseline answers exactly.
fn closed_book(scores: &Scores, counted: &[bool]) -> Option<f64> {
    let column = scores.column(VariantKind::Baseline, "exact_match")?;
    let scores = column.iter().zip(counted).filter(|(_, counted)| **counted);
    Some(scores.filter_map(|(scored, _)| scored.map(|scored| scored.value)).sum())
}

/// One row of the journal, as far as the ladder looks at it.
struct Steps {
    /// Part of its sample that the row stands for.
    weight: f64,
    found_exact: Option<bool>,
    found: Option<bool>,
    in_prompt: Option<bool>,
    used: Option<bool>,
    right: bool,
    well_formed: bool,
    cause: Cause,
}

/// Parts of samples by rung and cause, in the order of [`Rung::ALL`] and [`Cause::ALL`].
struct Walked {
    reached: [Option<f64>; Rung::ALL.len()],
    lost: [f64; Cause::ALL.len()],
}

impl Walked {
    fn of(data: &RunData, variant: VariantKind, counted: &[bool]) -> Result<Self, TableError> {
        let per_sample = data.rows_per_question(variant);
        let mut samples = data.samples.reader();
        // As an empty sum of floats is.
        let mut walked = Self { reached: [None; Rung::ALL.len()], lost: [-0.0; Cause::ALL.len()] };
        for row in data.rows_of(variant, Phase::Accuracy) {
            let row = row?;
            if counted[row.sample] {
                // Only passages are held against the labels.
                let relevant = if row.hits.is_empty() { Vec::new() } else { samples.get(row.sample)?.relevant };
                walked.add(&steps(data, &row, &relevant, 1.0 / f64::from(per_sample[row.sample])));
            }
        }
        Ok(walked)
    }

    fn add(&mut self, steps: &Steps) {
        for (rung, sum) in Rung::ALL.iter().zip(&mut self.reached) {
            let reached = match rung {
                Rung::FoundExact => steps.found_exact,
                Rung::Found => steps.found,
                Rung::InPrompt => steps.in_prompt,
                Rung::Used => steps.used,
                Rung::WellFormed => Some(steps.well_formed),
                _ => Some(steps.right),
            };
            if let Some(reached) = reached {
                *sum.get_or_insert(0.0) += if reached { steps.weight } else { 0.0 };
            }
        }
        for (cause, sum) in Cause::ALL.iter().zip(&mut self.lost) {
            if steps.cause == *cause {
                *sum += steps.weight;
            }
        }
    }

    fn reached(&self, wanted: Rung) -> Option<f64> {
        Rung::ALL.iter().zip(self.reached).find(|(rung, _)| **rung == wanted)?.1
    }

    fn lost(&self, wanted: Cause) -> f64 {
        Cause::ALL.iter().zip(self.lost).find(|(cause, _)| **cause == wanted).map_or(-0.0, |(_, lost)| lost)
    }
}

fn steps(data: &RunData, row: &Observation, relevant: &[String], weight: f64) -> Steps {
    let context = row.variant.context();
    let searched = context == ContextSource::Retrieved;
    let is_relevant = |hit: &&HitRow| relevant.contains(&hit.document_id);
    let found_exact = row.score(&format!("{EXACT_RECALL}_at_{}", data.manifest.spec.retrieval.top_k)).map(|recall| recall > 0.0);
    let found = searched.then(|| row.hits.iter().any(|hit| is_relevant(&hit)));
    let in_prompt = (context != ContextSource::None).then(|| row.hits.iter().filter(is_relevant).any(|hit| hit.in_prompt));
    // An answer that abstains or is empty is from nowhere.
    let used = (context != ContextSource::None).then(|| row.score(GROUNDED).is_some_and(|grounded| grounded > 0.0));
    let is_one = |id| row.score(id).is_some_and(|value: f64| value >= 1.0);
    let (right, well_formed) = (is_one("contains"), is_one("exact_match"));
    let cause = if row.error.is_some() {
        Cause::Failed
    } else if well_formed {
        Cause::None
    } else if right {
        Cause::WrongForm
    } else if context == ContextSource::None {
        Cause::NotKnown
    } else if found == Some(false) && found_exact == Some(true) {
        Cause::LostByIndex
    } else if found == Some(false) || (!searched && row.hits.iter().all(|hit| !is_relevant(&hit))) {
        Cause::RankedBelow
    } else if in_prompt == Some(false) {
        Cause::DidNotFit
    } else if used == Some(true) {
        Cause::Misread
    } else {
        Cause::NotUsed
    };
    Steps { weight, found_exact, found, in_prompt, used, right, well_formed, cause }
}
