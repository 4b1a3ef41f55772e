//! What moving a guest costs here, as it was measured, and the simulator's setup that follows from it.
//!
//! `whimbrel bench` measures it on idle guests before its first move; none of it is taken from the moves that are then
//! forecast. What the engine does by design is stated here and not measured: the bytes of headers, and how much of the dirty pages it
//! deals to its streams ahead of the limiter.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Share, duration};
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_sim::config::{HostConfig, LinkConfig, Pattern, WriterConfig, ZeroPlacement};

use crate::scenario::Setup;

/// What moving a guest costs on a machine. Times are medians over idle moves, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ground {
    /// Memory of the guest that was moved: what goes with its size was measured at this one.
    pub memory: ByteCount,
    /// Length of the bulk round without a limit, by its pages of 4 KiB, all streams together: whichever end is the slower.
    pub page: Duration,
    /// Fetching and clearing the dirty log.
    pub harvest: Duration,
    /// From the start to the first page: hearing that the replica was built, and starting to track.
    pub begin: Duration,
    /// What the first write to a page after a harvest takes longer.
    pub tracking_fault: Duration,
    /// Finding out that a page is zero, all streams together.
    pub zero_page: Duration,
    /// Stopping the guest.
    pub pause: Duration,
    /// Saving its state.
    pub save: Duration,
    /// Restoring it.
    pub restore: Duration,
    /// Letting it run.
    pub resume: Duration,
    /// Writing a record to stable storage, the mean of both sides.
    pub persist: Duration,
    /// From the state's sending until the destination's *ready* is heard, less its restoring.
    pub round_trip: Duration,
    /// Bytes of the state.
    pub state: ByteCount,
    /// What compressing its pages leaves of them, and how fast a stream does it; none where they are not compressed.
    pub compression: Option<(Share, Bandwidth)>,
}

/// All that was measured on a machine, a table `[[ground]]` each; the first of a pair are entries that say of which guests and
/// encodings it is.
pub fn host_toml<'a>(grounds: impl Iterator<Item = (String, &'a Ground)>) -> String {
    let table = |(of, ground): (String, &Ground)| format!("[[ground]]\n{of}{}", ground.to_toml());
    grounds.map(table).collect::<Vec<_>>().join("\n")
}

/// Bytes of an entry of a page frame's table, and of a frame's header: `docs/protocol.md`.
const ENTRY: ByteCount = ByteCount(16);
/// What the engine's limiter lets a stream make up for.
const BURST: Duration = Duration::from_millis(10);
/// Jobs of pages that are dealt to a stream ahead of the limiter, and how long one should take and may be, in pages.
const JOBS: u64 = 3;
const JOB_TIME: Duration = Duration::from_millis(2);
const JOB_PAGES: std::ops::RangeInclusive<u64> = 16..=2048;

/// Pages of a job: what a stream carries in the time of one.
fn job(link: &LinkConfig, host: &HostConfig, page: u64) -> u64 {
    let bytes = link.bandwidth.as_f64() * JOB_TIME.as_secs_f64() / f64::from(host.streams.max(1));
    ((bytes / page as f64) as u64).clamp(*JOB_PAGES.start(), *JOB_PAGES.end())
}

/// With what the lab guest's device writes: blocks one after another into a ring at the end of what is not zero. Left out where the
/// writers leave no room for it.
fn with_device(setup: Setup) -> Setup {
    let guest = &setup.guest;
    let page = guest.page_size.bytes().0;
    let pages = guest.memory.0 / page;
    let end = pages - guest.zero_pages.of(Pages(pages)).0.min(pages);
    let ring = whimbrel_guest::lab::RING.min(end);
    let mut with = setup.clone();
    with.guest.writers.push(WriterConfig {
        pattern: Pattern::Sequential,
        working_set: ByteCount(ring * page),
        offset: Some(ByteCount((end - ring) * page)),
        rate: LabConfig::default().device_rate,
        write_cost: Duration::ZERO,
        ..WriterConfig::default()
    });
    if ring > 0 && with.guest.validate().is_ok() { with } else { setup }
}

