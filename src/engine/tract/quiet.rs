//! Panics of the engine as errors: nothing is printed, nothing unwinds further.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// While a call is guarded: what its panic said.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic in it on this thread becomes the error that it carried.
pub(super) fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    install();
    let outer = CAUGHT.with(|c| c.replace(Some(String::new())));
    let result = catch_unwind(AssertUnwindSafe(f));
    let said = CAUGHT.with(|c| c.replace(outer)).unwrap_or_default();
    result.map_err(|_| said)
}

/// Once per process: a hook that keeps panics of guarded calls to itself and hands all others to
/// the hook that was there.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let guarded = CAUGHT.with(|c| match c.borrow_mut().as_mut() {
                Some(said) => {
                    let payload = info.payload();
                    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
                    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
                    *said = text.unwrap_or_default();
                    true
                }
                None => false,
            });
            if !guarded {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn panics_become_errors() {
        assert_eq!(super::guarded(|| 3), Ok(3));
        assert_eq!(super::guarded(|| -> i32 { panic!("on purpose") }), Err("on purpose".into()));
    }
}
