//! What a sentence-transformers folder says about the way from token vectors to one vector.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::super::RetrievalError;
use super::folder;

/// How token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The average over all tokens, `[CLS]` and `[SEP]` included.
    Mean,
    /// The vector of the first token.
    Cls,
    /// The largest value of each component.
    Max,
}

impl Pooling {
    /// Pools `tokens` rows of `dimension` values, side by side in `states`.
    pub fn pool(self, states: &[f32], dimension: usize) -> Vec<f32> {
        let rows = states.chunks_exact(dimension);
        let count = rows.len() as f32;
        match self {
            Self::Cls => states[..dimension].to_vec(),
            Self::Max => rows.fold(vec![f32::NEG_INFINITY; dimension], |mut best, row| {
                best.iter_mut().zip(row).for_each(|(best, value)| *best = best.max(*value));
                best
            }),
            Self::Mean => {
                let mut sum = vec![0.0f32; dimension];
                rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
                sum.iter_mut().for_each(|sum| *sum /= count);
                sum
            }
        }
    }
}

/// One entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// What surrounds the transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentenceSettings {
    /// From token vectors to one.
    pub pooling: Pooling,
    /// Longest input in tokens, special tokens included, if the folder bounds it.
    pub max_tokens: Option<usize>,
    /// Lower-case the text before the tokenizer sees it (most tokenizers do so themselves).
    pub lower_case: bool,
}

impl SentenceSettings {
    /// Reads `modules.json`, the pooling module, `sentence_bert_config.json` and `tokenizer_config.json`. A folder without modules is a plain
    /// transformer: mean pooling, as sentence-transformers treats it. Every vector is scaled to unit length afterwards whether or not the
    /// folder has a module for it, because the index compares directions.
    ///
    /// # Errors
    /// [`RetrievalError::Embedder`] for modules or pooling modes that are not computed here.
    pub fn read(path: &Path) -> Result<Self, RetrievalError> {
        let modules: Vec<Module> = folder::read_json_if_there(path, "modules.json")?.unwrap_or_default();
        let mut pooling = Pooling::Mean;
        for module in &modules {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if module.path.is_empty() => {}
                "Normalize" => {}
                "Pooling" => pooling = read_pooling(path, &module.path)?,
                other => return Err(folder::problem(path, format!("module `{other}` at `{}` is not supported", module.path))),
            }
        }
        let has_unit_length = modules.iter().any(|module| module.kind.ends_with("Normalize"));
        refuse_other_similarity(path, has_unit_length)?;
        let config: SentenceConfig = folder::read_json_if_there(path, "sentence_bert_config.json")?.unwrap_or_default();
        let max_tokens = config.max_seq_length.or(tokenizer_length(path)?);
        Ok(Self { pooling, max_tokens, lower_case: config.do_lower_case })
    }
}

/// Reads both forms of the pooling file: one flag per mode, or one `pooling_mode`.
fn read_pooling(path: &Path, module: &str) -> Result<Pooling, RetrievalError> {
    let name = format!("{module}/config.json");
    let config: Value = folder::read_json(path, &name)?;
    let flags = config.as_object().into_iter().flatten();
    let mut modes: Vec<&str> =
        flags.filter(|(_, on)| **on == Value::Bool(true)).filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    modes.extend(config["pooling_mode"].as_str());
    match modes[..] {
        // Of one direction: every vector is scaled to unit length.
        ["mean" | "mean_tokens" | "mean_sqrt_len_tokens"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::Cls),
        ["max" | "max_tokens"] => Ok(Pooling::Max),
        _ => Err(folder::problem(path, format!("`{name}` pools by {modes:?}, expected one of mean, cls, max"))),
    }
}

/// The tokenizer's own bound, unless it is the placeholder for "none".
pub fn tokenizer_length(path: &Path) -> Result<Option<usize>, RetrievalError> {
    let config: Option<Value> = folder::read_json_if_there(path, "tokenizer_config.json")?;
    Ok(config.and_then(|config| config["model_max_length"].as_u64()).filter(|&length| length < 1_000_000).map(|length| length as usize))
}

/// Passages are ranked by cosine here, which is the inner product where the folder itself scales vectors to unit length.
fn refuse_other_similarity(path: &Path, has_unit_length: bool) -> Result<(), RetrievalError> {
    let config: Value = folder::read_json_if_there(path, "config_sentence_transformers.json")?.unwrap_or_default();
    match config["similarity_fn_name"].as_str() {
        Some(other) if other != "cosine" && !has_unit_length => Err(folder::problem(
            path,
            format!("is made to be ranked by `{other}` of vectors that are not of unit length, and cosine is what is computed"),
        )),
        _ => Ok(()),
    }
}

