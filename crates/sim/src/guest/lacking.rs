//! The guest at the destination while it lacks pages, in the mean: what it waits for after a post-copy handover.
//!
//! For the fluid simulation. What was not sent before the handover is a list of stretches of addresses of which
//! a part of the pages is missing; the scan that sends them begins anew wherever a page is asked for,
//! and so cuts them into pieces. Which page a vCPU touches next, and when, is drawn as in
//! [`resumed`](super::resumed), from the stretches in place of the pages; the threads are the same. A few
//! operations a request, whatever the size of the guest. What is asked for is the mean over several such guests.
//!
//! What it leaves out: that a page which is sent at once because it was asked for may be asked for again (its group
//! of a Zipf law loses a page, an even one has too many to notice); requests that cost the way back anything but time.

mod sending;
mod touches;
mod words;

use rand_core::Rng as _;
use whimbrel_core::units::Timestamp;

pub(crate) use self::words::Ranks;
use self::words::{HotWord, Weights};
use super::expected::Form;
use super::thread::Thread;
use super::{Generator, Guest, stream};
use crate::config::GuestConfig;
use crate::link::Nanos;

/// The period of the heartbeat by which the guest shows itself: as in [`super::resumed`].
const BEAT: u64 = 2_000_000;
/// Pages of a word.
const WORD: f64 = 64.0;
/// Pages; what is less is nothing.
const NONE: f64 = 1e-6;

/// Memory of which a part of the pages is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Missing {
    /// Page numbers.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// The part that is missing.
    pub(crate) density: f64,
    /// The part that would be missing if no writer went by turns.
    pub(crate) scattered: f64,
    /// The part that would be missing if only those wrote whose pages are alike.
    pub(crate) even: f64,
    /// The part of zero pages among those.
    pub(crate) zero: f64,
    /// In which piece of memory it lies.
    pub(crate) piece: usize,
    /// The number of the harvest since which writes to it count; none if all of it is missing.
    pub(crate) since: Option<usize>,
    /// Of which of the hottest words it is, and the shares of its owners' writes that its missing pages get.
    pub(crate) word: Option<(usize, Weights)>,
}

/// For each harvest, the writes of each writer since.
pub(crate) type Made = Vec<Vec<f64>>;

/// Of which groups of a writer's law the missing pages are, the hottest first.
pub(crate) type Mix = Vec<Group>;

/// Pages of about the same rate among the missing ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// The part of the missing pages that are of it.
    pub(crate) part: f64,
    /// The share of writes that a page of it gets.
    pub(crate) weight: f64,
    /// How many it has, missing or not.
    pub(crate) pages: f64,
}

/// How pages are sent behind the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Push {
    /// Bytes of a page and of a zero page.
    pub(crate) page_bytes: f64,
    pub(crate) zero_bytes: f64,
    /// Bytes a nanosecond that the link carries, and that the source copies into its queue.
    pub(crate) rate: f64,
    pub(crate) copying: f64,
    /// What it takes the source to see that a page is zero.
    pub(crate) scanning: Nanos,
    /// Bytes in the queue at which the sender wakes, and in a full one.
    pub(crate) levels: [f64; 2],
    /// Pages after which the sender looks at its clock.
    pub(crate) batch: f64,
    /// The time of a byte from the wire's end to the guest.
    pub(crate) way: Nanos,
    /// What a fault costs before it is asked for.
    pub(crate) fault: Nanos,
    /// Urgent pages have a connection of their own, which shares so many bytes of the queue.
    pub(crate) shared: Option<f64>,
    /// When it begins, and when the wire has carried what was handed over before.
    pub(crate) from: Nanos,
    pub(crate) drained: Nanos,
}

/// What a guest waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Waited {
    /// vCPU nanoseconds.
    pub(crate) stalled: f64,
    /// How long until it first showed itself.
    pub(crate) unseen: Nanos,
    /// Pages that it asked for.
    pub(crate) requests: f64,
}

/// Pages on their way: the first arrives at `begins`, the last at `ends`.
#[derive(Clone, Copy, Debug)]
struct Flight {
    what: Missing,
    begins: Nanos,
    ends: Nanos,
}

impl Flight {
    fn arrival(&self, page: f64) -> Nanos {
        let part = (page + 1.0 - self.what.from) / (self.what.to - self.what.from).max(NONE);
        self.begins + (self.ends - self.begins) * part.clamp(0.0, 1.0)
    }
}

/// Of which writer and which group of its law a page is.
type OfGroup = Option<(usize, usize)>;

/// After how many writes a page is touched, which, and of which group.
type Touch = (f64, u64, OfGroup);

/// Who writes to a piece of memory, and how.
pub(crate) type Forms = Vec<(usize, Form)>;

