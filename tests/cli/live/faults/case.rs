//! What goes wrong in one run, drawn from its seed alone.

use std::time::Duration;

/// Numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x77)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// As good as even for what is thrown here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A step of the conversation, as it passes between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Configure,
    Accept,
    RoundEnd,
    Acknowledge,
    State,
    Ready,
    Go,
    Running,
    Ask,
    Answer,
    Cancel,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// When so many bytes have gone over this connection, the first words counted: 0 is control, others are pages.
    Bytes { link: usize, to_destination: bool, bytes: u64 },
    /// When this is on its way: before or after it has passed.
    Passing { step: Step, before: bool },
    /// So long after the first connection.
    After(Duration),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The connection is lost, or all are; for so long nobody can connect again.
    Cut { all: bool, unreachable: Duration },
    /// Nothing is carried any more on the connection, or on all that there are.
    Stall { all: bool, unreachable: Duration },
    /// What passes is held up.
    Delay(Duration),
    /// A bit of what passes is turned.
    Corrupt,
    /// SIGKILL; started again with its records after so long, or never.
    KillDestination { again: Option<Duration> },
    /// SIGKILL; its record is then asked about by `whimbrel resolve --ask` after so long, or never.
    KillSource { again: Option<Duration> },
    /// SIGSTOP, and SIGCONT after so long.
    FreezeDestination(Duration),
    /// The same of the source.
    FreezeSource(Duration),
    /// For so long its disk takes nothing any more.
    FillDestination(Duration),
    /// The same of the source.
    FillSource(Duration),
}

impl Deed {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cut { .. } => "cut",
            Self::Stall { .. } => "stall",
            Self::Delay(_) => "delay",
            Self::Corrupt => "corrupt",
            Self::KillDestination { again: None } => "kill destination",
            Self::KillDestination { again: Some(_) } => "kill destination, started again",
            Self::KillSource { again: None } => "kill source",
            Self::KillSource { again: Some(_) } => "kill source, asks again",
            Self::FreezeDestination(_) => "freeze destination",
            Self::FreezeSource(_) => "freeze source",
            Self::FillDestination(_) => "full disk at destination",
            Self::FillSource(_) => "full disk at source",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) when: When,
    /// So long after that moment.
    pub(super) late: Duration,
    pub(super) deed: Deed,
}

impl Fault {
    /// What goes wrong, and about when, for a summary.
    pub(super) fn kind(&self) -> String {
        let deed = self.deed.name();
        match self.when {
            When::Passing { step, .. } => format!("{deed} at {step:?}"),
            When::Bytes { link: 0, .. } => format!("{deed} within control"),
            When::Bytes { .. } => format!("{deed} within pages"),
            When::After(_) => format!("{deed} at any time"),
        }
    }
}

/// How a replica that waits in vain is ended, where more than one way is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    PeerNeverRan,
    PeerMayHaveRun,
    Discard,
}

/// In which order and in which parts what is said arrives: what one connection carries stays in order, and nothing else need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// As it was sent.
    AsSent,
    /// In parts of odd sizes.
    Crumbs,
    /// Each connection is held up now and then on its way to the destination, whatever the others do, and gives odd parts.
    Unsteady,
    /// This page connection is behind control, and behind the others with it.
    Behind { link: usize },
}

impl Arrival {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AsSent => "as sent",
            Self::Crumbs => "in crumbs",
            Self::Unsteady => "connections out of step",
            Self::Behind { .. } => "pages behind control",
        }
    }
}

/// Somebody with another key takes the place of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impostor {
    /// Of the destination's: the source talks to somebody else. Otherwise the other way round.
    pub(super) to_the_source: bool,
    /// On this connection of the source's, from 0.
    pub(super) connection: usize,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    /// Over TLS, with pinned certificates.
    pub(super) tls: bool,
    pub(super) impostor: Option<Impostor>,
    pub(super) arrival: Arrival,
    pub(super) streams: u16,
    /// How pages are sent.
    pub(super) encoding: &'static [&'static str],
    pub(super) log: &'static [&'static str],
    pub(super) limit: &'static [&'static str],
    /// The first is always there; what follows it is for the doubt that it may have led to.
    pub(super) faults: [Option<Fault>; 2],
    /// What is asked for, with the source dead and no evidence against it.
    pub(super) verb: Verb,
}

/// Both sides wait no longer for one another.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// The steps of a move without a fault, those of the handover twice: there are the fewest bytes and the most to decide.
const STEPS: [Step; 15] = [
    Step::Configure,
    Step::Accept,
    Step::RoundEnd,
    Step::Acknowledge,
    Step::State,
    Step::State,
    Step::State,
    Step::Ready,
    Step::Ready,
    Step::Ready,
    Step::Go,
    Step::Go,
    Step::Go,
    Step::Running,
    Step::Running,
];

/// What is said when the connection is made again.
const AGAIN: [Step; 5] = [Step::Ask, Step::Answer, Step::Cancel, Step::Go, Step::Running];

