//! Scores of one answer or one ranking: pure functions, equal to the official scorers.
