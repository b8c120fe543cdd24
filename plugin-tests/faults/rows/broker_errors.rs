//! Row 8: every error code that brokers can answer with, on the way of an event: to a produce request, to a producer that
//! asks for its id, to one that asks who leads a partition. The brokers are librdkafka's mock cluster.

mod expected;
mod scenes;
mod stage;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use expected::{Fate, fate};
use scenes::Scene;
use stage::Stage;

use super::host::{held, share_out};
use super::mock::{HANGS_UP, codes_of_brokers};
use crate::run::{Result, Run, Tally, check};

/// The scenes mostly wait.
const THREADS: usize = 12;

pub fn run(run: &Run) -> Result<Tally> {
    let known: Vec<i32> = codes_of_brokers().chain([HANGS_UP]).collect();
    check(known.len() > 100, format_args!("librdkafka knows more than {} codes", known.len()))?;
    let mut scenes = scenes_of(run, &known);
    // The long ones first, so that none is left over for one thread.
    run.chance().shuffle(&mut scenes);
    scenes.sort_by_key(|scene| !scene.is_long());
    run.say(format_args!("{} codes in {} scenes", known.len(), scenes.len()));

    let (events, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = |stage: &mut Stage, scene: &Scene| {
        run.keep(format_args!("{scene:?} begins"));
        match scene.play(stage) {
            Ok(seen) => drop(events.fetch_add(seen, Ordering::Relaxed)),
            Err(why) => {
                run.say(format_args!("{scene:?}: {why}"));
                held(&failed).push(format!("{scene:?}: {why}"));
                // What was left unanswered must not be the next one's.
                *stage = Stage::set()?;
            }
        }
        stage.heard.keep(run);
        Ok(())
    };
    share_out(THREADS, &scenes, |_| Stage::set(), work)?;
    let failed = held(&failed);
    let of_all = format_args!("{} of {} scenes failed:\n{}", failed.len(), scenes.len(), failed.join("\n"));
    check(failed.is_empty(), of_all)?;
    let lasting = scenes.iter().filter(|scene| scene.is_long()).count();
    Ok(Tally {
        events: events.into_inner(),
        notes: vec![format!("{} codes, {} scenes, {lasting} of them until events time out", known.len(), scenes.len())],
    })
}

/// In CI each code is answered once to a produce request, and the rest is a sample.
fn scenes_of(run: &Run, known: &[i32]) -> Vec<Scene> {
    let of = |scene: fn(i32) -> Scene, codes: &[i32]| codes.iter().copied().map(scene).collect::<Vec<_>>();
    let mut chance = run.chance();
    let mut sample = |codes: &[i32], share: usize| {
        let mut codes = codes.to_vec();
        chance.shuffle(&mut codes);
        codes.truncate(run.pick(share, usize::MAX));
        codes
    };
    let sent_again: Vec<i32> = known.iter().copied().filter(|code| matches!(fate(*code), Fate::SentAgain)).collect();
    let by_kafka: Vec<i32> = known.iter().copied().filter(|code| *code != HANGS_UP).collect();
    let ending: Vec<i32> = by_kafka.iter().copied().filter(|code| expected::ends_without_id(*code).is_some()).collect();
    // A gap is closed by sending again what came behind it; what ends the producer leaves none.
    let gaps: Vec<i32> = by_kafka.iter().copied().filter(|code| scenes::leaves_a_gap(*code)).collect();
    [
        of(Scene::Once, known),
        of(Scene::Lasting, &sample(&sent_again, 6)),
        of(Scene::Gap, &sample(&gaps, 12)),
        of(Scene::NoId, &ending),
        of(Scene::NoId, &sample(&by_kafka, 10)),
        of(Scene::NeverAnId, &sample(&by_kafka, 3)),
        of(Scene::NoLeader, &sample(&by_kafka, 12)),
        vec![Scene::Away, Scene::Slow],
    ]
    .concat()
}