impl Ground {
    /// `setup` on this machine, by the engine: what is the guest's, the policy's and the limit's stays, and what is the
    /// hosts' and the link's becomes what is known of them.
    pub fn forecast(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        let page = setup.guest.page_size.bytes().0;
        let job = job(&setup.link, &setup.host, page);
        setup.host = self.host(&setup.host);
        setup.host.send_batch = u32::try_from(job).unwrap_or(u32::MAX);
        setup.link = LinkConfig {
            bandwidth: setup.link.bandwidth,
            round_trip: self.round_trip,
            payload: Share::ONE,
            buffer: ByteCount(JOBS * job * page * u64::from(setup.host.streams)),
            burst: BURST,
            queue: ByteCount(0),
            // Scattered pages have an entry each; neighbours share one.
            page_overhead: ENTRY,
            packet_overhead: ENTRY,
            // Zero pages lie together, and an entry and a frame serve dozens of them.
            zero_page_size: ByteCount(1),
            message_overhead: ENTRY,
            ..LinkConfig::default()
        };
        setup.guest.state = self.state;
        // Where the lab guest has them.
        setup.guest.zero_placement = ZeroPlacement::End;
        with_device(setup)
    }

    fn host(&self, asked: &HostConfig) -> HostConfig {
        let gibibytes = self.memory.as_f64() / ByteCount::gib(1).as_f64();
        let mut host = HostConfig {
            // Each of the streams takes so long, side by side.
            page_cost: self.page * asked.streams,
            receive_cost: self.page * asked.streams,
            first_touch_cost: self.page,
            zero_page_cost: self.zero_page,
            harvest_cost: self.harvest.div_f64(gibibytes),
            start_tracking_cost: self.begin.div_f64(gibibytes),
            tracking_fault: self.tracking_fault,
            pause: self.pause,
            save_state: self.save,
            restore_state: self.restore,
            resume: self.resume,
            persist: self.persist,
            limit_window: BURST,
            streams: asked.streams,
            xbzrle: asked.xbzrle.clone(),
            ..HostConfig::default()
        };
        if let Some((ratio, speed)) = self.compression {
            host.compression.method.clone_from(&asked.compression.method);
            host.compression.ratio = Some(ratio);
            host.compression.speed = speed;
            // Those that have a core work side by side.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            host.compression.threads = asked.streams.min(u32::try_from(cores).unwrap_or(u32::MAX));
        }
        host
    }

