//! Values that parse but mean nothing, found before any file of the run is opened.

use super::read::SpecProblem;
use std::path::Path;

use super::{DeviceName, Dtype, FinetuneMethod, RetrievalSpec, RunSpec, SearchMethod, VariantKind};

struct Checker(Vec<SpecProblem>);

impl Checker {
    fn require(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(SpecProblem { key: key.to_owned(), line: None, message: message() });
        }
    }

    fn at_least_one(&mut self, value: usize, key: &str) {
        self.require(value >= 1, key, || "is 0, expected at least 1".into());
    }

    fn within(&mut self, value: f64, low: f64, high: f64, key: &str) {
        self.require((low..=high).contains(&value), key, || format!("is {value}, expected {low} to {high}"));
    }
}

/// Everything wrong with the values of a spec, none of which needs a file to be seen.
pub fn check(spec: &RunSpec) -> Vec<SpecProblem> {
    let mut checker = Checker(Vec::new());
    check_top(spec, &mut checker);
    check_endpoints(spec, &mut checker);
    check_retrieval(spec, &mut checker);
    check_finetune(spec, &mut checker);
    check_measure(spec, &mut checker);
    checker.0
}

fn check_top(spec: &RunSpec, checker: &mut Checker) {
    checker.require(!spec.name.is_empty(), "name", || "is empty".into());
    checker.require(!spec.compared().is_empty(), "variants", || format!("is empty, expected some of {}", names()));
    for variant in spec.variants.iter().filter(|variant| variant.is_predicted()) {
        checker.require(false, "variants", || {
            format!("names `{}`, expected some of {}; answers of another system go under `[predictions]`", variant.name(), names())
        });
    }
    let mut variants = spec.variants.clone();
    variants.sort_unstable();
    checker.require(variants.windows(2).all(|pair| pair[0] != pair[1]), "variants", || "names a variant twice".into());
    let mut seeds = spec.seeds.clone();
    seeds.sort_unstable();
    checker.require(!seeds.is_empty(), "seeds", || "is empty, expected at least one".into());
    checker.require(seeds.windows(2).all(|pair| pair[0] != pair[1]), "seeds", || "names a seed twice".into());
    checker.require(seeds.iter().all(|&seed| i64::try_from(seed).is_ok()), "seeds", || "holds a negative or too large seed".into());
    checker.within(spec.dataset.test_fraction, 0.01, 1.0, "dataset.test_fraction");
    let leak = &spec.dataset.leak;
    checker.require((2..=64).contains(&leak.ngram), "dataset.leak.ngram", || format!("is {}, expected 2 to 64", leak.ngram));
    checker.within(leak.share, 0.01, 1.0, "dataset.leak.share");
    checker.within(leak.similarity, 0.5, 1.0, "dataset.leak.similarity");
    let dtype = spec.model.dtype;
    checker.require(dtype == Dtype::F32 || spec.model.device == DeviceName::Cpu, "model.dtype", || {
        format!("is {}, expected f32 on any device but the cpu", dtype.name())
    });
    checker.require(!spec.prompt.chat.is_empty(), "prompt.chat", || "is empty, expected none, auto or a template file".into());
    checker.require(spec.prompt.chat_date.parse::<jiff::civil::Date>().is_ok(), "prompt.chat_date", || {
        format!("is `{}`, expected a date such as 2024-07-26", spec.prompt.chat_date)
    });
    checker.at_least_one(spec.generation.max_new_tokens, "generation.max_new_tokens");
    checker.at_least_one(spec.generation.batch_size, "generation.batch_size");
    checker.within(spec.generation.temperature, 0.0, 10.0, "generation.temperature");
    checker.require(spec.generation.top_p > 0.0 && spec.generation.top_p <= 1.0, "generation.top_p", || {
        format!("is {}, expected more than 0 and at most 1", spec.generation.top_p)
    });
    checker.require(spec.generation.stop.iter().all(|stop| !stop.is_empty()), "generation.stop", || "holds an empty string".into());
}

