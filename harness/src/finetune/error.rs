//! What can go wrong while training, and with adapters on disk.

/// Why a training did not end with weights.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// Not one row is left to train on.
    #[error("no training example is left of {examples} ({dropped} dropped: the prompt alone exceeds {max_length} tokens)")]
    NoExamples {
        /// Given.
        examples: usize,
        /// Left out.
        dropped: usize,
        /// Limit of a row.
        max_length: usize,
    },
    /// A step without any position that counts.
    #[error("step {step} of the training has no position with a loss weight")]
    NoLoss {
        /// Optimizer step, from 1.
        step: u64,
    },
    /// A trainable weight that the loss does not depend on: a cut in the graph, or a wrong set of weights.
    #[error("trainable weight `{name}` got no gradient")]
    NoGradient {
        /// The weight.
        name: String,
    },
    /// The loss or the gradient is no longer a number.
    #[error("training diverged at step {step}: loss {loss}, gradient norm {grad_norm}")]
    Diverged {
        /// Optimizer step, from 1.
        step: u64,
        /// Loss of the step.
        loss: f64,
        /// Norm of the gradient.
        grad_norm: f64,
    },
    /// The interrupt flag was set; a checkpoint was written if there is a folder for it.
    #[error("training was interrupted after step {step} of {steps}")]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Steps planned.
        steps: u64,
    },
    /// A setting that cannot be trained with.
    #[error("`finetune.{key}` is {value}, expected {expected}")]
    Setting {
        /// Key of the spec's section.
        key: &'static str,
        /// As written.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A file could not be read or written.
    #[error("cannot access `{path}`")]
    File {
        /// The file or folder.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A checkpoint that does not belong to this training, or is damaged.
    #[error("checkpoint `{path}`: {problem}")]
    Checkpoint {
        /// The folder.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An adapter folder that cannot be used.
    #[error("adapter `{path}`: {problem}")]
    Adapter {
        /// The folder.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An adapter that uses something that is not computed here.
    #[error("adapter `{path}` uses `{feature}`, which is not supported")]
    UnsupportedAdapter {
        /// The folder.
        path: String,
        /// Key of `adapter_config.json`.
        feature: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

impl TrainingError {
    /// Wraps an input or output error with its path.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.display().to_string(), source }
    }
}

impl crate::diagnostic::Hint for TrainingError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoExamples { .. } => Some("raise `finetune.max_length`, or give the dataset a `train` split".into()),
            Self::Diverged { .. } => Some("lower `finetune.learning_rate`, or set `finetune.max_grad_norm`".into()),
            Self::Interrupted { .. } => Some("run the same command with `--resume` to go on from the last checkpoint".into()),
            Self::Checkpoint { path, .. } => Some(format!("delete `{path}` to train from the start")),
            Self::Adapter { .. } => {
                Some("an adapter folder holds `adapter_config.json` and `adapter_model.safetensors` in PEFT's form".into())
            }
            Self::UnsupportedAdapter { .. } => Some(
                "LoRA, rsLoRA and DoRA adapters are read; merge the adapter into its base model with PEFT and use the merged folder".into(),
            ),
            Self::Tensor(error) => crate::lm::device::memory_hint(error),
            Self::NoLoss { .. } | Self::NoGradient { .. } | Self::Setting { .. } | Self::File { .. } => None,
        }
    }
}
