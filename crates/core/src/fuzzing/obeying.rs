//! The honest driver of the world's two machines: what they ask for is done at once, or is due.
//!
//! Called after everything that happens in the world. What must hold when a machine asks is asserted here: the copy at the
//! resumption, memory that is kept until it is released. It makes no faults; those are the world's.

use super::{PAGES, Wire, World};
use crate::controller::{Harvested, Transmitted};
use crate::dirty::Take;
use crate::layout::PageNumber;
use crate::machine::handoff::StableRecord;
use crate::machine::message::{Message, Section};
use crate::machine::{DestinationAction, DestinationEvent, SourceAction, SourceEvent, Transmit};
use crate::units::{ByteCount, Pages};

impl World {
    pub(super) fn obey(&mut self) {
        while let Some(action) = self.source.poll() {
            self.obey_here(action);
        }
        while let Some(action) = self.destination.poll() {
            self.obey_there(action);
        }
    }

    fn obey_here(&mut self, action: SourceAction) {
        match action {
            SourceAction::Send(message) if self.connected => {
                if matches!(message, Message::PostCopy { .. }) {
                    let pages = self.source.backlog().pending_pages().pages();
                    self.forward.push_back(Wire::Missing(pages.map(|page| page.0 as usize).collect()));
                }
                self.forward.push_back(Wire::Message(message));
            }
            SourceAction::Urgent(page) => self.send_urgent(page),
            SourceAction::StartTracking => {
                self.tracking = true;
                self.due_here.push_back(SourceEvent::TrackingStarted);
            }
            SourceAction::StopTracking => {
                self.tracking = false;
                self.due_here.push_back(SourceEvent::TrackingStopped);
            }
            SourceAction::Transmit(transmit) => self.transmit(transmit),
            SourceAction::Harvest => {
                let backlog = self.source.backlog_mut();
                let left_over = backlog.pending();
                let found = backlog.harvested(&mut self.log);
                let dirtied = found.map(|found| found.dirty).unwrap_or_default();
                let pending = backlog.pending();
                let harvested = Harvested { dirtied, left_over, pending, in_flight: None };
                self.due_here.push_back(SourceEvent::Harvested(harvested));
            }
            SourceAction::Wake(at) => self.wake = Some(at),
            SourceAction::Throttle(share) => self.throttle = share,
            SourceAction::Pause => {
                self.runs_here = false;
                self.at_pause = Some(self.memory.clone());
                self.due_here.push_back(SourceEvent::Paused);
            }
            SourceAction::SaveState => {
                let section = Section { kind: "cpu".into(), version: 1, bytes: vec![self.seed] };
                self.due_here.push_back(SourceEvent::Saved(vec![section]));
            }
            SourceAction::Release => {
                let sending = self.due_here.iter().any(|event| matches!(event, SourceEvent::Transmitted(_)));
                assert!(!sending || self.lied, "memory that is being sent is released");
                self.released = true;
            }
            SourceAction::Resume => {
                assert!(!self.released, "a guest that was released is resumed");
                self.runs_here = true;
                self.due_here.push_back(SourceEvent::Resumed);
            }
            SourceAction::Persist(record) => {
                assert_eq!(record, StableRecord::Go);
                self.due_here.push_back(SourceEvent::Persisted);
            }
            SourceAction::Reconnect => {
                if self.connected {
                    // Closed by the source: the other side sees it.
                    self.connected = false;
                    self.forward.clear();
                    self.back.clear();
                    self.there(DestinationEvent::Disconnected);
                }
                self.wants_connection = true;
            }
            _ => {}
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        assert!(!self.released, "memory that was released is sent");
        let most = if transmit.slice.is_some() { self.slice } else { u64::MAX };
        let mut sent = Vec::new();
        let taken = self.source.backlog_mut().take_with(|block| {
            let mut mask = block.mask;
            let mut chosen = 0;
            while mask != 0 && (sent.len() as u64) < most {
                let bit = mask & mask.wrapping_neg();
                sent.push(block.word * 64 + bit.trailing_zeros() as usize);
                chosen |= bit;
                mask ^= bit;
            }
            if mask == 0 { Take::Continue(chosen) } else { Take::Stop(chosen) }
        });
        assert_eq!(taken.taken.0, sent.len() as u64);
        if self.connected {
            let memory = if self.runs_here { &self.memory } else { self.at_pause() };
            let pages: Vec<Wire> = sent.iter().map(|&page| Wire::Page(page, memory[page])).collect();
            self.forward.extend(pages);
        }
        let pending = self.source.backlog().pending();
        self.due_here.push_back(SourceEvent::Transmitted(Transmitted {
            pages: taken.taken,
            zero: Pages(0),
            bytes: ByteCount(taken.taken.0 * 4096),
            pending,
            ..Transmitted::default()
        }));
    }

    fn send_urgent(&mut self, page: PageNumber) {
        if self.source.backlog_mut().take_page(page) && self.connected {
            let page = page.0 as usize;
            self.forward.push_back(Wire::Page(page, self.at_pause()[page]));
        }
    }

    /// The guest's memory here, which nobody writes to any more.
    fn at_pause(&self) -> &[u32] {
        self.at_pause.as_deref().unwrap_or(&self.memory)
    }

    fn obey_there(&mut self, action: DestinationAction) {
        match action {
            DestinationAction::Send(message) if self.connected => self.back.push_back(message),
            DestinationAction::Build(_) => self.due_there.push_back(DestinationEvent::Built),
            DestinationAction::Restore(sections) => {
                assert!(sections.iter().all(|section| section.bytes == [self.seed]));
                self.due_there.push_back(DestinationEvent::Restored);
            }
            DestinationAction::Persist(record) => {
                assert_eq!(record, StableRecord::Running);
                self.due_there.push_back(DestinationEvent::Persisted);
            }
            DestinationAction::Resume => {
                let whole = |page: &usize| !self.missing[*page];
                let same = |page: usize| self.copy[page] == self.at_pause()[page];
                assert!((0..PAGES).filter(whole).all(same), "the copy is not the memory at the pause");
                self.memory = self.at_pause().to_vec();
                self.runs_there = true;
                self.ran_there = true;
                self.due_there.push_back(DestinationEvent::Resumed);
            }
            DestinationAction::DropReplica => {
                assert!(!self.runs_there || self.lost_there, "a running guest was dropped");
                self.runs_there = false;
                self.waited_for.clear();
            }
            _ => {}
        }
    }
}
