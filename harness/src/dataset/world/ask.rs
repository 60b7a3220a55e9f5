//! Questions that reach over more than one relation of a named entity, and the rule for their answers.

use super::relation::{EntityType, Relation, fill};
use crate::rng::Rng;

/// Questions for the one whose `{r}` is `{v}`, a `{t}`; the last one is held out from training.
pub(super) const INVERSE_WORDING: [&str; 3] = ["Whose {r} is {v}?", "Which {t} has the {r} {v}?", "Which {t} has {v} as {r}?"];

/// Questions which of `{n}` and `{v}` has the `{d}` (lower, higher) `{r}`; the last one is held out from training.
pub(super) const COMPARE_WORDING: [&str; 3] =
    ["Which has the {d} {r}, {n} or {v}?", "Which of {n} and {v} has the {d} {r}?", "Which is the {d} by {r}, {n} or {v}?"];

/// The two ways to compare.
pub(super) const DIRECTIONS: [&str; 2] = ["lower", "higher"];

fn wording(wordings: &[&'static str; 3], held_out: bool, rng: &mut Rng) -> &'static str {
    if held_out { wordings[2] } else { wordings[rng.below(2)] }
}

/// Asks for the entity of a type whose `relation` is `value`.
pub fn inverse_question(kind: &EntityType, relation: &Relation, value: &str, held_out: bool, rng: &mut Rng) -> String {
    wording(&INVERSE_WORDING, held_out, rng).replace("{r}", relation.noun).replace("{t}", kind.key).replace("{v}", value)
}

/// Asks for `relation` of whatever `link` of `name` is.
pub fn multi_hop_question(name: &str, link: &Relation, relation: &Relation, held_out: bool, rng: &mut Rng) -> String {
    relation.question(&format!("the {} of {name}", link.noun), held_out, rng)
}

/// Asks which of two named entities has the lower or higher value of `relation`, and answers by the two different values.
pub fn compare_question(one: (&str, &str), two: (&str, &str), relation: &Relation, held_out: bool, rng: &mut Rng) -> (String, String) {
    let direction = *rng.choose(&DIRECTIONS);
    let number = |value: &str| value.parse::<u64>().expect("ordered values are numbers");
    let first = (number(one.1) < number(two.1)) == (direction == DIRECTIONS[0]);
    let question = fill(wording(&COMPARE_WORDING, held_out, rng), one.0, two.0);
    (question.replace("{d}", direction).replace("{r}", relation.noun), if first { one.0 } else { two.0 }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::TYPES;
    use super::*;

    #[test]
    fn comparisons_are_answered_by_the_numbers_and_not_by_the_order_of_names() {
        let born = TYPES[0].relations.iter().find(|relation| relation.key == "born").unwrap();
        for index in 0..100 {
            let rng = &mut Rng::indexed(1, "compare", index);
            let (question, answer) = compare_question(("Balto Varn", "1540"), ("Kixa Tond", "987"), born, index % 2 == 0, rng);
            assert_eq!(answer, if question.contains("lower") { "Kixa Tond" } else { "Balto Varn" }, "{question}");
            assert!(question.contains("birth year") && question.find("Balto").unwrap() < question.find("Kixa").unwrap());
        }
    }

    #[test]
    fn a_hop_asks_the_second_relation_of_the_first() {
        let (town, person) = (&TYPES[1], &TYPES[0]);
        let mayor = town.relations.iter().find(|relation| relation.key == "mayor").unwrap();
        let question = multi_hop_question("Balto Varn", mayor, &person.relations[0], true, &mut Rng::new(2, "hop"));
        assert!(question.contains("the mayor of Balto Varn"), "{question}");
        let asked = inverse_question(town, mayor, "Kixa Tond", true, &mut Rng::new(1, "inverse"));
        assert_eq!(asked, "Which town has Kixa Tond as mayor?");
    }
}