/// A page that was asked for.
#[derive(Clone, Debug)]
struct Request {
    at: Nanos,
    page: u64,
    /// Of which writer and group, to count the page out of it.
    group: OfGroup,
}

/// A vCPU that stands still.
#[derive(Clone, Copy, Debug)]
struct Wait {
    page: u64,
    since: u64,
    /// When the page arrives; infinite if it is not sent yet.
    until: Nanos,
}

#[derive(Clone, Debug)]
struct Vcpu {
    resume_set: Vec<u64>,
    /// Numbers of its writers, with what they do next.
    threads: Vec<(usize, Thread, OfGroup)>,
    waits: Option<Wait>,
    clock: u64,
    began: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Lacking<'a> {
    push: Push,
    forms: &'a [Forms],
    laws: &'a [Option<Ranks>],
    mixes: Vec<Mix>,
    words: Vec<HotWord>,
    /// What is not sent, in the order of addresses.
    parts: Vec<Missing>,
    cursor: f64,
    flights: Vec<Flight>,
    requests: Vec<Request>,
    vcpus: Vec<Vcpu>,
    rng: Generator,
    drained: Nanos,
    sends_at: Nanos,
    stalled: f64,
    asked: f64,
    resumed: u64,
    seen: Option<u64>,
}

/// A number above 0 and up to 1.
fn unit(rng: &mut Generator) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * 2.0_f64.powi(-53)
}

/// Where in its round a writer in turn is, from 0 to 1: over the guests evenly spread, and for two writers independently
/// (a Weyl sequence: of few places the mean is nearly that of all).
fn place(writer: usize, number: u64) -> f64 {
    // The golden ratio, and powers of the plastic number.
    const STEPS: [f64; 3] = [0.618_033_988_749_894_8, 0.754_877_666_246_692_7, 0.569_840_290_998_053_3];
    (0.5 + STEPS[writer % STEPS.len()] * (number + 1 + writer as u64) as f64).fract()
}

impl<'a> Lacking<'a> {
    /// A guest resumed at `resumed` that lacks `parts`; number `number` of those that the mean is taken over.
    /// `forms` are, for each piece, which writers write there and how; `mixes` those of each writer.
    pub(crate) fn new(
        (guest, config): (&Guest, &GuestConfig),
        (resumed, number): (Timestamp, u64),
        push: Push,
        parts: Vec<Missing>,
        (forms, laws, mixes, made): (&'a [Forms], &'a [Option<Ranks>], Vec<Mix>, &Made),
    ) -> Self {
        let mut rng = stream(number, "fluid.post-copy");
        let count = guest.vcpus.max(1) as usize;
        let clock = resumed.as_nanos();
        let idle = Vcpu { resume_set: Vec::new(), threads: Vec::new(), waits: None, clock, began: None };
        let mut vcpus = vec![idle; count];
        for (index, page) in guest.any_resume_set(config, &mut rng).into_iter().enumerate() {
            vcpus[index % count].resume_set.push(page);
        }
        for (index, writer) in guest.writers.iter().enumerate() {
            let mut thread = writer.resumed(stream(number, "fluid.post-copy.thread"));
            thread.move_on(place(index, number));
            vcpus[index % count].threads.push((index, thread, None));
        }
        let mut lacking = Self {
            push,
            forms,
            laws,
            mixes,
            words: Vec::new(),
            parts,
            cursor: 0.0,
            flights: Vec::new(),
            requests: Vec::new(),
            vcpus,
            rng,
            drained: push.drained,
            sends_at: push.from,
            stalled: 0.0,
            asked: 0.0,
            resumed: clock,
            seen: None,
        };
        lacking.place_walkers(made);
        lacking.place_words(&mut stream(number, "fluid.post-copy.words"));
        for vcpu in 0..count {
            lacking.look(vcpu);
        }
        lacking
    }

    /// What a writer in turn wrote lies right behind where it stands, and all of it is missing.
    fn place_walkers(&mut self, made: &Made) {
        let threads = self.vcpus.iter().flat_map(|vcpu| &vcpu.threads);
        let places = threads.filter_map(|(writer, thread, _)| Some((*writer, thread.place()?)));
        let places: Vec<_> =
            places.map(|(writer, (place, set))| (writer, set.start as f64 + place)).collect();
        let mut parts = Vec::with_capacity(self.parts.len() + 2);
        for part in self.parts.drain(..) {
            let (Some(since), Some(forms)) = (part.since, self.forms.get(part.piece)) else {
                parts.push(part);
                continue;
            };
            let mut arcs = Vec::new();
            for &(writer, form) in forms {
                let place = places.iter().find(|(one, _)| *one == writer);
                if let (Form::InTurn(round), Some((_, end))) = (form, place) {
                    let begin = end - made[since][writer].min(round);
                    arcs.extend([0.0, round].map(|turn| (begin + turn, end + turn)));
                }
            }
            lay(part, arcs, &mut parts);
        }
        self.parts = parts;
    }

