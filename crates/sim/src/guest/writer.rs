//! One thread of the guest: its pages, its pace, and what of its writing was drawn already.
//!
//! Owned by the guest, which tells it the time, what holds it up and when the log was harvested.
//!
//! Asking where it stands changes nothing that matters: the count of writes is computed from the last
//! *change* (of its rate, the throttle, the pause, the harvest), never from the last question, so a
//! simulation that ticks more often gets the same numbers to the last bit.

use std::ops::Range;

use rand_core::SeedableRng as _;

use super::mask::Sampler;
use super::pace::{Ability, Done, Held, Span, Wish};
use super::ring::Toll;
use super::rng::Generator;
use super::shape::Shape;
use super::thread::Thread;
use super::wear::Touch;
use crate::config::{WriteAt, WriterConfig};
use crate::link::float;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    shape: Shape,
    wish: Wish,
    ability: Ability,
    sampler: Sampler,
    /// The last change, in nanoseconds, and where it stood then.
    changed: u64,
    done: Done,
    /// The last question and its answer.
    asked: (u64, f64),
    /// Writes at the last harvest.
    harvested: f64,
    /// Writes at the two harvests before it, the later one first.
    harvested_before: [f64; 2],
    /// Bytes that a write changes, and whether they are always the same.
    change: (f64, bool),
    /// What a full ring of dirty pages costs it, while that is limited.
    toll: Toll,
    /// Words of the working set.
    words: Range<usize>,
    /// Writes up to which each word was drawn; less than `harvested` means: up to there. Empty unless
    /// single words are asked for.
    drawn: Vec<f64>,
}

impl Writer {
    /// A writer on the pages of `set`; `None` if it never writes.
    pub(super) fn new(
        config: &WriterConfig,
        set: &Range<u64>,
        mut layout: Generator,
        writes: Generator,
    ) -> Option<Self> {
        Some(Self::of(Shape::new(config, set, &mut layout)?, config, set, writes))
    }

    /// The same in the mean: nothing can be drawn.
    pub(super) fn in_the_mean(config: &WriterConfig, set: &Range<u64>) -> Option<Self> {
        Some(Self::of(Shape::in_the_mean(config, set)?, config, set, Generator::seed_from_u64(0)))
    }

    /// Makes it what [`Writer::in_the_mean`] gives, in the memory that it has; false if that never writes.
    pub(super) fn become_in_the_mean(&mut self, config: &WriterConfig, set: &Range<u64>) -> bool {
        if !self.shape.become_in_the_mean(config, set) {
            return false;
        }
        self.wish.become_new(config);
        self.begin(config, set);
        true
    }

    /// As of a guest at time zero.
    fn begin(&mut self, config: &WriterConfig, set: &Range<u64>) {
        self.ability = Ability {
            write_cost: config.cost_of_a_write(),
            catch_up: config.catch_up.as_secs_f64(),
            cpu: 1.0,
            pays_faults: self.shape.pays_faults(),
        };
        (self.changed, self.done, self.asked) = (0, Done::default(), (0, 0.0));
        (self.harvested, self.harvested_before) = (0.0, [0.0; 2]);
        self.change = (config.write_size.as_f64(), config.write_at == WriteAt::Fixed);
        self.toll = Toll::NONE;
        self.words = (set.start / 64) as usize..set.end.div_ceil(64) as usize;
        self.drawn.clear();
    }

