use loom::sync::Arc;
use loom::thread;
use octopus_models::support::flagged::Flagged;
use octopus_models::sync::locks_taken_by;

/// The flag and the value change one after the other, but no interleaving leaves one without the
/// other. Without a value, a check takes no lock.
#[test]
fn flag_agrees_with_value() {
    loom::model(|| {
        let flagged = Arc::new(Flagged::<u32>::default());
        let (setting, clearing) = (flagged.clone(), flagged.clone());
        let setter = thread::spawn(move || {
            setting.set(1);
            setting.set(2);
        });
        let clearer = thread::spawn(move || clearing.clear());
        let seen = flagged.get();
        assert!(seen.is_none_or(|value| value == 1 || value == 2));
        setter.join().unwrap();
        clearer.join().unwrap();
        let is_some = flagged.is_some();
        assert_eq!(flagged.get(), is_some.then_some(2));
        assert_eq!(locks_taken_by(|| flagged.get()), usize::from(is_some));
    });
}

/// Of two values that are set while others take, the last is taken exactly once, the first at most
/// once.
#[test]
fn value_set_during_a_take_is_kept() {
    loom::model(|| {
        let flagged = Arc::new(Flagged::<u32>::default());
        let (setting, taking) = (flagged.clone(), flagged.clone());
        let setter = thread::spawn(move || {
            setting.set(1);
            setting.set(2);
        });
        let taker = thread::spawn(move || taking.take());
        let first = flagged.take();
        setter.join().unwrap();
        let mut taken: Vec<_> = [first, taker.join().unwrap(), flagged.take()].into_iter().flatten().collect();
        taken.sort();
        assert!(taken == [2] || taken == [1, 2], "{taken:?}");
    });
}
