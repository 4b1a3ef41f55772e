//! Steps a policy through situations, for the tests of every preset.
//!
//! [`steps`] shows a policy a list of named situations and keeps what it answered; [`curve`] lets it
//! run a migration of a guest that dirties memory evenly, and [`print`] writes the answers down for a
//! snapshot. Neither is a simulator: just enough arithmetic to get from one question to the next.

use std::fmt::Write as _;
use std::time::Duration;

use crate::layout::PageSize;
use crate::policy::{BandwidthWindow, Cadence, Decision, Policy, RateLimit, SwitchoverWhen, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, ByteCount, PageRate, Pages, Timestamp, duration};

/// A moment at which a policy is asked.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) name: &'static str,
    pub(super) moment: Moment,
    pub(super) progress: Progress,
}

impl Situation {
    /// `pending` pages of 4 KiB in round `round`; no bandwidth, no time passed.
    pub(super) fn new(name: &'static str, moment: Moment, round: u32, pending: u64) -> Self {
        let all = Capabilities {
            throttle: true,
            dirty_limit: true,
            post_copy: true,
            harvest_on_demand: true,
            pause: true,
        };
        let mut progress = Progress::at_start(PageSize::Kib4, Pages(1 << 20), all);
        progress.round = round;
        progress.pending = Pages(pending);
        Self { name, moment, progress }
    }

    /// The same with this bandwidth.
    pub(super) fn at(mut self, bandwidth: &str) -> Self {
        self.progress.bandwidth = Some(bandwidth.parse().expect("a bandwidth"));
        self
    }

    /// The same at this time.
    pub(super) fn after(mut self, time: &str) -> Self {
        let time = duration::parse(time).expect("a duration");
        self.progress.now = Timestamp::ZERO.saturating_add(time);
        self
    }
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) situation: Situation,
    pub(super) verdict: Verdict,
}

/// Shows `policy` one situation after the other, until it has decided to end pre-copy: nobody is
/// asked after that.
pub(super) fn steps(policy: &mut dyn Policy, situations: &[Situation]) -> Vec<Step> {
    let mut steps = Vec::new();
    for situation in situations {
        let verdict = policy.decide(situation.moment, &situation.progress);
        let goes_on = goes_on(verdict.decision);
        steps.push(Step { situation: situation.clone(), verdict });
        if !goes_on {
            break;
        }
    }
    steps
}

/// The only answer to a single situation.
pub(super) fn answer(policy: &mut dyn Policy, situation: &Situation) -> Verdict {
    policy.decide(situation.moment, &situation.progress)
}

fn goes_on(decision: Decision) -> bool {
    matches!(decision, Decision::Continue | Decision::Harvest | Decision::Pause)
}

/// A guest that dirties its working set evenly, and the link that it goes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest {
    pub(super) name: &'static str,
    pub(super) memory: Pages,
    pub(super) working_set: Pages,
    /// Pages a second.
    pub(super) rate: u64,
    pub(super) link: Bandwidth,
}

/// Every question that `policy` is asked on `guest`, through at most `rounds` rounds.
///
/// Ticks at which the last answer still holds are not asked.
pub(super) fn curve(policy: &mut dyn Policy, guest: Guest, rounds: u32) -> Vec<Step> {
    let mut run = Run::new(policy, guest);
    while run.situation.progress.round < rounds {
        let verdict = run.ask(Moment::RoundStart);
        match verdict.decision {
            Decision::Continue => {}
            Decision::Pause => {
                run.harvest();
                continue;
            }
            Decision::Switchover { when: SwitchoverWhen::AfterRound, .. } => break,
            decision if !goes_on(decision) => break,
            _ => {}
        }
        if !goes_on(run.send_round(verdict)) {
            break;
        }
        run.harvest();
    }
    run.steps
}

struct Run<'a> {
    policy: &'a mut dyn Policy,
    guest: Guest,
    cadence: Cadence,
    situation: Situation,
    cap: Option<Bandwidth>,
    /// Nanoseconds of writing since the last harvest.
    written_for: u64,
    steps: Vec<Step>,
}

impl<'a> Run<'a> {
    fn new(policy: &'a mut dyn Policy, guest: Guest) -> Self {
        let cadence = policy.cadence();
        let mut situation = Situation::new(guest.name, Moment::RoundStart, 0, guest.memory.0);
        situation.progress.memory = guest.memory;
        Self { policy, guest, cadence, situation, cap: None, written_for: 0, steps: Vec::new() }
    }

