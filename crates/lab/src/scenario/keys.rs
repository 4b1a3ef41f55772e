//! Every key that a scenario may have: its type, default, meaning and the source of the default.
//!
//! One table serves the check of scenarios, the nearest-key suggestions and `docs/scenarios.md`. The
//! defaults are not repeated here: they are read from the configurations' own `Default`, and a test
//! holds this table against the fields of the configurations.

use std::fmt::Write as _;
use std::sync::OnceLock;

use serde_json::Value as Json;
use whimbrel_core::policy::presets::nearest_name;
use whimbrel_sim::config::{PhaseConfig, WriterConfig};

use super::Setup;
use super::kind::Kind;
use super::policy::is_parameter;

/// A key of a scenario.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Key {
    /// The dotted key; `N` stands for a position in a list, counted from 0.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// Whether `none` may be written, and is the default.
    pub optional: bool,
    /// What it is.
    pub meaning: &'static str,
    /// Where the default comes from.
    pub source: &'static str,
}

const fn key(name: &'static str, kind: Kind, meaning: &'static str, source: &'static str) -> Key {
    Key { name, kind, required: false, optional: false, meaning, source }
}

const fn optional(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, required: false, optional: true, meaning, source: "" }
}

const fn required(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, required: true, optional: false, meaning, source: "" }
}

use Kind::{
    Bandwidth, Bytes, Choice, Count, Duration, File, Flag, Label, Name, Number, PageSize, Plain, Preset,
    Rate, Share,
};

const ASSUMED_MILLISECOND: &str = "assumed; the four fixed costs together are near the least silence in the \
                                   reference runs, 3 ms from stop to resume";