/// An address that can be recorded, and a key that is not in it.
fn check_connection(checker: &mut Checker, section: &str, url: &str, model: &str, key_env: &str) {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let key = |name: &str| format!("{section}.{name}");
    // The address is not repeated where it may hold a password.
    let is_bare = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#']) && !rest.contains(char::is_whitespace));
    checker.require(is_bare, &key("url"), || {
        "is no plain address, expected `http://HOST:PORT/v1` or `https://HOST/v1` without user, password and query (a key goes into the environment \
         variable that `key_env` names)"
            .into()
    });
    checker.require(!model.is_empty(), &key("model"), || "is empty, expected the name under which the server serves the model".into());
    let is_variable = key_env.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    checker.require(is_variable, &key("key_env"), || {
        "is no name of an environment variable; the key itself does not belong into a spec".into()
    });
}

fn check_endpoints(spec: &RunSpec, checker: &mut Checker) {
    let (model, embedder) = (&spec.model.endpoint, &spec.retrieval.endpoint);
    let mut limits = |section: &str, concurrency: usize, timeout_s: f64, retries: u32| {
        checker.require((1..=1024).contains(&concurrency), &format!("{section}.concurrency"), || {
            format!("is {concurrency}, expected 1 to 1024")
        });
        checker.within(timeout_s, 0.1, 86_400.0, &format!("{section}.timeout_s"));
        checker.require(retries <= 100, &format!("{section}.retries"), || format!("is {retries}, expected 0 to 100"));
    };
    limits("model.endpoint", model.concurrency, model.timeout_s, model.retries);
    limits("retrieval.endpoint", embedder.concurrency, embedder.timeout_s, embedder.retries);
    checker.within(model.chars_per_token, 0.25, 100.0, "model.endpoint.chars_per_token");
    checker.within(embedder.chars_per_token, 0.25, 100.0, "retrieval.endpoint.chars_per_token");
    for (value, key) in [
        (model.price_input, "model.endpoint.price_input"),
        (model.price_output, "model.endpoint.price_output"),
        (model.max_total_cost, "model.endpoint.max_total_cost"),
        (embedder.price_input, "retrieval.endpoint.price_input"),
        (embedder.max_total_cost, "retrieval.endpoint.max_total_cost"),
    ] {
        checker.require(value >= 0.0 && value.is_finite(), key, || format!("is {value}, expected 0 or more"));
    }
    let priced = model.price_input > 0.0 || model.price_output > 0.0;
    checker.require(priced || model.max_total_cost == 0.0, "model.endpoint.max_total_cost", || {
        "is given without `price_input` or `price_output`: nothing would ever be charged to it".into()
    });
    checker.require(embedder.price_input > 0.0 || embedder.max_total_cost == 0.0, "retrieval.endpoint.max_total_cost", || {
        "is given without `price_input`: nothing would ever be charged to it".into()
    });
    let is_object = model.extra.is_empty() || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&model.extra).is_ok();
    checker.require(is_object, "model.endpoint.extra", || "is no JSON object".into());
    checker.at_least_one(embedder.batch, "retrieval.endpoint.batch");
    if embedder.is_set() {
        check_connection(checker, "retrieval.endpoint", &embedder.url, &embedder.model, &embedder.key_env);
        checker.require(spec.retrieval.embedder == Path::new("builtin"), "retrieval.embedder", || {
            "is given beside `retrieval.endpoint.url`: take one of them out".into()
        });
    }
    if model.is_set() {
        check_connection(checker, "model.endpoint", &model.url, &model.model, &model.key_env);
        check_served(spec, checker);
    }
}

/// What a model behind an endpoint needs, and what cannot be done to it.
fn check_served(spec: &RunSpec, checker: &mut Checker) {
    checker.require(spec.model.path == Path::new("builtin"), "model.path", || {
        "is given beside `model.endpoint.url`: take one of them out".into()
    });
    checker.require(spec.model.max_context > 0, "model.max_context", || "is 0, expected the served model's window in tokens".into());
    checker.require(spec.prompt.chat == "none", "prompt.chat", || {
        "is given, and a server applies its own chat template (`model.endpoint.kind = \"chat\"`), or none (`completions`)".into()
    });
    checker.require(spec.prompt.system.is_empty() || spec.model.endpoint.kind == super::EndpointKind::Chat, "prompt.system", || {
        "is given, and a prompt for `/completions` has no turns; put it into `prompt.template`".into()
    });
    for (adapter, key) in [(&spec.finetune.adapter, "finetune.adapter"), (&spec.hybrid.adapter, "hybrid.adapter")] {
        checker.require(adapter.as_os_str().is_empty(), key, || {
            "is given, and a served model takes no folder; name what the server serves with `model.endpoint.adapter`".into()
        });
    }
    for variant in &spec.variants {
        let Some(kind) = spec.adapter_of(*variant) else { continue };
        let field = if kind == super::TrainContext::None { "adapter" } else { "hybrid_adapter" };
        checker.require(spec.served_adapter(kind).is_some(), "variants", || {
            format!(
                "names `{}`, and a served model is not tuned here: name the tuned model that the server serves with `model.endpoint.{field}`, or take \
                 the variant out",
                variant.name()
            )
        });
        checker.require(spec.seeds.len() == 1, "seeds", || "has several, and a served tuned model has one training".into());
    }
}

