//! What all presets promise, and the register.

mod parameters;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{Guest, Situation, Step, curve, print};
use super::*;
use crate::layout::PageSize;
use crate::policy::{Adjustments, BandwidthWindow, Decision, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, CpuShare, PageRate, Pages, Timestamp, duration};

fn given(parameters: &[(&str, &str)]) -> BTreeMap<String, String> {
    parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn texts(policy: &dyn Policy) -> BTreeMap<String, String> {
    policy.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn every_preset_builds_from_its_defaults_and_says_them_again() {
    for preset in presets() {
        let policy = build(preset.name, &BTreeMap::new()).expect("defaults are accepted");
        assert_eq!(policy.name(), preset.name);
        let said: Vec<_> = policy.parameters().into_iter().map(|(name, _)| name).collect();
        let known: Vec<_> = preset.parameters.iter().map(|known| known.name).collect();
        assert_eq!(said, known, "{}", preset.name);
        for (name, text) in policy.parameters() {
            let info = preset.parameter(name).expect("listed");
            assert_eq!(info.kind.parse(&text), info.kind.parse(info.default), "{name}");
        }
    }
}

#[test]
fn only_presets_without_a_public_rule_are_marked_approximate() {
    for preset in presets() {
        let secret = preset.name.starts_with("hyperv") || preset.name.starts_with("vmware");
        assert_eq!(preset.approximate.is_some(), secret, "{preset:?}");
    }
}

#[test]
fn every_preset_tells_its_rule_in_lines_that_fit_a_terminal() {
    for preset in presets() {
        assert!(!preset.rule.trim().is_empty(), "{preset:?}");
        for line in preset.rule.lines() {
            assert!(line.chars().count() <= 78 && line == line.trim_end(), "{preset:?}: {line}");
        }
        assert!(preset.notes.iter().all(|note| note.ends_with('.') && !note.contains("  ")), "{preset:?}");
    }
}

#[test]
fn every_parameter_names_a_source_that_its_preset_lists() {
    for preset in presets() {
        for parameter in preset.parameters {
            let listed = preset.sources.iter().any(|source| source.tag == parameter.source);
            assert!(listed || parameter.source == "ours", "{}: {parameter:?}", preset.name);
            assert!(!parameter.doc.is_empty() && !parameter.kind.describe().is_empty());
        }
    }
}

#[test]
fn wrong_names_and_values_are_refused_with_what_is_accepted() {
    let refusals = [
        ("qemu", &[][..]),
        ("xen_5", &[]),
        ("hyperv-50", &[]),
        ("something-else", &[]),
        ("", &[]),
        ("qemu-default", &[("downtime-limt", "300ms")]),
        ("qemu-default", &[("rounds", "5")]),
        ("qemu-default", &[("downtime-limit", "300")]),
        ("qemu-default", &[("downtime-limit", "2001s")]),
        ("qemu-default", &[("switchover-bandwidth", "unlimited")]),
        ("qemu-default", &[("max-bandwidth", "0bit/s")]),
        ("xen-5", &[("max-iterations", "-1")]),
        ("xen-5", &[("min-dirty", "200KiB")]),
        ("fixed-rounds", &[("rounds", "4294967296")]),
        ("cloud-hypervisor", &[("timeout-strategy", "Abort")]),
        ("hyperv-5", &[("small-remainder", "1024")]),
        ("hyperv-10", &[("passes", "")]),
    ];
    let mut printed = String::new();
    for (name, parameters) in refusals {
        let error = build(name, &given(parameters)).expect_err(name);
        writeln!(printed, "{error}").expect("a String takes everything");
        if let Some(cause) = std::error::Error::source(&error) {
            writeln!(printed, "    {cause}").expect("a String takes everything");
        }
    }
    insta::assert_snapshot!("refusals", printed);
}

#[test]
fn a_refusal_quotes_no_more_than_a_line_of_a_hostile_text() {
    let long = "x\n".repeat(100_000);
    // The names that are known may be listed beside it.
    let names: usize = presets().iter().map(|preset| preset.name.len() + 2).sum();
    for error in [
        build(&long, &BTreeMap::new()),
        build("xen-5", &given(&[(&long, "1")])),
        build("xen-5", &given(&[("min-dirty", &long)])),
    ] {
        let text = error.expect_err("refused").to_string();
        assert!(text.len() < 200 + names && !text.contains('\n'), "{text}");
    }
}

#[test]
fn the_nearest_name_is_the_one_meant() {
    assert_eq!(nearest("qemu-defualt"), Some("qemu-default"));
    assert_eq!(nearest("Hyperv_10"), Some("hyperv-10"));
    assert_eq!(nearest("cloudhypervisor"), Some("cloud-hypervisor"));
    assert_eq!(nearest("xen"), Some("xen-5"));
    assert_eq!(nearest("qemu"), Some("qemu-default"));
    assert_eq!(nearest("vmotion"), None);
    assert_eq!(nearest(""), None);
    // Too short to be known by what is left of it.
    assert_eq!(nearest("nope"), None);
    assert_eq!(nearest("noav"), Some("nova"));
    assert_eq!(edits("kitten", "sitting"), 3);
    assert_eq!(edits("wbe", "web"), 1);
}

/// Three guests of 1 GiB over 1 Gbit/s: about 30,500 pages a second.
fn guests() -> [Guest; 3] {
    let link = "1Gbit/s".parse().expect("a bandwidth");
    let guest = |name, working_set, rate| Guest {
        name,
        memory: Pages(1 << 18),
        working_set: Pages(working_set),
        rate,
        link,
    };
    [
        guest("converging guest", 1 << 16, 8_000),
        guest("non-converging guest", 1 << 16, 100_000),
        guest("idle guest", 16, 2),
    ]
}

/// Each preset as a curve: what it decides on three guests, and why.
#[test]
fn presets_decide_on_known_guests_as_they_always_did() {
    for preset in presets() {
        let mut printed = String::new();
        for guest in guests() {
            let mut policy = preset.build(&BTreeMap::new()).expect("defaults");
            let steps = curve(&mut *policy, guest, 12);
            printed += &print(&steps);
        }
        insta::assert_snapshot!(preset.name, printed);
    }
}

/// When each preset is asked, how it is measured, and what it needs, at its defaults.
#[test]
fn presets_are_asked_and_measured_as_they_always_were() {
    let mut printed = "name | tick | bandwidth | gate | needs\n".to_owned();
    for preset in presets() {
        let policy = preset.build(&BTreeMap::new()).expect("defaults");
        let cadence = policy.cadence();
        let tick = cadence.tick.map_or_else(|| "none".to_owned(), duration::format);
        let bandwidth = match cadence.bandwidth {
            BandwidthWindow::Time(window) => duration::format(window),
            BandwidthWindow::Round => "round".to_owned(),
        };
        let needs = policy.needs();
        let needs: Vec<_> = [
            (needs.throttle, "throttle"),
            (needs.dirty_limit, "dirty-limit"),
            (needs.post_copy, "post-copy"),
            (needs.harvest_on_demand, "harvest-on-demand"),
            (needs.pause, "pause"),
        ]
        .into_iter()
        .filter_map(|(needed, name)| needed.then_some(name))
        .collect();
        let needs = if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") };
        writeln!(printed, "{} | {tick} | {bandwidth} | {:?} | {needs}", preset.name, cadence.gate)
            .expect("a String takes everything");
    }
    insta::assert_snapshot!("cadence", printed);
}

prop_compose! {
    fn any_duration()(nanos in prop_oneof![0..10_000_000_000u64, any::<u64>()]) -> Duration {
        Duration::from_nanos(nanos)
    }
}

fn any_bandwidth() -> impl Strategy<Value = Bandwidth> {
    prop_oneof![1..10_000u64, 1_000_000..1_000_000_000u64, 1..=u64::MAX]
        .prop_map(|rate| Bandwidth::new(rate).expect("not zero"))
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![0..20u32, any::<u32>()]
}

fn any_pages() -> impl Strategy<Value = Pages> {
    prop_oneof![0..200u64, 0..2_000_000u64, any::<u64>()].prop_map(Pages)
}

fn any_qemu() -> impl Strategy<Value = QemuDefault> {
    let limit = prop_oneof![Just(0), 0..2_000_000_000u64, 0..=2_000_000_000_000u64];
    (limit, prop::option::of(any_bandwidth()), prop::option::of(any_bandwidth())).prop_map(
        |(limit, switchover_bandwidth, max_bandwidth)| QemuDefault {
            downtime_limit: Duration::from_nanos(limit),
            switchover_bandwidth,
            max_bandwidth,
        },
    )
}

/// A text that a parameter of this kind takes.
fn any_text_for(kind: ParameterKind) -> BoxedStrategy<String> {
    let time = |most: Option<Duration>| {
        any_duration().prop_map(move |time| duration::format(most.map_or(time, |most| time.min(most))))
    };
    match kind {
        ParameterKind::Duration { most } => time(most).boxed(),
        ParameterKind::Pages => any_pages().prop_map(|pages| pages.to_string()).boxed(),
        ParameterKind::Bytes => any::<u64>().prop_map(|bytes| ByteCount(bytes).to_string()).boxed(),
        ParameterKind::Count => any_count().prop_map(|count| count.to_string()).boxed(),
        ParameterKind::Share => (0..=100u8).prop_map(|percent| format!("{percent}%")).boxed(),
        ParameterKind::Factor => {
            prop_oneof![Just(0.0), 0.0..4.0f64, 0.0..1e300f64].prop_map(|factor| factor.to_string()).boxed()
        }
        ParameterKind::Bandwidth => any_bandwidth().prop_map(|rate| rate.to_string()).boxed(),
        ParameterKind::OptionalBandwidth { none } => {
            prop_oneof![Just(none.to_owned()), any_bandwidth().prop_map(|rate| rate.to_string())].boxed()
        }
        ParameterKind::OptionalDuration { none } => prop_oneof![Just(none.to_owned()), time(None)].boxed(),
        ParameterKind::OptionalCount { none } => {
            prop_oneof![Just(none.to_owned()), any_count().prop_map(|count| count.to_string())].boxed()
        }
        ParameterKind::Choice(words) => prop::sample::select(words).prop_map(str::to_owned).boxed(),
    }
}

/// Any preset with any parameters.
fn any_policy() -> impl Strategy<Value = Box<dyn Policy>> {
    prop::sample::select(presets()).prop_flat_map(|preset| {
        let texts: Vec<_> = preset
            .parameters
            .iter()
            .map(|parameter| {
                // Mostly something near the default's meaning.
                let default = Just(parameter.default.to_owned());
                (
                    Just(parameter.name.to_owned()),
                    prop_oneof![2 => default, 3 => any_text_for(parameter.kind)],
                )
            })
            .collect();
        texts.prop_filter_map("parameters that contradict each other", move |texts| {
            preset.build(&texts.into_iter().collect()).ok()
        })
    })
}

fn any_moment() -> impl Strategy<Value = Moment> {
    prop_oneof![Just(Moment::Tick), Just(Moment::RoundStart), Just(Moment::RoundEnd)]
}

fn any_page_size() -> impl Strategy<Value = PageSize> {
    prop::sample::select(&PageSize::ALL[..])
}

prop_compose! {
    fn any_progress()(
        page_size in any_page_size(),
        times in (any::<u64>(), any::<u64>(), any_duration()),
        round in any_count(),
        pages in (any_pages(), any_pages(), any_pages(), any_pages()),
        bytes in (any::<u64>(), any::<u64>()),
        bandwidth in prop::option::of(any_bandwidth()),
        rate in prop::option::of(0.0..1e30f64),
        throttle in 0.0..=1.0f64,
        paused in any::<bool>(),
    ) -> Progress {
        let mut progress = Progress::at_start(page_size, pages.0, Capabilities::default());
        progress.now = Timestamp::from_nanos(times.0);
        progress.round_started = Timestamp::from_nanos(times.1);
        progress.fixed_costs = times.2;
        progress.round = round;
        progress.pending = pages.1;
        progress.left_over = pages.2;
        progress.dirtied = pages.3;
        progress.sent = ByteCount(bytes.0);
        progress.round_sent = ByteCount(bytes.1);
        progress.bandwidth = bandwidth;
        progress.dirty_rate = rate.map(|rate| PageRate::new(rate).expect("finite"));
        progress.throttle = Throttle::duty_cycle(CpuShare::new(throttle).expect("a share"));
        progress.paused = paused;
        progress.sent_pages = pages.2;
        progress.round_sent_pages = pages.3;
        progress.round_skipped = pages.1;
        progress
    }
}

/// A tick of a round: what it leaves pending, the bandwidth that it ends with, its milliseconds.
type TickOfRound = (u64, u64, u64);

/// Ticks of a round; what is pending falls from one to the next.
fn any_round() -> impl Strategy<Value = Vec<TickOfRound>> {
    // Page counts near what 0 to 2 s at 1 to 1000 MB/s leave pending, so that thresholds are crossed. Ticks
    // long enough that the managers' clocks run down.
    let tick = (0..300_000u64, 1_000_000..1_000_000_000u64, 50..2_000u64);
    prop::collection::vec(tick, 1..40).prop_map(|mut ticks| {
        ticks.sort_by_key(|&(pending, ..)| std::cmp::Reverse(pending));
        ticks
    })
}

/// The bandwidth of a tick wanders rather than jumps, or nothing would ever be skipped.
fn wandering(before: Option<Bandwidth>, drawn: u64) -> Option<Bandwidth> {
    let drawn = match before {
        Some(before) if !drawn.is_multiple_of(8) => before.bytes_per_second() / 10 * (5 + drawn % 12) + 1,
        _ => drawn,
    };
    Bandwidth::new(drawn)
}

/// A migration in which one copy of a policy is asked at every tick and one only where `until` says so.
struct Both {
    always: Box<dyn Policy>,
    seldom: Box<dyn Policy>,
    progress: Progress,
    /// What holds for the one that is asked seldom.
    standing: Option<Verdict>,
    skipped: usize,
}

impl Both {
    fn new(policy: &dyn Policy, page_size: PageSize) -> Self {
        let can = Situation::new("", Moment::RoundStart, 0, 0).progress.capabilities;
        let (always, seldom) = (policy.boxed_clone(), policy.boxed_clone());
        let progress = Progress::at_start(page_size, Pages(300_000), can);
        Self { always, seldom, progress, standing: None, skipped: 0 }
    }

    /// Asks both, if both are to be asked, and holds what they answer against each other.
    fn ask(&mut self, moment: Moment) -> Result<Decision, TestCaseError> {
        let expected = self.always.decide(moment, &self.progress);
        let holds = self.standing.take().filter(|standing| !standing.until.reached(&self.progress));
        let got = match holds {
            Some(standing) if moment == Moment::Tick => {
                self.skipped += 1;
                prop_assert_eq!(&expected.decision, &standing.decision, "skipped: {:?}", &expected);
                prop_assert_eq!(&expected.adjust, &Adjustments::default(), "skipped: {:?}", &expected);
                standing
            }
            _ => {
                let got = self.seldom.decide(moment, &self.progress);
                prop_assert_eq!((&got.decision, &got.adjust), (&expected.decision, &expected.adjust));
                got
            }
        };
        self.progress.paused |= got.decision == Decision::Pause;
        let decision = got.decision;
        self.standing = Some(got);
        Ok(decision)
    }

    /// `pending` pages are left after so long.
    fn send(&mut self, pending: Pages, millis: u64) {
        let progress = &mut self.progress;
        let sent = progress.pending.saturating_sub(pending);
        progress.pending = pending;
        progress.now = progress.now.saturating_add(Duration::from_millis(millis));
        progress.sent_pages = progress.sent_pages.saturating_add(sent);
        progress.round_sent_pages = progress.round_sent_pages.saturating_add(sent);
        let bytes = sent.bytes(progress.page_size);
        progress.sent = progress.sent.saturating_add(bytes);
        progress.round_sent = progress.round_sent.saturating_add(bytes);
    }

    /// Round `round` starts with `pending` pages.
    fn start(&mut self, round: u32, pending: Pages) {
        let progress = &mut self.progress;
        progress.round = round;
        progress.left_over = progress.pending.min(pending);
        progress.pending = pending;
        if round > 0 {
            progress.dirtied = pending.saturating_sub(progress.left_over);
            let time = progress.now.since(progress.round_started);
            progress.dirty_rate = PageRate::measured(progress.dirtied, time);
        }
        progress.round_started = progress.now;
        progress.round_sent = ByteCount::ZERO;
        progress.round_sent_pages = Pages::ZERO;
    }

    /// Walks through these rounds, until pre-copy is over.
    fn walk(&mut self, rounds: &[Vec<TickOfRound>], measured_from: usize) -> Result<(), TestCaseError> {
        let mut seen = 0;
        for (round, ticks) in (0..).zip(rounds) {
            self.start(round, Pages(ticks[0].0));
            if let Some(over) = over(self.ask(Moment::RoundStart)?) {
                if over {
                    return Ok(());
                }
                continue;
            }
            let mut harvested = false;
            for &(pending, drawn, millis) in ticks {
                seen += 1;
                self.send(Pages(pending), millis);
                if seen > measured_from {
                    self.progress.bandwidth = wandering(self.progress.bandwidth, drawn);
                }
                if let Some(over) = over(self.ask(Moment::Tick)?) {
                    if over {
                        return Ok(());
                    }
                    harvested = true;
                    break;
                }
            }
            if !harvested {
                self.send(Pages::ZERO, 50);
                if over(self.ask(Moment::RoundEnd)?) == Some(true) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Whether pre-copy is over; none if not even the round is.
fn over(decision: Decision) -> Option<bool> {
    match decision {
        Decision::Continue | Decision::Pause => None,
        Decision::Harvest => Some(false),
        _ => Some(true),
    }
}

#[test]
fn until_lets_most_ticks_of_a_steady_round_be_skipped() -> Result<(), TestCaseError> {
    let ticks: Vec<_> = (0..200).map(|tick| (300_000 - tick * 1_000, 1_000_000, 50)).collect();
    let policy = build("qemu-default", &BTreeMap::new()).expect("defaults");
    let mut both = Both::new(&*policy, PageSize::Kib4);
    both.walk(&[ticks], 2)?;
    assert!(both.skipped > 150, "{} skipped", both.skipped);
    Ok(())
}

proptest! {
    /// Whatever the numbers, every preset answers, gives a reason that prints, and answers the same
    /// again: a decision follows from what was shown.
    #[test]
    fn any_progress_gets_an_answer_and_always_the_same(
        policy in any_policy(),
        questions in prop::collection::vec((any_moment(), any_progress()), 1..12),
    ) {
        let mut policy = policy;
        for (moment, progress) in questions {
            let mut fork = policy.clone();
            let verdict = policy.decide(moment, &progress);
            prop_assert_eq!(&fork.decide(moment, &progress), &verdict);
            prop_assert!(!verdict.reason.to_string().is_empty());
            verdict.until.reached(&progress);
        }
    }

    /// Whatever the parameters, a policy says them so that the same policy is built from them.
    #[test]
    fn parameters_said_are_parameters_read(policy in any_policy()) {
        let again = build(policy.name(), &texts(&*policy)).expect("its own parameters");
        prop_assert_eq!(format!("{again:?}"), format!("{policy:?}"));
    }

    /// Texts that are no values are refused, never a panic.
    #[test]
    fn any_text_is_a_value_or_refused(text in ".{0,20}", number in "-?[0-9.]{0,25}[a-zA-Z/]{0,6}") {
        for preset in presets() {
            for parameter in preset.parameters {
                for text in [&text, &number] {
                    let result = preset.build(&given(&[(parameter.name, text)]));
                    prop_assert_eq!(result.is_ok(), parameter.kind.parse(text).is_ok());
                }
            }
        }
    }

    /// Asking only when `until` is reached decides and changes the same, at every tick, as asking every
    /// time, and leaves the same memory.
    #[test]
    fn skipping_to_until_decides_the_same_as_ticking(
        policy in prop_oneof![any_policy(), any_qemu().prop_map(|q| Box::new(q) as Box<dyn Policy>)],
        huge in any::<bool>(),
        rounds in prop::collection::vec(any_round(), 1..4),
        measured_from in 0..4usize,
    ) {
        let page_size = if huge { PageSize::Mib2 } else { PageSize::Kib4 };
        let mut both = Both::new(&*policy, page_size);
        both.walk(&rounds, measured_from)?;
        prop_assert_eq!(format!("{:?}", both.seldom), format!("{:?}", both.always));
    }
}