/// All keys, in the order of the documentation.
#[rustfmt::skip] // One line a key.
pub const KEYS: &[Key] = &[
    key("guest.memory", Bytes, "guest memory, a whole number of pages", "assumed: a small cloud instance"),
    key("guest.page-size", PageSize, "the unit that is tracked and sent", "what KVM tracks and QEMU sends on x86-64"),
    key("guest.vcpus", Count(0, u32::MAX as u64), "vCPUs; a writer is one thread and uses at most one of them", "as in the reference runs"),
    key("guest.zero-pages", Share, "share of memory that was never written, outside all working sets", "the worst case: all memory was used"),
    key("guest.used-spread", Bytes, "how much the memory in use at the start differs from run to run: the standard deviation of its size, by so many more or fewer zero pages; nothing in fluid runs", "every run starts alike; boots of the reference runs' guest differ by 20 KiB"),
    key("guest.zero-placement", Choice(&["spread", "end"]), "where the zero pages are: in groups of 64 all over memory outside the working sets, or at its end", "assumed"),
    key("guest.random-content", Share, "share of a page's content that is random and cannot be compressed, in eighths: what a lab guest's memory holds; of a simulated one `host.compression.ratio` says what is left", "the worst case"),
    key("guest.unchanged-pages", Share, "of the pages that are written, the share whose content is the same afterwards", "the worst case"),
    key("guest.state", Bytes, "size of the CPU and device state", "assumed, from QEMU's `pc` machine: some KiB of registers for a vCPU, the rest display and disk controllers"),
    key("guest.resume-pages", Count(0, 1 << 20), "post-copy: pages that a resumed guest touches before it does anything that can be seen from outside", "assumed: one in 64 of `resume-span`"),
    key("guest.resume-top", Bytes, "post-copy: at the end of memory, so much of it is where these pages are scattered, too", "assumed: a guest whose kernel lies at the beginning; Linux allocates from the end down while it boots, 11 MiB of a guest of 512 MiB"),
    key("guest.resume-span", Bytes, "post-copy: from the beginning of memory up to here these pages are scattered", "measured: an idle Linux 6.1 guest that had nothing made 22 requests, each of which brought the 3.2 MiB in flight with it"),
    key("guest.writers.N.pattern", Choice(&["uniform", "sequential", "hot-cold", "zipf", "measured", "trace", "idle"]), "which pages of its working set it writes: any, one after another, mostly a hot part, the i-th hottest in proportion to `i^-exponent`, as a program was measured to, those of a trace, none", "the textbook model"),
    key("guest.writers.N.kernel", Flag, "it is the guest's kernel at its housekeeping: a guest that is resumed touches these pages before anything else (post-copy)", "a program"),
    key("guest.writers.N.working-set", Bytes, "how much memory it writes to, a whole number of pages; an idle writer has none", "assumed"),
    optional("guest.writers.N.offset", Bytes, "where its working set begins; none: behind that of the writer before it"),
    key("guest.writers.N.rate", Rate, "page writes a second that it wants to make", "assumed: 39 MiB/s of 4 KiB pages, a third of 1 Gbit/s"),
    key("guest.writers.N.hot-pages", Share, "`hot-cold`: share of the working set that is hot, its beginning", "as in the reference runs"),
    key("guest.writers.N.hot-writes", Share, "`hot-cold`: share of the writes that go to the hot pages", "as in the reference runs"),
    key("guest.writers.N.exponent", Number, "`zipf`: the exponent", "the constant of the YCSB benchmark, also used in the reference runs"),
    optional("guest.writers.N.curve", File, "`measured`: the program's working-set curve as `FILE#PROGRAM` (docs/measured.md), from the folder of the scenario on; it replaces `rate`, `phases`, `write-size`, `write-at`, `write-cost` and `busy`; `working-set` is the memory that its pages are scattered over"),
    key("guest.writers.N.cluster", Bytes, "`measured`: pages that recur alike lie together in pieces of this size", "each page by itself; Linux groups pages of a kind in pageblocks of 2 MiB"),
    optional("guest.writers.N.trace", File, "`trace`: the file that is played back (docs/traces.md), from the folder of the scenario on; it replaces `working-set`, `offset`, `rate`, `phases` and `write-cost`; `measured`: the file whose statistics it has"),
    key("guest.writers.N.trace-from", Duration, "`trace`: where in the trace it begins", "at its beginning"),
    key("guest.writers.N.repeat", Flag, "`trace`: begin again at its end, rather than fall silent", "a migration may take longer than the trace"),
    key("guest.writers.N.busy", Share, "`trace`: share of a vCPU that the traced guest used; with what is left it catches up after it was held up", "the worst case: it has no time to make up for anything"),
    key("guest.writers.N.start", Duration, "when it begins, from the start of the migration", "with the migration"),
    optional("guest.writers.N.end", Duration, "when it ends; none: never"),
    required("guest.writers.N.phases.N.length", Duration, "how long the phase lasts; phases repeat from `start` on and replace `rate`; at least 1 ms"),
    required("guest.writers.N.phases.N.rate", Rate, "page writes a second in the phase"),
    key("guest.writers.N.write-size", Bytes, "bytes of the page that one write changes, at most all; matters only where differences are sent (`host.xbzrle`)", "assumed: a cache line"),
    key("guest.writers.N.write-at", Choice(&["random", "fixed"]), "where in the page a write changes it: anywhere, or always the same bytes", "the harder to encode"),
    key("guest.writers.N.write-cost", Duration, "CPU time of one write with all that the program does between two writes; bounds its rate and decides what a throttle does to it", "assumed: a few cache misses"),
    key("guest.writers.N.catch-up", Duration, "the longest time of missed work that it catches up after it was held up", "the rule of the guest program in the reference runs"),
    key("link.bandwidth", Bandwidth, "what the link carries in one direction, headers of the network included (see `payload`)", "assumed: the classic management network"),
    key("link.bandwidth-spread", Share, "how much the rate differs from run to run: the standard deviation of the logarithm of a factor on all bandwidths of a run; nothing in fluid runs", "every run has the same link; 0.3 % on the shaped links of the reference runs"),
    key("link.round-trip", Duration, "there and back", "assumed: two hosts in one data centre"),
    key("link.payload", Share, "share of the bandwidth left to the migration's own bytes", "`bandwidth` is what TCP delivers; for the rate of a wire take 0.949 with frames of 1,500 bytes, 0.991 with 9,000"),
    key("link.buffer", Bytes, "bytes that the source can hand over before the link has carried them", "measured: about 3.2 MiB of autotuned TCP buffers in the reference runs"),
    key("link.burst", Duration, "how long a sender may have been silent and still make up for it: the depth of a shaper's token bucket, in time at `bandwidth`", "a wire: time that has passed is gone"),
    key("link.queue", Bytes, "of the buffer, what every connection over the link waits behind: the queue of the network device", "measured: pages that went over a connection of their own took 14 ms at 64 MiB/s"),
    key("link.page-overhead", Bytes, "bytes of the stream before each page", "QEMU's page header"),
    key("link.packet-overhead", Bytes, "with several streams: bytes before each batch of 128 pages of 4 KiB, and of each stream's sync at the end of a round", "QEMU's multifd packet without the 8 bytes a page"),
    key("link.zero-page-size", Bytes, "bytes of the stream for a zero page", "QEMU's page header and the fill byte"),
    key("link.message-overhead", Bytes, "bytes of the stream around each message", "assumed"),
    required("link.changes.N.at", Duration, "when the bandwidth changes, from the start of the migration; changes in the order of time"),
    required("link.changes.N.bandwidth", Bandwidth, "what the link carries from then on"),
    required("link.outages.N.at", Duration, "when an outage begins; outages in the order of time and apart"),
    required("link.outages.N.length", Duration, "how long nothing passes; nothing is lost either"),
    optional("link.lost-at", Duration, "when the connection is lost for good; none: never"),
    key("host.page-cost", Duration, "CPU time to find, read and hand over a page to the socket", "assumed: copying 4 KiB at 16 GB/s, so that the link is what binds; one stream of QEMU 7.2 needs about 2us (measured, 1.7 to 2.0 GiB/s)"),
    key("host.zero-page-cost", Duration, "CPU time to find out that a page is zero and to send its marker", "assumed: reading without copying"),
    key("host.receive-cost", Duration, "time that the destination needs for a page that it has memory for", "assumed: as `page-cost`"),
    key("host.first-touch-cost", Duration, "time that the destination needs for a page of the bulk round, whose memory it touches for the first time", "assumed: memory reserved beforehand; 12us measured under TCG without"),
    key("host.harvest-cost", Duration, "fetching and clearing the dirty log, for each GiB of guest memory", "measured on Linux 6.18: 0.8 to 1.0 ms for 1 GiB with 2,000 scattered dirty pages; Cloud Hypervisor's developers report 10 ms for a busy guest"),
    key("host.harvest-waits", Flag, "fetching the dirty log waits until vCPUs that a throttle has put to sleep are awake", "KVM; under TCG it does (`tcg_log_global_after_sync` in QEMU's `physmem.c`)"),
    key("host.start-tracking-cost", Duration, "starting to track, for each GiB of guest memory", "measured on Linux 6.18: 1 to 2.5 ms; Linux commit 3c9bd400 reports 3.6 ms for KVM"),
    key("host.tracking-fault", Duration, "what the first write to a page after a harvest costs the vCPU that makes it", "measured on Linux 6.18: 2.5 to 7 us"),
    key("host.send-batch", Count(1, 1_000_000), "pages between two looks at the clock while sending", "QEMU's `ram.c`"),
    key("host.streams", Count(1, 255), "connections that carry pages side by side (multifd), each with a thread at both hosts: copying and receiving are so many times as fast, the link and first touches are not; zero pages are found by one thread", "one connection"),
    optional("host.xbzrle.cache", Bytes, "memory for copies of pages to send differences to (xbzrle), a power of two; none: off; QEMU's own default is 64MiB"),
    key("host.xbzrle.speed", Bandwidth, "bytes of pages a second that are compared with their copies and copied, by the sending thread", "measured: 0.4us for 4 KiB, two copies and a comparison by words, on a core of 2.5 GHz"),
    key("host.compression.method", Name, "what the compression is called; a name only", "the most used one"),
    optional("host.compression.ratio", Share, "what is left of a page that is not zero, as a share of its size, 0.37 for zstd in QEMU's published run on the Silesia corpus; none: not compressed; with xbzrle, of the bulk round only"),
    key("host.compression.speed", Bandwidth, "bytes of pages a second that a thread compresses", "zstd in the same run: 54 GiB in 20.165 s at 8.1 CPUs"),
    key("host.compression.threads", Count(1, 255), "threads that compress", "as in the same run"),
    key("host.limit-window", Duration, "windows of the rate limiter: so many bytes may pass in each at once, then it rests until the window ends; at least 0.1 ms", "QEMU's `BUFFER_DELAY`; Xen's let 100 KiB pass at a time, 8 ms at 100 Mbit/s"),
    key("host.skip-redirtied", Flag, "leave out pages that were dirtied again since the last harvest (the \"peek\" of Xen and Clark)", "QEMU sends them"),
    key("host.post-copy-fault", Duration, "post-copy: from the touch of a missing page until its request leaves the destination", "assumed: an event of `userfaultfd` and two changes of thread"),
    key("host.post-copy-preempt", Flag, "post-copy: pages that were asked for go over a connection of their own", "QEMU's `postcopy-preempt` is off by default"),
    key("host.post-copy-order", Choice(&["memory", "hot-first"]), "post-copy: the order in which pages are sent that nobody asked for: by address, or first what the last harvest found dirty", "QEMU's"),
    key("host.dirty-ring", Count(1024, 65_536), "entries of the ring in which each vCPU's dirty pages are logged, a power of two; matters under a dirty limit, which is paid when it is full", "what QEMU's documentation of `dirty-ring-size` recommends to begin with"),
    key("host.pause", Duration, "stopping the vCPUs and draining device I/O", ASSUMED_MILLISECOND),
    key("host.switchover-gate", Duration, "from the guest's standing still until the migration may go on, as in QEMU's `pre-switchover`; part of the ledger's pause", "nobody waits"),
    key("host.save-state", Duration, "saving the CPU and device state", ASSUMED_MILLISECOND),
    key("host.restore-state", Duration, "restoring it at the destination", ASSUMED_MILLISECOND),
    key("host.resume", Duration, "resuming the vCPUs at the destination", ASSUMED_MILLISECOND),
    key("host.count-jitter", Duration, "how much the sender's count of bytes is behind when a slice ends, as time of the link: the standard deviation of that; the bandwidth that the policy sees varies by it; nothing in fluid runs", "the count is exact; 2.1 ms in the reference runs"),
    key("host.switchover-spread", Share, "how much `pause`, `save-state`, `restore-state` and `resume` differ from run to run: the standard deviation of the logarithm of a factor on all four; nothing in fluid runs", "always as long; 60 % in the reference runs on a free wire"),
    key("host.announce", Duration, "from the first instruction at the destination until the network knows the guest's new place", "not counted unless asked for"),
    key("host.persist", Duration, "writing one record to stable storage", "assumed: a flushed write to a fast local drive"),
    key("policy.preset", Preset, "the convergence policy; the other keys of this table are the preset's parameters, see `whimbrel policies`", "the most widely used hypervisor"),
    optional("policy.name", Label, "what the policy is called in tables and comparisons; none: as its preset is, or the file that a comparison reads it from"),
    required("policy.changes.N.at", Duration, "when somebody changes a parameter of the policy, from the start of the migration; later than the handover, it has no effect"),
    required("policy.changes.N.parameter", Name, "which parameter, one that the product lets an administrator change while a migration runs"),
    required("policy.changes.N.value", Plain, "what it is set to"),
    key("run.seed", Count(0, u64::MAX), "seed of every random choice; run number i of `repeat`, counted from 0, has the seed `seed + i`", "the same seed gives the same result"),
    key("run.repeat", Count(1, 1_000_000), "runs of each cell of a sweep", "one run"),
    key("run.time-limit", Duration, "virtual time after which a migration that did not end is given up", "far beyond any migration that someone waits for"),
    key("run.fidelity", Choice(&["exact", "fluid"]), "page by page, or in expected numbers of pages (`docs/fluid.md`)", "every page can be asked for"),
];

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// One value.
    Leaf(&'static Key),
    /// A table of keys.
    Table,
    /// A list of tables.
    List,
    /// A parameter of the policy, which only the preset knows.
    Parameter,
    /// The table of the sweep; its keys are dotted keys themselves.
    Sweep,
}

