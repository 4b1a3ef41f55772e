//! One migration a token: whoever comes second with the right one is turned away, and the first goes on.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog as _, Guest as _, GuestRam};
use whimbrel_core::layout::{PageSize, RamLayout};
use whimbrel_core::machine::SourcePhase;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::RateLimit;
use whimbrel_core::report::Outcome;
use whimbrel_core::units::{Bandwidth, Timestamp};
use whimbrel_engine::Token;
use whimbrel_engine::destination::{
    self, DestinationError, DestinationResult, DestinationSettings, Incoming,
};
use whimbrel_engine::observer::{Event, Observer};
use whimbrel_engine::orders::{Order, Orders};
use whimbrel_engine::source::{self, SourceError, SourceResult, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::memory::{MemoryHub, MemoryListener};
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::Reject;

use super::wanted::{outgoing, replica};
use super::world::{mib, runs};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A guest that runs, and could be moved.
struct Home {
    ram: Arc<GuestMemory>,
    log: SoftwareLog,
    guest: LabGuest,
    layout: RamLayout,
}

impl Home {
    fn new() -> Result<Self> {
        let layout = RamLayout::contiguous(mib(8), PageSize::Kib4)?;
        let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        let log = SoftwareLog::new(&layout);
        let mut guest =
            LabGuest::new(Arc::clone(&ram), LabConfig::default(), Some(Arc::clone(log.bitmap())))?;
        guest.fill();
        guest.resume()?;
        Ok(Self { ram, log, guest, layout })
    }

    /// Moves it, so slowly that it takes a minute unless somebody orders otherwise.
    fn leave(
        &mut self,
        (hub, token, id): (&MemoryHub, &Token, u64),
        orders: &Orders,
        observer: &mut dyn Observer,
    ) -> std::result::Result<SourceResult, SourceError> {
        let mut settings = SourceSettings::new(MigrationId(id), token.clone());
        settings.limit = RateLimit::AtMost(Bandwidth::new(125_000).expect("a rate"));
        settings.asking = Some(Duration::from_mins(1));
        let store = &mut MemoryStore::new(Role::Source);
        let outgoing = outgoing(Arc::clone(&self.ram), (&mut self.log, &mut self.guest), hub, store);
        source::send(outgoing, settings, orders, observer)
    }

    /// It runs on, and nobody records what it writes.
    fn was_not_touched(&mut self) {
        runs(&self.guest);
        assert!(self.log.harvest(&mut PageSet::new(self.layout.numbers())).is_err());
    }
}

/// A destination for one guest; says when it has come, and keeps its door open until it is told.
fn take_one(
    listen: MemoryListener,
    token: Token,
    (built, away): (&mut Vec<Arc<dyn GuestRam>>, &mut Vec<String>),
    (come, told): (impl FnOnce(), Receiver<()>),
) -> std::result::Result<DestinationResult, DestinationError> {
    let mut host = |wanted: &Configuration| {
        let replica = replica(wanted, LabConfig::default())?;
        built.push(Arc::clone(&replica.ram));
        Ok(replica)
    };
    let store = &mut MemoryStore::new(Role::Destination);
    let incoming = Incoming { listen: Arc::new(listen), host: &mut host, store };
    let mut settings = DestinationSettings::new(token, mib(64));
    settings.waiting = Some(Duration::from_mins(1));
    let mut door = |_: Timestamp, event: &Event<'_>| {
        if let Event::TurnedAway { why, .. } = event {
            away.push((*why).to_owned());
        }
    };
    let mut received = destination::receive(incoming, settings, &Orders::new(), &mut door)?;
    received.afterlife.answer(Duration::from_secs(5));
    come();
    let _ = told.recv();
    Ok(received)
}

fn is_busy(sent: &std::result::Result<SourceResult, SourceError>) {
    assert!(matches!(sent, Err(SourceError::Rejected(Reject::Busy))), "{sent:?}");
}

#[test]
fn a_second_source_with_the_right_token_is_turned_away_and_harms_nobody() -> Result<()> {
    let (hub, token) = (MemoryHub::new(), Token::new(b"open sesame")?);
    let listen = hub.listen()?;
    let (mut first, mut second, mut built) = (Home::new()?, Home::new()?, Vec::new());
    let (come, has_come) = channel();
    let (tell, told) = channel();
    let (sends, is_sending) = channel();
    let (orders, mut away) = (Orders::new(), Vec::new());
    let remote = orders.remote();
    let (sent, received) = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let kept = (&mut built, &mut away);
            take_one(listen, token.clone(), kept, (move || assert!(come.send(()).is_ok()), told))
        });
        let sending = scope.spawn(|| {
            let sends = sends;
            let mut seen = |_: Timestamp, event: &Event<'_>| {
                if matches!(event, Event::Source(SourcePhase::Sending)) {
                    let _ = sends.send(());
                }
            };
            first.leave((&hub, &token, 1), &orders, &mut seen)
        });
        is_sending.recv().expect("it is let in");
        // Another migration, and one that calls itself as the first does.
        for id in [2, 1] {
            is_busy(&second.leave((&hub, &token, id), &Orders::new(), &mut ()));
            second.was_not_touched();
        }
        assert!(!sending.is_finished());
        assert!(remote.give(Order::Limit(RateLimit::Unlimited)));
        has_come.recv().expect("the first arrives");
        // The guest is there: the token has had its migration.
        is_busy(&second.leave((&hub, &token, 3), &Orders::new(), &mut ()));
        second.was_not_touched();
        drop(tell);
        (sending.join().expect("no panic"), receiving.join().expect("no panic"))
    });
    let (sent, mut received) = (sent?, received?);
    assert_eq!((sent.report.outcome, sent.right), (Outcome::Completed, Right::Theirs), "{}", sent.report.why);
    let replica = received.replica.as_mut().expect("it is there");
    replica.guest.pause()?;
    let state = replica.guest.save()?;
    assert_eq!(built.len(), 1, "one replica");
    // The last was told when nobody listened any more.
    assert!(!away.is_empty() && away.len() <= 2, "{away:?}");
    assert!(away.iter().all(|why| why.contains("one migration a token")), "{away:?}");
    first.guest.expected(&state)?.check(&*built[0])?;
    Ok(())
}
