use loom::sync::Arc;
use loom::thread;
use octopus_models::delivery::sequencer::Sequencer;

/// In each interleaving every result is dispatched, in order. None is left, and no thread keeps the
/// right to dispatch: the result that is completed at the end is dispatched at once, behind all
/// others.
#[test]
fn every_result_is_dispatched_in_order() {
    loom::model(|| {
        let sequencer = Arc::new(Sequencer::new(Vec::new()));
        let [first, second, third] = [sequencer.reserve(), sequencer.reserve(), sequencer.reserve()];
        let finishing = [(second, 1), (third, 2)].map(|(slot, number)| {
            let sequencer = sequencer.clone();
            thread::spawn(move || sequencer.complete(slot, number, |out: &mut Vec<u32>, number| out.push(number)))
        });
        sequencer.complete(first, 0, |out, number| out.push(number));
        finishing.into_iter().for_each(|thread| thread.join().unwrap());
        let mut dispatched = Vec::new();
        sequencer.complete(sequencer.reserve(), 3, |out, number| {
            out.push(number);
            dispatched.push(out.clone());
        });
        assert_eq!(dispatched, [[0, 1, 2, 3]]);
    });
}
