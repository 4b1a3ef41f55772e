//! The guest at the destination while it lacks pages: post-copy.
//!
//! Made when the guest is resumed there. The migration tells it which pages are on their way and when they
//! arrive, asks when something happens next, and sends the requests that it makes. It decides nothing
//! about the order in which pages are sent.
//!
//! # Model
//!
//! * A page is missing until it arrives. A vCPU that touches a missing page stands still until then, with
//!   all writers that run on it: a fault is served outside the guest (`userfaultfd`), so the guest's
//!   scheduler can't put another thread on that vCPU. Writer i, idle ones not counted, runs on vCPU
//!   `i mod vcpus`.
//! * Before anything else each vCPU touches its part of the *resume set*: what the guest's kernel needs
//!   before anyone outside sees the guest move. It is `resume-pages` pages, scattered evenly at random over
//!   the first `resume-span` and the last `resume-top` of memory, and all pages of writers that are the guest's `kernel`; touched
//!   without delay one after another, in random order.
//! * Then writers write as they did before: which missing page they touch, and when, is drawn exactly
//!   (see `touch`). Work missed while a vCPU stood still is caught up as after any other stop.
//! * The guest *shows itself* when vCPU 0 has touched its part of the resume set and its writers have then
//!   done what they owed, or 2 ms of work if that is more: what the heartbeat of a program on that vCPU
//!   shows that works and beats in turn, as the guest of the reference runs does.
//! * Pages sent together arrive one after another, evenly between the first and the last.
//!
//! Reads of the programs are not modelled: a guest that mostly reads stalls more often than it does here.

use std::collections::VecDeque;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::layout::PageNumber;

use super::thread::Thread;

/// The period of the heartbeat: that of the reference runs.
const BEAT: u64 = 2_000_000;

/// Pages of a word on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Coming {
    word: usize,
    mask: u64,
    /// When the first begins to arrive and when the last has arrived, nanoseconds.
    from: f64,
    to: f64,
}

impl Coming {
    /// When `page` has arrived; none if it is not among them.
    fn arrival(&self, page: u64) -> Option<u64> {
        let bit = 1_u64 << (page % 64);
        if self.word as u64 != page / 64 || self.mask & bit == 0 {
            return None;
        }
        let place = f64::from((self.mask & (bit | (bit - 1))).count_ones());
        let part = place / f64::from(self.mask.count_ones());
        Some((self.from + (self.to - self.from) * part).ceil() as u64)
    }
}

/// A vCPU that stands still.
#[derive(Clone, Copy, Debug)]
struct Wait {
    page: u64,
    since: u64,
}

#[derive(Clone, Debug)]
struct Vcpu {
    /// What is left of its part of the resume set, the next at the end.
    resume_set: Vec<u64>,
    threads: Vec<Thread>,
    waits: Option<Wait>,
    /// Up to when its threads have run.
    clock: u64,
    /// When its part of the resume set was there.
    began: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Resumed {
    missing: PageSet,
    coming: VecDeque<Coming>,
    vcpus: Vec<Vcpu>,
    /// Nanoseconds that vCPUs stood still.
    stalled: f64,
    /// When the guest first showed itself.
    seen: Option<u64>,
}

impl Resumed {
    /// A guest resumed at `now` without the pages of `missing`.
    pub(super) fn new(
        now: u64,
        vcpus: u32,
        threads: Vec<Thread>,
        missing: PageSet,
        resume_set: &[u64],
    ) -> Self {
        let count = vcpus.max(1) as usize;
        let idle = Vcpu { resume_set: Vec::new(), threads: Vec::new(), waits: None, clock: now, began: None };
        let mut vcpus = vec![idle; count];
        for (index, &page) in resume_set.iter().enumerate() {
            vcpus[index % count].resume_set.push(page);
        }
        for (index, mut thread) in threads.into_iter().enumerate() {
            thread.look(&missing);
            vcpus[index % count].threads.push(thread);
        }
        Self { missing, coming: VecDeque::new(), vcpus, stalled: 0.0, seen: None }
    }

    /// These pages arrive, the first from `from` on, the last by `to`. Told before the time is `from`.
    pub(crate) fn comes(&mut self, word: usize, mask: u64, from: f64, to: f64) {
        if mask != 0 {
            self.coming.push_back(Coming { word, mask, from, to });
        }
    }

    /// When `page` has arrived; none if it is not even on its way.
    fn arrival(&self, page: u64) -> Option<u64> {
        if !self.missing.contains(PageNumber(page)) {
            return Some(0);
        }
        self.coming.iter().find_map(|coming| coming.arrival(page))
    }

    fn is_here(&self, page: u64, now: u64) -> bool {
        self.arrival(page).is_some_and(|arrival| arrival <= now)
    }

