//! The token ids that all contenders read: a file of little-endian u32.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// A token file in memory.
pub struct Tokens(Vec<u32>);

impl Tokens {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        ensure!(!bytes.is_empty() && bytes.len().is_multiple_of(4), "`{}` is no file of u32", path.display());
        Ok(Self(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()))
    }

    /// `count` rows of `length` tokens, one after another from `offset`; after the last token comes the first again.
    pub fn rows(&self, offset: usize, count: usize, length: usize) -> Vec<Vec<u32>> {
        let token = |index: usize| self.0[index % self.0.len()];
        (0..count).map(|row| (0..length).map(|column| token(offset + row * length + column)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_one_another_and_wrap_around() {
        assert_eq!(Tokens(vec![1, 2, 3, 4, 5]).rows(1, 2, 3), [[2, 3, 4], [5, 1, 2]]);
    }
}