/// What stands at `path`; none if nothing does.
pub(super) fn slot(path: &[&str]) -> Option<Slot> {
    match path {
        [] => return Some(Slot::Table),
        ["sweep"] => return Some(Slot::Sweep),
        ["policy", name] if is_parameter(name) => return Some(Slot::Parameter),
        _ => {}
    }
    KEYS.iter().find_map(|key| {
        let mut pattern = key.name.split('.');
        for segment in path {
            let expected = pattern.next()?;
            let position = expected == "N" && is_position(segment);
            if !position && (expected == "N" || expected != *segment) {
                return None;
            }
        }
        Some(match pattern.next() {
            None => Slot::Leaf(key),
            Some("N") => Slot::List,
            Some(_) => Slot::Table,
        })
    })
}

/// Whether `segment` is a position in a list, written in the one usual way.
pub(super) fn is_position(segment: &str) -> bool {
    segment.parse::<u32>().is_ok_and(|number| number.to_string() == segment)
}

/// The names of the keys that must be given inside the table at `path`.
pub(super) fn required_in(path: &[&str]) -> impl Iterator<Item = &'static str> {
    let generic = generic(path);
    KEYS.iter().filter(|key| key.required).filter_map(move |key| {
        let (table, name) = key.name.rsplit_once('.')?;
        (table == generic).then_some(name)
    })
}

