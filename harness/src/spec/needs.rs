//! What a spec asks for: variants, searching, adapters.

use std::path::Path;

use super::{ContextSource, RunSpec, TrainContext, VariantKind};

impl RunSpec {
    /// What the run's tables compare: the variants that it answers itself, then those whose answers are given.
    pub fn compared(&self) -> Vec<VariantKind> {
        self.variants.iter().copied().chain(self.predictions.keys().copied().map(VariantKind::Predicted)).collect()
    }

    /// Some variant is answered here, not given.
    pub fn uses_model(&self) -> bool {
        !self.variants.is_empty()
    }

    /// Some variant searches the index, at test time or for its training examples.
    pub fn retrieves(&self) -> bool {
        self.variants.iter().any(|variant| variant.context() != ContextSource::None)
    }

    /// The adapters that have to be trained: one on bare questions, one on questions with retrieved passages.
    pub fn adapters(&self) -> Vec<TrainContext> {
        let closed = self.variants.contains(&VariantKind::Finetuned)
            || self.variants.contains(&VariantKind::Hybrid) && self.hybrid.train_context == TrainContext::None;
        let open = self.variants.contains(&VariantKind::HybridRaft)
            || self.variants.contains(&VariantKind::Hybrid) && self.hybrid.train_context == TrainContext::Retrieved;
        [(closed, TrainContext::None), (open, TrainContext::Retrieved)]
            .into_iter()
            .filter(|(needed, _)| *needed)
            .map(|(_, kind)| kind)
            .collect()
    }

    /// The folder of an adapter that is not trained here.
    pub fn given(&self, kind: TrainContext) -> Option<&Path> {
        let folder = match kind {
            TrainContext::None => &self.finetune.adapter,
            TrainContext::Retrieved => &self.hybrid.adapter,
        };
        (!folder.as_os_str().is_empty()).then_some(folder)
    }

    /// The name under which a server serves the tuned model of a kind.
    pub fn served_adapter(&self, kind: TrainContext) -> Option<&str> {
        let name = match kind {
            TrainContext::None => &self.model.endpoint.adapter,
            TrainContext::Retrieved => &self.model.endpoint.hybrid_adapter,
        };
        (!name.is_empty()).then_some(name)
    }

    /// The adapters that are trained here: those that are neither given nor served.
    pub fn trained(&self) -> impl Iterator<Item = TrainContext> {
        self.adapters().into_iter().filter(|&kind| self.given(kind).is_none() && !self.is_served())
    }

    /// The model as messages and records name it.
    pub fn model_name(&self) -> String {
        if self.is_served() { self.model.endpoint.model.clone() } else { self.model.path.display().to_string() }
    }

    /// The model is behind an endpoint.
    pub fn is_served(&self) -> bool {
        self.uses_model() && self.model.endpoint.is_set()
    }

    /// The adapter a variant answers with.
    pub fn adapter_of(&self, variant: VariantKind) -> Option<TrainContext> {
        match variant {
            VariantKind::Finetuned => Some(TrainContext::None),
            VariantKind::Hybrid => Some(self.hybrid.train_context),
            VariantKind::HybridRaft => Some(TrainContext::Retrieved),
            VariantKind::Baseline | VariantKind::Rag | VariantKind::Oracle | VariantKind::Random | VariantKind::Predicted(_) => None,
        }
    }
}
