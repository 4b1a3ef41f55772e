//! The guest migrated by hand, within this process, as an engine does it.

use super::*;
use std::sync::atomic::Ordering;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::DirtyLog;

use crate::log::KvmLog;

/// What goes wrong on the way, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Nothing,
    /// A page of the last harvest is not sent: the destination has it as an earlier round brought it.
    StalePage,
    /// A page that nobody has written since the start is never sent.
    SkippedPage,
    /// State of an earlier moment arrives.
    OldState,
}

fn send(from: &GuestMemory, to: &GuestMemory, pages: &PageSet) {
    let mut page_bytes = vec![0; 4096];
    for page in pages.pages() {
        let at = GuestRam::layout(from).address_of(page).unwrap();
        from.read(at, &mut page_bytes).unwrap();
        to.write(at, &page_bytes).unwrap();
    }
}

fn same(one: &GuestMemory, other: &GuestMemory, page: PageNumber) -> bool {
    let words = |memory: &GuestMemory| -> Vec<u64> {
        memory.page(page).unwrap().iter().map(|word| word.load(Ordering::Relaxed)).collect()
    };
    words(one) == words(other)
}

/// Waits until the guest has written: what writes nothing proves nothing.
fn harvest_some(log: &mut KvmLog, pages: &mut PageSet) {
    let begin = Instant::now();
    pages.clear();
    while pages.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the guest writes nothing");
        std::thread::sleep(Duration::from_millis(4));
        log.harvest(pages).unwrap();
    }
}

/// Gives the source, paused, and the destination, restored and not running yet.
fn migrate(what: Break) -> (KvmGuest, KvmGuest) {
    let (from, to) = (memory(), memory());
    let mut source = KvmGuest::boot(from.clone(), &shape(paced(50_000))).unwrap();
    let mut destination = KvmGuest::replica(to.clone(), 3, paced(50_000)).unwrap();
    let mut log = KvmLog::new(Arc::clone(source.slots()));
    let_run(&mut source, Duration::from_millis(5));
    let old_state = source.save().unwrap();
    source.resume().unwrap();

    log.start().unwrap();
    let mut pages = PageSet::full_from(source.layout());
    if what == Break::SkippedPage {
        // Within no working set.
        pages.remove(PageNumber(4095));
    }
    send(&from, &to, &pages);
    for _ in 0..5 {
        harvest_some(&mut log, &mut pages);
        send(&from, &to, &pages);
    }
    harvest_some(&mut log, &mut pages);
    source.pause().unwrap();
    log.harvest(&mut pages).unwrap();
    if what == Break::StalePage {
        // One that an earlier round has not brought as it is by chance, when it was written between harvest and copy.
        let stale = pages.pages().find(|&page| !same(&from, &to, page)).unwrap();
        pages.remove(stale);
    }
    send(&from, &to, &pages);
    let state = source.save().unwrap();
    log.stop().unwrap();
    destination.restore(if what == Break::OldState { old_state } else { state }).unwrap();
    (source, destination)
}

/// Lets it run until each vCPU has written more than so often.
fn runs_on(guest: &mut KvmGuest, writes: &[u64]) {
    let begin = Instant::now();
    while guest.writes().unwrap().iter().zip(writes).any(|(now, before)| now <= before) {
        assert!(begin.elapsed() < Duration::from_secs(30), "{writes:?} {:?}", guest.writes());
        let_run(guest, Duration::from_millis(10));
    }
}

#[test]
fn a_guest_goes_on_where_it_was_with_all_its_memory() {
    if !kvm() {
        return;
    }
    let (source, mut destination) = migrate(Break::Nothing);
    let writes = source.writes().unwrap();
    assert_eq!(destination.writes().unwrap(), writes);
    assert_eq!(destination.states("").unwrap(), source.states("").unwrap());
    let (from, to) = (Arc::clone(source.memory()), Arc::clone(destination.memory()));
    destination.verify(&*to).unwrap();
    source.verify(&*from).unwrap();
    source.verify(&*to).unwrap();
    // The source is gone, and nothing of it is needed.
    drop(source);
    runs_on(&mut destination, &writes);
    destination.verify(&*to).unwrap();
}

#[test]
fn a_source_goes_on_after_a_migration_that_failed() {
    if !kvm() {
        return;
    }
    let (mut source, destination) = migrate(Break::Nothing);
    drop(destination);
    let writes = source.writes().unwrap();
    runs_on(&mut source, &writes);
    let memory = Arc::clone(source.memory());
    source.verify(&*memory).unwrap();
}

fn mismatch(what: Break) -> Mismatch {
    let (_, destination) = migrate(what);
    let memory = Arc::clone(destination.memory());
    match destination.verify(&*memory) {
        Err(VerifyError::Mismatch(mismatch)) => mismatch,
        other => panic!("{what:?} goes unnoticed: {other:?}"),
    }
}

#[test]
fn a_stale_page_is_found() {
    if !kvm() {
        return;
    }
    let Mismatch { expected, found, others, .. } = mismatch(Break::StalePage);
    assert_eq!(others, 0);
    let Found::Write(expected) = expected else { panic!("{expected}") };
    assert!(
        matches!(found, Found::Untouched) || matches!(found, Found::Write(found) if found < expected),
        "{found}"
    );
}

#[test]
fn a_page_that_was_never_sent_is_found_even_if_nobody_wrote_it() {
    if !kvm() {
        return;
    }
    let found = mismatch(Break::SkippedPage);
    let expected = Mismatch {
        page: PageNumber(4095),
        vcpu: 0,
        expected: Found::Untouched,
        found: Found::Other(0),
        others: 0,
    };
    assert_eq!(found, expected);
    assert_eq!(
        found.to_string(),
        "page 4095 has of vCPU 0 0x0 and must have what was there before any write; so 0 other pages"
    );
}

#[test]
fn state_that_is_older_than_memory_is_found() {
    if !kvm() {
        return;
    }
    let Mismatch { expected, found, .. } = mismatch(Break::OldState);
    let expected = if let Found::Write(number) = expected { number } else { 0 };
    assert!(matches!(found, Found::Write(found) if found > expected), "{found}");
}
