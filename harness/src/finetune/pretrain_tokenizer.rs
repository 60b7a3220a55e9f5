//! The tokenizer of the built-in model: byte-level BPE that knows every word of the world whole, digits apart.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::{SplitDelimiterBehavior, Trainer as _};
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, TokenizerBuilder};

use crate::dataset::world;
use crate::lm::{ModelError, SpecialTokens, Tokenizer};

/// Begins every sequence.
const BOS: &str = "<s>";
/// Ends a text.
const EOS: &str = "</s>";
/// Fills a batch.
const PAD: &str = "<pad>";
/// Cuts before every blank and around digits, signs and line ends, so that no token reaches over two words.
const WORD_PATTERN: &str = r"\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s";

/// Builds the tokenizer. It depends on the world's word lists only, so every world has the same one.
pub fn build_tokenizer() -> Result<Tokenizer, ModelError> {
    let failed = |error: tokenizers::Error| ModelError::Tokenizer(error.to_string());
    let special = [BOS, EOS, PAD].map(|token| AddedToken::from(token, true));
    let bpe = train(&special).map_err(failed)?;
    let split = Split::new(SplitPattern::Regex(WORD_PATTERN.into()), SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
    let bytes = ByteLevel::new(false, false, false);
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .map_err(ModelError::Tokenizer)?
        .special_tokens(vec![(BOS, 0)])
        .build()
        .map_err(|error| ModelError::Tokenizer(error.to_string()))?;
    let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
        .with_model(bpe)
        .with_normalizer(None)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![split.into(), bytes.into()]))))
        .with_post_processor(Some(template.into()))
        .with_decoder(Some(bytes.into()))
        .build()
        .map_err(failed)?;
    tokenizer.add_special_tokens(special).map_err(failed)?;
    let json = tokenizer.to_string(true).map_err(failed)?;
    Tokenizer::from_bytes(json.as_bytes(), SpecialTokens { bos: Some(0), eos: vec![1], pad: Some(2) })
}

/// Merges until every word is one token.
fn train(special: &[AddedToken]) -> Result<BPE, tokenizers::Error> {
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(1)
        .vocab_size(1 << 16)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // "Ġ" is how byte-level vocabularies write a blank.
    let inside = world::vocabulary().into_iter().map(|word| format!("\u{120}{word}"));
    let line_starts = ["Passage", "Question", "Answer"].map(str::to_owned);
    let single = (0..10).map(|digit| format!("\u{120}{digit}")).chain([":", "-", ";", "|"].map(|sign| format!("\u{120}{sign}")));
    trainer.feed(inside.chain(line_starts).chain(single), |word| Ok(vec![word.to_owned()]))?;
    let mut bpe = BPE::default();
    trainer.train(&mut bpe)?;
    Ok(bpe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_world_is_one_token_and_digits_stand_apart() {
        let tokenizer = build_tokenizer().unwrap();
        for word in world::vocabulary() {
            assert_eq!(tokenizer.count(&format!(" {word}")).unwrap(), 1, "{word}");
        }
        assert_eq!(tokenizer.count(" 1987").unwrap(), 4);
        assert_eq!(tokenizer.count("Passage 1 : Balto Varn : Balto Varn enjoys chess.\n").unwrap(), 12);
        assert!(tokenizer.id_count() <= 1280, "{}", tokenizer.id_count());
    }

    #[test]
    fn any_text_comes_back() {
        let tokenizer = build_tokenizer().unwrap();
        for text in ["", "Caf\u{e9} \u{4f60}\u{597d} \u{1f980}\u{200d}", "a\tb\r\n\n  c  ", "e\u{301} x\u{0}y", "42nd-rate (\"quotes\")"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        let every: String = (0..0x3000).filter_map(char::from_u32).collect();
        assert_eq!(tokenizer.decode(&tokenizer.encode(&every).unwrap()).unwrap(), every);
    }

    #[test]
    fn it_is_the_same_every_time_and_begins_prompts() {
        let (one, two) = (build_tokenizer().unwrap(), build_tokenizer().unwrap());
        assert_eq!(one.json(), two.json());
        assert_eq!(one.encode_prompt(" trade").unwrap()[0], 0);
    }
}
