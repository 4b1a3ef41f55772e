//! Both ends of a connection, and memory at the far one.

use std::sync::Arc;

use whimbrel_core::layout::RamLayout;
use whimbrel_engine::transport::{Connect, Listen, open};
use whimbrel_guest::memory::GuestMemory;

use super::{Bad, Memory, Row};

type Ends = (Arc<dyn Connect>, Arc<dyn Listen>);

pub(super) fn ends(transport: &str) -> Result<Ends, Bad> {
    let address = if transport == "tcp" {
        "tcp:127.0.0.1:0".to_owned()
    } else {
        let path = std::env::temp_dir().join(format!("whimbrel-bench-{}", std::process::id()));
        format!("unix:{}", path.display())
    };
    let options = open::Options::default();
    let listen = open::listener(&address.parse()?, &options)?;
    let connect = open::connector(&listen.address().parse()?, &options)?;
    Ok((Arc::from(connect), Arc::from(listen)))
}

pub(super) fn replica(layout: &RamLayout, row: Row) -> Result<Arc<GuestMemory>, Bad> {
    let replica = Arc::new(GuestMemory::new(layout.clone(), row.backing)?);
    if row.memory == Memory::Prepared {
        replica.populate()?;
    }
    Ok(replica)
}
