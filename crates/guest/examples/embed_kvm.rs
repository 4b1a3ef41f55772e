//! A whole tiny VMM on KVM, whose guest is moved to another VM: what an embedder writes, and whom it calls.
//!
//! ```console
//! $ cargo run --features kvm --example embed_kvm
//! ```
//!
//! Read it from the top. [`Vmm`] is yours: a VM with one vCPU on a thread and one emulated device. Of its three traits, memory
//! (`GuestRam`) and the dirty log (`DirtyLog`) are ready-made; [`Guest`] is what you write. [`send`] and [`receive`] are the two ends of
//! the migration, here on two threads of one program with TCP between: in yours each is in a process of its own.
//!
//! The guest counts up the first word of 128 pages, one after the other, and tells the device after each, which counts them in a page
//! of its own. So every page says how often it was written, and the end of this program knows whether any write was lost.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use whimbrel::core::dirty::DirtyBitmap;
use whimbrel::core::embed::{DirtyLog, Guest, GuestError, GuestRam};
use whimbrel::core::layout::{Gpa, PageNumber, PageSize, RamLayout};
use whimbrel::core::machine::message::{Configuration, Section};
use whimbrel::core::policy::{RateLimit, presets};
use whimbrel::core::units::{Bandwidth, ByteCount};
use whimbrel::engine::Token;
use whimbrel::engine::destination::{self, DestinationResult, DestinationSettings, Incoming, Replica};
use whimbrel::engine::orders::Orders;
use whimbrel::engine::source::{self, Outgoing, SourceResult, SourceSettings};
use whimbrel::engine::stable::{MemoryStore, Role};
use whimbrel::engine::transport::open::{Options, connector, listener};
use whimbrel::engine::transport::{Connect, Listen};
use whimbrel::guest::kvm::{self, KvmSlots};
use whimbrel::guest::log::{KvmLog, SoftwareLog, Union};
use whimbrel::guest::memory::{Backing, GuestMemory};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The guest, in real mode. It begins at address 0, with 0x1000 in `ds`: the first page is at 0x10000.
#[rustfmt::skip]
const CODE: [u8; 22] = [
    // next:
    0xff, 0x06, 0x00, 0x00, //  0  inc word [0]     of the page that `ds` selects
    0x8c, 0xd8,             //  4  mov ax, ds
    0x05, 0x00, 0x01,       //  6  add ax, 0x100    the next page
    0x80, 0xfc, 0x90,       //  9  cmp ah, 0x90     there is none at 0x90000:
    0x72, 0x02,             // 12  jb  +2
    0xb4, 0x10,             // 14  mov ah, 0x10     begin again
    0x8e, 0xd8,             // 16  mov ds, ax
    0xe6, 0x10,             // 18  out 0x10, al     tell the device
    0xeb, 0xea,             // 20  jmp next
];

/// The pages that it writes.
const FIRST: u64 = 0x10;
const PAGES: u64 = 0x80;

/// The page where the device counts.
const DEVICE_PAGE: PageNumber = PageNumber(0xa0);

/// Your VMM.
struct Vmm {
    memory: Arc<GuestMemory>,
    /// The guest has its memory for as long as this lives.
    _slots: Arc<KvmSlots>,
    device: Arc<Device>,
    vcpu: Vcpu,
    stop: Arc<AtomicBool>,
}

/// A vCPU belongs to its thread while it runs, and to the monitor while it stands still.
enum Vcpu {
    Paused(Box<VcpuFd>),
    Running(JoinHandle<Result<Box<VcpuFd>>>),
    /// Its thread has failed.
    Lost,
}

/// The device: it writes guest memory by itself, which KVM does not see. So it marks what it writes in a log of its own.
struct Device {
    memory: Arc<GuestMemory>,
    bitmap: Arc<DirtyBitmap>,
    count: AtomicU64,
}

impl Device {
    fn told(&self) -> Result<()> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let at = GuestRam::layout(&*self.memory).address_of(DEVICE_PAGE).ok_or("no page for the device")?;
        // On what is there, so that a page that was lost on the way is noticed.
        let mut word = [0; 8];
        self.memory.read(at, &mut word)?;
        self.memory.write(at, &(u64::from_le_bytes(word) + 1).to_le_bytes())?;
        // After the write: whoever sees the mark sees the write too.
        self.bitmap.mark(DEVICE_PAGE)?;
        Ok(())
    }
}

