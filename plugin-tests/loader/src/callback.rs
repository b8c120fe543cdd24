//! Closures as the `{function, context, destroy}` of the C ABI. Panics end here, since unwinding
//! into C aborts the process.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::octopus_destroy_fn;

/// Turns a closure into a context for C and the function that destroys it. The receiver of the pair
/// has to call that function once, or the closure leaks.
pub(crate) fn into_context<F: ?Sized>(closure: Box<F>) -> (*mut c_void, octopus_destroy_fn) {
    // A pointer to a `dyn Fn` is wider than a `void *`, hence the second box.
    (Box::into_raw(Box::new(closure)).cast(), Some(destroy::<F>))
}

/// The closure of a context.
///
/// # Safety
/// `context` came from [`into_context`] with the same `F` and is not destroyed during `'a`.
pub(crate) unsafe fn closure<'a, F: ?Sized>(context: *mut c_void) -> &'a F {
    // SAFETY: `context` points to a live `Box<F>` (fn contract), which is only shared: the callers
    // of `closure_mut` are the only function of their context.
    unsafe { &*context.cast::<Box<F>>() }
}

/// The closure of a context, for a function that is not called by two threads at the same time.
///
/// # Safety
/// As for [`closure`], and nothing else uses the closure during `'a`.
pub(crate) unsafe fn closure_mut<'a, F: ?Sized>(context: *mut c_void) -> &'a mut F {
    // SAFETY: `context` points to a live `Box<F>` that nothing else uses (fn contract).
    unsafe { &mut *context.cast::<Box<F>>() }
}

/// Drops the closure of a context.
///
/// # Safety
/// `context` came from [`into_context`] with the same `F`, and nothing uses it from now on:
/// include/octopus.h promises to call this function once, after the last call of the callback.
unsafe extern "C" fn destroy<F: ?Sized>(context: *mut c_void) {
    // SAFETY: `context` is the pointer of `Box::into_raw` in `into_context::<F>`, and is not used
    // again (fn contract).
    let closure = unsafe { Box::from_raw(context.cast::<Box<F>>()) };
    catch_panic(|| drop(closure));
}

/// Makes a closure that C can call several times from one that Rust can call once. Later calls do
/// nothing.
pub(crate) fn at_most_once<A>(once: impl FnOnce(A) + Send + 'static) -> Box<dyn FnMut(A) + Send> {
    let mut once = Some(once);
    Box::new(move |argument| {
        if let Some(once) = once.take() {
            once(argument);
        }
    })
}

/// The result of `work`, or `None` if it panics. The panic hook has printed the panic by then.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn destroying_a_context_drops_its_closure() {
        let counted = Arc::new(());
        let kept = counted.clone();
        let (context, destroy) = into_context::<dyn Fn() -> usize>(Box::new(move || Arc::strong_count(&kept)));
        // SAFETY: the context is of this type and not destroyed yet.
        assert_eq!(unsafe { closure::<dyn Fn() -> usize>(context) }(), 2);
        // SAFETY: the one call of the function that came with the context.
        unsafe { destroy.unwrap()(context) };
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn at_most_once_ignores_later_calls() {
        let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counter = calls.clone();
        let mut callback = at_most_once(move |by| {
            counter.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
        });
        callback(2);
        callback(3);
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
