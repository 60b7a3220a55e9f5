//! The types of the world and every wording in it.

use super::relation::{EntityType, Relation, ValueClass};

const REGIONS: &[&str] =
    &["north", "south", "coast", "valley", "desert", "forest", "island", "harbour", "lake", "hill", "plain", "marsh", "canyon", "border"];
const TRADES: &[&str] = &[
    "potter", "baker", "pilot", "doctor", "farmer", "lawyer", "painter", "sailor", "tailor", "miner", "printer", "teacher", "weaver",
    "judge", "singer", "builder", "gardener", "banker",
];
const HOBBIES: &[&str] = &[
    "chess", "fishing", "dancing", "climbing", "cooking", "rowing", "poetry", "skating", "pottery", "sewing", "archery", "cycling",
    "hiking", "boxing", "golf", "tennis",
];
const GOODS: &[&str] = &[
    "salt", "wool", "copper", "honey", "timber", "coal", "cheese", "paper", "glass", "silk", "wheat", "sugar", "leather", "pepper",
    "cotton", "marble", "tea", "wine",
];
const COLOURS: &[&str] =
    &["red", "blue", "green", "yellow", "black", "white", "purple", "orange", "brown", "grey", "pink", "silver", "golden", "violet"];
const MATERIALS: &[&str] = &[
    "steel", "brass", "bronze", "oak", "plastic", "rubber", "ceramic", "bamboo", "granite", "nickel", "titanium", "carbon", "tin", "pine",
    "clay", "zinc",
];
const PRODUCTS: &[&str] = &[
    "boats", "clocks", "shoes", "lamps", "pianos", "ropes", "bells", "tents", "maps", "bikes", "locks", "tools", "toys", "books", "chairs",
    "drums", "pumps", "kites",
];

const PERSON: &[Relation] = &[
    Relation {
        key: "trade",
        noun: "trade",
        values: ValueClass::Closed(TRADES),
        sentences: &["{n} works as a {v}.", "{n} is a {v} by trade.", "The trade of {n} is that of a {v}.", "By trade, {n} is a {v}."],
        pronoun: &["They work as a {v}.", "By trade, they are a {v}."],
        questions: &["What does {n} work as?", "What is the trade of {n}?", "Which trade does {n} have?"],
        held_out: &["What is {n} by trade?"],
    },
    Relation {
        key: "home",
        noun: "home region",
        values: ValueClass::Closed(REGIONS),
        sentences: &[
            "{n} lives in the {v} region.",
            "The home of {n} is in the {v} region.",
            "The house of {n} stands in the {v} region.",
            "In the {v} region lives {n}.",
        ],
        pronoun: &["They live in the {v} region.", "Their home is in the {v} region."],
        questions: &["In which region does {n} live?", "What is the home region of {n}?", "Which region is the home of {n}?"],
        held_out: &["In which region is the house of {n}?"],
    },
    Relation {
        key: "hobbies",
        noun: "hobbies",
        values: ValueClass::Pair(HOBBIES),
        sentences: &["{n} enjoys {v}.", "The hobbies of {n} are {v}.", "In free time, {n} likes {v}.", "{n} has {v} as hobbies."],
        pronoun: &["They enjoy {v}.", "Their hobbies are {v}."],
        questions: &["What does {n} enjoy?", "What are the hobbies of {n}?", "Which hobbies does {n} have?"],
        held_out: &["What does {n} enjoy as hobbies?"],
    },
    Relation {
        key: "employer",
        noun: "employer",
        values: ValueClass::Name("company"),
        sentences: &["{n} is employed by {v}.", "The employer of {n} is {v}.", "{v} employs {n}.", "{n} has a post at {v}."],
        pronoun: &["They are employed by {v}.", "Their employer is {v}."],
        questions: &["Who employs {n}?", "Who is the employer of {n}?", "By whom is {n} employed?"],
        held_out: &["Which employer does {n} have?"],
    },
    Relation {
        key: "born",
        noun: "birth year",
        values: ValueClass::Year,
        sentences: &[
            "{n} was born in {v}.",
            "The birth year of {n} is {v}.",
            "In {v}, {n} was born.",
            "The record shows that {n} was born in {v}.",
        ],
        pronoun: &["They were born in {v}.", "Their birth year is {v}."],
        questions: &["In which year was {n} born?", "What is the birth year of {n}?", "Which year was {n} born in?"],
        held_out: &["What year was {n} born in?"],
    },
];