impl Vmm {
    /// A VM with this memory and a vCPU that is about to run what is at address 0. Gives the log of its dirty pages too: what
    /// vCPUs write, and what the device writes.
    fn new(layout: &RamLayout) -> Result<(Self, Union)> {
        let memory = Arc::new(GuestMemory::new(layout.clone(), Backing::Private)?);
        let vm: Arc<VmFd> = Arc::new(kvm::open()?.create_vm()?);
        // Needed by older processors of Intel's to run real mode; anywhere above guest memory.
        vm.set_tss_address(0xfffb_d000)?;
        let slots = Arc::new(KvmSlots::new(Arc::clone(&vm), memory.clone(), 0)?);
        let vcpu = vm.create_vcpu(0)?;
        let mut sregs = vcpu.get_sregs()?;
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        (sregs.ds.base, sregs.ds.selector) = (FIRST << 12, (FIRST << 8) as u16);
        vcpu.set_sregs(&sregs)?;
        let mut regs = vcpu.get_regs()?;
        (regs.rip, regs.rflags) = (0, 2);
        vcpu.set_regs(&regs)?;

        let devices = SoftwareLog::new(layout);
        let bitmap = Arc::clone(devices.bitmap());
        let device = Arc::new(Device { memory: Arc::clone(&memory), bitmap, count: AtomicU64::new(0) });
        let log = Union::of(vec![Box::new(KvmLog::new(Arc::clone(&slots))), Box::new(devices)]);
        let vcpu = Vcpu::Paused(Box::new(vcpu));
        Ok((Self { memory, _slots: slots, device, vcpu, stop: Arc::default() }, log))
    }

    /// The vCPU, if it stands still.
    fn paused(&self, what: &'static str) -> Result<&VcpuFd, GuestError> {
        match &self.vcpu {
            Vcpu::Paused(vcpu) => Ok(vcpu),
            Vcpu::Running(_) => Err(GuestError::WrongMoment { what, does: "runs" }),
            Vcpu::Lost => Err(GuestError::WrongMoment { what, does: "has failed" }),
        }
    }
}

/// What the thread of a vCPU does, until it is to stop. This guest comes out for every write. One that may stay inside for long is
/// brought out by `immediate_exit` and a signal to its thread; the KVM guest of `whimbrel_guest::kvm` does that.
fn run(mut vcpu: Box<VcpuFd>, device: &Device, stop: &AtomicBool) -> Result<Box<VcpuFd>> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(0x10, _)) => {
                device.told()?;
                // A slow device, or there would be nothing to see: all pages would be dirty at each harvest.
                thread::sleep(Duration::from_millis(2));
            }
            // A signal of somebody's, as a debugger's: nothing happened.
            Err(error) if is_interrupted(error) => {}
            other => return Err(format!("the guest went astray: {other:?}").into()),
        }
        if stop.load(Ordering::Relaxed) {
            // Once more into KVM and out again at once: it completes the `out` only now. Registers that were read before
            // would let the destination do it again.
            vcpu.set_kvm_immediate_exit(1);
            let outcome = vcpu.run().map(|exit| format!("{exit:?}"));
            vcpu.set_kvm_immediate_exit(0);
            return match outcome {
                Err(error) if is_interrupted(error) => Ok(vcpu),
                other => Err(format!("the vCPU does not stop: {other:?}").into()),
            };
        }
    }
}

