//! From logits to a token: the largest, or a draw from the nucleus (Holtzman et al. 2020, arXiv 1904.09751).

use super::GenerationConfig;
use crate::rng::Rng;

/// The next token given its logits `[V]`: greedy at temperature zero (the lowest id among equals), else drawn from the stream `stream` at
/// `index`, the number of the new token. Nothing if no logit is a finite number.
pub fn choose(logits: &[f32], config: &GenerationConfig, stream: &str, index: usize) -> Option<u32> {
    let best = greedy(logits)?;
    if config.temperature <= 0.0 {
        return Some(best);
    }
    let draw = Rng::indexed(config.seed, stream, index as u64).uniform();
    Some(nucleus(logits, logits[best as usize], config.temperature, config.top_p, draw))
}

fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best: Option<usize> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|best| logit > logits[best]) {
            best = Some(id);
        }
    }
    best.map(|id| id as u32)
}

/// Inverts the distribution function of the smallest set of likeliest tokens whose mass reaches `top_p`, at `draw` in `[0, 1)`.
fn nucleus(logits: &[f32], largest: f32, temperature: f64, top_p: f64, draw: f64) -> u32 {
    let weight = |logit: f32| if logit.is_nan() { 0.0 } else { (f64::from(logit - largest) / temperature).exp() };
    let mut tokens: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, &logit)| (id as u32, weight(logit))).collect();
    tokens.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    let mut mass = 0.0;
    let kept = tokens.iter().position(|(_, weight)| {
        mass += weight;
        mass >= top_p * total
    });
    tokens.truncate(kept.map_or(tokens.len(), |last| last + 1));
    let mass: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    let drawn = tokens.iter().find(|(_, weight)| {
        below += weight;
        below > draw * mass
    });
    drawn.unwrap_or(&tokens[0]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(temperature: f64, top_p: f64) -> GenerationConfig {
        GenerationConfig { max_new_tokens: 1, temperature, top_p, stop: Vec::new(), seed: 3, batch_size: 8, forced_tokens: None }
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_the_largest() {
        assert_eq!(choose(&[0.0, 2.0, 2.0, f32::NAN], &config(0.0, 1.0), "a", 0), Some(1));
        assert_eq!(choose(&[f32::NAN, f32::NEG_INFINITY], &config(0.0, 1.0), "a", 0), None);
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0f32, (2.0f32).ln(), (5.0f32).ln()];
        let mut seen = [0usize; 3];
        for index in 0..8000 {
            seen[choose(&logits, &config(1.0, 1.0), "a", index).unwrap() as usize] += 1;
        }
        for (count, expected) in seen.into_iter().zip([1000.0, 2000.0, 5000.0]) {
            assert!((count as f64 - expected).abs() < 150.0, "{seen:?}");
        }
    }

    #[test]
    fn a_nucleus_leaves_out_the_tail() {
        let logits = [0.0f32, (2.0f32).ln(), (5.0f32).ln()];
        assert!((0..500).all(|index| choose(&logits, &config(1.0, 0.6), "a", index) == Some(2)));
        assert!((0..500).all(|index| choose(&logits, &config(1.0, 0.7), "a", index) != Some(0)));
    }

    #[test]
    fn a_draw_depends_on_seed_stream_and_index_only() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32).sin()).collect();
        let draws = |stream: &str| (0..20).map(|index| choose(&logits, &config(1.0, 1.0), stream, index).unwrap()).collect::<Vec<_>>();
        assert_eq!(draws("a"), draws("a"));
        assert_ne!(draws("a"), draws("b"));
    }
}