/// The path with `N` for positions.
fn generic(path: &[&str]) -> String {
    let segments: Vec<_> = path.iter().map(|s| if is_position(s) { "N" } else { s }).collect();
    segments.join(".")
}

/// Which key was most likely meant by `path`, which is none, or which there are where it stands, as a phrase.
pub(super) fn hint(path: &[&str]) -> String {
    if let Some(nearest) = nearest(path) {
        return format!("did you mean `{nearest}`?");
    }
    let known = |table: &str| {
        let below = |key: &'static str| {
            if table.is_empty() { Some(key) } else { key.strip_prefix(table)?.strip_prefix('.') }
        };
        let mut names: Vec<&str> = KEYS
            .iter()
            .filter_map(|key| below(key.name)?.split('.').next())
            .filter(|name| *name != "N")
            .collect();
        names.dedup();
        names.join("`, `")
    };
    // The nearest table around it that there is.
    let around = (1..path.len()).rev().map(|length| generic(&path[..length]));
    match around.into_iter().find(|table| !known(table).is_empty()) {
        Some(table) => format!("`{table}` has `{}`", known(&table)),
        None => format!("the tables of a scenario are `{}`, `sweep`", known("")),
    }
}

/// The known key nearest to `path`, with the positions of `path` where both have one.
pub(super) fn nearest(path: &[&str]) -> Option<String> {
    const TABLES: [&str; 12] = [
        "guest",
        "guest.writers",
        "link",
        "link.changes",
        "link.outages",
        "host",
        "host.xbzrle",
        "host.compression",
        "policy",
        "policy.changes",
        "run",
        "sweep",
    ];
    let own = |name: &'static str| name.rsplit('.').next().unwrap_or_default();
    let last = path.last().copied().unwrap_or_default();
    let names = || KEYS.iter().map(|key| key.name).chain(TABLES);
    // The right name in the wrong table; else a slip; else both.
    let name = names().find(|name| own(name) == last);
    // What stands in the right table must resemble a key of it.
    let (around, whole) = (generic(&path[..path.len().saturating_sub(1)]), generic(path));
    let alike = |name: &&'static str| match name.rsplit_once('.') {
        Some((table, own)) if table == around => nearest_name(last, [own]).is_some(),
        _ => **name == whole || name.split('.').count() == path.len(),
    };
    let name = name.or_else(|| nearest_name(&whole, names().filter(alike)));
    let name = name.or_else(|| {
        let near = nearest_name(last, names().map(own))?;
        names().find(|name| own(name) == near)
    })?;
    Some(with_positions(name, path))
}

