//! The result hash: over everything that must not change when nothing changed.

use crate::store::row::JournalRow;

/// BLAKE3 over ids, answers, hits, token counts, scores and operations of all rows, in an order of their own; no times, no run id.
pub fn result_hash(rows: &[JournalRow]) -> String {
    let mut ordered: Vec<&JournalRow> = rows.iter().collect();
    ordered.sort_by(|left, right| key(left).cmp(&key(right)));
    let mut hasher = blake3::Hasher::new();
    for row in ordered {
        serde_json::to_writer(&mut hasher, &row.timeless()).expect("rows are plain data");
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

fn key(row: &JournalRow) -> (crate::store::row::Phase, &str, u64, &str, u32) {
    (row.phase, &row.variant, row.seed, &row.sample_id, row.repeat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::row::Phase;

    fn row(sample: &str, answer: &str, e2e_ns: u64) -> JournalRow {
        JournalRow { answer: answer.into(), e2e_ns, ..JournalRow::example(Phase::Accuracy, "rag", 1, sample) }
    }

    #[test]
    fn order_and_times_do_not_matter_and_answers_do() {
        let hash = result_hash(&[row("a", "x", 1), row("b", "y", 2)]);
        assert_eq!(hash, result_hash(&[row("b", "y", 3), row("a", "x", 4)]));
        assert_ne!(hash, result_hash(&[row("a", "x", 1), row("b", "z", 2)]));
    }
}
