//! The kubevirt migration monitor, in its three forms: what they share, and their parameters (K1, K2, K3).
//!
//! * [`legacy`]: deadlines and a watchdog of progress; with it `kubevirt-stepped`, the same with a
//!   downtime limit that rises in steps.
//! * [`stall`]: a search for a good moment once the migration has stalled ([`detector`]).
//!
//! All poll every 400 ms and know one deadline, `D`: [`SIZED`].
//!
//! Nothing of it can be changed while a migration runs; an administrator can only abort.

mod detector;
pub(super) mod legacy;
pub(super) mod stall;

use std::time::Duration;

use super::{
    AFTER_PAUSE, CAP, DOWNTIME, Given, Hypervisor, Order, POLLED, ParameterInfo, ParameterKind, Polls,
    PresetError, PresetInfo, SWITCH, Source, UNSET_LIMIT, cap_text, on_off,
};
use crate::policy::{Quantity, Reason, Relation};
use crate::progress::Progress;
use crate::units::duration;

/// What people should know of its deadline.
const SIZED: &str = "D is completion-timeout-per-gib times RAM in units of 10^9 bytes, rounded up, though \
     the product calls the unit GiB: 2 GiB count as 3. Times are compared in whole seconds, cut, so \"more \
     than D\" begins a second after it. Not modelled: disks that are copied, which would be added to RAM.";

/// Time between two polls.
const POLL: Duration = Duration::from_millis(400);

const SOURCES: &[Source] = &[
    Source {
        tag: "K1",
        what: "kubevirt pkg/virt-launcher/virtwrap/{live-migration-source,stall-detector}.go, \
               virt-config.go, api types.go",
        version: "d923fdb8",
    },
    Source {
        tag: "K2",
        what: "kubevirt/enhancements VEP 248 (stall detection), VEP 246 (compression)",
        version: "2026-11",
    },
    Source {
        tag: "K3",
        what: "kubevirt pkg/virt-launcher/virtwrap/manager.go, getVMIMigrationDataSize",
        version: "as stored, before its move to live-migration-source.go",
    },
];

const COMPLETION_TIMEOUT: ParameterInfo = ParameterInfo {
    name: "completion-timeout-per-gib",
    kind: ParameterKind::Duration { most: None },
    default: "150s",
    doc: "The deadline, for each 10^9 bytes of RAM begun; 0s: none.",
    source: "K1",
};
const PROGRESS_TIMEOUT: ParameterInfo = ParameterInfo {
    name: "progress-timeout",
    kind: ParameterKind::Duration { most: None },
    default: "150s",
    doc: "Gives up when what remains has not fallen from one poll to the next for longer than this; 0s: \
          never.",
    source: "K1",
};
const MAX_DOWNTIME: ParameterInfo = ParameterInfo {
    name: "max-downtime",
    kind: DOWNTIME,
    default: "900ms",
    doc: "The longest downtime limit that is set without disruption being allowed (maxDowntimeMs).",
    source: "K1",
};
const AUTO_CONVERGE: ParameterInfo = ParameterInfo {
    name: "allow-auto-converge",
    kind: SWITCH,
    default: "off",
    doc: "Whether QEMU may slow the guest.",
    source: "K1",
};
const POST_COPY: ParameterInfo = ParameterInfo {
    name: "allow-post-copy",
    kind: SWITCH,
    default: "off",
    doc: "Whether it may go over to post-copy; never with VFIO devices.",
    source: "K1",
};
const DISRUPTION: ParameterInfo = ParameterInfo {
    name: "allow-workload-disruption",
    kind: SWITCH,
    default: "off",
    doc: "Whether completion may be forced, at the guest's cost. KubeVirt's own default is that of \
          allow-post-copy.",
    source: "K1",
};
const VFIO: ParameterInfo = ParameterInfo {
    name: "vfio",
    kind: SWITCH,
    default: "off",
    doc: "Whether the guest has VFIO devices, for which KubeVirt takes other ways.",
    source: "K1",
};
const MAX_BANDWIDTH: ParameterInfo = ParameterInfo {
    name: "max-bandwidth",
    kind: CAP,
    default: "unlimited",
    doc: "Cap of the sending rate until the switchover (bandwidthPerMigration).",
    source: "ours",
};

/// What a cluster allows a migration: the parameters that all forms have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    per_gib: Duration,
    auto_converge: bool,
    post_copy: bool,
    disruption: bool,
    vfio: bool,
}

impl Terms {
    fn new(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            per_gib: given.duration(COMPLETION_TIMEOUT.name)?,
            auto_converge: given.switch(AUTO_CONVERGE.name)?,
            post_copy: given.switch(POST_COPY.name)?,
            disruption: given.switch(DISRUPTION.name)?,
            vfio: given.switch(VFIO.name)?,
        })
    }

    fn texts(&self) -> [(&'static str, String); 5] {
        [
            (COMPLETION_TIMEOUT.name, duration::format(self.per_gib)),
            (AUTO_CONVERGE.name, on_off(self.auto_converge)),
            (POST_COPY.name, on_off(self.post_copy)),
            (DISRUPTION.name, on_off(self.disruption)),
            (VFIO.name, on_off(self.vfio)),
        ]
    }

    /// Whether post-copy is allowed and can be.
    fn may_post_copy(&self) -> bool {
        self.post_copy && !self.vfio
    }

    /// The deadline of this guest; none if it has none.
    fn deadline(&self, progress: &Progress) -> Option<Duration> {
        let size = progress.memory.bytes(progress.page_size).0.div_ceil(1_000_000_000);
        let deadline = times(self.per_gib, size);
        (!deadline.is_zero()).then_some(deadline)
    }
}

/// `time` times `factor`; saturates.
fn times(time: Duration, factor: u64) -> Duration {
    let nanos = time.as_nanos().saturating_mul(factor.into());
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % 1_000_000_000) as u32)
}

/// Whole seconds of a time, as the product's clocks count.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// Why something happens after a time: `passed` is above `limit`.
fn too_late(passed: (&'static str, Duration), limit: (&'static str, Duration)) -> Reason {
    let (passed, limit) = ((passed.0, Quantity::Duration(passed.1)), (limit.0, Quantity::Duration(limit.1)));
    Reason::new(passed, Relation::Above, limit)
}