    fn ask(&mut self, moment: Moment) -> Verdict {
        self.situation.moment = moment;
        let verdict = self.policy.decide(moment, &self.situation.progress);
        if let Some(throttle) = verdict.adjust.throttle {
            self.situation.progress.throttle = throttle;
        }
        if verdict.decision == Decision::Pause {
            self.situation.progress.paused = true;
        }
        match verdict.adjust.rate_limit {
            Some(RateLimit::AtMost(cap)) => self.cap = Some(cap),
            Some(RateLimit::Unlimited) => self.cap = None,
            None => {}
        }
        self.steps.push(Step { situation: self.situation.clone(), verdict: verdict.clone() });
        verdict
    }

    /// Sends what is pending, or part of it; the last decision.
    fn send_round(&mut self, mut standing: Verdict) -> Decision {
        let rate = self.cap.map_or(self.guest.link, |cap| cap.min(self.guest.link));
        loop {
            let progress = &mut self.situation.progress;
            let whole = rate.time_to_send(progress.pending_bytes());
            let slice = self.cadence.tick.map_or(whole, |tick| tick.min(whole));
            let sent = if slice == whole {
                progress.pending
            } else {
                rate.bytes_in(slice).pages(progress.page_size).min(progress.pending)
            };
            progress.now = progress.now.saturating_add(slice);
            progress.pending = progress.pending.saturating_sub(sent);
            progress.sent_pages = progress.sent_pages.saturating_add(sent);
            progress.round_sent_pages = progress.round_sent_pages.saturating_add(sent);
            let bytes = sent.bytes(progress.page_size);
            progress.sent = progress.sent.saturating_add(bytes);
            progress.round_sent = progress.round_sent.saturating_add(bytes);
            if !progress.paused {
                self.written_for += slice.mul_f64(1.0 - progress.throttle.share().as_f64()).as_nanos() as u64;
            }
            let window = match self.cadence.bandwidth {
                BandwidthWindow::Time(window) => window,
                BandwidthWindow::Round if progress.pending.is_zero() => Duration::ZERO,
                BandwidthWindow::Round => Duration::MAX,
            };
            if progress.elapsed() >= window {
                progress.bandwidth = Some(rate);
            }
            if progress.pending.is_zero() {
                return self.ask(Moment::RoundEnd).decision;
            }
            if standing.until.reached(&self.situation.progress) {
                standing = self.ask(Moment::Tick);
                if standing.decision != Decision::Continue {
                    return standing.decision;
                }
            }
        }
    }

    fn harvest(&mut self) {
        let writes = u128::from(self.guest.rate) * u128::from(self.written_for) / 1_000_000_000;
        let dirtied = Pages(writes as u64).min(self.guest.working_set);
        self.written_for = 0;
        let progress = &mut self.situation.progress;
        progress.left_over = progress.pending;
        progress.dirtied = dirtied;
        progress.pending = progress.pending.saturating_add(dirtied).min(self.guest.memory);
        progress.round += 1;
        progress.dirty_rate = PageRate::measured(dirtied, progress.now.since(progress.round_started));
        progress.round_started = progress.now;
        progress.round_sent = ByteCount::ZERO;
        progress.round_sent_pages = Pages(0);
    }
}

/// One line a step: when, what was decided, and why; under the name of the situation.
///
/// Of ticks in a row that go on for the same reason only the first is written.
pub(super) fn print(steps: &[Step]) -> String {
    let mut out = String::new();
    let mut before: Option<&Step> = None;
    for step in steps {
        let Step { situation, verdict } = step;
        if before.is_none_or(|before| before.situation.name != situation.name) {
            writeln!(out, "{}", situation.name).expect("a String takes everything");
        }
        let repeats = before.is_some_and(|before| {
            before.situation.moment == Moment::Tick
                && situation.moment == Moment::Tick
                && verdict.decision == Decision::Continue
                && before.verdict.reason.right() == verdict.reason.right()
        });
        before = Some(step);
        if repeats {
            continue;
        }
        let moment = match situation.moment {
            Moment::Tick => "tick",
            Moment::RoundStart => "start",
            Moment::RoundEnd => "end",
        };
        let progress = &situation.progress;
        let decision = match verdict.decision {
            Decision::Switchover { when, forced } => {
                let forced = if forced { ", forced" } else { "" };
                format!("switchover {when:?}{forced}")
            }
            decision => format!("{decision:?}").to_lowercase(),
        };
        let adjust = match verdict.adjust.rate_limit {
            Some(RateLimit::AtMost(cap)) => format!(" [rate at most {cap}]"),
            Some(RateLimit::Unlimited) => " [rate unlimited]".to_owned(),
            None => String::new(),
        };
        let adjust = match verdict.adjust.throttle {
            Some(throttle) => format!("{adjust} [throttle {throttle}]"),
            None => adjust,
        };
        writeln!(
            out,
            "{:>9}  round {:<2} {moment:<5}  {decision}{adjust}: {}",
            format!("{:.3}s", progress.now.as_secs_f64()),
            progress.round,
            verdict.reason
        )
        .expect("a String takes everything");
    }
    out
}