    /// When something happens next; none before more pages come.
    pub(crate) fn next(&self) -> Option<u64> {
        self.vcpus.iter().enumerate().filter_map(|(index, vcpu)| self.next_of(index, vcpu)).min()
    }

    fn next_of(&self, index: usize, vcpu: &Vcpu) -> Option<u64> {
        if let Some(wait) = vcpu.waits {
            return self.arrival(wait.page);
        }
        if vcpu.began.is_none() {
            return Some(vcpu.clock);
        }
        let touches = vcpu.threads.iter().filter_map(|thread| thread.touches_at(vcpu.clock));
        let shows = if index == 0 && self.seen.is_none() { vcpu.shows_at() } else { None };
        touches.chain(shows).min()
    }

    /// Lets the guest run up to `now`; gives the pages that it now waits for and has not asked for yet.
    pub(crate) fn step(&mut self, now: u64) -> Vec<u64> {
        while let Some(first) = self.coming.front().filter(|first| first.to <= now as f64) {
            self.missing.clear_mask(first.word, first.mask);
            self.coming.pop_front();
        }
        let mut asked = Vec::new();
        for index in 0..self.vcpus.len() {
            self.step_one(index, now, &mut asked);
        }
        asked
    }

    fn step_one(&mut self, index: usize, now: u64, asked: &mut Vec<u64>) {
        if let Some(wait) = self.vcpus[index].waits {
            if !self.is_here(wait.page, now) {
                return;
            }
            self.stalled += now.saturating_sub(wait.since) as f64;
            self.vcpus[index].go_on(now);
        }
        self.vcpus[index].run(now);
        let page = loop {
            match self.touching(index, now) {
                Next::Here => {}
                Next::Missing(page) => break page,
                Next::Nothing => {
                    let vcpu = &mut self.vcpus[index];
                    vcpu.begin();
                    if index == 0 && self.seen.is_none() && vcpu.shows_at().is_some_and(|at| at <= now) {
                        self.seen = Some(now);
                    }
                    return;
                }
            }
        };
        if !self.vcpus.iter().any(|vcpu| vcpu.waits.is_some_and(|wait| wait.page == page)) {
            asked.push(page);
        }
        self.vcpus[index].waits = Some(Wait { page, since: now });
    }

    /// What a vCPU touches at `now`.
    fn touching(&mut self, index: usize, now: u64) -> Next {
        let vcpu = &mut self.vcpus[index];
        if let Some(&page) = vcpu.resume_set.last() {
            if !self.is_here(page, now) {
                return Next::Missing(page);
            }
            self.vcpus[index].resume_set.pop();
            return Next::Here;
        }
        let touching = vcpu.threads.iter().enumerate().find_map(|(i, thread)| Some((i, thread.touching()?)));
        let Some((thread, page)) = touching else { return Next::Nothing };
        if !self.is_here(page, now) {
            return Next::Missing(page);
        }
        self.vcpus[index].threads[thread].look(&self.missing);
        Next::Here
    }

    /// When it first showed itself.
    pub(crate) fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// vCPU nanoseconds that it stood still up to `now`.
    pub(crate) fn stalled(&self, now: u64) -> f64 {
        let open = self.vcpus.iter().filter_map(|vcpu| vcpu.waits);
        self.stalled + open.map(|wait| now.saturating_sub(wait.since) as f64).sum::<f64>()
    }
}

/// What a vCPU meets.
enum Next {
    Here,
    Missing(u64),
    Nothing,
}

impl Vcpu {
    fn run(&mut self, now: u64) {
        if self.resume_set.is_empty() {
            let from = self.clock;
            self.threads.iter_mut().for_each(|thread| thread.run(from, now));
        }
        self.clock = self.clock.max(now);
    }

    /// What it waited for is here: its threads have stood since it began to wait.
    fn go_on(&mut self, now: u64) {
        self.waits = None;
        let from = self.clock;
        self.threads.iter_mut().for_each(|thread| thread.stand(from, now));
        self.clock = self.clock.max(now);
    }

    /// Its part of the resume set is there: what its threads owe now is what they do before the next beat.
    fn begin(&mut self) {
        if self.began.is_none() {
            self.began = Some(self.clock);
            let at = self.clock;
            self.threads.iter_mut().for_each(|thread| thread.begin(at, BEAT));
        }
    }

