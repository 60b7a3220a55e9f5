//! Scores of one answer or one ranking: pure functions, equal to the official scorers.
//!
//! What cannot be measured on a sample (no references, no relevance labels) has no entry, never a zero.

mod choice;
mod metric;
#[cfg(test)]
mod official;
mod ranking;
mod rouge;
mod text;

use std::collections::BTreeMap;

pub use choice::{Choice, score_choices};
pub use metric::{ANSWER_METRICS, Direction, Metric, metric};
pub use ranking::{score_ranking, trec_order};
pub use rouge::{Rouge, rouge_l, rouge_n};
pub use text::{Normalised, normalise};

use crate::dataset::Sample;

/// Scores of `answer` by [`ANSWER_METRICS`]; each is the best over the references.
///
/// An answer that in normal form equals one of `abstention` ("unknown", "not stated") counts as the empty answer. A question without an
/// answer scores 1 for the empty answer and 0 for any other, on every metric. A question of a retrieval-only set, which has no
/// references though it is answerable, has no scores.
pub fn score_answer(answer: &str, sample: &Sample, abstention: &[String]) -> BTreeMap<String, f64> {
    if sample.answerable && sample.references.is_empty() {
        return BTreeMap::new();
    }
    let normal = normalise(answer);
    let answer = if abstention.iter().any(|text| normalise(text) == normal) { "" } else { answer };
    let pair = Normalised::new(answer, if sample.answerable { &sample.references } else { &[] });
    let rouge_l = if sample.answerable {
        sample.references.iter().map(|reference| rouge_l(answer, reference).f).fold(0.0, f64::max)
    } else {
        pair.exact_match()
    };
    let scores = [pair.exact_match(), pair.token_f1(), pair.contains(), rouge_l];
    ANSWER_METRICS.iter().map(|id| (*id).to_owned()).zip(scores).collect()
}

/// 1 if the answer stands in one of the passages as whole words (both in normal form), else 0; nothing for an empty answer or one that
/// abstains, which no passage could hold.
pub fn grounded<'a>(answer: &str, passages: impl IntoIterator<Item = &'a str>, abstention: &[String]) -> Option<f64> {
    let normal = normalise(answer);
    if normal.is_empty() || abstention.iter().any(|text| normalise(text) == normal) {
        return None;
    }
    let wanted = format!(" {normal} ");
    Some(f64::from(passages.into_iter().any(|passage| format!(" {} ", normalise(passage)).contains(&wanted))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(references: &[&str], answerable: bool) -> Sample {
        Sample {
            id: "q".into(),
            question: "?".into(),
            references: references.iter().map(|text| (*text).to_owned()).collect(),
            relevant: Vec::new(),
            slices: BTreeMap::new(),
            answerable,
            choices: Vec::new(),
            cluster: None,
        }
    }

    fn scores(answer: &str, sample: &Sample) -> Vec<f64> {
        let abstention = ["not stated".to_owned(), "Unknown".to_owned()];
        score_answer(answer, sample, &abstention).into_values().collect()
    }

    #[test]
    fn an_answer_is_grounded_where_a_passage_holds_its_words() {
        let passages = ["She was born in Paris, in 1902.", "The Parisian light."];
        let of = |answer: &str| grounded(answer, passages, &["unknown".to_owned()]);
        assert_eq!((of("paris"), of("born in Paris"), of("the light")), (Some(1.0), Some(1.0), Some(1.0)));
        assert_eq!((of("Pari"), of("London"), of("1902 light")), (Some(0.0), Some(0.0), Some(0.0)));
        assert_eq!((of(""), of("Unknown."), of(" a ")), (None, None, None));
    }

    #[test]
    fn an_abstention_is_right_only_where_there_is_no_answer() {
        for abstention in ["", "unknown.", "Not stated"] {
            assert_eq!(scores(abstention, &sample(&[], false)), [1.0; 4]);
            assert_eq!(scores(abstention, &sample(&["Paris"], true)), [0.0; 4]);
        }
        assert_eq!(scores("Paris", &sample(&[], false)), [0.0; 4]);
        assert_eq!(scores("Paris", &sample(&["Paris"], true)), [1.0; 4]);
    }

    #[test]
    fn a_question_of_a_retrieval_set_has_no_answer_scores() {
        assert!(score_answer("x", &sample(&[], true), &[]).is_empty());
    }

    proptest! {
        #[test]
        fn scores_lie_between_zero_and_one_and_do_not_depend_on_the_order_of_references(
            answer in "[a-d ]{0,12}", left in "[a-d ]{1,12}", right in "[a-dé ]{1,12}",
        ) {
            let forward = scores(&answer, &sample(&[&left, &right], true));
            prop_assert!(forward.iter().all(|score| (0.0..=1.0).contains(score)));
            prop_assert_eq!(&forward, &scores(&answer, &sample(&[&right, &left], true)));
        }

        #[test]
        fn a_reference_itself_is_a_full_answer(reference in "[b-su-z0-9]{1,8}( [b-su-z0-9]{1,8}){0,3}") {
            prop_assert_eq!(scores(&reference, &sample(&[&reference, "other"], true)), [1.0; 4]);
        }
    }
}
