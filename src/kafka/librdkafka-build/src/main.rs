//! The commands by which `ci/librdkafka.sh` inspects the patch queue.
//!
//!     librdkafka-queue list PATCHES
//!         number, kind, name and test of each patch, separated by tabs
//!     librdkafka-queue report PATCHES LIBRDKAFKA
//!         how each patch applies to these sources, as a Markdown table; the last line lists the
//!         patches to omit from a build
//!     librdkafka-queue sources
//!         the directory of the sources of rdkafka-sys

use std::path::Path;
use std::process::ExitCode;

use librdkafka_build::queue::{Patch, PatchQueue};
use librdkafka_build::sources::{self, Sources};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["list", patches] => list(Path::new(patches)),
        ["report", patches, librdkafka] => report(Path::new(patches), Path::new(librdkafka)),
        ["sources"] => sources::locate(&std::env::temp_dir().join(format!("librdkafka-queue-{}", std::process::id())))
            .map(|root| println!("{}", root.display())),
        _ => Err("usage: librdkafka-queue list PATCHES | report PATCHES LIBRDKAFKA | sources".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("librdkafka-queue: {reason}");
            ExitCode::from(2)
        }
    }
}

fn list(patches: &Path) -> Result<(), String> {
    for patch in PatchQueue::read(patches)?.patches() {
        let kind = format!("{:?}", patch.kind).to_lowercase();
        println!("{}\t{kind}\t{}\t{}", patch.number, patch.name, patch.test.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn report(patches: &Path, librdkafka: &Path) -> Result<(), String> {
    let queue = PatchQueue::read(patches)?;
    let mut sources = Sources::read(librdkafka)?;
    println!("| patch | on {} | |\n| --- | --- | --- |", sources.version()?);
    let mut omitted: Vec<u32> = Vec::new();
    for patch in queue.patches() {
        let (result, reason) = try_one(patch, &mut sources, &omitted);
        if result == "applies" {
            println!("| {} | applies | |", patch.name);
        } else {
            omitted.push(patch.number);
            println!("| {} | {result} | {reason} |", patch.name);
        }
    }
    let numbers: Vec<_> = omitted.iter().map(u32::to_string).collect();
    println!("left out: {}", numbers.join(","));
    Ok(())
}

fn try_one(patch: &Patch, sources: &mut Sources, omitted: &[u32]) -> (&'static str, String) {
    if patch.is_contained_in(sources) {
        return ("no longer needed", "the reverse patch applies".to_owned());
    }
    if let Some(number) = patch.requires.iter().find(|number| omitted.contains(number)) {
        return ("conflicts", format!("it requires {number:04}, which is left out"));
    }
    match patch.apply(sources) {
        Ok(()) => ("applies", String::new()),
        Err(conflict) => ("conflicts", conflict.to_string()),
    }
}
