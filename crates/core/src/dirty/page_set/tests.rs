use super::*;
use crate::layout::{Gpa, PageSize, Region};
use crate::units::ByteCount;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first: PageNumber(first), count: Pages(count) }
}

fn set_of(numbers: u64, pages: &BTreeSet<u64>) -> PageSet {
    let mut set = PageSet::new(numbers);
    for &page in pages {
        set.insert(PageNumber(page)).unwrap();
    }
    set
}

/// Count, summary and tail are what the bits say, and the bits are what the model says.
fn check(set: &PageSet, model: &BTreeSet<u64>) {
    assert!(set.pages().map(|page| page.0).eq(model.iter().copied()), "{set:?} is not {model:?}");
    assert_eq!(set.count(), Pages(model.len() as u64));
    assert_eq!(set.is_empty(), model.is_empty());
    assert_eq!(set.as_bits().count_ones(), model.len());
    for (index, line) in set.lines().iter().enumerate() {
        let marked = set.summary[index / 64] >> (index % 64) & 1 != 0;
        assert_eq!(marked, *line != [0; LINE_WORDS], "summary of line {index}");
    }
    assert!(
        BitSlice::<u64, Lsb0>::from_slice(&set.words)[set.numbers as usize..].not_any(),
        "tail bits are zero"
    );
}

/// Sets of an odd length over several words of summary, so that all levels and both ends take part.
const NUMBERS: u64 = 64 * LINE_PAGES + 5 * WORD_PAGES + 7;

#[derive(Clone, Debug)]
enum Op {
    Insert(u64),
    InsertRun(u64, u64),
    Remove(u64),
    RemoveRun(u64, u64),
    Or(usize, u64),
    OrLine(usize, Line),
    ClearMask(usize, u64),
    TakeWord(usize),
    TakeNext(u64, u64),
    Union(Vec<(u64, u64)>),
    Subtract(Vec<(u64, u64)>),
    DrainInto(Vec<(u64, u64)>),
    Clear,
}

fn page() -> impl Strategy<Value = u64> {
    prop_oneof![0..NUMBERS + 70, 0..200_u64, NUMBERS - 200..NUMBERS + 2]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..130_u64, 400..3000_u64]
}

fn op() -> impl Strategy<Value = Op> {
    let word = || 0..NUMBERS.div_ceil(WORD_PAGES) as usize;
    let runs = || prop::collection::vec((page(), count()), 0..6);
    prop_oneof![
        page().prop_map(Op::Insert),
        (page(), count()).prop_map(|(page, count)| Op::InsertRun(page, count)),
        page().prop_map(Op::Remove),
        (page(), count()).prop_map(|(page, count)| Op::RemoveRun(page, count)),
        (word(), any::<u64>()).prop_map(|(word, mask)| Op::Or(word, mask)),
        (word(), any::<Line>()).prop_map(|(word, mask)| Op::OrLine(word / LINE_WORDS, mask)),
        (word(), any::<u64>()).prop_map(|(word, mask)| Op::ClearMask(word, mask)),
        word().prop_map(Op::TakeWord),
        (page(), count()).prop_map(|(page, count)| Op::TakeNext(page, count)),
        runs().prop_map(Op::Union),
        runs().prop_map(Op::Subtract),
        runs().prop_map(Op::DrainInto),
        Just(Op::Clear),
    ]
}

/// The pages of a mask, as the model wants them.
fn pages_of(word: usize, mask: u64) -> BTreeSet<u64> {
    (0..64).filter(|bit| mask >> bit & 1 != 0).map(|bit| word as u64 * 64 + bit).collect()
}

fn model_of(runs: &[(u64, u64)]) -> BTreeSet<u64> {
    runs.iter().flat_map(|&(first, count)| first..(first + count)).filter(|&page| page < NUMBERS).collect()
}

fn words_agree(set: &mut PageSet, model: &mut BTreeSet<u64>, op: &Op) {
    match *op {
        Op::Or(word, mask) => {
            let mask = mask & set.valid_bits(word);
            let pages = pages_of(word, mask);
            let new: BTreeSet<u64> = pages.difference(model).copied().collect();
            assert_eq!(pages_of(word, set.or_word(word, mask)), new);
            model.extend(new);
        }
        Op::OrLine(line, masks) => {
            let before = model.len() as u64;
            for (offset, mask) in masks.into_iter().enumerate() {
                let word = line * LINE_WORDS + offset;
                model.extend(pages_of(word, mask & set.valid_bits(word)));
            }
            assert_eq!(set.or_line(line, &masks).0, model.len() as u64 - before);
        }
        Op::ClearMask(word, mask) => {
            let gone: BTreeSet<u64> = pages_of(word, mask).intersection(model).copied().collect();
            assert_eq!(pages_of(word, set.clear_mask(word, mask)), gone);
            model.retain(|page| !gone.contains(page));
        }
        Op::TakeWord(word) => {
            let gone: BTreeSet<u64> = pages_of(word, u64::MAX).intersection(model).copied().collect();
            assert_eq!(pages_of(word, set.take_word(word)), gone);
            model.retain(|page| !gone.contains(page));
        }
        _ => {}
    }
}