    /// When all its threads have done what they owed, if it meets no missing page.
    fn shows_at(&self) -> Option<u64> {
        let beat = self.began?.saturating_add(BEAT);
        let mut done = self.threads.iter().map(|thread| thread.reaches_goal_at(self.clock));
        done.try_fold(beat, |latest, one| Some(latest.max(one?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pace::{Ability, Wish};
    use super::super::rng::stream;
    use super::super::shape::Shape;
    use super::*;
    use crate::config::{Pattern, WriterConfig};

    const MS: u64 = 1_000_000;

    fn pages(pages: impl IntoIterator<Item = u64>) -> PageSet {
        let mut set = PageSet::new(640);
        for page in pages {
            set.insert(PageNumber(page)).unwrap();
        }
        set
    }

    /// A writer that writes to the pages 0 to 99 in turn, one each millisecond.
    fn walker() -> Thread {
        let config = WriterConfig { pattern: Pattern::Sequential, rate: 1000.0, ..WriterConfig::default() };
        let mut rng = stream(1, "walker");
        let shape = Shape::new(&config, &(0..100), &mut rng).unwrap();
        let Shape::Cycle(_, start) = &shape else { unreachable!() };
        let before = 100.0 - start;
        let ability = Ability { write_cost: 1e-6, catch_up: 0.05, cpu: 1.0, pays_faults: true };
        Thread::new((shape, Wish::new(&config), ability), (before, 0.0), rng)
    }

    fn guest(vcpus: u32, threads: Vec<Thread>, missing: PageSet) -> Resumed {
        Resumed::new(0, vcpus, threads, missing, &[])
    }

    /// Lets it run until it waits or nothing happens any more; the pages that it asks for.
    fn run(guest: &mut Resumed) -> Vec<(u64, u64)> {
        let mut asked = Vec::new();
        while let Some(next) = guest.next() {
            asked.extend(guest.step(next).into_iter().map(|page| (next, page)));
        }
        asked
    }

    #[test]
    fn a_guest_that_lacks_nothing_shows_itself_at_once_and_asks_for_nothing() {
        let mut guest = guest(1, vec![walker()], pages([]));
        assert_eq!(run(&mut guest), []);
        assert_eq!(guest.seen(), Some(BEAT));
    }

    #[test]
    fn a_vcpu_stands_still_from_its_touch_until_the_page_is_there() {
        let mut guest = guest(1, vec![walker()], pages([10, 500]));
        // Eleven writes: pages 0 to 10.
        assert_eq!(run(&mut guest), [(11 * MS, 10)]);
        assert_eq!(guest.next(), None, "it waits for what is not even sent");
        guest.comes(0, 1 << 10, 30e6, 31e6);
        assert_eq!(run(&mut guest), []);
        assert!((guest.stalled(60 * MS) - 20e6).abs() < 2.0, "{}", guest.stalled(60 * MS));
    }

    #[test]
    fn work_that_was_missed_is_caught_up_to_the_bound() {
        let mut late = guest(1, vec![walker()], pages([10, 40, 80]));
        assert_eq!(run(&mut late), [(11 * MS, 10)]);
        late.comes(0, 1 << 10, 20e6, 30e6);
        let asked = run(&mut late);
        // 19 writes were missed; page 40 is the 30th write from there.
        assert!(asked[0].1 == 40 && asked[0].0.abs_diff(41 * MS) < MS, "{asked:?}");
        late.comes(0, 1 << 40, 500e6, 500e6);
        let asked = run(&mut late);
        // 50 of 459 missed ones are made up, so the 40th write follows at once.
        assert!(asked[0].1 == 80 && asked[0].0 < 501 * MS, "{asked:?}");
    }

    #[test]
    fn another_vcpu_goes_on_and_what_two_wait_for_is_asked_for_once() {
        let mut guest = guest(2, vec![walker(), walker(), walker()], pages([10, 20]));
        assert_eq!(run(&mut guest), [(11 * MS, 10)]);
        guest.comes(0, 1 << 10, 50e6, 50e6);
        run(&mut guest);
        assert!((guest.stalled(50 * MS) - 2.0 * 39e6).abs() < 0.1 * 39e6, "{}", guest.stalled(50 * MS));
    }

    #[test]
    fn the_resume_set_comes_before_anything_else() {
        let resume_set: Vec<u64> = (60..90).chain(70..80).collect();
        let mut guest = Resumed::new(0, 1, vec![walker()], pages(0..100), &resume_set);
        let mut asked = Vec::new();
        for round in 1..100 {
            let Some(page) = run(&mut guest).pop() else { break };
            asked.push(page.1);
            let at = (round * MS) as f64;
            guest.comes((page.1 / 64) as usize, 1 << (page.1 % 64), at, at);
        }
        let first = asked.iter().position(|page| !resume_set.contains(page)).unwrap_or(asked.len());
        assert_eq!(first, 30, "{asked:?}");
        assert!(guest.seen().is_none_or(|seen| seen >= first as u64 * MS));
    }

    #[test]
    fn pages_of_a_word_arrive_one_after_another() {
        let coming = Coming { word: 2, mask: 0b1011, from: 100.0, to: 400.0 };
        assert_eq!(
            [128, 129, 130, 131].map(|page| coming.arrival(page)),
            [Some(200), Some(300), None, Some(400)]
        );
        assert_eq!(coming.arrival(1), None);
    }
}