impl Case {
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::of(seed);
        let streams = dice.one_of(&[1, 1, 2, 3]);
        // Drawn without TLS too, so that all else of a seed is the same.
        let veiled = dice.once_in(4);
        let impostor = (veiled && dice.once_in(6)).then(|| Impostor {
            to_the_source: dice.once_in(2),
            connection: dice.below(u64::from(streams) + 3) as usize,
        });
        let tls = veiled && cfg!(feature = "tls");
        let impostor = impostor.filter(|_| tls);
        let arrival = draw_arrival(dice, streams);
        let when = draw_when(dice, streams);
        // Most of what passes is pages: there a bit turns more often than elsewhere.
        let pages = matches!(when, When::Bytes { link: 1.., to_destination: true, .. });
        let deed = if pages && dice.once_in(3) { Deed::Corrupt } else { draw_deed(dice) };
        let first = Fault { when, late: draw_late(dice), deed };
        let second = dice.once_in(2).then(|| {
            let when = When::Passing { step: dice.one_of(&AGAIN), before: dice.once_in(2) };
            Fault { when, late: draw_late(dice), deed: draw_deed(dice) }
        });
        // What nothing checks nobody finds: a page that was damaged on its way is found only where that was asked for, or under TLS.
        let corrupts =
            !tls && [Some(first), second].iter().flatten().any(|fault| fault.deed == Deed::Corrupt);
        let checked: [&[&str]; 3] =
            [&["--payload-checksums"], &["--verify"], &["--payload-checksums", "--encoding", "adaptive"]];
        let any: [&[&str]; 5] = [
            &[],
            &["--encoding", "lz4"],
            &["--verify"],
            &["--payload-checksums"],
            &["--delta-cache", "1MiB"],
        ];
        Self {
            seed,
            tls,
            impostor,
            arrival,
            streams,
            encoding: if corrupts { dice.one_of(&checked) } else { dice.one_of(&any) },
            log: dice.one_of(&[&[][..], &["--log", "software"]]),
            limit: dice.one_of(&[&[][..], &["--limit", "100MiB/s"]]),
            faults: [Some(first), second],
            verb: dice.one_of(&[Verb::PeerNeverRan, Verb::PeerNeverRan, Verb::PeerMayHaveRun, Verb::Discard]),
        }
    }

    /// Whether a disk is to take nothing any more.
    pub(super) fn fills_a_disk(&self) -> bool {
        let fills = |fault: &Fault| matches!(fault.deed, Deed::FillDestination(_) | Deed::FillSource(_));
        self.faults.iter().flatten().any(fills)
    }

    /// Whether somebody else is there before anything is begun.
    pub(super) fn begins_with_an_impostor(&self) -> bool {
        self.impostor.is_some_and(|impostor| impostor.connection <= usize::from(self.streams))
    }
}

fn draw_arrival(dice: &mut Dice, streams: u16) -> Arrival {
    match dice.below(8) {
        0 => Arrival::Crumbs,
        1 => Arrival::Unsteady,
        2 => Arrival::Behind { link: 1 + dice.below(u64::from(streams)) as usize },
        _ => Arrival::AsSent,
    }
}

fn draw_when(dice: &mut Dice, streams: u16) -> When {
    match dice.below(8) {
        0 | 1 => {
            let link = dice.below(u64::from(streams) + 1) as usize;
            let to_destination = dice.below(4) > 0;
            // Control says little, pages much, and nothing comes back on their connections but the first words.
            let most = match (link, to_destination) {
                (0, _) => 1_500,
                (_, true) => (5 << 19) / u64::from(streams),
                (_, false) => 60,
            };
            When::Bytes { link, to_destination, bytes: dice.below(most) }
        }
        2 => When::After(Duration::from_micros(dice.below(120_000))),
        _ => When::Passing { step: dice.one_of(&STEPS), before: dice.once_in(2) },
    }
}

fn draw_late(dice: &mut Dice) -> Duration {
    match dice.below(3) {
        0 => Duration::from_micros(dice.below(6_000)),
        _ => Duration::ZERO,
    }
}

fn draw_deed(dice: &mut Dice) -> Deed {
    let unreachable = Duration::from_millis(dice.one_of(&[0, 0, 60, 300]));
    // Longer than the patience, or not.
    let moment = Duration::from_millis(dice.one_of(&[30, 150, 700]));
    let again = dice.one_of(&[None, Some(0), Some(30), Some(300)]).map(Duration::from_millis);
    let asks = dice.one_of(&[None, None, None, Some(0), Some(30), Some(300)]).map(Duration::from_millis);
    match dice.below(21) {
        0..=2 => Deed::Cut { all: dice.once_in(2), unreachable },
        3 => Deed::Stall { all: dice.once_in(2), unreachable },
        4 => Deed::Delay(moment),
        5 | 6 => Deed::Corrupt,
        7..=10 => Deed::KillDestination { again },
        11..=15 => Deed::KillSource { again: asks },
        16 => Deed::FreezeDestination(moment),
        17 => Deed::FreezeSource(moment),
        18 | 19 => Deed::FillDestination(moment),
        _ => Deed::FillSource(moment),
    }
}
