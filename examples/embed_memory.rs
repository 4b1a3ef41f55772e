//! A machine of one's own with memory of its own ([`machine`]), moved over TCP: all that its author has to write.
//! `cargo run --example embed_memory`

#[path = "embed_memory/machine.rs"]
mod machine;

use std::{collections::BTreeMap, error::Error, sync::Arc, thread, time::Duration};

use whimbrel::core::embed::{Guest, GuestError, GuestRam, RamError};
use whimbrel::core::layout::{Gpa, PageSize, RamLayout};
use whimbrel::core::machine::message::{Configuration, Section};
use whimbrel::core::{policy::presets, report::Report, units::ByteCount};
use whimbrel::engine::destination::{self, DestinationError, DestinationSettings, Incoming, Replica};
use whimbrel::engine::source::{self, Outgoing, SourceSettings, new_id};
use whimbrel::engine::stable::{MemoryStore, Role};
use whimbrel::engine::transport::open::{Options, connector, listener};
use whimbrel::engine::{Token, orders::Orders};
use whimbrel::guest::log::SoftwareLog;

use machine::Machine;

impl GuestRam for Machine {
    fn layout(&self) -> &RamLayout {
        &self.layout
    }
    fn read(&self, at: Gpa, out: &mut [u8]) -> Result<(), RamError> {
        let not_memory = RamError::NotMemory { at, len: ByteCount(out.len() as u64) };
        self.with(at.0, out.len(), |bytes| out.copy_from_slice(bytes)).ok_or(not_memory)
    }
    fn write(&self, at: Gpa, data: &[u8]) -> Result<(), RamError> {
        let not_memory = RamError::NotMemory { at, len: ByteCount(data.len() as u64) };
        self.with(at.0, data.len(), |bytes| bytes.copy_from_slice(data)).ok_or(not_memory)
    }
}

struct Vcpu(Arc<Machine>);

impl Guest for Vcpu {
    fn pause(&mut self) -> Result<(), GuestError> {
        self.0.run(false);
        Ok(())
    }
    fn resume(&mut self) -> Result<(), GuestError> {
        self.0.run(true);
        Ok(())
    }
    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        let count = self.0.register().ok_or(GuestError::WrongMoment { what: "save", does: "runs" })?;
        Ok(vec![Section { kind: "vcpu".to_owned(), version: 1, bytes: count.to_le_bytes().to_vec() }])
    }
    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        let vcpu = state.iter().find(|section| (&*section.kind, section.version) == ("vcpu", 1));
        let bytes = vcpu.and_then(|section| section.bytes.as_slice().try_into().ok());
        self.0.set_register(u64::from_le_bytes(bytes.ok_or(GuestError::MissingSection { kind: "vcpu" })?));
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let ram = Machine::new(&RamLayout::contiguous(ByteCount::mib(16), PageSize::Kib4)?);
    let (mut guest, mut log) = (Vcpu(Arc::clone(&ram)), SoftwareLog::over(Arc::clone(&ram.dirty)));
    guest.resume()?;

    let listen = listener(&"tcp:127.0.0.1:0".parse()?, &Options::default())?;
    let connect = Arc::from(connector(&listen.address().parse()?, &Options::default())?);
    let token = Token::new(b"open sesame")?;
    let settings = DestinationSettings::new(token.clone(), ByteCount::gib(1));
    let destination = thread::spawn(move || {
        let mut host = |wanted: &Configuration| {
            let machine = Machine::new(&wanted.layout);
            Ok(Replica { ram: Arc::clone(&machine) as _, guest: Box::new(Vcpu(machine)), fresh: true })
        };
        let store = &mut MemoryStore::new(Role::Destination);
        let incoming = Incoming { listen: Arc::from(listen), host: &mut host, store };
        let mut here = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
        // A source that did not hear of it comes back and is told, as long as this program runs.
        thread::spawn(move || {
            loop {
                here.afterlife.answer(Duration::from_mins(1));
            }
        });
        Ok::<_, DestinationError>(here.replica.and_then(|replica| replica.into_guest::<Vcpu>().ok()))
    });

    let (name, policy) = ("mine".to_owned(), presets::build("qemu-default", &BTreeMap::new())?);
    let (log, store) = (&mut log, &mut MemoryStore::new(Role::Source));
    let outgoing = Outgoing { name, vcpus: 1, ram, log, guest: &mut guest, policy, connect, store };
    let settings = SourceSettings::new(new_id()?, token);
    let moved = source::send(outgoing, settings, &Orders::new(), &mut ())?;
    let Report { rounds, sent, downtime, .. } = &moved.report;
    println!("{} (the guest is {:?}): {}", moved.report.outcome, moved.right, moved.report.why);
    println!("{} rounds, {} sent, not run for {:?}", rounds.len(), sent.human(), downtime.total());

    let mut there = destination.join().expect("no panic")?.ok_or("the guest did not arrive")?;
    thread::sleep(Duration::from_millis(100));
    there.pause()?;
    println!("{} writes here, {} in all, none lost", guest.0.check()?, there.0.check()?);
    Ok(())
}
