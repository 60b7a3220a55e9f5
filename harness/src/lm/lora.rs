//! Low-rank updates beside frozen weights (Hu et al. 2021, arXiv 2106.09685): `y = W x + (alpha / r) B A x`; with DoRA's magnitudes `m` (Liu
//! et al. 2024, arXiv 2402.09353) `y = g (W x + (alpha / r) B A x)`, `g = m / |W + (alpha / r) B A|` by rows. The gains `g` follow from base and
//! adapter once, so the base is shared as with plain LoRA.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor};

use super::ModelError;
use super::config::{DecoderConfig, Module};
use super::decoder::Decoder;
use super::engine::{DensePair, PackedAdapter};

/// The update of one linear layer. Shapes: `a` is `[r, in]`, `b` is `[out, r]`.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// Down projection.
    pub a: Tensor,
    /// Up projection; zero in a fresh adapter.
    pub b: Tensor,
}

/// An adapter in memory.
#[derive(Debug, Clone)]
pub struct LoraWeights {
    /// By layer and module.
    pub pairs: BTreeMap<(usize, Module), LoraPair>,
    /// `alpha / r` (or `alpha / sqrt(r)` for rsLoRA).
    pub scale: f64,
    /// DoRA's magnitudes, `[out]`, of the pairs that have one. Such an adapter answers and is not trained here.
    pub magnitudes: BTreeMap<(usize, Module), Tensor>,
    /// Dropout on the input of `a`, in training only: probability and the stream of masks.
    pub dropout: Option<LoraDropout>,
    /// Packed for the engine, once it is asked for.
    packed: OnceLock<Arc<PackedAdapter>>,
    /// What the magnitudes amount to on the base, once it is asked for.
    gains: OnceLock<BTreeMap<(usize, Module), Tensor>>,
}

/// Dropout of one training step. Masks come from the project's random streams, so that a resumed run draws the same ones.
#[derive(Debug, Clone)]
pub struct LoraDropout {
    /// Probability of a zero.
    pub probability: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the micro-batch over the whole training.
    pub micro_step: u64,
}

impl LoraWeights {
    /// An adapter without dropout.
    pub fn new(pairs: BTreeMap<(usize, Module), LoraPair>, scale: f64) -> Self {
        Self { pairs, scale, magnitudes: BTreeMap::new(), dropout: None, packed: OnceLock::new(), gains: OnceLock::new() }
    }

    /// The same with DoRA's magnitudes.
    pub fn with_magnitudes(self, magnitudes: BTreeMap<(usize, Module), Tensor>) -> Self {
        Self { magnitudes, ..Self::new(self.pairs, self.scale) }
    }

    /// What outputs are multiplied by, `[out]`, for every pair with a magnitude.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn gains(&self, base: &Decoder) -> Result<&BTreeMap<(usize, Module), Tensor>> {
        if let Some(gains) = self.gains.get() {
            return Ok(gains);
        }
        let mut gains = BTreeMap::new();
        for (&(layer, module), magnitude) in &self.magnitudes {
            let (weight, pair) = (&base.layers[layer].linears[module as usize].weight, &self.pairs[&(layer, module)]);
            let moved = (weight + (pair.b.matmul(&pair.a)? * self.scale)?)?;
            gains.insert((layer, module), (magnitude / moved.sqr()?.sum(1)?.sqrt()?)?.detach());
        }
        Ok(self.gains.get_or_init(|| gains))
    }

    /// The adapter packed for the engine of a base of this shape: kept, unless it is still being trained. The base itself is asked for by
    /// magnitudes only.
    ///
    /// # Errors
    /// [`ModelError::Memory`], a failed conversion, or what `base` fails with.
    pub fn packed(
        &self,
        shape: &DecoderConfig,
        base: impl FnOnce() -> std::result::Result<Arc<Decoder>, ModelError>,
    ) -> std::result::Result<Arc<PackedAdapter>, ModelError> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed.clone());
        }
        let flat = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let none = BTreeMap::new();
        let gains = if self.magnitudes.is_empty() { &none } else { self.gains(&*base()?)? };
        let mut pairs = BTreeMap::new();
        for (key, pair) in &self.pairs {
            let gain = gains.get(key).map(flat).transpose()?;
            pairs.insert(*key, DensePair { a: flat(&pair.a)?, b: flat(&pair.b)?, gain });
        }
        let pack = PackedAdapter::pack(shape, self.scale as f32, |layer, module| pairs.get(&(layer, module)).cloned());
        let packed = Arc::new(pack.map_err(ModelError::Memory)?);
        if self.pairs.values().any(|pair| pair.a.is_variable() || pair.b.is_variable()) {
            return Ok(packed);
        }
        Ok(self.packed.get_or_init(|| packed).clone())
    }

    /// The update of one layer's module and its scale, if there is one and its input passes through no dropout.
    pub fn without_dropout(&self, layer: usize, module: Module) -> Option<(&LoraPair, f64)> {
        if self.dropout.as_ref().is_some_and(|dropout| dropout.probability > 0.0) {
            return None;
        }
        self.pairs.get(&(layer, module)).map(|pair| (pair, self.scale))
    }

    /// `(alpha / r) B A x` for one layer's module, or nothing if the adapter does not touch it. `x` is `[.., in]`, the result `[.., out]`.
    pub fn delta(&self, layer: usize, module: Module, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(pair) = self.pairs.get(&(layer, module)) else { return Ok(None) };
        let x = match &self.dropout {
            Some(dropout) if dropout.probability > 0.0 => dropout.apply(x, layer, module)?,
            _ => x.clone(),
        };
        let down = super::ops::linear(&x, &pair.a, None)?;
        Ok(Some((super::ops::linear(&down, &pair.b, None)? * self.scale)?))
    }
}

impl LoraDropout {
    fn apply(&self, x: &Tensor, layer: usize, module: Module) -> Result<Tensor> {
        let mut rng = crate::rng::Rng::indexed(self.seed, &format!("lora-dropout/{layer}/{}", module.name()), self.micro_step);
        let keep = 1.0 - self.probability;
        let mask: Vec<f32> = (0..x.elem_count()).map(|_| if rng.chance(keep) { (1.0 / keep) as f32 } else { 0.0 }).collect();
        x.mul(&Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)
    }
}
