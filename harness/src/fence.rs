//! A fence around parsers of others that panic on broken files instead of returning an error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

static QUIET: Once = Once::new();

/// What `parse` gives; nothing if it panicked. The panic is not printed: the caller says what is wrong with the file.
pub fn fenced<T>(parse: impl FnOnce() -> T) -> Option<T> {
    QUIET.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                loud(info);
            }
        }));
    });
    FENCED.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(parse));
    FENCED.set(false);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_nothing_and_leaves_nothing_behind() {
        assert_eq!(fenced(|| Vec::<u8>::new()[0]), None);
        assert_eq!(fenced(|| 7), Some(7));
        assert!(!FENCED.get());
    }
}
