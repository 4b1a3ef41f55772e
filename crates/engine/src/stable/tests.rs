mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

pub(super) use self::disk::Watch;
use self::disk::{Seen, When, until};
use super::directory::Call;
use super::file::{BLOCK, Found, Header, decode_record, encode_record};
use super::warming::Warming;
use super::*;

const ID: MigrationId = MigrationId(0xfeed);

/// A directory that is removed afterwards, in memory where that can be had: thousands of synchronisations are made.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let shared = Path::new("/dev/shm");
        let above = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(above.join(format!("whimbrel-stable-{}-{number}", std::process::id())))
    }

    fn store(&self, role: Role) -> DirectoryStore {
        DirectoryStore::open(&self.0, role).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is done to keep the disk awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warmed {
    Not,
    Well,
    /// It fails.
    Badly,
}

/// Keeps the disk awake for one write: no file in the directory knows of it.
fn warm_once(store: &mut DirectoryStore, scratch: &Scratch) {
    let content = || {
        let read = |name: &String| fs::read(scratch.0.join(name)).unwrap();
        scratch.files().iter().map(|name| (name.clone(), read(name))).collect::<Vec<_>>()
    };
    let (before, count) = (content(), store.watch.seen().beside);
    store.warm(ID, Duration::from_hours(1));
    let Some(warming) = &store.warming else { return };
    let is_held = !store.held.get(&ID).is_none_or(|held| held.written);
    if is_held && !warming.has_ended() {
        // One that fails is the last.
        assert!(until(|| store.watch.seen().beside > count || warming.has_ended()));
    }
    warming.hush();
    assert_eq!(content(), before);
}

/// What is checked after each answer.
fn check(watch: &Watch, answer: &Result<(), PersistError>) {
    let seen = watch.seen();
    let (may, must) = seen.disk.found();
    match answer {
        Ok(()) => assert!(must, "said to be written: {seen:?}"),
        Err(PersistError::Not(_)) => assert!(!may, "said not to be written: {seen:?}"),
        Err(PersistError::Unknown(_)) => {}
    }
}

fn name_of(answer: &Result<(), PersistError>) -> &'static str {
    match answer {
        Ok(()) => "written",
        Err(PersistError::Not(_)) => "not",
        Err(PersistError::Unknown(_)) => "unknown",
    }
}

