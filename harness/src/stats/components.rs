//! Where the spread of scores comes from when several trainings answer the same questions.

/// Variance components of scores by training seed and question, crossed: the method of moments for a two-way layout with one score per cell
/// (Searle, Casella and McCulloch, Variance Components, section 4.3). A negative estimate is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Components {
    /// Between trainings: the luck that more questions do not average away.
    pub seed: f64,
    /// Between questions: how hard they are.
    pub question: f64,
    /// What is left: questions that one training gets right and another wrong.
    pub rest: f64,
    /// Trainings.
    pub seeds: usize,
    /// Questions that all trainings answered.
    pub questions: usize,
}

impl Components {
    /// From one list of scores per seed, in one order of questions; a question that a seed lacks is left out. Nothing with fewer than two
    /// seeds or two questions.
    pub fn of(by_seed: &[Vec<Option<f64>>]) -> Option<Self> {
        let complete = |question: usize| by_seed.iter().map(|scores| scores[question]).collect::<Option<Vec<f64>>>();
        let rows: Vec<Vec<f64>> = (0..by_seed.first()?.len()).filter_map(complete).collect();
        let (seeds, questions) = (by_seed.len(), rows.len());
        if seeds < 2 || questions < 2 {
            return None;
        }
        let (s, q) = (seeds as f64, questions as f64);
        let mean = rows.iter().flatten().sum::<f64>() / (s * q);
        let of_seed: Vec<f64> = (0..seeds).map(|seed| rows.iter().map(|row| row[seed]).sum::<f64>() / q).collect();
        let of_question: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / s).collect();
        let square = |value: f64| value * value;
        let mean_square_seed = q * of_seed.iter().map(|value| square(value - mean)).sum::<f64>() / (s - 1.0);
        let mean_square_question = s * of_question.iter().map(|value| square(value - mean)).sum::<f64>() / (q - 1.0);
        let cells = rows.iter().zip(&of_question);
        let left: f64 = cells
            .map(|(row, question)| row.iter().zip(&of_seed).map(|(value, seed)| square(value - question - seed + mean)).sum::<f64>())
            .sum();
        let rest = left / ((s - 1.0) * (q - 1.0));
        Some(Self {
            seed: ((mean_square_seed - rest) / q).max(0.0),
            question: ((mean_square_question - rest) / s).max(0.0),
            rest,
            seeds,
            questions,
        })
    }

    /// What the luck of training adds to the variance of the mean over these seeds.
    pub fn of_mean(&self) -> f64 {
        self.seed / self.seeds as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn by_hand() {
        // Rows 1 2 / 3 6 by seed: means 1.5 and 4.5 by seed, 2 and 4 by question, 3 in all; residuals ±0.5.
        let found = Components::of(&[some(&[1.0, 2.0]), some(&[3.0, 6.0])]).unwrap();
        assert_eq!((found.rest, found.seed, found.question), (1.0, (9.0 - 1.0) / 2.0, (4.0 - 1.0) / 2.0));
        assert_eq!(found.of_mean(), 2.0);
    }

    #[test]
    fn planted_components_are_found() {
        let mut rng = Rng::new(3, "components");
        let hardness: Vec<f64> = (0..400).map(|_| 2.0 * rng.normal()).collect();
        let by_seed: Vec<Vec<Option<f64>>> = (0..40)
            .map(|_| {
                let luck = rng.normal();
                hardness.iter().map(|hardness| Some(hardness + luck + 0.5 * rng.normal())).collect()
            })
            .collect();
        let found = Components::of(&by_seed).unwrap();
        assert!((found.seed - 1.0).abs() < 0.5 && (found.question - 4.0).abs() < 0.6 && (found.rest - 0.25).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn one_training_tells_nothing_of_the_others() {
        assert_eq!(Components::of(&[some(&[1.0, 2.0])]), None);
        assert_eq!(Components::of(&[]), None);
        assert_eq!(Components::of(&[some(&[1.0, 0.0]), vec![Some(1.0), None]]), None);
    }
}