    /// As a table of a scenario, each value with where it is from.
    pub fn to_toml(&self) -> String {
        let time = |time| format!("\"{}\"", duration::format(time));
        let moves = "median of moves of an idle guest";
        let host = self.host(&HostConfig::default());
        let mut rows = vec![
            (
                "host",
                "page-cost",
                time(self.page),
                "the bulk round of idle moves without a limit, by its pages; so are the two below",
            ),
            ("host", "receive-cost", time(self.page), ""),
            ("host", "first-touch-cost", time(self.page), ""),
            (
                "host",
                "zero-page-cost",
                time(self.zero_page),
                "encoding memory that was never touched, by one thread, over the streams that have a core",
            ),
            ("host", "harvest-cost", time(host.harvest_cost), "ledger: harvest; for each GiB"),
            (
                "host",
                "start-tracking-cost",
                time(host.start_tracking_cost),
                "from the start to the first page, the replica's building in it; for each GiB",
            ),
            (
                "host",
                "tracking-fault",
                time(self.tracking_fault),
                "first writes to pages after a harvest, less writes without tracking",
            ),
            ("host", "pause", time(self.pause), "ledger: pause"),
            ("host", "save-state", time(self.save), "ledger: save"),
            ("host", "restore-state", time(self.restore), "the destination's clock"),
            ("host", "resume", time(self.resume), "the destination's clock"),
            (
                "host",
                "persist",
                time(self.persist),
                "ledger: commit, and the destination's clock writing `running`; their mean",
            ),
            ("host", "limit-window", time(BURST), "the engine's limiter: what a stream may make up for"),
        ];
        if let Some((ratio, speed)) = self.compression {
            rows.push((
                "host",
                "compression.ratio",
                ratio.as_f64().to_string(),
                "encoding all pages of the guest",
            ));
            rows.push(("host", "compression.speed", format!("\"{speed}\""), "the same, by one thread"));
        }
        rows.extend([
            (
                "link",
                "round-trip",
                time(self.round_trip),
                "ledger: transfer, of a guest that left nothing to send",
            ),
            ("link", "burst", time(BURST), "the engine's limiter: what a stream may make up for"),
            ("link", "page-overhead", format!("\"{ENTRY}\""), "docs/protocol.md: an entry"),
            ("link", "packet-overhead", format!("\"{ENTRY}\""), "docs/protocol.md: a frame's header"),
            (
                "link",
                "zero-page-size",
                "\"1B\"".to_owned(),
                "docs/protocol.md: dozens of neighbours share an entry and a frame",
            ),
            ("link", "message-overhead", format!("\"{ENTRY}\""), "docs/protocol.md: a frame's header"),
            ("guest", "state", format!("\"{}\"", self.state), "what the guest saved"),
        ]);
        let mut text = format!(
            "# whimbrel's engine on this machine, measured with a guest of {}. Times: {moves}.\n",
            self.memory.human()
        );
        for (table, key, value, source) in rows {
            let _ = writeln!(
                text,
                "{table}.{key} = {value}{}",
                if source.is_empty() { String::new() } else { format!("  # {source}") }
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn ground() -> Ground {
        let us = Duration::from_micros;
        Ground {
            memory: ByteCount::mib(256),
            page: Duration::from_nanos(1_700),
            harvest: us(250),
            begin: us(500),
            tracking_fault: us(3),
            zero_page: Duration::from_nanos(300),
            pause: us(80),
            save: us(10),
            restore: us(20),
            resume: us(30),
            persist: us(900),
            round_trip: us(150),
            state: ByteCount(700),
            compression: None,
        }
    }

    #[test]
    fn what_was_measured_takes_the_place_of_what_was_assumed_and_the_rest_stays() {
        let text = "[guest]\nmemory = \"1GiB\"\n[link]\nbandwidth = \"1Gbit/s\"\n[host]\nstreams = 3\npage-cost = \"9us\"\n";
        let asked = Scenario::parse(text, "a.toml").expect("a scenario").setup().clone();
        let setup = ground().forecast(&asked);
        assert_eq!((setup.link.bandwidth, setup.host.streams), (asked.link.bandwidth, 3));
        assert_eq!(setup.guest.memory, asked.guest.memory);
        assert_eq!(setup.host.page_cost, Duration::from_nanos(3 * 1_700), "three streams, side by side");
        assert_eq!(setup.host.first_touch_cost, Duration::from_nanos(1_700));
        assert_eq!(setup.host.harvest_cost, Duration::from_millis(1), "for each GiB");
        assert_eq!((setup.link.page_overhead, setup.guest.state), (ByteCount(16), ByteCount(700)));
        let device = setup.guest.writers.last().expect("the lab guest's device");
        assert_eq!(setup.guest.writers.len(), asked.guest.writers.len() + 1);
        assert_eq!((device.rate, device.pattern), (LabConfig::default().device_rate, Pattern::Sequential));
        setup.host.validate().expect("a host");
        setup.link.validate().expect("a link");
    }

    #[test]
    fn what_was_written_of_a_machine_is_read_as_changes_of_a_scenario() {
        let measured = ground();
        let of = |streams: u16| (format!("of.streams = {streams}\nof.memory = \"64MiB\"\n"), &measured);
        let text = host_toml([of(1), of(2)].into_iter());
        let read = crate::explain::costs::costs_in(&text).expect("TOML");
        let mut scenario = Scenario::builtin("default").expect("built in");
        let was = scenario.setup().clone();
        scenario.apply_overrides(&read[1]).expect("keys of a scenario");
        assert_eq!((read.len(), &read[0]), (2, &read[1]));
        assert_eq!(scenario.setup().host.page_cost, ground().page);
        assert_ne!(was.host.page_cost, ground().page);
    }

    #[test]
    fn its_text_is_a_scenario_that_says_the_same() {
        let mut ground = ground();
        ground.compression = Some((Share::percent(40), Bandwidth::new(300_000_000).expect("a rate")));
        let text = ground.to_toml();
        let read = Scenario::parse(&text, "host.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut expected = ground.forecast(read.setup());
        // Names and defaults that the text leaves alone.
        expected.host.compression.threads = read.setup().host.compression.threads;
        expected.guest.zero_placement = read.setup().guest.zero_placement;
        expected.link.queue = read.setup().link.queue;
        expected.link.buffer = read.setup().link.buffer;
        expected.host.send_batch = read.setup().host.send_batch;
        // The lab guest's device is no cost of the host's.
        expected.guest.writers.clone_from(&read.setup().guest.writers);
        assert_eq!(*read.setup(), expected);
    }
}