/// `name` with the first positions of `path` for its `N`s.
fn with_positions(name: &str, path: &[&str]) -> String {
    let mut positions = path.iter().filter(|segment| is_position(segment));
    let segments: Vec<_> = name
        .split('.')
        .map(|segment| if segment == "N" { positions.next().copied().unwrap_or("0") } else { segment })
        .collect();
    segments.join(".")
}

impl Key {
    /// The default as written in a scenario; none if it must be given or is `none`.
    pub fn default_text(&self) -> Option<String> {
        static DEFAULTS: OnceLock<Json> = OnceLock::new();
        let defaults = DEFAULTS.get_or_init(|| {
            let mut setup = Setup::default();
            let phase = PhaseConfig { length: std::time::Duration::ZERO, rate: 0.0 };
            setup.guest.writers = vec![WriterConfig { phases: vec![phase], ..WriterConfig::default() }];
            serde_json::to_value(setup).unwrap_or_default()
        });
        if self.required || self.optional {
            return None;
        }
        let mut at = defaults;
        for segment in self.name.split('.') {
            at = if segment == "N" { at.get(0)? } else { at.get(segment)? };
        }
        Some(match at {
            Json::String(text) => format!("\"{text}\""),
            other => other.to_string(),
        })
    }
}

/// The table of keys as Markdown, for `docs/scenarios.md`.
pub fn table() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (name, _) = key.name.split_once('.').unwrap_or((key.name, ""));
        if name != section {
            section = name;
            let _ = write!(text, "\n### `[{section}]`\n\n");
            text.push_str(
                "| key | written as | default | meaning | source of the default |\n|---|---|---|---|---|\n",
            );
        }
        let default = if key.required {
            "must be given".to_owned()
        } else {
            key.default_text().map_or_else(|| "none".to_owned(), |text| format!("`{text}`"))
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} | {} |",
            key.name,
            key.kind.word(),
            key.meaning,
            key.source
        );
    }
    text
}