fn names() -> String {
    VariantKind::ALL.map(VariantKind::name).join(", ")
}

fn check_retrieval(spec: &RunSpec, checker: &mut Checker) {
    let retrieval = &spec.retrieval;
    checker.at_least_one(retrieval.top_k, "retrieval.top_k");
    checker.at_least_one(retrieval.chunk.max_tokens, "retrieval.chunk.max_tokens");
    checker.require(retrieval.chunk.overlap_tokens < retrieval.chunk.max_tokens, "retrieval.chunk.overlap_tokens", || {
        format!("is {}, expected less than chunk.max_tokens ({})", retrieval.chunk.overlap_tokens, retrieval.chunk.max_tokens)
    });
    checker.require((2..=256).contains(&retrieval.hnsw.m), "retrieval.hnsw.m", || format!("is {}, expected 2 to 256", retrieval.hnsw.m));
    checker.require(retrieval.hnsw.ef_construction >= retrieval.hnsw.m, "retrieval.hnsw.ef_construction", || {
        format!("is {}, expected at least m ({})", retrieval.hnsw.ef_construction, retrieval.hnsw.m)
    });
    checker.require(retrieval.hnsw.ef_search >= retrieval.top_k, "retrieval.hnsw.ef_search", || {
        format!("is {}, expected at least top_k ({})", retrieval.hnsw.ef_search, retrieval.top_k)
    });
    check_search(retrieval, checker);
}

fn check_search(retrieval: &RetrievalSpec, checker: &mut Checker) {
    let (search, bm25, rerank) = (&retrieval.search, &retrieval.bm25, &retrieval.rerank);
    let mut at_least_top_k = |value: usize, key: &str| {
        checker.require(value >= retrieval.top_k, key, || format!("is {value}, expected at least top_k ({})", retrieval.top_k));
    };
    if search.method == SearchMethod::Hybrid {
        at_least_top_k(search.candidates, "retrieval.search.candidates");
    }
    if retrieval.reranker().is_some() {
        at_least_top_k(rerank.candidates, "retrieval.rerank.candidates");
    }
    checker.require(search.rrf_k >= 0.0 && search.rrf_k.is_finite(), "retrieval.search.rrf_k", || {
        format!("is {}, expected 0 or more", search.rrf_k)
    });
    checker.require(bm25.k1 >= 0.0 && bm25.k1.is_finite(), "retrieval.bm25.k1", || format!("is {}, expected 0 or more", bm25.k1));
    checker.within(bm25.b, 0.0, 1.0, "retrieval.bm25.b");
}

