use rand_core::Rng as _;
use whimbrel_core::units::{ByteCount, Share};

use super::*;
use crate::config::{Pattern, WriterConfig};
use crate::guest::stream;

const PAGES: u64 = 1000;

fn guest(writers: &[(Pattern, u64, u64)]) -> (GuestConfig, Guest) {
    let writers = writers.iter().map(|&(pattern, from, pages)| WriterConfig {
        pattern,
        working_set: ByteCount(pages * 4096),
        offset: Some(ByteCount(from * 4096)),
        hot_pages: Share::percent(20),
        ..WriterConfig::default()
    });
    let config =
        GuestConfig { memory: ByteCount(PAGES * 4096), writers: writers.collect(), ..GuestConfig::default() };
    let guest = Guest::expected(&config).unwrap();
    (config, guest)
}

/// A harvest after which the scan stops at the page of this number, or goes all the way.
type Round = (f64, Option<f64>);

/// What the field says of each harvest: dirty and pending.
fn field(writers: &[(Pattern, u64, u64)], rounds: &[Round]) -> Vec<Found> {
    let (config, guest) = guest(writers);
    let mut field = Field::default();
    field.begin(&guest, &config, None).unwrap();
    let count = field.writers;
    field.counts_mut().extend(vec![0.0; count]);
    let mut sum = 0.0;
    let mut found = Vec::new();
    for &(made, stop) in rounds {
        while let Some(ahead) = field.ahead() {
            // Stops are behind where the scan begins.
            let end = stop.filter(|stop| ahead.from < *stop && *stop < ahead.to);
            field.pass(end.unwrap_or(ahead.to));
            if end.is_some() || stop == Some(ahead.to) {
                break;
            }
        }
        sum += made;
        field.counts_mut().extend(vec![sum; count]);
        found.push(field.harvest());
    }
    found
}

/// The same, page by page: the mean over many guests.
fn played(writers: &[(Pattern, u64, u64)], rounds: &[Round], guests: u64) -> Vec<[f64; 3]> {
    let mut sums = vec![[0.0; 3]; rounds.len()];
    for guest in 0..guests {
        let mut rng = stream(guest, "field");
        let starts: Vec<u64> = writers.iter().map(|(.., pages)| (guest * pages) / guests).collect();
        let (mut pending, mut cursor) = (vec![true; PAGES as usize], 0_usize);
        let mut written = 0_u64;
        for (sum, &(made, stop)) in sums.iter_mut().zip(rounds) {
            let scan = (0..PAGES as usize).map(|step| (cursor + step) % PAGES as usize);
            let mut last = cursor;
            for page in scan {
                if stop == Some(page as f64) {
                    last = page;
                    break;
                }
                pending[page] = false;
            }
            cursor = last;
            let mut dirty = vec![false; PAGES as usize];
            for (&(pattern, from, pages), start) in writers.iter().zip(&starts) {
                for write in 0..made as u64 {
                    let page = match pattern {
                        Pattern::Sequential => (start + written + write) % pages,
                        // Four fifths of the writes go to the first fifth and evenly to the others.
                        Pattern::HotCold if rng.next_u64() % 10 < 9 => rng.next_u64() % (pages / 5),
                        Pattern::HotCold => pages / 5 + rng.next_u64() % (pages - pages / 5),
                        _ => rng.next_u64() % pages,
                    };
                    dirty[(from + page) as usize] = true;
                }
            }
            written += made as u64;
            for (pending, dirty) in pending.iter_mut().zip(&dirty) {
                *pending |= dirty;
            }
            let count = |pages: &[bool]| pages.iter().filter(|page| **page).count() as f64;
            let (dirty, pending) = (count(&dirty), count(&pending));
            for (sum, value) in sum.iter_mut().zip([dirty, pending, pending * pending]) {
                *sum += value / guests as f64;
            }
        }
    }
    sums
}

/// Rounds with scans that stop early, go round the end of memory and stop again.
const ROUNDS: [Round; 6] = [
    (300.0, Some(700.0)),
    (200.0, Some(300.0)),
    (150.0, None),
    (400.0, Some(800.0)),
    (50.0, Some(350.0)),
    (80.0, None),
];

#[test]
fn what_is_pending_is_the_mean_of_playing_every_write() {
    for writers in [
        vec![(Pattern::Uniform, 100, 800)],
        vec![(Pattern::HotCold, 0, 1000)],
        vec![(Pattern::Sequential, 200, 700)],
        vec![(Pattern::Uniform, 0, 600), (Pattern::Uniform, 400, 500)],
        vec![(Pattern::Sequential, 0, 600), (Pattern::HotCold, 400, 500)],
    ] {
        let guests = 700;
        for (index, (found, played)) in
            field(&writers, &ROUNDS).iter().zip(played(&writers, &ROUNDS, guests)).enumerate()
        {
            // Four standard errors, and what a Poisson number of writes differs from a fixed one.
            let error = |spread: f64| 4.0 * (spread / guests as f64).sqrt() + 0.5;
            let spread = (played[2] - played[1] * played[1]).max(0.0);
            assert!(
                (found.pending - played[1]).abs() <= error(spread),
                "{writers:?} round {index}: {found:?} {played:?}"
            );
            assert!(
                (found.dirty - played[0]).abs() <= error(found.dirty),
                "{writers:?} round {index}: {found:?} {played:?}"
            );
        }
    }
}

#[test]
fn the_luck_of_a_writer_in_turn_is_the_variance_over_all_places() {
    let writers = [(Pattern::Sequential, 0, 1000)];
    // Left over: a part of an arc anywhere, and another arc behind it.
    for rounds in [
        [(1000.0, None), (300.0, Some(600.0)), (100.0, None)],
        [(1000.0, None), (600.0, Some(900.0)), (50.0, None)],
    ] {
        let found = field(&writers, &rounds)[1];
        let played = played(&writers, &rounds, 1000)[1];
        let variance = played[2] - played[1] * played[1];
        assert!((found.pending - played[1]).abs() < 1.0, "{found:?} {played:?}");
        assert!(
            (found.variance.sqrt() - variance.sqrt()).abs() <= 0.25 * variance.sqrt() + 2.0,
            "{found:?} {variance}"
        );
    }
}

#[test]
fn an_earlier_harvest_finds_as_many_fewer_as_playing_says() {
    let (config, guest) = guest(&[(Pattern::Uniform, 0, 1000)]);
    let mut field = Field::default();
    field.begin(&guest, &config, None).unwrap();
    field.counts_mut().push(0.0);
    while let Some(ahead) = field.ahead() {
        field.pass(ahead.to);
    }
    field.counts_mut().push(500.0);
    let all = field.harvest().dirty;
    let before = field.clone();
    let fewer = field.dirty_in_the_last(0.2);
    assert!((all - fewer - 1000.0 * (1.0 - (-0.4_f64).exp())).abs() < 1e-6, "{all} {fewer}");
    assert_eq!(field.counts, before.counts);
}
