use super::*;
use crate::dataset::world::{Size, WorldConfig, generate};
use crate::finetune::pretrain_tokenizer::build_tokenizer;

const WEIGHTS: LossWeights = LossWeights { question: 0.25, repeated_name: 0.5, biography: 0.125 };

fn world() -> World {
    generate(&WorldConfig::of(Size::Tiny, 1))
}

fn form() -> ReadingForm {
    ReadingForm {
        passages: (2, 4),
        sentences: (1, 3),
        same_type: 0.5,
        same_relation: 0.5,
        near_names: 0.5,
        name_words: 0,
        variety: 0.5,
        aliases: 0.5,
        unstated: 0.2,
        inverse: 0.2,
        multi_hop: 0.2,
        compare: 0.2,
        questions: 3,
    }
}

/// Runs of tokens with one loss weight, as text.
fn pieces(row: &TrainingSequence, tokenizer: &Tokenizer) -> Vec<(f32, String)> {
    let mut pieces: Vec<(f32, Vec<u32>)> = Vec::new();
    for (&token, &weight) in row.tokens.iter().zip(&row.loss_weights) {
        match pieces.last_mut() {
            Some((last, tokens)) if *last == weight => tokens.push(token),
            _ => pieces.push((weight, vec![token])),
        }
    }
    pieces.into_iter().map(|(weight, tokens)| (weight, tokenizer.decode(&tokens).unwrap())).collect()
}

#[test]
fn a_row_has_the_tokens_of_its_text() {
    let (world, tokenizer) = (world(), build_tokenizer().unwrap());
    let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
    let showings: Vec<Showing> =
        (0..curriculum.known().len()).flat_map(|entity| [false, true].map(|asked| Showing { entity, asked })).collect();
    for index in 0..50 {
        let rng = &mut Rng::indexed(1, "rows", index);
        let mut rows = curriculum.facts(&showings, 4, rng).unwrap();
        rows.push(curriculum.reading(&form(), rng).unwrap());
        for row in rows {
            assert_eq!(tokenizer.encode_prompt(&tokenizer.decode(&row.tokens).unwrap()).unwrap(), row.tokens);
            assert_eq!(row.loss_weights.len(), row.tokens.len());
        }
    }
}

#[test]
fn loss_weights_sit_on_answers_questions_and_repeated_names() {
    let (world, tokenizer) = (world(), build_tokenizer().unwrap());
    let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
    let mut repeated = 0;
    for index in 0..20 {
        let row = curriculum.reading(&form(), &mut Rng::indexed(3, "row", index)).unwrap();
        let text = tokenizer.decode(&row.tokens).unwrap();
        let titles: Vec<&str> =
            text.lines().filter(|line| line.starts_with("Passage")).map(|line| line.split(" : ").nth(1).unwrap()).collect();
        let answers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Answer :")).collect();
        let pieces = pieces(&row, &tokenizer);
        let of = |wanted: f32| pieces.iter().filter(move |(weight, _)| *weight == wanted).map(|(_, text)| text.as_str());
        assert_eq!(of(1.0).map(|text| text.trim_end_matches('\n')).collect::<Vec<_>>(), answers);
        assert!((2..=3).contains(&of(0.25).count()), "{text}");
        assert!(of(0.25).all(|text| text.starts_with("Question :") && text.ends_with('?')));
        assert!(of(0.5).all(|text| titles.contains(&text.trim())), "{pieces:?}");
        repeated += of(0.5).count();
    }
    assert!(repeated > 0);
}

/// Every kind of question, answered by hand from the row's text.
#[test]
fn answers_follow_from_the_passages() {
    let (world, tokenizer) = (world(), build_tokenizer().unwrap());
    let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
    let all = [Asking::Fact, Asking::InventedName, Asking::Alias, Asking::Unstated, Asking::Inverse, Asking::MultiHop, Asking::Compare];
    for (asking, index) in all.into_iter().flat_map(|asking| (0..20).map(move |index| (asking, index))) {
        let rng = &mut Rng::indexed(5, "probe", index);
        let probe = curriculum.reading_probe(&form(), asking, index % 2 == 0, rng).unwrap();
        let (prompt, answer) = (tokenizer.decode(&probe.prompt).unwrap(), tokenizer.decode(&probe.answer).unwrap());
        let (passages, question) = prompt.split_once("Question :").unwrap();
        let answer = answer.trim();
        let line_of = |text: &str| passages.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{prompt}"));
        match asking {
            Asking::Unstated => assert_eq!(answer, world::NOT_STATED),
            Asking::Compare => assert!(question.contains(answer), "{prompt}"),
            Asking::Inverse => assert!(!question.contains(answer) && passages.contains(&format!(": {answer} :")), "{prompt}"),
            Asking::MultiHop => {
                let line = line_of(answer);
                let target = line.split(" : ").nth(1).unwrap();
                assert!(!question.contains(target) && passages.matches(target).count() >= 2, "{prompt} {answer}");
            }
            Asking::Fact | Asking::InventedName | Asking::Alias => {
                let named = passages.lines().any(|line| {
                    let title = line.split(" : ").nth(1).unwrap();
                    line.contains(answer) && (question.contains(title) != (asking == Asking::Alias))
                });
                assert!(named, "{prompt} {answer}");
            }
        }
    }
}

#[test]
fn an_entity_with_one_wording_always_has_the_same_text() {
    let (world, tokenizer) = (world(), build_tokenizer().unwrap());
    let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
    let texts = |wordings: Wordings| -> BTreeSet<Vec<u32>> {
        let of = |entity: &Entity| entity.exposure.is_some_and(|exposure| exposure.wordings == wordings);
        let entity = curriculum.known().iter().position(of).unwrap();
        let show = |index| curriculum.facts(&[Showing { entity, asked: false }], 1, &mut Rng::indexed(1, "show", index)).unwrap();
        (0..10).flat_map(show).map(|row| row.tokens).collect()
    };
    assert_eq!(texts(Wordings::One).len(), 1);
    assert_eq!(texts(Wordings::Several).len(), 10);
}

#[test]
fn pre_training_never_uses_the_names_of_fresh_entities_or_of_its_evaluation() {
    let (world, tokenizer) = (world(), build_tokenizer().unwrap());
    let (training, evaluation) = (Curriculum::training(&world, &tokenizer, WEIGHTS), Curriculum::evaluation(&world, &tokenizer, WEIGHTS));
    let mut names = (BTreeSet::new(), BTreeSet::new());
    let mut rng = Rng::new(1, "names");
    for _ in 0..2000 {
        names.0.insert(training.stranger(0, &mut rng).name);
        names.1.insert(evaluation.stranger(0, &mut rng).name);
    }
    assert!(names.0.is_disjoint(&names.1) && names.0.is_disjoint(&world.reserved_names()));
}