fn is_interrupted(error: kvm_ioctls::Error) -> bool {
    let kind = io::Error::from_raw_os_error(error.errno()).kind();
    matches!(kind, io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn failed<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> GuestError {
    move |cause| GuestError::Failed { what, cause: cause.into() }
}

/// What you write: the third of the three traits.
impl Guest for Vmm {
    fn pause(&mut self) -> Result<(), GuestError> {
        self.stop.store(true, Ordering::Relaxed);
        self.vcpu = match std::mem::replace(&mut self.vcpu, Vcpu::Lost) {
            // When its thread is gone nothing writes any more: the device works on that thread too.
            Vcpu::Running(thread) => {
                let ended = thread.join().unwrap_or_else(|_| Err("its thread panicked".into()));
                Vcpu::Paused(ended.map_err(failed("pause"))?)
            }
            other => other,
        };
        Ok(())
    }

    fn resume(&mut self) -> Result<(), GuestError> {
        self.stop.store(false, Ordering::Relaxed);
        self.vcpu = match std::mem::replace(&mut self.vcpu, Vcpu::Lost) {
            Vcpu::Paused(vcpu) => {
                let (device, stop) = (Arc::clone(&self.device), Arc::clone(&self.stop));
                Vcpu::Running(thread::spawn(move || run(vcpu, &device, &stop)))
            }
            Vcpu::Running(thread) => Vcpu::Running(thread),
            Vcpu::Lost => return Err(GuestError::WrongMoment { what: "resume", does: "has failed" }),
        };
        Ok(())
    }

    /// This guest changes four registers and the device's count; yours has more.
    fn save(&mut self) -> Result<Vec<Section>, GuestError> {
        let vcpu = self.paused("save")?;
        let regs = vcpu.get_regs().map_err(failed("save"))?;
        let ds = u64::from(vcpu.get_sregs().map_err(failed("save"))?.ds.selector);
        let count = self.device.count.load(Ordering::Relaxed);
        Ok(vec![section("vcpu", &[regs.rax, regs.rip, regs.rflags, ds]), section("counter", &[count])])
    }

    /// All or nothing: whatever can be wrong is looked for before anything is changed.
    fn restore(&mut self, state: Vec<Section>) -> Result<(), GuestError> {
        let vcpu = self.paused("restore")?;
        let (mut registers, mut count) = (None, None);
        for section in &state {
            match (section.kind.as_str(), section.version) {
                ("vcpu", 1) => registers = Some(words::<4>("vcpu", section)?),
                ("counter", 1) => count = Some(words::<1>("counter", section)?),
                (kind, version) => {
                    return Err(GuestError::UnknownSection { kind: kind.to_owned(), version });
                }
            }
        }
        let [rax, rip, rflags, ds] = registers.ok_or(GuestError::MissingSection { kind: "vcpu" })?;
        let [count] = count.ok_or(GuestError::MissingSection { kind: "counter" })?;
        let mut sregs = vcpu.get_sregs().map_err(failed("restore"))?;
        let damaged = |_| GuestError::Damaged { kind: "vcpu", fault: format!("{ds:#x} is no segment") };
        sregs.ds.selector = u16::try_from(ds).map_err(damaged)?;
        sregs.ds.base = ds << 4;
        let mut regs = vcpu.get_regs().map_err(failed("restore"))?;
        (regs.rax, regs.rip, regs.rflags) = (rax, rip, rflags);
        vcpu.set_sregs(&sregs).and_then(|()| vcpu.set_regs(&regs)).map_err(failed("restore"))?;
        self.device.count.store(count, Ordering::Relaxed);
        Ok(())
    }
}

fn section(kind: &str, words: &[u64]) -> Section {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Section { kind: kind.to_owned(), version: 1, bytes }
}

fn words<const N: usize>(kind: &'static str, section: &Section) -> Result<[u64; N], GuestError> {
    let (words, rest) = section.bytes.as_chunks();
    if words.len() != N || !rest.is_empty() {
        let fault = format!("{} bytes instead of {}", section.bytes.len(), 8 * N);
        return Err(GuestError::Damaged { kind, fault });
    }
    Ok(std::array::from_fn(|index| u64::from_le_bytes(words[index])))
}

/// The source's end. However it ends, the log is stopped, and the guest runs here or is the destination's.
fn send(
    vmm: &mut Vmm,
    log: &mut dyn DirtyLog,
    connect: Arc<dyn Connect>,
    token: Token,
) -> Result<SourceResult> {
    let downtime = BTreeMap::from([("downtime-limit".to_owned(), "20ms".to_owned())]);
    let outgoing = Outgoing {
        name: "counter".to_owned(),
        vcpus: 1,
        ram: vmm.memory.clone(),
        log,
        guest: vmm,
        policy: presets::build("qemu-default", &downtime)?,
        connect,
        // Yours survives a power cut: `DirectoryStore`.
        store: &mut MemoryStore::new(Role::Source),
    };
    let mut settings = SourceSettings::new(source::new_id()?, token);
    // Or it would be over before there is anything to see.
    settings.limit = RateLimit::AtMost(Bandwidth::new(4 << 20).ok_or("a rate")?);
    Ok(source::send(outgoing, settings, &Orders::new(), &mut ())?)
}

/// The destination's end: makes a VM for whatever guest comes, if it has room for it.
fn receive(listen: Arc<dyn Listen>, token: Token) -> Result<Replica> {
    let mut host = |wanted: &Configuration| {
        let (vmm, _log) = Vmm::new(&wanted.layout)?;
        Ok(Replica { ram: vmm.memory.clone(), guest: Box::new(vmm), fresh: true })
    };
    let incoming = Incoming { listen, host: &mut host, store: &mut MemoryStore::new(Role::Destination) };
    let settings = DestinationSettings::new(token, ByteCount::mib(64));
    let received = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
    let DestinationResult { replica, why, mut afterlife, .. } = received;
    // The source may not have heard how it ended: it comes back and is told, as long as this program runs.
    thread::spawn(move || {
        loop {
            afterlife.answer(Duration::from_mins(1));
        }
    });
    Ok(replica.ok_or_else(|| why.unwrap_or_default())?)
}

/// Whether memory is what so many writes make of it.
fn check(memory: &GuestMemory, writes: u64) -> Result<()> {
    let first = |page| memory.page(PageNumber(page)).map_or(0, |words| words[0].load(Ordering::Relaxed));
    for page in 0..PAGES {
        let (found, expected) = (first(FIRST + page), (writes + PAGES - 1 - page) / PAGES);
        if found != expected {
            let page = FIRST + page;
            return Err(format!("page {page:#x} was written {expected} times and says {found}").into());
        }
    }
    let counted = first(DEVICE_PAGE.0);
    if counted == writes { Ok(()) } else { Err(format!("the device counts {counted} of {writes}").into()) }
}

fn demonstrate() -> Result<()> {
    let layout = RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4)?;
    let (mut here, mut log) = Vmm::new(&layout)?;
    here.memory.write(Gpa(0), &CODE)?;
    here.resume()?;
    while here.device.count.load(Ordering::Relaxed) < PAGES {
        thread::sleep(Duration::from_millis(1));
    }

    let listen = listener(&"tcp:127.0.0.1:0".parse()?, &Options::default())?;
    let connect = connector(&listen.address().parse()?, &Options::default())?;
    let token = Token::new(b"open sesame")?;
    let expected = token.clone();
    let destination = thread::spawn(move || receive(listen.into(), expected));
    let moved = send(&mut here, &mut log, connect.into(), token)?;
    let received = destination.join().map_err(|_| "the destination panicked")?;
    for round in &moved.report.rounds {
        let (number, pages, zero) = (round.round, round.sent_pages, round.zero_pages);
        println!("round {number}: {} dirty, sent {pages} ({zero} zero) in {:?}", round.dirtied, round.length);
    }
    println!("{}, the guest is {:?}: {}", moved.report.outcome, moved.right, moved.report.why);
    println!("it did not run for {:?}", moved.report.downtime.total());
    let mut there = received?.into_guest::<Vmm>().map_err(|_| "it is not a guest of ours")?;

    let moved_at = here.device.count.load(Ordering::Relaxed);
    while there.device.count.load(Ordering::Relaxed) < moved_at + PAGES {
        thread::sleep(Duration::from_millis(1));
    }
    there.pause()?;
    let writes = there.device.count.load(Ordering::Relaxed);
    check(&here.memory, moved_at)?;
    check(&there.memory, writes)?;
    println!("{moved_at} writes at the source, {} more at the destination, none lost", writes - moved_at);
    Ok(())
}

fn main() -> ExitCode {
    if let Err(error) = kvm::open() {
        eprintln!("SKIPPED, there is no KVM to be had: {error}");
        return ExitCode::SUCCESS;
    }
    let Err(error) = demonstrate() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}
