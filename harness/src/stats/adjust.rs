//! p-values of several tests that are read together.

/// Holm's step-down adjustment: the chance of one false finding in the whole family stays below the level, whatever the dependence (Holm,
/// A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65, 1979). In the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![0.0; p.len()];
    let mut highest: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        highest = highest.max((p.len() - rank) as f64 * p[index]).min(1.0);
        adjusted[index] = highest;
    }
    adjusted
}

/// Benjamini and Hochberg's adjustment: the expected share of false findings among the findings stays below the level, for independent or
/// positively dependent tests (Controlling the false discovery rate, JRSS B 57:289, 1995). In the order given.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![0.0; p.len()];
    let mut lowest: f64 = 1.0;
    for (rank, &index) in order.iter().enumerate().rev() {
        lowest = lowest.min(p.len() as f64 / (rank + 1) as f64 * p[index]);
        adjusted[index] = lowest;
    }
    adjusted
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(holm(&[0.25, 0.125, 0.0625]), [0.25, 0.25, 0.1875]);
        assert_eq!(benjamini_hochberg(&[0.5, 0.125, 0.0625]), [0.5, 0.1875, 0.1875]);
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
        assert_eq!((holm(&[0.03]), benjamini_hochberg(&[0.03])), (vec![0.03], vec![0.03]));
    }
}
