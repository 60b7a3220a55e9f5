//! Every column name of every table, so that a reader of the files and a writer of the code can grep for one word.

/// Name of the variant.
pub const VARIANT: &str = "variant";
/// `all`, or one value of one tag as `knowledge=fresh`.
pub const SLICE: &str = "slice";
/// Id of the metric.
pub const METRIC: &str = "metric";
/// What the figures are in.
pub const UNIT: &str = "unit";
/// `higher` or `lower`: which way is better.
pub const DIRECTION: &str = "direction";
/// The statistic itself.
pub const POINT: &str = "point";
/// Lower end of its interval.
pub const CI_LOW: &str = "ci_low";
/// Upper end of its interval.
pub const CI_HIGH: &str = "ci_high";
/// Observations behind it.
pub const N: &str = "n";
/// Observations that failed; they count in `n`.
pub const N_FAILED: &str = "n_failed";

/// Variant (or difference) that is subtracted from.
pub const LEFT: &str = "left";
/// Variant (or difference) that is subtracted.
pub const RIGHT: &str = "right";
/// Mean paired difference, left minus right.
pub const DIFFERENCE: &str = "difference";
/// `additive`, or `log_odds` (of the interaction alone).
pub const SCALE: &str = "scale";
/// Two-sided p of no difference.
pub const P: &str = "p";
/// The same, adjusted for the differences it is read with.
pub const P_ADJUSTED: &str = "p_adjusted";
/// Procedure of that: `holm` (the declared family) or `bh` (slices, other metrics).
pub const ADJUSTMENT: &str = "adjustment";
/// Adjusted p of a difference beyond the margin; null without a margin.
pub const P_EQUIVALENCE: &str = "p_equivalence";
/// How `p` was found: `mcnemar_mid_p`, `sign_flip_exact`, `sign_flip` or `student_t`.
pub const P_METHOD: &str = "p_method";
/// How the interval was made: `bca`, `percentile`, `student_t`, `no_spread` or `unbounded`.
pub const CI_METHOD: &str = "ci_method";
/// Standard error over clusters and trainings; null from one cluster.
pub const STANDARD_ERROR: &str = "standard_error";
/// Variance over what it would be if questions were independent.
pub const DESIGN_EFFECT: &str = "design_effect";
/// Clusters of questions.
pub const CLUSTERS: &str = "clusters";
/// Questions on which the left side scores higher.
pub const N_HIGHER: &str = "n_higher";
/// Questions on which the left side scores lower.
pub const N_LOWER: &str = "n_lower";
/// Trainings behind the tuned side; 0 if neither side is tuned.
pub const TRAININGS: &str = "trainings";
/// Standard deviation between trainings; null with fewer than two.
pub const TRAINING_DEVIATION: &str = "training_deviation";
/// The smallest true difference that would have been found.
pub const DETECTABLE: &str = "detectable";
/// Questions that a verdict would take; null if there is one.
pub const N_NEEDED: &str = "n_needed";
/// Clusters of them.
pub const CLUSTERS_NEEDED: &str = "clusters_needed";
/// `better`, `worse`, `equivalent` or `inconclusive`: the left side against the right one.
pub const VERDICT: &str = "verdict";

/// `rung`: how far questions get; `cause`: why they were not answered exactly.
pub const PART: &str = "part";
/// Which rung or cause.
pub const NAME: &str = "name";
/// Questions, by the part of their rows; null where it does not apply.
pub const COUNT: &str = "count";

/// Id of a claim.
pub const CLAIM: &str = "claim";
/// The claim in words.
pub const TITLE: &str = "title";
/// The claim was given after the run.
pub const POST_HOC: &str = "post_hoc";
/// What a test compares.
pub const TEST: &str = "test";
/// What it predicts.
pub const PREDICTED: &str = "predicted";
/// What the run says about the test alone.
pub const TEST_VERDICT: &str = "test_verdict";
/// What to know of the row.
pub const NOTE: &str = "note";

/// Part of a query whose time is meant.
pub const STAGE: &str = "stage";
/// Distinct questions behind the row.
pub const N_QUESTIONS: &str = "n_questions";
/// Mean of the row.
pub const MEAN: &str = "mean";
/// Lower end of the mean's interval.
pub const MEAN_CI_LOW: &str = "mean_ci_low";
/// Upper end of the mean's interval.
pub const MEAN_CI_HIGH: &str = "mean_ci_high";
/// Median.
pub const P50: &str = "p50";
/// Lower end of the median's interval.
pub const P50_CI_LOW: &str = "p50_ci_low";
/// Upper end of the median's interval.
pub const P50_CI_HIGH: &str = "p50_ci_high";
/// Percentile 90; null with fewer than 29 questions.
pub const P90: &str = "p90";
/// Percentile 95; null with fewer than 59 questions.
pub const P95: &str = "p95";
/// Percentile 99; null with fewer than 299 questions.
pub const P99: &str = "p99";

