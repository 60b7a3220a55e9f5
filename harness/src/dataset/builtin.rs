//! The dataset that ships with the program: the fact world of the default configuration.

use super::Files;

/// The files of `datasets/factworld`.
pub fn builtin() -> Files {
    Files::embedded(
        "builtin",
        &[
            ("dataset.toml", include_bytes!("../../../datasets/factworld/dataset.toml")),
            ("documents.jsonl", include_bytes!("../../../datasets/factworld/documents.jsonl")),
            ("train.jsonl", include_bytes!("../../../datasets/factworld/train.jsonl")),
            ("validation.jsonl", include_bytes!("../../../datasets/factworld/validation.jsonl")),
            ("test.jsonl", include_bytes!("../../../datasets/factworld/test.jsonl")),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::super::world::{WorldConfig, generate};
    use super::*;

    #[test]
    fn the_committed_files_are_what_the_generator_writes() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("factworld");
        super::super::write_native(&generate(&WorldConfig::default()).dataset, &folder).unwrap();
        let committed = format!("{}/../datasets/factworld", env!("CARGO_MANIFEST_DIR"));
        for name in builtin().names() {
            let written = std::fs::read_to_string(folder.join(name)).unwrap();
            assert!(written == std::fs::read_to_string(format!("{committed}/{name}")).unwrap(), "`{name}` differs");
        }
    }

    #[test]
    fn the_builtin_loads_without_a_problem_or_an_overlap() {
        let spec = crate::spec::DatasetSpec { path: "builtin".into(), ..crate::spec::read("", &[]).unwrap().dataset };
        let examination = super::super::check(&spec, 1, std::path::Path::new("")).unwrap();
        assert!(examination.problems.is_empty() && examination.overlaps.is_empty(), "{:?}", examination.overlaps);
        let dataset = examination.dataset.unwrap();
        assert_eq!(dataset.info.name, "factworld");
    }
}