    fn of(shape: Shape, config: &WriterConfig, set: &Range<u64>, writes: Generator) -> Self {
        let mut made = Self {
            wish: Wish::new(config),
            ability: Ability { write_cost: 0.0, catch_up: 0.0, cpu: 1.0, pays_faults: false },
            sampler: Sampler::new(writes),
            changed: 0,
            done: Done::default(),
            asked: (0, 0.0),
            harvested: 0.0,
            harvested_before: [0.0; 2],
            change: (0.0, false),
            toll: Toll::NONE,
            words: 0..0,
            drawn: Vec::new(),
            shape,
        };
        made.begin(config, set);
        made
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The highest rate that it ever wants.
    pub(super) fn peak(&self) -> f64 {
        self.wish.peak()
    }

    /// Writes made up to the last [`Writer::change`].
    #[inline]
    pub(super) fn made(&self) -> f64 {
        self.done.writes
    }

    pub(super) fn words(&self) -> Range<usize> {
        self.words.clone()
    }

    /// The part of a vCPU that it would use at its highest rate, at most all of it.
    pub(super) fn appetite(&self) -> f64 {
        (self.wish.peak() * self.ability.write_cost).min(1.0)
    }

    pub(super) fn set_cpu(&mut self, cpu: f64) {
        self.ability.cpu = cpu;
    }

    /// From now on [`Writer::draw_word`] will be called.
    pub(super) fn keep_words(&mut self) {
        self.drawn = vec![self.harvested; self.words.len()];
    }

    /// Where it stands at `now`, and the last change of its own or the throttle's rhythm before that and
    /// where it stood there.
    #[inline]
    fn follow(&self, now: u64, held: &Held) -> (Done, u64, Done) {
        let (mut changed, mut before) = (self.changed, self.done);
        loop {
            let (rate, wish_until) = self.wish.at(changed);
            let (cycle, pulse_until) = held.pulse.at(changed);
            let until = wish_until.min(pulse_until);
            let time = until.min(now).saturating_sub(changed) as f64 * 1e-9;
            let span = Span { rate, harvested: self.harvested, held, cycle, toll: self.toll, time };
            let done = self.ability.pass(&self.shape, before, span);
            if until > now {
                return (done, changed, before);
            }
            (changed, before) = (until, done);
        }
    }

    /// Where it stands at `now`. Steps over changes of its own rate for good.
    fn at(&mut self, now: u64, held: &Held) -> Done {
        let done;
        (done, self.changed, self.done) = self.follow(now, held);
        done
    }

    #[inline(never)]
    fn held_up(&mut self, now: u64, held: &Held) -> Done {
        self.at(now, held)
    }

    /// How many writes it made up to `now`, on average.
    pub(super) fn writes(&mut self, now: u64, held: &Held) -> f64 {
        // Its clock stands still.
        if held.paused {
            return self.done.writes;
        }
        if self.asked.0 != now {
            self.asked = (now, self.unhindered(now, held).unwrap_or_else(|| self.at(now, held).writes));
        }
        self.asked.1
    }

    /// The same, if nothing holds it up or changes: the usual case, and asked for every word that is sent.
    #[inline(always)]
    fn unhindered(&self, now: u64, held: &Held) -> Option<f64> {
        let (rate, until) = self.wish.at(self.changed);
        let free = !held.hinders() && self.ability.is_free(&self.done, rate, held.fault);
        let time = now.saturating_sub(self.changed) as f64 * 1e-9;
        (free && until > now).then_some(self.done.writes + rate * time)
    }

    /// [`Writer::change`] where nothing [hinders](Held::hinders) any writer.
    #[inline(always)]
    pub(super) fn go_on(&mut self, now: u64, held: &Held) {
        let (rate, until) = self.wish.at(self.changed);
        if self.ability.is_free(&self.done, rate, held.fault) && until > now {
            self.done.writes += rate * (float(now.saturating_sub(self.changed)) * 1e-9);
        } else {
            self.done = self.held_up(now, held);
        }
        self.changed = now;
        self.asked = (now, self.done.writes);
    }

    /// Seconds that its vCPU slept up to `now` because its ring was full.
    pub(super) fn slept(&self, now: u64, held: &Held) -> f64 {
        // Only a limit puts it to sleep so.
        if !held.hinders() && self.done.ring.nap == 0.0 {
            return self.done.ring.slept;
        }
        self.follow(now, held).0.ring.slept
    }

    /// Its vCPU has a ring of so many entries from the last [`Writer::change`] on, empty and free.
    pub(super) fn begin_ring(&mut self, entries: u32) {
        self.toll = Toll::new(entries, &self.shape);
        self.done.ring.emptied = self.done.writes;
        self.done.ring.pages = 0.0;
    }

    /// It sleeps so long, in seconds, whenever its ring is full, from the last [`Writer::change`] on.
    pub(super) fn charge(&mut self, sleep: f64) {
        self.toll.sleep = sleep;
    }

    /// A sleep for a full ring that is under way ends at the last [`Writer::change`].
    pub(super) fn wake(&mut self) {
        self.done.ring.nap = 0.0;
    }

    /// Empties the ring at the last [`Writer::change`]: a harvest does.
    pub(super) fn empty_ring(&mut self) {
        self.done.empty_ring(&self.shape);
    }

    /// Empties the ring; gives the pages that went through it since this was last called.
    pub(super) fn measure_ring(&mut self) -> f64 {
        self.empty_ring();
        std::mem::take(&mut self.done.ring.pages)
    }

    /// Something will hold it up in another way from `now` on.
    #[inline(always)]
    pub(super) fn change(&mut self, now: u64, held: &Held) {
        match self.unhindered(now, held) {
            Some(writes) => self.done.writes = writes,
            // Its clock stands still.
            None if held.paused => {}
            None => self.done = self.held_up(now, held),
        }
        self.changed = now;
        self.asked = (now, self.done.writes);
    }

    /// Forgets what was written so far: the log is clean at the moment of the last [`Writer::change`].
    #[inline]
    pub(super) fn clean(&mut self) {
        self.harvested_before = [self.harvested, self.harvested_before[0]];
        self.harvested = self.done.writes;
    }

    /// How `page` was written up to the last harvests and up to `writes`; none if it is not this writer's.
    /// The harvest in which it was found dirty is the last one, or with `left_over` the one before.
    pub(super) fn touch(&self, page: u64, left_over: bool, writes: f64) -> Option<Touch> {
        let [last, before] = self.harvested_before;
        let (before, found) = if left_over { (before, last) } else { (last, self.harvested) };
        let [before, found, now] = [before, found, writes].map(|writes| self.shape.wear(page, writes));
        let (size, fixed) = match &self.shape {
            Shape::Measured(measured) => measured.change(page)?,
            _ => self.change,
        };
        Some(Touch { before: before?, found: found?, now: now?, size, fixed })
    }

    /// Draws the pages dirtied since the last harvest, up to the last [`Writer::change`]; says how many.
    pub(super) fn draw(&mut self, sink: &mut impl FnMut(usize, u64)) -> u64 {
        let to = self.done.writes;
        if self.drawn.is_empty() {
            return self.shape.draw(self.harvested, to, &mut self.sampler, sink);
        }
        let mut count = 0;
        for word in self.words.clone() {
            let mask = self.draw_word(word, to);
            if mask != 0 {
                count += u64::from(mask.count_ones());
                sink(word, mask);
            }
        }
        count
    }

    /// Draws the pages of `word` dirtied since they were last drawn or harvested, up to `to` writes.
    pub(super) fn draw_word(&mut self, word: usize, to: f64) -> u64 {
        let Some(drawn) = self.drawn.get_mut(word.wrapping_sub(self.words.start)) else {
            return 0;
        };
        let from = drawn.max(self.harvested);
        if to <= from {
            return 0;
        }
        *drawn = to;
        self.shape.draw_word(word, from, to, &mut self.sampler)
    }

    /// The same writer after the handover, as of the last [`Writer::change`], drawing with `rng`.
    pub(super) fn resumed(&self, rng: Generator) -> Thread {
        let Done { writes, owed, .. } = self.done;
        Thread::new((self.shape.clone(), self.wish.clone(), self.ability.clone()), (writes, owed), rng)
    }

    /// Pages expected to be dirty after `writes`, from the last harvest on.
    pub(super) fn expected(&self, writes: f64) -> f64 {
        self.shape.expected(self.harvested, writes)
    }
}
