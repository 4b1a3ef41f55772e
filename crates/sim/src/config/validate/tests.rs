use super::*;
use crate::config::{BandwidthChange, HostConfig, LinkConfig, Outage};
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::Bandwidth;

fn guest(change: impl FnOnce(&mut GuestConfig)) -> Result<(), String> {
    let mut guest = GuestConfig { writers: vec![WriterConfig::default()], ..GuestConfig::default() };
    change(&mut guest);
    guest.validate().map_err(|error| error.to_string())
}

fn link(change: impl FnOnce(&mut LinkConfig)) -> Result<(), String> {
    let mut link = LinkConfig::default();
    change(&mut link);
    link.validate().map_err(|error| error.to_string())
}

fn refused(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(guest(|_| {}), Ok(()));
    assert_eq!(link(|_| {}), Ok(()));
    assert_eq!(HostConfig::default().validate(), Ok(()));
}

#[test]
fn a_guest_that_cannot_be_is_refused_by_name() {
    assert_eq!(
        guest(|g| g.memory = ByteCount(0)),
        refused("`guest.memory` cannot be 0B: accepted is a whole number of pages of 4KiB, at least one")
    );
    assert_eq!(
        guest(|g| g.memory = ByteCount::gib(1 << 20)),
        refused("`guest.memory` cannot be 1PiB: accepted is at most 16TiB with pages of 4KiB (2^32 pages)")
    );
    assert_eq!(
        guest(|g| g.vcpus = 0),
        refused("`guest.vcpus` cannot be 0: accepted is a whole number from 1 to 16384")
    );
    assert_eq!(
        guest(|g| g.memory = ByteCount::mib(256)),
        refused(
            "`guest.writers.0.working-set` cannot be 512MiB: accepted is at most 256MiB, which is what \
             guest.memory (256MiB) has from 0B on"
        )
    );
    assert_eq!(
        guest(|g| g.zero_pages = Share::percent(90)),
        refused(
            "`guest.zero-pages` cannot be 0.9: accepted is at most 0.875000, the share of memory outside all \
             working sets"
        )
    );
    assert_eq!(
        guest(|g| g.writers[0].rate = f64::NAN),
        refused("`guest.writers.0.rate` cannot be NaN: accepted is page writes a second from 0 to 1e12")
    );
    assert_eq!(
        guest(|g| {
            g.writers[0].pattern = Pattern::HotCold;
            g.writers[0].hot_pages = Share::ZERO;
        }),
        refused("`guest.writers.0.hot-pages` cannot be 0: accepted is more than 0, as hot-writes is 0.9")
    );
}

#[test]
fn encodings_that_cannot_be_are_refused_by_name() {
    let host = |change: fn(&mut HostConfig)| {
        let mut host = HostConfig::default();
        change(&mut host);
        let checked = host.validate().and_then(|()| host.validate_for(PageSize::Mib2));
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(
        host(|h| h.xbzrle.cache = Some(ByteCount::mib(48))),
        refused(
            "`host.xbzrle.cache` cannot be 48MiB: accepted is `none`, or a power of two from 4KiB on, such as \
             `64MiB`"
        )
    );
    assert_eq!(
        host(|h| h.xbzrle.cache = Some(ByteCount::mib(1))),
        refused(
            "`host.xbzrle.cache` cannot be 1MiB: accepted is `none`, or at least a page of the guest (2MiB)"
        )
    );
    assert_eq!(
        host(|h| {
            h.xbzrle.cache = Some(ByteCount::mib(64));
            h.streams = 4;
        }),
        refused(
            "`host.xbzrle.cache` cannot be 64MiB: accepted is `none` with several streams (host.streams is 4), \
             which send whole pages"
        )
    );
    assert_eq!(
        host(|h| h.compression.ratio = Some(Share::ZERO)),
        refused(
            "`host.compression.ratio` cannot be 0: accepted is `none`, or a share above 0, up to 1: what is left \
             of a page"
        )
    );
    assert_eq!(
        host(|h| h.streams = 0),
        refused("`host.streams` cannot be 0: accepted is a whole number from 1 to 255")
    );
    assert_eq!(host(|h| h.xbzrle.cache = Some(ByteCount::mib(64))), Ok(()));
}

#[test]
fn working_sets_lie_behind_each_other_unless_they_say_where() {
    let writer = |mib, offset: Option<u64>| WriterConfig {
        working_set: ByteCount::mib(mib),
        offset: offset.map(ByteCount::mib),
        ..WriterConfig::default()
    };
    let writers = vec![writer(1, None), writer(2, None), writer(1, Some(2)), writer(1, None)];
    let mut config = GuestConfig { writers, ..GuestConfig::default() };
    assert_eq!(config.working_sets(), [0..256, 256..768, 512..768, 768..1024]);
    assert_eq!(config.written_pages(), 1024);
    config.writers[1].pattern = Pattern::Idle;
    assert_eq!(config.working_sets(), [0..256, 256..256, 512..768, 768..1024]);
    assert_eq!(config.written_pages(), 768);
}

#[test]
fn a_link_whose_events_are_out_of_order_is_refused() {
    let second = Duration::from_secs;
    let change = |at| BandwidthChange { at: second(at), bandwidth: Bandwidth::SLOWEST };
    assert_eq!(
        link(|l| l.changes = vec![change(5), change(5)]),
        refused("`link.changes.1.at` cannot be 5s: accepted is later than the change before it (5s)")
    );
    let outage = |at, length| Outage { at: second(at), length: second(length) };
    assert_eq!(
        link(|l| l.outages = vec![outage(5, 2), outage(6, 1)]),
        refused(
            "`link.outages.1.at` cannot be 6s: accepted is later than the end of the outage before it (7s)"
        )
    );
    assert_eq!(
        link(|l| l.payload = Share::ZERO),
        refused("`link.payload` cannot be 0: accepted is a share above 0, up to 1")
    );
}