    /// Lets it run until it lacks nothing, or with `only_seen` until it has shown itself.
    pub(crate) fn run(mut self, only_seen: bool) -> Waited {
        while !(only_seen && self.seen.is_some()) {
            let Some(next) = self.next() else { break };
            self.happens(next);
        }
        let last = self.vcpus.first().map_or(0, |vcpu| vcpu.clock);
        let unseen = self.seen.unwrap_or(last).saturating_sub(self.resumed) as f64;
        Waited { stalled: self.stalled, unseen, requests: self.asked }
    }

    /// When something happens next; none if nothing does that matters.
    fn next(&self) -> Option<Nanos> {
        let lacks = !self.parts.is_empty() || !self.flights.is_empty();
        if !lacks && self.seen.is_some() && self.vcpus.iter().all(|vcpu| vcpu.waits.is_none()) {
            return None;
        }
        let mut next = if self.parts.is_empty() { f64::INFINITY } else { self.sends_at };
        for request in &self.requests {
            next = next.min(request.at);
        }
        for index in 0..self.vcpus.len() {
            next = next.min(self.next_of(index));
        }
        // What is under way arrives, and then nobody has to look for it any more.
        if next == f64::INFINITY {
            next = self.flights.iter().map(|flight| flight.ends).fold(f64::INFINITY, f64::min);
        }
        (next < f64::INFINITY).then_some(next)
    }

    fn next_of(&self, index: usize) -> Nanos {
        let vcpu = &self.vcpus[index];
        if let Some(wait) = vcpu.waits {
            return wait.until;
        }
        if vcpu.began.is_none() {
            return vcpu.clock as f64;
        }
        let touches = vcpu.threads.iter().filter_map(|(_, thread, _)| thread.touches_at(vcpu.clock));
        let shows = if index == 0 && self.seen.is_none() { vcpu.shows_at() } else { None };
        touches.chain(shows).min().map_or(f64::INFINITY, |at| at as f64)
    }

    fn happens(&mut self, now: Nanos) {
        self.flights.retain(|flight| flight.ends > now);
        if !self.parts.is_empty() && self.sends_at <= now {
            self.send(now);
        }
        while let Some(index) = self.requests.iter().position(|request| request.at <= now) {
            let request = self.requests.swap_remove(index);
            self.serve(&request);
        }
        for index in 0..self.vcpus.len() {
            if self.next_of(index) <= now {
                self.step(index, now);
            }
        }
    }

    /// The part that `page` is of.
    fn part_of(&self, page: f64) -> Option<usize> {
        let index = self.parts.partition_point(|part| part.to <= page);
        (self.parts.get(index)?.from <= page).then_some(index)
    }

    /// When `page` arrives: none if it is here, infinite if it is not even sent.
    fn arrival(&mut self, page: f64, is_missing: bool, now: Nanos) -> Option<Nanos> {
        let mut flights =
            self.flights.iter().filter(|flight| flight.what.from <= page && page < flight.what.to);
        let flight = flights.find(|flight| flight.ends > now);
        let (what, arrival) = match (flight, self.part_of(page)) {
            (Some(flight), _) => (flight.what, flight.arrival(page)),
            (None, Some(index)) => (self.parts[index], f64::INFINITY),
            (None, None) => return None,
        };
        let missing = match what.word {
            Some((word, _)) => self.words[word].lacks(page),
            None => is_missing || what.density >= 1.0 || unit(&mut self.rng) <= what.density,
        };
        (missing && arrival > now).then_some(arrival)
    }

    /// A request reaches the source.
    fn serve(&mut self, request: &Request) {
        let now = request.at;
        self.asked += 1.0;
        let page = request.page as f64;
        let arrival = match self.arrival(page, true, now) {
            None => now + self.push.way,
            Some(arrival) if arrival < f64::INFINITY => arrival,
            Some(_) => self.send_urgent(page, now),
        };
        if let Some((writer, group)) = request.group {
            self.count_out(writer, group);
        }
        for wait in self.vcpus.iter_mut().filter_map(|vcpu| vcpu.waits.as_mut()) {
            if wait.page == request.page {
                wait.until = wait.until.min(arrival.max(now));
            }
        }
    }