/// What `config_sentence_transformers.json` puts before questions and before passages: its prompt of that name, or its default prompt.
///
/// # Errors
/// [`RetrievalError::Embedder`] for an unreadable file, or a prompt that is to be left out of the pooling.
pub fn prompts(path: &Path) -> Result<[String; 2], RetrievalError> {
    let config: Value = folder::read_json_if_there(path, "config_sentence_transformers.json")?.unwrap_or_default();
    let prompt = |name: &str| config["prompts"][name].as_str().filter(|text| !text.is_empty());
    let default = config["default_prompt_name"].as_str().and_then(prompt);
    let first = |names: &[&str]| names.iter().copied().find_map(prompt).or(default).unwrap_or_default().to_owned();
    Ok([first(&["query"]), first(&["document", "passage", "corpus"])])
}

/// Refuses folders that leave a prompt's tokens out of the pooling, which is not computed here.
pub fn refuse_unpooled_prompt(path: &Path) -> Result<(), RetrievalError> {
    let modules: Vec<Module> = folder::read_json_if_there(path, "modules.json")?.unwrap_or_default();
    for module in modules.iter().filter(|module| module.kind.ends_with("Pooling")) {
        let config: Value = folder::read_json(path, &format!("{}/config.json", module.path))?;
        if config["include_prompt"] == Value::Bool(false) {
            return Err(folder::problem(path, "leaves the prompt out of the pooling, which is not supported: set the prefixes to \"\""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_modes_on_two_tokens() {
        let states = [1.0, -2.0, 3.0, 4.0];
        assert_eq!(Pooling::Mean.pool(&states, 2), [2.0, 1.0]);
        assert_eq!(Pooling::Cls.pool(&states, 2), [1.0, -2.0]);
        assert_eq!(Pooling::Max.pool(&states, 2), [3.0, 4.0]);
    }

    #[track_caller]
    fn check_pooling(config: &str, expected: Option<Pooling>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        std::fs::write(folder.path().join("1_Pooling/config.json"), config).unwrap();
        assert_eq!(read_pooling(folder.path(), "1_Pooling").ok(), expected, "{config}");
    }

    #[test]
    fn pooling_files_of_both_forms_are_read_and_mixtures_refused() {
        check_pooling(r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#, Some(Pooling::Mean));
        check_pooling(r#"{"pooling_mode_max_tokens": true, "include_prompt": true}"#, Some(Pooling::Max));
        check_pooling(r#"{"pooling_mode": "cls"}"#, Some(Pooling::Cls));
        check_pooling(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#, None);
        check_pooling(r#"{"pooling_mode": "lasttoken"}"#, None);
        check_pooling("{}", None);
    }

    #[test]
    fn a_module_or_a_similarity_that_is_not_computed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("modules.json", r#"[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#);
        assert!(SentenceSettings::read(folder.path()).unwrap_err().to_string().contains("module `Dense`"));
        write("modules.json", "[]");
        write("config_sentence_transformers.json", r#"{"similarity_fn_name": "dot"}"#);
        assert!(SentenceSettings::read(folder.path()).unwrap_err().to_string().contains("ranked by `dot`"));
        write("modules.json", r#"[{"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#);
        let settings = SentenceSettings::read(folder.path()).unwrap();
        assert_eq!(settings, SentenceSettings { pooling: Pooling::Mean, max_tokens: None, lower_case: false });
    }

    #[track_caller]
    fn check_prompts(config: &str, expected: [&str; 2]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config_sentence_transformers.json"), config).unwrap();
        assert_eq!(prompts(folder.path()).unwrap(), expected, "{config}");
    }

    #[test]
    fn prompts_go_before_questions_and_passages_as_the_folder_names_them() {
        check_prompts("{}", ["", ""]);
        check_prompts(r#"{"prompts": {"query": "q: ", "passage": "p: "}}"#, ["q: ", "p: "]);
        check_prompts(r#"{"prompts": {"query": "q: ", "document": "d: ", "passage": "p: "}}"#, ["q: ", "d: "]);
        check_prompts(r#"{"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": null}"#, ["q: ", ""]);
        check_prompts(r#"{"prompts": {"any": "x: ", "query": ""}, "default_prompt_name": "any"}"#, ["x: ", "x: "]);
        assert_eq!(prompts(tempfile::tempdir().unwrap().path()).unwrap(), ["", ""]);
    }

    #[test]
    fn a_prompt_that_is_not_pooled_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        refuse_unpooled_prompt(folder.path()).unwrap();
        write("modules.json", r#"[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#);
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        write("1_Pooling/config.json", r#"{"include_prompt": false}"#);
        assert!(refuse_unpooled_prompt(folder.path()).unwrap_err().to_string().contains("out of the pooling"));
    }
}