fn sets_agree(set: &mut PageSet, model: &mut BTreeSet<u64>, op: &Op) {
    let before = model.len() as u64;
    match op {
        Op::TakeNext(from, most) => {
            let gone: BTreeSet<u64> = model.range(from..).take(*most as usize).copied().collect();
            let mut into = set_of(NUMBERS, &BTreeSet::from([3]));
            let taken = set.take_next(PageNumber(*from), Pages(*most), &mut into).unwrap();
            assert_eq!(taken, Pages(gone.len() as u64));
            model.retain(|page| !gone.contains(page));
            check(&into, &gone.union(&BTreeSet::from([3])).copied().collect());
        }
        Op::Union(runs) => {
            let other = model_of(runs);
            model.extend(&other);
            let new = set.union_with(&set_of(NUMBERS, &other)).unwrap();
            assert_eq!(new.0, model.len() as u64 - before);
        }
        Op::Subtract(runs) => {
            let other = model_of(runs);
            model.retain(|page| !other.contains(page));
            let gone = set.subtract(&set_of(NUMBERS, &other)).unwrap();
            assert_eq!(gone.0, before - model.len() as u64);
        }
        Op::DrainInto(runs) => {
            let mut all = model_of(runs);
            let mut other = set_of(NUMBERS, &all);
            let had = all.len() as u64;
            all.append(model);
            assert_eq!(set.drain_into(&mut other).unwrap().0, all.len() as u64 - had);
            check(set, &BTreeSet::new());
            check(&other, &all);
            *set = other;
            *model = all;
        }
        Op::Clear => {
            set.clear();
            model.clear();
        }
        _ => {}
    }
}

fn pages_agree(set: &mut PageSet, model: &mut BTreeSet<u64>, op: &Op) {
    match *op {
        Op::Insert(page) if page >= NUMBERS => assert!(set.insert(PageNumber(page)).is_err()),
        Op::Insert(page) => assert_eq!(set.insert(PageNumber(page)), Ok(model.insert(page))),
        Op::InsertRun(first, count) if first + count > NUMBERS => {
            assert!(set.insert_run(run(first, count)).is_err());
        }
        Op::InsertRun(first, count) => {
            let before = model.len() as u64;
            model.extend(first..first + count);
            assert_eq!(set.insert_run(run(first, count)), Ok(Pages(model.len() as u64 - before)));
        }
        Op::Remove(page) => assert_eq!(set.remove(PageNumber(page)), model.remove(&page)),
        Op::RemoveRun(first, count) => {
            let before = model.len() as u64;
            model.retain(|page| !(first..first + count).contains(page));
            assert_eq!(set.remove_run(run(first, count)).0, before - model.len() as u64);
        }
        _ => {}
    }
}

/// Maximal runs, from the model.
fn runs_of(model: &BTreeSet<u64>) -> Vec<PageRun> {
    let mut runs: Vec<PageRun> = Vec::new();
    for &page in model {
        match runs.last_mut() {
            Some(last) if last.end().0 == page => last.count.0 += 1,
            _ => runs.push(run(page, 1)),
        }
    }
    runs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is done to it, a set holds what a plain set would.
    #[test]
    fn a_page_set_is_a_set(ops in prop::collection::vec(op(), 1..40), probe in page()) {
        let mut set = PageSet::new(NUMBERS);
        let mut model = BTreeSet::new();
        for op in &ops {
            pages_agree(&mut set, &mut model, op);
            words_agree(&mut set, &mut model, op);
            sets_agree(&mut set, &mut model, op);
            check(&set, &model);
        }
        prop_assert_eq!(set.runs().collect::<Vec<_>>(), runs_of(&model));
        prop_assert_eq!(set.contains(PageNumber(probe)), model.contains(&probe));
        prop_assert_eq!(
            set.next_page(PageNumber(probe)).map(|page| page.0),
            model.range(probe..).next().copied()
        );
    }
}

#[test]
fn a_full_set_has_every_page_and_no_padding() {
    let region = |start: u64, pages: u64| Region { start: Gpa(start << 30), len: ByteCount(pages * 4096) };
    let layout = RamLayout::new(PageSize::Kib4, vec![region(0, 2000), region(4, 70), region(8, 1)]).unwrap();
    let set = PageSet::full_from(&layout);
    assert_eq!(set.count(), layout.pages());
    assert_eq!(set.runs().collect::<Vec<_>>(), vec![run(0, 2000), run(2048, 70), run(2176, 1)]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut set = set_of(100, &BTreeSet::from([5]));
    let before = set.clone();
    assert_eq!(
        set.insert(PageNumber(100)).unwrap_err().to_string(),
        "page 100 is beyond the 100 page numbers of this guest"
    );
    assert!(set.insert_run(run(90, 11)).is_err());
    assert!(set.insert_run(run(5, u64::MAX)).is_err());
    assert!(!set.remove(PageNumber(u64::MAX)));
    assert_eq!(set.remove_run(run(50, u64::MAX)), Pages(0));
    let mut other = PageSet::new(101);
    assert!(set.union_with(&other).is_err());
    assert!(set.subtract(&other).is_err());
    assert!(set.drain_into(&mut other).is_err());
    assert!(set.take_next(PageNumber(0), Pages(1), &mut other).is_err());
    assert_eq!(set, before);
}

#[test]
fn a_set_over_nothing_is_empty() {
    let mut set = PageSet::new(0);
    assert!(set.insert(PageNumber(0)).is_err());
    assert_eq!(set.next_run(PageNumber(0), Pages(1)), None);
    set.clear();
    assert_eq!(set.words(), &[] as &[u64]);
}
