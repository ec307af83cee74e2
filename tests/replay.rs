//! Runs the fuzz targets on stable: every seed of `fuzz/corpus/`, then a million mutations of them for each parser.
//!
//! `TANDEM_FUZZ_RUNS` sets another count, `TANDEM_FUZZ_SEED` another seed. A failure prints the input and how to run it alone.

#[path = "replay/pidf.rs"]
mod pidf;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::mutate::{Random, mutate};
use fuzz::{TARGETS, Target};

/// The targets of the crates, and the switch's own.
fn targets() -> impl Iterator<Item = &'static Target> {
    static PIDF: Target = Target { name: "pidf", run: pidf::run, seeds: Vec::new, dictionary: pidf::DICTIONARY };
    TARGETS.iter().chain([&PIDF])
}

const RUNS: u64 = 1_000_000;
const SEED: u64 = 0x7A4D_E817;
/// Runs that share a generator; also the unit in which the threads divide the work.
const BATCH: u64 = 10_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a decimal number"))
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    let mut seeds: Vec<_> = files.iter().map(|file| std::fs::read(file).expect("a readable seed")).collect();
    seeds.extend((target.seeds)());
    seeds
}

fn try_one(target: &Target, input: &[u8], origin: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        panic!("{} fails on {origin}; put this input into fuzz/corpus/{}/: b\"{}\"", target.name, target.name, input.escape_ascii())
    })
}

/// Runs one batch of mutations; returns how many were accepted.
fn batch(target: &Target, seeds: &[Vec<u8>], seed: u64, number: u64) -> u64 {
    let mut random = Random(seed ^ number.wrapping_mul(0xD129_0A5B));
    let mut input = Vec::new();
    let mut accepted = 0;
    for run in 0..BATCH {
        let (Some(one), Some(other)) = (random.choose(seeds), random.choose(seeds)) else { panic!("{} has no seeds", target.name) };
        mutate(&mut random, target.dictionary, one, other, &mut input);
        accepted += u64::from(try_one(target, &input, &format_args!("seed {seed}, batch {number}, run {run}").to_string()));
    }
    accepted
}

#[test]
fn every_seed_holds() {
    for target in targets() {
        let seeds = seeds(target);
        let accepted = seeds.iter().filter(|seed| try_one(target, seed, "a seed")).count();
        println!("{}: {} seeds, {accepted} accepted", target.name, seeds.len());
        assert!(accepted > 0, "no seed of {} is accepted: nothing deep is tried", target.name);
    }
}

#[test]
fn every_parser_survives_a_million_mutations() {
    let (runs, seed) = (number("TANDEM_FUZZ_RUNS", RUNS), number("TANDEM_FUZZ_SEED", SEED));
    let batches = runs.div_ceil(BATCH);
    for target in targets() {
        let seeds = &seeds(target);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let accepted: u64 = std::thread::scope(|scope| {
            let share = |first: u64| move || (first..batches).step_by(threads as usize).map(|n| batch(target, seeds, seed, n)).sum::<u64>();
            let workers: Vec<_> = (0..threads).map(|first| scope.spawn(share(first))).collect();
            workers.into_iter().map(|worker| worker.join().expect("the batch holds")).sum()
        });
        let total = batches * BATCH;
        let (name, percent) = (target.name, accepted * 100 / total);
        println!("{name}: seed {seed}, {total} mutations of {} seeds, {percent}% accepted", seeds.len());
    }
}