/// Ends of the intervals of percentiles 90, 95 and 99.
pub const P90_CI_LOW: &str = "p90_ci_low";
#[expect(missing_docs, reason = "see `P90_CI_LOW`")]
pub const P90_CI_HIGH: &str = "p90_ci_high";
#[expect(missing_docs, reason = "see `P90_CI_LOW`")]
pub const P95_CI_LOW: &str = "p95_ci_low";
#[expect(missing_docs, reason = "see `P90_CI_LOW`")]
pub const P95_CI_HIGH: &str = "p95_ci_high";
#[expect(missing_docs, reason = "see `P90_CI_LOW`")]
pub const P99_CI_LOW: &str = "p99_ci_low";
#[expect(missing_docs, reason = "see `P90_CI_LOW`")]
pub const P99_CI_HIGH: &str = "p99_ci_high";

/// Queries per second that came in the server scenario.
pub const RATE: &str = "rate";
/// Work offered per second: rate times mean time of an answer.
pub const LOAD: &str = "load";
/// The variant did not keep up.
pub const IS_SATURATED: &str = "is_saturated";
/// Mean time in line.
pub const WAIT: &str = "wait";
/// Percentile 99 to the first token.
pub const FIRST_TOKEN_P99: &str = "first_token_p99";

/// How a variant stands to the one with the best score: `best`, `within`, `below` or `open`.
pub const STANDING: &str = "standing";
/// Adjusted p of a score that is below the best by the margin or more; small where the variant is within it.
pub const P_WITHIN: &str = "p_within";
/// Adjusted p of a score that is within the margin; small where the variant is below it.
pub const P_BELOW: &str = "p_below";
/// Cost over the months and the usage that the spec declares.
pub const TOTAL: &str = "total";
/// The variant is the recommended one.
pub const IS_PICK: &str = "is_pick";

/// `setup`, `query` or `update`; in predictions `accuracy` or `latency`.
pub const PHASE: &str = "phase";
/// What is counted.
pub const QUANTITY: &str = "quantity";
/// How much of it.
pub const VALUE: &str = "value";
/// `measured`, `counted`, `declared` or `priced`.
pub const SOURCE: &str = "source";

/// The question's id.
pub const SAMPLE_ID: &str = "sample_id";
/// Training seed.
pub const SEED: &str = "seed";
/// Pass over the question, from 0.
pub const REPEAT: &str = "repeat";
/// What the variant answered.
pub const ANSWER: &str = "answer";
/// Why the answer ended.
pub const FINISH_REASON: &str = "finish_reason";
/// Tokens of the whole prompt.
pub const PROMPT_TOKENS: &str = "prompt_tokens";
/// Tokens of the passages within it.
pub const CONTEXT_TOKENS: &str = "context_tokens";
/// New tokens.
pub const COMPLETION_TOKENS: &str = "completion_tokens";
/// Prompt tokens that were not computed anew.
pub const CACHED_TOKENS: &str = "cached_tokens";
/// Passages were dropped because they did not fit.
pub const CONTEXT_CUT: &str = "context_cut";
/// Analytic floating-point operations.
pub const FLOPS: &str = "flops";
/// Why there is no answer; null when there is one.
pub const ERROR: &str = "error";
/// Nanoseconds of the stages, and of the whole.
pub const EMBED_NS: &str = "embed_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const SEARCH_NS: &str = "search_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const LEXICAL_NS: &str = "lexical_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const RERANK_NS: &str = "rerank_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const PROMPT_NS: &str = "prompt_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const PREFILL_NS: &str = "prefill_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const DECODE_NS: &str = "decode_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const TTFT_NS: &str = "ttft_ns";
#[expect(missing_docs, reason = "see `EMBED_NS`")]
pub const E2E_NS: &str = "e2e_ns";

/// CPU time of a timed query, all threads; null where the system does not tell.
pub const CPU_NS: &str = "cpu_ns";
/// Energy of the processor package during a timed query, in microjoules; null where the system does not tell.
pub const ENERGY_UJ: &str = "energy_uj";

/// Document a passage was cut from.
pub const DOCUMENT_ID: &str = "document_id";
/// The passage.
pub const CHUNK_ID: &str = "chunk_id";
/// Rank of the passage, from 1.
pub const RANK: &str = "rank";
/// Similarity to the question.
pub const SCORE: &str = "score";
/// It fitted into the prompt.
pub const IN_PROMPT: &str = "in_prompt";
/// Exact search has it too; null when exact search did not run.
pub const IN_EXACT: &str = "in_exact";

/// Optimizer step, from 1.
pub const STEP: &str = "step";
/// Passes over the training examples so far.
pub const EPOCH: &str = "epoch";
/// Loss of the step's rows.
pub const TRAIN_LOSS: &str = "train_loss";
/// Loss over the validation rows; null on steps that did not evaluate.
pub const EVAL_LOSS: &str = "eval_loss";
/// Rate that the step used.
pub const LEARNING_RATE: &str = "learning_rate";
/// Global norm of the gradients before clipping.
pub const GRAD_NORM: &str = "grad_norm";
/// Tokens in the step's rows.
pub const TOKENS: &str = "tokens";
/// Wall time of the step.
pub const STEP_NS: &str = "step_ns";
