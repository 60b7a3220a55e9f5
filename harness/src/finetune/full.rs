//! Full fine-tuning: a decoder whose weights are `Var`s copied from the base, and back.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

use crate::lm::config::Module;
use crate::lm::decoder::Decoder;

use super::optimizer::Parameters;

/// The decoder with every weight replaced by what `replace(name, weight)` gives; names as in Hugging Face files, a tied head follows the
/// embedding.
pub fn map_weights<E>(
    decoder: &Decoder,
    mut replace: impl FnMut(&str, &Tensor) -> std::result::Result<Tensor, E>,
) -> std::result::Result<Decoder, E> {
    let (mut mapped, names) = (decoder.clone(), decoder.config.norm_names());
    let mut set = |name: &str, slot: &mut Tensor| {
        *slot = replace(name, slot)?;
        Ok(())
    };
    set("model.embed_tokens.weight", &mut mapped.embedding)?;
    for (index, layer) in mapped.layers.iter_mut().enumerate() {
        let prefix = format!("model.layers.{index}");
        for module in Module::ALL {
            let linear = &mut layer.linears[module as usize];
            set(&format!("{prefix}.{}.weight", module.path()), &mut linear.weight)?;
            if let Some(bias) = &mut linear.bias {
                set(&format!("{prefix}.{}.bias", module.path()), bias)?;
            }
        }
        if let Some((query, key)) = &mut layer.qk_norm {
            set(&format!("{prefix}.self_attn.q_norm.weight"), query)?;
            set(&format!("{prefix}.self_attn.k_norm.weight"), key)?;
        }
        for (name, norm) in names.into_iter().zip(layer.norms.as_mut()) {
            set(&format!("{prefix}.{name}.weight"), norm)?;
        }
    }
    set("model.norm.weight", &mut mapped.final_norm)?;
    if mapped.config.tie_word_embeddings {
        mapped.head = mapped.embedding.clone();
    } else {
        set("lm_head.weight", &mut mapped.head)?;
    }
    Ok(mapped)
}

/// A copy of the decoder that can be trained, and its weights by name. The base is not touched.
pub fn trainable(base: &Decoder) -> Result<(Decoder, Parameters)> {
    let mut parameters = Parameters::new();
    let decoder = map_weights(base, |name, weight| {
        // `Var::from_tensor` gives a `Var` back as it is, so it must see a copy.
        let var = Var::from_tensor(&weight.copy()?.detach())?;
        parameters.insert(name.to_owned(), var.clone());
        Ok::<_, candle_core::Error>(var.as_tensor().clone())
    })?;
    Ok((decoder, parameters))
}

/// A copy with plain tensors for weights, as answering uses it.
pub fn frozen(decoder: &Decoder) -> Result<Decoder> {
    map_weights(decoder, |_, weight| Ok(weight.copy()?.detach()))
}

/// The weights by name, a tied head left out.
pub fn weights(decoder: &Decoder) -> BTreeMap<String, Tensor> {
    let mut weights = BTreeMap::new();
    let kept: std::result::Result<_, std::convert::Infallible> = map_weights(decoder, |name, weight| {
        weights.insert(name.to_owned(), weight.clone());
        Ok(weight.clone())
    });
    let Ok(_) = kept;
    weights
}