    /// A page of a group was asked for. Pages of neighbouring ranks share a word, in any order: what lies behind it in
    /// its word, half of it on average, comes next if the scan goes on from there.
    fn count_out(&mut self, writer: usize, group: usize) {
        let alone = 1.0 / self.lacks(writer).max(1.0);
        let scans_on = self.push.shared.is_none();
        let mix = &mut self.mixes[writer];
        let one = &mut mix[group];
        let in_the_word = if scans_on { one.part * (WORD / one.pages).min(1.0) / 2.0 } else { 0.0 };
        one.part = (one.part - in_the_word.max(alone)).max(0.0);
        let sum: f64 = mix.iter().map(|group| group.part).sum();
        if sum > 0.0 {
            for group in mix {
                group.part /= sum;
            }
        }
    }

    /// Missing pages that a writer writes to, outside of the hottest words.
    fn lacks(&self, writer: usize) -> f64 {
        let here = |part: &&Missing| part.word.is_none() && self.form(writer, part.piece).is_some();
        self.lying_about().filter(here).map(pages).sum()
    }

    /// Everything that is not here.
    fn lying_about(&self) -> impl Iterator<Item = &Missing> {
        self.parts.iter().chain(self.flights.iter().map(|flight| &flight.what))
    }

    fn form(&self, writer: usize, piece: usize) -> Option<Form> {
        self.forms.get(piece)?.iter().find(|(one, _)| *one == writer).map(|(_, form)| *form)
    }

    fn step(&mut self, index: usize, now: Nanos) {
        let at = now.ceil() as u64;
        if let Some(wait) = self.vcpus[index].waits.take() {
            self.stalled += at.saturating_sub(wait.since) as f64;
            let vcpu = &mut self.vcpus[index];
            let from = vcpu.clock;
            vcpu.threads.iter_mut().for_each(|(_, thread, _)| thread.stand(from, at));
            vcpu.clock = vcpu.clock.max(at);
            self.look(index);
        }
        let vcpu = &mut self.vcpus[index];
        if vcpu.resume_set.is_empty() {
            let from = vcpu.clock;
            vcpu.threads.iter_mut().for_each(|(_, thread, _)| thread.run(from, at));
        }
        vcpu.clock = vcpu.clock.max(at);
        while let Some(page) = self.vcpus[index].resume_set.pop() {
            if let Some(until) = self.arrival(page as f64, false, now) {
                return self.wait(index, (page, until), None, now);
            }
        }
        let vcpu = &mut self.vcpus[index];
        vcpu.begin();
        if index == 0 && self.seen.is_none() && vcpu.shows_at().is_some_and(|shows| shows <= at) {
            self.seen = Some(at);
        }
        let mut thread = 0;
        while thread < self.vcpus[index].threads.len() {
            let (_, one, group) = &self.vcpus[index].threads[thread];
            let Some(page) = one.touching() else {
                thread += 1;
                continue;
            };
            let group = *group;
            if let Some(until) = self.arrival(page as f64, true, now) {
                return self.wait(index, (page, until), group, now);
            }
            self.look_one(index, thread);
        }
    }

    /// A vCPU touches a page that arrives at `until`, and asks for it unless another one has.
    fn wait(&mut self, index: usize, (page, until): (u64, Nanos), group: OfGroup, now: Nanos) {
        let asked = self.vcpus.iter().any(|vcpu| vcpu.waits.is_some_and(|wait| wait.page == page));
        self.vcpus[index].waits = Some(Wait { page, since: now.ceil() as u64, until });
        if !asked {
            let at = now + self.push.fault + self.push.way;
            self.requests.push(Request { at, page, group });
        }
    }
}

/// Adds what is missing of `part` to `parts`, where all of these arcs is.
fn lay(part: Missing, mut arcs: Vec<(f64, f64)>, parts: &mut Vec<Missing>) {
    arcs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let density = part.scattered;
    let mut at = part.from;
    for (from, to) in arcs {
        let [from, to] = [from.max(at), to.min(part.to)];
        if to - from > NONE {
            parts.push(Missing { from: at, to: from, density, ..part });
            parts.push(Missing { from, to, density: 1.0, ..part });
            at = to;
        }
    }
    parts.push(Missing { from: at, density, ..part });
    parts.retain(|part| part.to - part.from > NONE && part.density > NONE);
}

/// Missing pages.
fn pages(part: &Missing) -> f64 {
    (part.to - part.from) * part.density
}

impl Vcpu {
    fn begin(&mut self) {
        if self.began.is_none() {
            self.began = Some(self.clock);
            let at = self.clock;
            self.threads.iter_mut().for_each(|(_, thread, _)| thread.begin(at, BEAT));
        }
    }

    fn shows_at(&self) -> Option<u64> {
        let beat = self.began?.saturating_add(BEAT);
        let mut done = self.threads.iter().map(|(_, thread, _)| thread.reaches_goal_at(self.clock));
        done.try_fold(beat, |latest, one| Some(latest.max(one?)))
    }
}