/// One life of a record among these faults; gives how many calls there were and what was answered.
fn live(
    faults: &BTreeMap<usize, When>,
    (prepared, died, warmed): (bool, bool, Warmed),
) -> (usize, Vec<&'static str>) {
    let scratch = Scratch::new();
    let seen = Seen { faults: faults.clone(), beside_fails: warmed == Warmed::Badly, ..Seen::default() };
    let watch = Watch::of(seen);
    let open = || {
        let mut store = scratch.store(Role::Source);
        store.watch = watch.clone();
        store
    };
    let mut store = open();
    if prepared && store.prepare(ID, "guest").is_err() {
        assert!(!watch.seen().disk.found().0);
    }
    let mut answers = Vec::new();
    for _ in 0..faults.len() + 2 {
        if warmed != Warmed::Not {
            warm_once(&mut store, &scratch);
        }
        let answer = store.persist(ID, StableRecord::Go);
        check(&watch, &answer);
        if died {
            // The process is killed, and another comes.
            store.kill();
            store = open();
            match store.load(ID) {
                Ok(Some(StableRecord::Go)) => assert!(watch.seen().disk.found().1, "{:?}", watch.seen()),
                Ok(None) => assert!(answer.is_err() && !watch.seen().disk.found().0, "{:?}", watch.seen()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        answers.push(name_of(&answer));
        if answer.is_ok() {
            break;
        }
    }
    // Each call but the last used up a fault.
    assert_eq!(answers.last(), Some(&"written"), "{:?}", watch.seen());
    drop(store);
    assert_eq!(scratch.store(Role::Source).load(ID).unwrap(), Some(StableRecord::Go));
    let calls = watch.seen().calls;
    (calls, answers)
}

/// Up to three of all calls fail, each without having done anything or all the same.
#[test]
fn what_is_claimed_is_true_after_a_power_cut_whatever_fails() {
    use Warmed::{Badly, Not, Well};
    let mut answers = BTreeMap::new();
    let lives = [
        (true, false, Not),
        (false, false, Not),
        (true, true, Not),
        (false, true, Not),
        (true, false, Well),
        (true, true, Well),
        (true, false, Badly),
    ];
    for life in lives {
        let calls = live(&BTreeMap::new(), life).0 + 4;
        let one = |index| [When::Before, When::After].map(|when| (index, when));
        for first in 0..calls {
            for second in first..calls {
                for third in (second..calls).step_by(if life == lives[0] { 1 } else { 3 }) {
                    for (a, b, c) in (0..8).map(|bits| (bits & 1, bits >> 1 & 1, bits >> 2)) {
                        let faults = [one(first)[a], one(second)[b], one(third)[c]];
                        let faults = BTreeMap::from(faults);
                        for answer in live(&faults, life).1 {
                            *answers.entry(answer).or_insert(0) += 1;
                        }
                    }
                }
            }
        }
    }
    eprintln!("{answers:?}");
    // Certain mostly, also about what has not happened.
    assert!(answers["unknown"] > 0 && answers["not"] > answers["unknown"], "{answers:?}");
}

#[test]
fn a_record_is_one_write_and_one_synchronisation_when_it_matters() {
    let scratch = Scratch::new();
    let mut store = scratch.store(Role::Destination);
    let calls = |store: &DirectoryStore| std::mem::take(&mut store.watch.seen().log);
    store.prepare(ID, "guest").unwrap();
    let made = [
        Call::Create,
        Call::Lock,
        Call::WriteBlocks,
        Call::SyncBlocks,
        Call::Name,
        Call::SyncDirectory,
        Call::MakeScratch,
    ];
    assert_eq!(calls(&store), made);
    assert_eq!(store.load(ID).unwrap(), None);
    assert_eq!(calls(&store), [Call::Read]);
    // Nothing of it is done by the thread that asks for it.
    store.warm(ID, Duration::from_hours(1));
    store.persist(ID, StableRecord::Running).unwrap();
    assert_eq!(calls(&store), [Call::WriteRecord, Call::SyncRecord]);
    // Again, and as a new process sees it.
    store.persist(ID, StableRecord::Running).unwrap();
    assert_eq!(store.load(ID).unwrap(), Some(StableRecord::Running));
    assert_eq!(calls(&store), []);
    drop(store);
    let mut store = scratch.store(Role::Destination);
    assert_eq!(store.load(ID).unwrap(), Some(StableRecord::Running));
    assert_eq!(calls(&store)[5..], [Call::Read, Call::WriteRecord, Call::SyncRecord]);
    store.erase(ID).unwrap();
    assert_eq!(store.load(ID).unwrap(), None);
    store.erase(ID).unwrap();
    assert_eq!(scratch.files(), Vec::<String>::new());
}

#[test]
fn a_disk_is_kept_awake_while_a_record_is_near_and_no_longer() {
    let scratch = Scratch::new();
    let mut store = scratch.store(Role::Source);
    let watch = store.watch.clone();
    let begun = || watch.seen().beside;
    let hour = Duration::from_hours(1);
    // There is no record to come.
    store.warm(ID, hour);
    assert!(store.warming.is_none());
    store.prepare(ID, "guest").unwrap();
    store.warm(MigrationId(1), hour);
    assert_eq!(begun(), 0);
    // Again and again, in no file that anybody finds.
    store.warm(ID, hour);
    assert!(watch.await_beside(5));
    assert_eq!(scratch.files(), ["000000000000feed-source.handoff"]);
    store.persist(ID, StableRecord::Go).unwrap();
    let told = begun();
    // What is written already is not near.
    store.warm(ID, hour);
    // One may have been about to begin.
    let ended = || store.warming.as_ref().is_some_and(Warming::is_parked);
    assert!(until(ended) && begun() <= told + 1, "{} after {told}", begun());
    // Another of the same store, which ends while its disk is being kept awake.
    store.prepare(MigrationId(2), "guest").unwrap();
    store.warm(MigrationId(2), hour);
    assert!(watch.await_beside(told + 5));
    drop(store);
    assert_eq!(scratch.files(), ["000000000000feed-source.handoff"]);
    assert!(watch.is_alone(), "its thread has ended");
}

#[test]
fn what_cannot_keep_a_disk_awake_is_left_alone() {
    let (count, hour) = (Arc::new(AtomicU64::new(0)), Duration::from_hours(1));
    let theirs = Arc::clone(&count);
    let warming = Warming::start(move || {
        theirs.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(5))
    });
    let warming = warming.unwrap();
    warming.want(hour);
    assert!(until(|| warming.has_ended()));
    warming.want(hour);
    drop(warming);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

/// A warming whose writes take no time and say that they took so long, and how many there were.
fn warming(took: impl Fn(u64) -> Duration + Send + 'static) -> (Warming, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&count);
    let warming = Warming::start(move || Ok(took(theirs.fetch_add(1, Ordering::Relaxed))));
    (warming.unwrap(), count)
}

/// Two slow writes may have been those that woke it.
#[test]
fn a_disk_that_stays_slow_is_left_alone_and_one_that_wakes_up_is_not() {
    let (warming, count) = warming(|nth| Duration::from_millis(if nth == 2 { 1 } else { 4 }));
    warming.want(Duration::from_hours(1));
    assert!(until(|| warming.has_ended()));
    // The third was quick, those after it were not.
    assert_eq!(count.load(Ordering::Relaxed), 6);
}

/// Each time the disk has fallen asleep meanwhile.
#[test]
fn writes_that_are_slow_are_forgotten_in_a_pause() {
    // Behind one that has taken so long nothing comes until somebody wakes the thread.
    let hour = Duration::from_hours(1);
    let (warming, count) = warming(move |_| hour);
    for nth in 1..=5 {
        let before = count.load(Ordering::Relaxed);
        warming.want(hour);
        // A thread that had not begun to wait may write twice.
        assert!(until(|| count.load(Ordering::Relaxed) > before || warming.has_ended()));
        // Wakes it to find that its time is over.
        warming.hush();
        warming.want(Duration::ZERO);
        assert!(until(|| warming.is_parked() || warming.has_ended()));
        assert!(!warming.has_ended(), "after {nth}");
    }
}

/// A store may live as long as a daemon, and a disk may have a bad moment.
#[test]
fn what_could_not_keep_a_disk_awake_is_tried_again_for_the_next_migration() {
    let scratch = Scratch::new();
    let mut store = scratch.store(Role::Source);
    let (watch, hour) = (store.watch.clone(), Duration::from_hours(1));
    watch.seen().beside_fails = true;
    store.prepare(ID, "guest").unwrap();
    store.warm(ID, hour);
    assert!(until(|| store.warming.as_ref().is_some_and(Warming::has_ended)));
    watch.seen().beside_fails = false;
    assert_eq!(watch.seen().beside, 1);
    // Not for the same: it is left alone.
    store.prepare(ID, "guest").unwrap();
    assert!(store.warming.as_ref().is_some_and(Warming::has_ended));
    store.prepare(MigrationId(2), "another").unwrap();
    store.warm(MigrationId(2), hour);
    assert!(!store.warming.as_ref().is_none_or(Warming::has_ended));
    assert!(watch.await_beside(5));
    // One that is at work is left at it.
    store.prepare(MigrationId(3), "a third").unwrap();
    let made = watch.seen().log.iter().filter(|&&call| call == Call::MakeScratch).count();
    assert_eq!(made, 2);
}

/// It is over by itself, and can be wanted anew.
#[test]
fn nobody_keeps_a_disk_awake_for_longer_than_was_said() {
    let (warming, count) = warming(|_| Duration::ZERO);
    for _ in 0..3 {
        let before = count.load(Ordering::Relaxed);
        warming.want(Duration::from_millis(20));
        assert!(until(|| warming.is_parked()));
        let writes = count.load(Ordering::Relaxed) - before;
        // However late its thread is: at least two milliseconds lie between two.
        assert!(writes <= 12, "{writes}");
    }
}

#[test]
fn both_sides_of_a_migration_may_share_a_directory() {
    let scratch = Scratch::new();
    let (mut source, mut destination) = (scratch.store(Role::Source), scratch.store(Role::Destination));
    source.prepare(ID, "one").unwrap();
    destination.persist(ID, StableRecord::Running).unwrap();
    source.persist(MigrationId(7), StableRecord::Go).unwrap();
    assert_eq!(source.load(ID).unwrap(), None);
    let foreign = source.persist(ID, StableRecord::Running).unwrap_err();
    assert!(matches!(foreign, PersistError::Not(StoreError::OtherSide { role: Role::Source, .. })));
    assert_eq!(
        scratch.files(),
        [
            "0000000000000007-source.handoff",
            "000000000000feed-destination.handoff",
            "000000000000feed-source.handoff"
        ]
    );
    drop(destination);
    let all: Vec<_> = list(&scratch.0).unwrap().into_iter().map(Result::unwrap).collect();
    let told: Vec<_> =
        all.iter().map(|one| (one.id.0, one.role, one.guest.as_str(), one.record, one.in_use)).collect();
    let expected = [
        (7, Role::Source, "", Some(StableRecord::Go), true),
        (0xfeed, Role::Destination, "", Some(StableRecord::Running), false),
        (0xfeed, Role::Source, "one", None, true),
    ];
    assert_eq!(told, expected);
    assert!(all.iter().all(|one| one.age < Duration::from_mins(1) && one.path.is_file()));
}

#[test]
fn two_do_not_act_on_one_record() {
    let scratch = Scratch::new();
    let (mut one, mut other) = (scratch.store(Role::Source), scratch.store(Role::Source));
    one.prepare(ID, "guest").unwrap();
    let path = one.path(ID);
    assert!(matches!(other.load(ID), Err(StoreError::InUse { path: at }) if at == path));
    assert!(matches!(other.erase(ID), Err(StoreError::InUse { .. })));
    assert!(matches!(other.prepare(ID, "x"), Err(StoreError::Failed { what: "name", .. })));
    // It cannot know what the first one does.
    assert!(matches!(other.persist(ID, StableRecord::Go), Err(PersistError::Unknown(_))));
    one.persist(ID, StableRecord::Go).unwrap();
    drop(one);
    assert_eq!(other.load(ID).unwrap(), Some(StableRecord::Go));
    // A listing holds nobody up for long.
    let listing = fs::File::open(&path).unwrap();
    drop(other);
    listing.try_lock_shared().unwrap();
    let waited = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(listing);
    });
    assert_eq!(scratch.store(Role::Source).load(ID).unwrap(), Some(StableRecord::Go));
    waited.join().unwrap();
}

/// Writes these bytes into the file of a record.
fn spoil(path: &Path, at: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn files_that_are_not_what_they_say_are_errors_that_name_them() {
    let scratch = Scratch::new();
    let path = scratch.store(Role::Source).path(ID);
    let good = Header { role: Role::Source, id: ID, made: SystemTime::now(), guest: "g".into() };
    let of = |header: Header| [header.encode(), [0; BLOCK]].concat();
    let other_role = of(Header { role: Role::Destination, ..good.clone() });
    let other_id = of(Header { id: MigrationId(1), ..good.clone() });
    let version = {
        let mut block = of(good.clone());
        block[8] = 9;
        block
    };
    let mut flipped = of(good.clone());
    flipped[40] ^= 1;
    let mut foreign_record = of(good.clone());
    let running = encode_record(ID, StableRecord::Running, SystemTime::now());
    foreign_record[BLOCK..BLOCK + running.len()].copy_from_slice(&running);
    let cases: [(&[u8], &str); 8] = [
        (b"", "it does not begin as"),
        (b"something else", "it does not begin as"),
        (&of(good.clone())[..4000], "its checksum is wrong"),
        (&version, "it is of version 9, this program knows version 1"),
        (&flipped, "its checksum is wrong"),
        (&other_role, "it is of the destination of migration 000000000000feed"),
        (&other_id, "it is of the source of migration 0000000000000001"),
        (&foreign_record, "a source keeps no record of 'running'"),
    ];
    for (content, fault) in cases {
        fs::write(&path, content).unwrap();
        let mut store = scratch.store(Role::Source);
        let error = store.load(ID).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("000000000000feed-source.handoff") && text.contains(fault), "{text}");
        if fault.starts_with("it is of the") || fault.starts_with("a source") {
            continue;
        }
        let told = list(&scratch.0).unwrap().remove(0).unwrap_err();
        assert_eq!(told.to_string(), text);
        // Nobody writes over it, and nobody says that there is no record.
        assert!(matches!(store.persist(ID, StableRecord::Go), Err(PersistError::Unknown(_))));
        store.erase(ID).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    // Cut behind its first block.
    fs::write(&path, good.encode()).unwrap();
    assert!(matches!(scratch.store(Role::Source).load(ID), Err(StoreError::Failed { what: "read", .. })));
    assert!(list(&scratch.0).unwrap()[0].is_err());
}

#[test]
fn what_is_left_of_a_record_counts_as_written() {
    for at in [0, 17, 40] {
        let scratch = Scratch::new();
        let mut store = scratch.store(Role::Source);
        store.persist(ID, StableRecord::Go).unwrap();
        let path = store.path(ID);
        drop(store);
        spoil(&path, BLOCK as u64 + at, &[0xA5]);
        assert_eq!(list(&scratch.0).unwrap()[0].as_ref().unwrap().record, Some(StableRecord::Go));
        assert_eq!(scratch.store(Role::Source).load(ID).unwrap(), Some(StableRecord::Go));
        // And it is whole again.
        let block = fs::read(&path).unwrap();
        let found = decode_record(block[BLOCK..].try_into().unwrap(), ID);
        assert!(matches!(found, Found::Record(StableRecord::Go, _)), "{found:?}");
    }
}

#[test]
fn a_directory_is_made_and_what_crashes_left_is_swept() {
    let scratch = Scratch::new();
    let deep = scratch.0.join("a/b");
    let mut store = DirectoryStore::open(&deep, Role::Source).unwrap();
    store.prepare(ID, "guest").unwrap();
    let left = deep.join("0000000000000001-source.handoff.1-1.new");
    let young = deep.join("0000000000000001-source.handoff.1-2.new");
    let foreign = deep.join("notes.new");
    for path in [&left, &young, &foreign] {
        fs::write(path, "half").unwrap();
    }
    // Two of a process that was killed, one of which has its record; and one that is no record.
    let mut killed = DirectoryStore::open(&deep, Role::Source).unwrap();
    killed.prepare(MigrationId(1), "guest").unwrap();
    killed.persist(MigrationId(2), StableRecord::Go).unwrap();
    let [room, record, in_use] = [1, 2, ID.0].map(|id| killed.path(MigrationId(id)));
    killed.kill();
    let damaged = deep.join("0000000000000003-source.handoff");
    fs::write(&damaged, "half").unwrap();
    let old = |path: &Path| {
        let hour = SystemTime::now() - Duration::from_hours(1);
        fs::OpenOptions::new().write(true).open(path).unwrap().set_modified(hour).unwrap();
    };
    for path in [&left, &foreign, &record, &in_use, &damaged] {
        old(path);
    }
    let locked = fs::File::open(&left).unwrap();
    locked.lock().unwrap();
    DirectoryStore::open(&deep, Role::Source).unwrap();
    assert!(left.exists(), "somebody is at work on it");
    assert!(room.exists(), "somebody may just have made it");
    old(&room);
    drop(locked);
    DirectoryStore::open(&deep, Role::Source).unwrap();
    let there = [&left, &room, &young, &foreign, &record, &in_use, &damaged].map(|path| path.exists());
    assert_eq!(there, [false, false, true, true, true, true, true]);
    assert_eq!(list(&deep).unwrap().len(), 3);
    // What was not needed goes with its store, what was stays.
    store.persist(MigrationId(4), StableRecord::Go).unwrap();
    let path = store.path(MigrationId(4));
    drop(store);
    assert_eq!((in_use.exists(), path.exists()), (false, true));
    // Not a directory.
    let error = DirectoryStore::open(&foreign, Role::Source).unwrap_err();
    assert!(matches!(error, StoreError::Failed { what: "make", path, .. } if path == foreign));
    assert!(list(&foreign).is_err());
}

#[test]
fn stores_for_tests_do_what_they_say() {
    let shared = MemoryStore::new(Role::Source);
    let faults = [Fault::UnknownLost, Fault::UnknownWritten, Fault::Not, Fault::Slow(Duration::ZERO)];
    let mut store = FaultyStore::new(shared.clone(), faults);
    let mut survivor = shared.clone();
    store.prepare(ID, "guest").unwrap();
    assert_eq!((survivor.len(), survivor.is_empty()), (1, false));
    let mut step = |expected: &str, found| {
        let answer = store.persist(ID, StableRecord::Go);
        assert_eq!((name_of(&answer), survivor.load(ID).unwrap().is_some()), (expected, found));
    };
    step("unknown", false);
    step("unknown", true);
    step("not", false);
    step("written", true);
    step("written", true);
    store.erase(ID).unwrap();
    assert_eq!(store.load(ID).unwrap(), None);
    assert!(matches!(store.persist(ID, StableRecord::Running), Err(PersistError::Not(_))));
}

proptest! {
    /// Whatever the guest is called, and whatever the blocks hold.
    #[test]
    fn headers_are_read_as_they_were_written(guest in ".{0,3000}", id: u64, source: bool, secs in 0..1_u64 << 40) {
        let role = if source { Role::Source } else { Role::Destination };
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let header = Header { role, id: MigrationId(id), made, guest };
        let read = Header::decode(&header.encode()).unwrap();
        prop_assert!(header.guest.starts_with(&read.guest));
        prop_assert!(read.guest.len() == header.guest.len() || read.guest.len() > BLOCK - 100);
        prop_assert_eq!((read.role, read.id, read.made), (header.role, header.id, header.made));
    }

    #[test]
    fn any_block_is_an_answer(block in prop::collection::vec(any::<u8>(), BLOCK), begin in 0..4_usize) {
        let mut block: [u8; BLOCK] = block.try_into().unwrap();
        let good = Header { role: Role::Source, id: ID, made: SystemTime::now(), guest: "g".into() }.encode();
        let until = [0, 8, 12, 36][begin];
        block[..until].copy_from_slice(&good[..until]);
        prop_assert!(Header::decode(&block).is_err());
        prop_assert_eq!(decode_record(&block, ID), Found::Remains);
    }
}
