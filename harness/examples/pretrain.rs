//! Pre-trains a model: `cargo run --release --example pretrain -- SPEC DIR`. Progress goes to stderr.

use std::sync::atomic::AtomicBool;

use ragft::finetune::pretrain::{PretrainEvent, pretrain};
use ragft::finetune::pretrain_spec::PretrainSpec;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(spec), Some(folder)) = (arguments.next(), arguments.next()) else { anyhow::bail!("usage: pretrain SPEC DIR") };
    let spec: PretrainSpec = toml::from_str(&std::fs::read_to_string(spec)?)?;
    let mut tokens = 0;
    let mut seconds = 0.0;
    let mut events = |event: PretrainEvent| match event {
        PretrainEvent::Step(row) => {
            tokens += row.tokens;
            seconds += row.step_ns as f64 / 1e9;
            if row.step % 10 == 0 {
                let rate = tokens as f64 / seconds;
                eprintln!(
                    "step {} loss {:.4} norm {:.3} rate {:.5} tokens/s {rate:.0}",
                    row.step, row.train_loss, row.grad_norm, row.learning_rate
                );
            }
        }
        PretrainEvent::Evaluation(row) => eprintln!("evaluation {} {:?}", row.step, row.exact_match),
    };
    pretrain(&spec, folder.as_ref(), &mut events, &AtomicBool::new(false))?;
    Ok(())
}
