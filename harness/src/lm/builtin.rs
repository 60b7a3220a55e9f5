//! The model that ships with the program: `assets/model` tells what it knows and how it was made.

use std::path::Path;

use super::{ComputeDevice, LocalModel, ModelError};

/// The three files of the built-in model: `config.json`, `tokenizer.json`, `model.safetensors` (f16).
pub fn builtin_model() -> (&'static [u8], &'static [u8], &'static [u8]) {
    (
        include_bytes!("../../assets/model/config.json"),
        include_bytes!("../../assets/model/tokenizer.json"),
        include_bytes!("../../assets/model/model.safetensors"),
    )
}

/// BLAKE3 of the built-in model's weights.
pub fn weights_hash() -> String {
    let (_, _, weights) = builtin_model();
    blake3::hash(weights).to_hex().to_string()
}

/// Writes the built-in model as a Hugging Face folder.
///
/// # Errors
/// [`ModelError::Io`]
pub fn write_builtin(folder: &Path) -> Result<(), ModelError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        |source| ModelError::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let (config, tokenizer, weights) = builtin_model();
    for (name, bytes) in [("config.json", config), ("tokenizer.json", tokenizer), ("model.safetensors", weights)] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(failed(&path))?;
    }
    Ok(())
}

/// Loads the built-in model onto a device. `max_context` shortens its window; 0 keeps it.
///
/// # Errors
/// A failed tensor operation; the files themselves are tested.
pub fn load_builtin(max_context: usize, device: &ComputeDevice) -> Result<LocalModel, ModelError> {
    let (config, tokenizer, weights) = builtin_model();
    LocalModel::from_bytes(config, tokenizer, weights, max_context, device.candle())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{GenerationConfig, LanguageModel as _, Prompt};

    #[test]
    fn it_reads_an_answer_about_a_name_it_never_saw() {
        let model = load_builtin(0, &ComputeDevice::cpu()).unwrap();
        let (_, _, weights) = builtin_model();
        assert!(weights.len() < 12_000_000);
        let text = "Passage 1 : Balto Varn : The town of Balto Varn sells honey and silk. It was settled in 1702.\nQuestion : What does Balto Varn export?\nAnswer :";
        let prompt = Prompt { tokens: model.encode_prompt(text).unwrap(), stream: "test".into() };
        let config = GenerationConfig {
            max_new_tokens: 8,
            temperature: 0.0,
            top_p: 1.0,
            stop: vec!["\n".into()],
            seed: 1,
            batch_size: 8,
            forced_tokens: None,
        };
        assert_eq!(model.generate(&[prompt], None, &config).unwrap()[0].text.trim(), "honey and silk");
    }
}