fn check_finetune(spec: &RunSpec, checker: &mut Checker) {
    let finetune = &spec.finetune;
    checker.require((1..=256).contains(&finetune.rank), "finetune.rank", || format!("is {}, expected 1 to 256", finetune.rank));
    checker.require(finetune.alpha > 0.0, "finetune.alpha", || format!("is {}, expected more than 0", finetune.alpha));
    checker
        .require((0.0..1.0).contains(&finetune.dropout), "finetune.dropout", || format!("is {}, expected 0 to below 1", finetune.dropout));
    for (adapter, key) in [(&finetune.adapter, "finetune.adapter"), (&spec.hybrid.adapter, "hybrid.adapter")] {
        let given = !adapter.as_os_str().is_empty();
        checker.require(!given || finetune.method == FinetuneMethod::Lora, key, || "is given, and `finetune.method` is not lora".into());
        checker.require(!given || spec.seeds.len() == 1, key, || {
            "is given: one adapter has one training seed, and `seeds` has several".into()
        });
    }
    checker.require(!finetune.target_modules.is_empty(), "finetune.target_modules", || "is empty, expected at least one module".into());
    checker.require(finetune.epochs > 0.0 && finetune.epochs.is_finite(), "finetune.epochs", || {
        format!("is {}, expected more than 0", finetune.epochs)
    });
    checker.require(finetune.learning_rate > 0.0 && finetune.learning_rate.is_finite(), "finetune.learning_rate", || {
        format!("is {}, expected more than 0", finetune.learning_rate)
    });
    checker.within(finetune.warmup_ratio, 0.0, 1.0, "finetune.warmup_ratio");
    checker.within(finetune.validation_fraction, 0.0, 0.9, "finetune.validation_fraction");
    checker.require(finetune.weight_decay >= 0.0, "finetune.weight_decay", || format!("is {}, expected 0 or more", finetune.weight_decay));
    checker
        .require(finetune.max_grad_norm >= 0.0, "finetune.max_grad_norm", || format!("is {}, expected 0 or more", finetune.max_grad_norm));
    checker.at_least_one(finetune.micro_batch, "finetune.micro_batch");
    checker.at_least_one(finetune.grad_accum_steps, "finetune.grad_accum_steps");
    checker.require(finetune.max_length >= 2, "finetune.max_length", || format!("is {}, expected at least 2", finetune.max_length));
    checker.require(finetune.checkpoint_steps >= 1, "finetune.checkpoint_steps", || "is 0, expected at least 1".into());
}

fn check_measure(spec: &RunSpec, checker: &mut Checker) {
    let measure = &spec.measure;
    checker.require(measure.latency_repeats >= 1, "measure.latency_repeats", || "is 0, expected at least 1".into());
    checker.require(measure.bootstrap_resamples >= 100, "measure.bootstrap_resamples", || {
        format!("is {}, expected at least 100", measure.bootstrap_resamples)
    });
    checker.within(measure.confidence, 0.5, 0.999, "measure.confidence");
    checker.within(spec.contrasts.alpha, 1e-6, 0.5, "contrasts.alpha");
    checker.within(spec.contrasts.power, 0.5, 0.999, "contrasts.power");
    checker.within(spec.contrasts.margin, 0.0, 100.0, "contrasts.margin");
    for (value, key) in [
        (spec.cost.machine_hour, "cost.machine_hour"),
        (spec.cost.label, "cost.label"),
        (spec.cost.storage_gib_month, "cost.storage_gib_month"),
        (spec.cost.storage_months, "cost.storage_months"),
        (spec.cost.people.human_hour, "cost.people.human_hour"),
        (spec.cost.people.index_minutes, "cost.people.index_minutes"),
        (spec.cost.people.training_minutes, "cost.people.training_minutes"),
        (spec.cost.people.label_minutes, "cost.people.label_minutes"),
        (spec.cost.people.index_update_minutes, "cost.people.index_update_minutes"),
        (spec.cost.people.training_update_minutes, "cost.people.training_update_minutes"),
        (spec.cost.usage.updates_per_month, "cost.usage.updates_per_month"),
        (measure.server.rate, "measure.server.rate"),
    ] {
        checker.require(value >= 0.0 && value.is_finite(), key, || format!("is {value}, expected 0 or more"));
    }
    for (value, key) in [(spec.cost.usage.months, "cost.usage.months"), (spec.cost.usage.queries_per_month, "cost.usage.queries_per_month")]
    {
        checker.require(value > 0.0 && value.is_finite(), key, || format!("is {value}, expected more than 0"));
    }
    checker.at_least_one(measure.server.queries, "measure.server.queries");
    checker.require(measure.offline.repeats >= 1, "measure.offline.repeats", || "is 0, expected at least 1".into());
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        check(&read(text, &[]).unwrap()).into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_default_spec_is_sound() {
        assert_eq!(keys(""), [""; 0]);
    }

    #[test]
    fn senseless_values_are_all_listed() {
        let text = "variants = [\"rag\", \"rag\"]\nseeds = []\n[retrieval]\ntop_k = 0\n[finetune]\nrank = 0\n[measure]\nconfidence = 2.0\n";
        assert_eq!(keys(text), ["variants", "seeds", "retrieval.top_k", "finetune.rank", "measure.confidence"]);
    }
}