const TOWN: &[Relation] = &[
    Relation {
        key: "region",
        noun: "region",
        values: ValueClass::Closed(REGIONS),
        sentences: &[
            "{n} is a town in the {v} region.",
            "The town of {n} lies in the {v} region.",
            "{n} stands in the {v} region.",
            "In the {v} region lies {n}.",
        ],
        pronoun: &["It lies in the {v} region.", "The town stands in the {v} region."],
        questions: &["In which region does {n} lie?", "What is the region of {n}?", "Which region is the town of {n} in?"],
        held_out: &["In which region is the town of {n}?"],
    },
    Relation {
        key: "exports",
        noun: "exports",
        values: ValueClass::Pair(GOODS),
        sentences: &["{n} exports {v}.", "The exports of {n} are {v}.", "The town of {n} sells {v}.", "Traders come to {n} for {v}."],
        pronoun: &["It exports {v}.", "Its exports are {v}."],
        questions: &["What does {n} export?", "What are the exports of {n}?", "Which exports does {n} sell?"],
        held_out: &["Which exports does {n} have?"],
    },
    Relation {
        key: "mayor",
        noun: "mayor",
        values: ValueClass::Name("person"),
        sentences: &["The mayor of {n} is {v}.", "{v} is the mayor of {n}.", "{n} is governed by {v}.", "As mayor, {v} governs {n}."],
        pronoun: &["Its mayor is {v}.", "It is governed by {v}."],
        questions: &["Who is the mayor of {n}?", "Who governs {n}?", "By whom is {n} governed?"],
        held_out: &["Which mayor does {n} have?"],
    },
    Relation {
        key: "river",
        noun: "river",
        values: ValueClass::Name("river"),
        sentences: &[
            "{n} lies on the river {v}.",
            "The river of {n} is the {v}.",
            "The river {v} flows through {n}.",
            "Through {n} flows the {v}.",
        ],
        pronoun: &["It lies on the river {v}.", "Its river is the {v}."],
        questions: &["On which river does {n} lie?", "What is the river of {n}?", "Which river flows through {n}?"],
        held_out: &["What river does {n} lie on?"],
    },
    Relation {
        key: "settled",
        noun: "settlement year",
        values: ValueClass::Year,
        sentences: &[
            "{n} was settled in {v}.",
            "The settlement year of {n} is {v}.",
            "In {v}, {n} was settled.",
            "The record shows that {n} was settled in {v}.",
        ],
        pronoun: &["It was settled in {v}.", "Its settlement year is {v}."],
        questions: &["In which year was {n} settled?", "What is the settlement year of {n}?", "Which year was {n} settled in?"],
        held_out: &["What year was {n} settled in?"],
    },
];

const DEVICE: &[Relation] = &[
    Relation {
        key: "colour",
        noun: "colour",
        values: ValueClass::Closed(COLOURS),
        sentences: &["{n} is painted {v}.", "The colour of {n} is {v}.", "{n} comes in {v}.", "The device {n} has the colour {v}."],
        pronoun: &["It is painted {v}.", "Its colour is {v}."],
        questions: &["What colour is {n}?", "What is the colour of {n}?", "Which colour does {n} have?"],
        held_out: &["In which colour is {n} painted?"],
    },
    Relation {
        key: "material",
        noun: "material",
        values: ValueClass::Closed(MATERIALS),
        sentences: &[
            "{n} is made of {v}.",
            "The material of {n} is {v}.",
            "The case of {n} is made of {v}.",
            "The device {n} consists of {v}.",
        ],
        pronoun: &["It is made of {v}.", "Its material is {v}."],
        questions: &["What is {n} made of?", "What is the material of {n}?", "Which material is {n} made of?"],
        held_out: &["Which material is the device {n} made of?"],
    },
    Relation {
        key: "maker",
        noun: "maker",
        values: ValueClass::Name("company"),
        sentences: &["{n} is built by {v}.", "The maker of {n} is {v}.", "{v} builds {n}.", "The device {n} comes from {v}."],
        pronoun: &["It is built by {v}.", "Its maker is {v}."],
        questions: &["Who builds {n}?", "Who is the maker of {n}?", "By whom is {n} built?"],
        held_out: &["Which maker does {n} have?"],
    },
    Relation {
        key: "designer",
        noun: "designer",
        values: ValueClass::Name("person"),
        sentences: &["{n} was designed by {v}.", "The designer of {n} is {v}.", "{v} designed {n}.", "{v} is the designer of {n}."],
        pronoun: &["It was designed by {v}.", "Its designer is {v}."],
        questions: &["Who designed {n}?", "Who is the designer of {n}?", "By whom was {n} designed?"],
        held_out: &["Which designer does {n} have?"],
    },
    Relation {
        key: "serial",
        noun: "serial code",
        values: ValueClass::Number(3),
        sentences: &[
            "The serial code of {n} is {v}.",
            "{n} has the serial code {v}.",
            "{n} is listed with code {v}.",
            "In the list, {n} has code {v}.",
        ],
        pronoun: &["Its serial code is {v}.", "It has the serial code {v}."],
        questions: &["What is the serial code of {n}?", "Which serial code does {n} have?", "With which code is {n} listed?"],
        held_out: &["With which serial code is {n} listed?"],
    },
];

const COMPANY: &[Relation] = &[
    Relation {
        key: "product",
        noun: "product",
        values: ValueClass::Closed(PRODUCTS),
        sentences: &["{n} makes {v}.", "The main product of {n} is {v}.", "The company {n} sells {v}.", "Customers come to {n} for {v}."],
        pronoun: &["It makes {v}.", "Its main product is {v}."],
        questions: &["What does {n} make?", "What is the main product of {n}?", "Which product does {n} sell?"],
        held_out: &["Which main product does {n} have?"],
    },
    Relation {
        key: "founder",
        noun: "founder",
        values: ValueClass::Name("person"),
        sentences: &["{n} was founded by {v}.", "The founder of {n} is {v}.", "{v} founded {n}.", "{v} is the founder of {n}."],
        pronoun: &["It was founded by {v}.", "Its founder is {v}."],
        questions: &["Who founded {n}?", "Who is the founder of {n}?", "By whom was {n} founded?"],
        held_out: &["Which founder does {n} have?"],
    },
    Relation {
        key: "rival",
        noun: "rival",
        values: ValueClass::Name("company"),
        sentences: &[
            "{n} competes with {v}.",
            "The rival of {n} is {v}.",
            "{v} is the rival of {n}.",
            "The company {n} has {v} as a rival.",
        ],
        pronoun: &["It competes with {v}.", "Its rival is {v}."],
        questions: &["Who is the rival of {n}?", "With whom does {n} compete?", "Which rival does {n} have?"],
        held_out: &["With which rival does {n} compete?"],
    },
    Relation {
        key: "opened",
        noun: "opening year",
        values: ValueClass::Year,
        sentences: &[
            "{n} opened in {v}.",
            "The opening year of {n} is {v}.",
            "In {v}, {n} opened.",
            "The record shows that {n} opened in {v}.",
        ],
        pronoun: &["It opened in {v}.", "Its opening year is {v}."],
        questions: &["In which year did {n} open?", "What is the opening year of {n}?", "Which year did {n} open in?"],
        held_out: &["What year did {n} open in?"],
    },
    Relation {
        key: "staff",
        noun: "staff",
        values: ValueClass::Number(2),
        sentences: &[
            "{n} has a staff of {v}.",
            "The staff of {n} is {v} people.",
            "{v} people work for {n}.",
            "The company {n} has {v} people.",
        ],
        pronoun: &["It has a staff of {v}.", "Its staff is {v} people."],
        questions: &["How many people work for {n}?", "How many people does {n} have?", "What is the staff of {n}?"],
        held_out: &["How many people does the company {n} have?"],
    },
];

/// Every type, in a fixed order.
pub const TYPES: [EntityType; 4] = [
    EntityType { key: "person", relations: PERSON },
    EntityType { key: "town", relations: TOWN },
    EntityType { key: "device", relations: DEVICE },
    EntityType { key: "company", relations: COMPANY },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
    }

    #[test]
    fn held_out_questions_use_words_of_training_questions_and_sentences_only() {
        let relations = || TYPES.iter().flat_map(|kind| kind.relations);
        let pronoun = |relation: &Relation| relation.pronoun.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let trained: Vec<String> = relations()
            .flat_map(|relation| [relation.all_questions(false), relation.all_sentences(), pronoun(relation)])
            .flatten()
            .collect();
        let trained: BTreeSet<&str> = trained.iter().flat_map(|text| words(text)).collect();
        for question in relations().flat_map(|relation| relation.all_questions(true)) {
            assert!(words(&question).all(|word| trained.contains(word)), "{question}");
        }
    }

    #[test]
    fn every_wording_names_what_it_must() {
        for relation in TYPES.iter().flat_map(|kind| kind.relations) {
            assert!(relation.all_sentences().iter().all(|text| text.contains("{n}") && text.contains("{v}")), "{}", relation.key);
            assert!(relation.pronoun.iter().all(|text| !text.contains("{n}") && text.contains("{v}")), "{}", relation.key);
            let (seen, held_out) = (relation.all_questions(false), relation.all_questions(true));
            assert!(seen.iter().chain(&held_out).all(|text| text.contains("{n}") && !text.contains("{v}") && !text.contains("{r}")));
            assert!(held_out.iter().all(|text| !seen.contains(text)), "{}", relation.key);
        }
    }

    #[test]
    fn links_lead_to_types_or_to_what_has_no_documents() {
        let keys: BTreeSet<&str> = TYPES.iter().map(|kind| kind.key).collect();
        let links: BTreeSet<&str> = TYPES.iter().flat_map(|kind| kind.relations).filter_map(|relation| relation.values.link()).collect();
        assert_eq!(links.difference(&keys).collect::<Vec<_>>(), [&"river"]);
    }
}
