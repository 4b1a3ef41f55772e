use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustix::process::Signal;
use whimbrel_core::dirty::PageSet;
use whimbrel_core::embed::{DirtyLog, GuestRam};
use whimbrel_core::layout::{PageNumber, PageSize, RamLayout, Region};
use whimbrel_core::units::ByteCount;

use super::*;
use crate::log::{SoftwareLog, UserfaultfdLog};
use crate::memory::{Backing, GuestMemory, Mapped};
use crate::socket::unsent;
use crate::surroundings::{Refuse, has_userfaultfd, in_a_child, refusing, smaps};

const PAGE: u64 = 4096;
/// Where the second region begins.
const SECOND: u64 = 1 << 20;

/// 40 pages from zero on, and 30 behind a hole.
fn layout() -> RamLayout {
    let region = |start: u64, pages: u64| Region { start: Gpa(start), len: ByteCount(pages * PAGE) };
    RamLayout::new(PageSize::Kib4, vec![region(0, 40), region(SECOND, 30)]).unwrap()
}

/// Memory of each kind, of which no two bytes near each other are alike.
fn memories() -> Vec<(String, Arc<dyn GuestRam>)> {
    let of = |backing| Arc::new(GuestMemory::new(layout(), backing).unwrap());
    let ours = Backing::ALL.into_iter().map(|backing| (backing.to_string(), of(backing) as _));
    let all: Vec<(String, Arc<dyn GuestRam>)> = ours.chain(others()).collect();
    for (_, memory) in &all {
        for region in layout().regions() {
            memory.write(region.start, &pattern(region.start.0, region.len.0)).unwrap();
        }
    }
    all
}

/// Memory that is not of this crate.
fn others() -> Vec<(String, Arc<dyn GuestRam>)> {
    #[cfg(feature = "rust-vmm")]
    {
        use vm_memory::{GuestAddress, GuestMemoryMmap};
        let ranges = [(GuestAddress(0), 40 << 12), (GuestAddress(SECOND), 30 << 12)];
        let ram = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
        let memory = crate::rust_vmm::VmMemory::new(ram, PageSize::Kib4).unwrap();
        vec![("vm-memory".into(), Arc::new(memory))]
    }
    #[cfg(not(feature = "rust-vmm"))]
    Vec::new()
}

/// What [`memories`] hold.
fn pattern(at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(|at| ((at * 167) >> 3) as u8).collect()
}

fn ram(at: u64, len: u64) -> RamRange {
    RamRange { at: Gpa(at), len: ByteCount(len) }
}

fn bytes(memory: &dyn GuestRam, at: u64, len: u64) -> Vec<u8> {
    let mut out = vec![0xEE; len as usize];
    memory.read(Gpa(at), &mut out).unwrap();
    out
}

fn sockets() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A way to a socket of this machine and what it accepted.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn pieces_arrive_in_order_and_exactly() {
    for (name, memory) in memories() {
        let direct = memory.direct().expect("memory of this process");
        let (near, mut far) = sockets();
        let pieces = [
            Piece::Bytes(b"header"),
            Piece::Ram(ram(3 * PAGE, 2 * PAGE)),
            Piece::Bytes(b""),
            Piece::Ram(ram(SECOND + 29 * PAGE, PAGE)),
            // The last byte, none at all at the very end, and what is no whole word.
            Piece::Ram(ram(40 * PAGE - 1, 1)),
            Piece::Ram(ram(40 * PAGE, 0)),
            Piece::Ram(ram(5, 13)),
            Piece::Bytes(b"end"),
        ];
        let expected = [
            b"header".to_vec(),
            pattern(3 * PAGE, 2 * PAGE),
            pattern(SECOND + 29 * PAGE, PAGE),
            pattern(40 * PAGE - 1, 1),
            pattern(5, 13),
            b"end".to_vec(),
        ]
        .concat();
        assert_eq!(direct.send(&pieces, near.as_fd()).unwrap(), expected.len(), "{name}");
        drop(near);
        let mut came = Vec::new();
        far.read_to_end(&mut came).unwrap();
        assert!(came == expected, "{name}");
    }
}

#[test]
fn what_comes_fills_the_ranges_in_order_and_nothing_else() {
    for (name, memory) in memories() {
        let direct = memory.direct().unwrap();
        let (near, mut far) = sockets();
        far.write_all(&[[1; 10], [2; 10], [3; 10]].concat()).unwrap();
        let ranges = [ram(SECOND + 3, 10), ram(7, 0), ram(PAGE - 4, 10), ram(20 * PAGE, 100)];
        // Fewer than there is room for.
        assert_eq!(direct.receive(&ranges, near.as_fd()).unwrap(), 30, "{name}");
        let mut model = [pattern(0, 40 * PAGE), pattern(SECOND, 30 * PAGE)];
        model[1][3..13].fill(1);
        model[0][4092..4102].fill(2);
        model[0][20 * 4096..20 * 4096 + 10].fill(3);
        assert!(bytes(&*memory, 0, 40 * PAGE) == model[0], "{name}");
        assert!(bytes(&*memory, SECOND, 30 * PAGE) == model[1], "{name}");
        drop(far);
        assert_eq!(direct.receive(&ranges, near.as_fd()).unwrap(), 0, "the end of the stream");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever is sent in whatever portions the socket takes arrives elsewhere as it was.
    #[test]
    fn what_is_sent_is_what_is_received(
        parts in prop::collection::vec((0..39 * PAGE, 1..PAGE, any::<bool>()), 1..40),
    ) {
        let memories = memories();
        let (source, replica) = (&*memories[0].1, &*memories[3].1);
        let (near, far) = tcp();
        let mut model = vec![0; 40 * 4096];
        replica.write(Gpa(0), &model).unwrap();
        for &(at, len, _) in &parts {
            model[at as usize..][..len as usize].copy_from_slice(&pattern(at, len));
        }
        let sent = std::thread::scope(|scope| {
            scope.spawn(|| {
                for &(at, len, _) in &parts {
                    let mut done = 0;
                    while done < len {
                        let ranges = [ram(at + done, len - done)];
                        done += replica.direct().unwrap().receive(&ranges, far.as_fd()).unwrap() as u64;
                    }
                }
            });
            let plain: Vec<_> = parts.iter().map(|&(at, len, _)| pattern(at, len)).collect();
            let mut left: Vec<Piece<'_>> = parts.iter().zip(&plain).map(|(&(at, len, of_ram), plain)| {
                if of_ram { Piece::Ram(ram(at, len)) } else { Piece::Bytes(plain) }
            }).collect();
            let mut sent = 0;
            while !left.is_empty() {
                let mut taken = source.direct().unwrap().send(&left, near.as_fd()).unwrap();
                sent += taken;
                left.retain_mut(|piece| {
                    let long = match piece { Piece::Bytes(bytes) => bytes.len(), Piece::Ram(range) => range.len.0 as usize };
                    let gone = taken.min(long);
                    taken -= gone;
                    match piece {
                        Piece::Bytes(bytes) => *bytes = &bytes[gone..],
                        Piece::Ram(range) => *range = ram(range.at.0 + gone as u64, range.len.0 - gone as u64),
                    }
                    gone < long
                });
            }
            sent as u64
        });
        prop_assert_eq!(sent, parts.iter().map(|part| part.1).sum::<u64>());
        prop_assert!(bytes(replica, 0, 40 * PAGE) == model);
    }
}

#[test]
fn a_full_socket_takes_a_part_and_the_next_call_goes_on() {
    let memory = &memories()[0].1;
    let direct = memory.direct().unwrap();
    let (near, mut far) = sockets();
    near.set_nonblocking(true).unwrap();
    // More than any socket takes at once, out of 40 pages.
    let whole = 40 * PAGE;
    let (mut done, mut parts, mut full, mut came) = (0, 0, 0, Vec::new());
    while done < 100 * whole {
        let rest = done % whole;
        let pieces = [Piece::Ram(ram(rest, whole - rest)), Piece::Ram(ram(0, rest))];
        match direct.send(&pieces, near.as_fd()) {
            Ok(taken) => {
                done += taken as u64;
                parts += u64::from((taken as u64) < whole);
            }
            Err(RamError::Descriptor(cause)) if cause.kind() == ErrorKind::WouldBlock => {
                full += 1;
                let mut some = [0; 16_000];
                let count = far.read(&mut some).unwrap();
                came.extend_from_slice(&some[..count]);
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(near);
    far.read_to_end(&mut came).unwrap();
    assert!(full > 0 && parts > 0, "full {full} times, {parts} times a part");
    assert_eq!(came.len() as u64, done);
    let once = pattern(0, whole);
    assert!(came.chunks(once.len()).all(|part| part == &once[..part.len()]));
}

#[test]
fn more_pieces_than_the_system_takes_are_left_for_the_next_call() {
    let memory = &memories()[0].1;
    let direct = memory.direct().unwrap();
    let (near, mut far) = sockets();
    let pieces = vec![Piece::Ram(ram(1, 2)); 3000];
    let ranges = vec![ram(PAGE, 1); 3000];
    let taken: Vec<_> =
        [3000, 1976, 952].map(|left| direct.send(&pieces[3000 - left..], near.as_fd()).unwrap()).into();
    assert_eq!(taken, [2048, 2048, 1904]);
    assert_eq!(direct.receive(&ranges, far.as_fd()).unwrap(), 1024);
    drop(near);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 6000 - 1024);
    assert!(rest.chunks(2).all(|pair| pair == pattern(1, 2)));
}

#[test]
fn what_is_not_all_memory_is_refused_and_nothing_moves() {
    for (name, memory) in memories() {
        let direct = memory.direct().unwrap();
        let (near, mut far) = sockets();
        let cases = [
            // Across the end of a region, in the hole, across its end, beyond everything.
            (40 * PAGE - 3, 4),
            (40 * PAGE, 1),
            (SECOND - 1, 2),
            (SECOND + 30 * PAGE - 1, 2),
            (u64::MAX, 1),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ];
        for (at, len) in cases {
            // Also behind more pieces than one call takes.
            for good in [0, 1, 2000] {
                let mut pieces = vec![Piece::Ram(ram(0, 8)); good];
                pieces.push(Piece::Ram(ram(at, len)));
                let mut ranges = vec![ram(0, 8); good];
                ranges.push(ram(at, len));
                let refused = [direct.send(&pieces, near.as_fd()), direct.receive(&ranges, near.as_fd())];
                for refused in refused {
                    assert!(
                        matches!(refused, Err(RamError::NotMemory { at: Gpa(was), len: ByteCount(long) })
                            if was == at && long == len),
                        "{name} {refused:?}"
                    );
                }
            }
            assert!(matches!(memory.prepare(ram(at, len)), Err(RamError::NotMemory { .. })), "{name}");
        }
        drop(near);
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "{name}: something was sent");
        assert!(bytes(&*memory, 0, 40 * PAGE) == pattern(0, 40 * PAGE), "{name}");
    }
}

/// The Rust runtime ignores the signal; a program that is not its own does not.
#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    in_a_child("memory::direct::tests::a_peer_that_is_gone_is_an_error_and_no_signal", || {
        // SAFETY: the default of a signal has no handler that could do harm.
        let before = unsafe { libc::signal(Signal::PIPE.as_raw(), libc::SIG_DFL) };
        assert_eq!(before, libc::SIG_IGN);
        let memory = &memories()[0].1;
        let pieces = [Piece::Ram(ram(0, 40 * PAGE))];
        let (unix, (near, far)) = (sockets(), tcp());
        drop((unix.1, far));
        let gone = |socket: BorrowedFd<'_>| loop {
            match memory.direct().unwrap().send(&pieces, socket) {
                // TCP takes some before it hears of it.
                Ok(_) => {}
                Err(RamError::Descriptor(cause)) => break cause.kind(),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(gone(unix.0.as_fd()), ErrorKind::BrokenPipe);
        let kind = gone(near.as_fd());
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
        assert_eq!(gone(near.as_fd()), ErrorKind::BrokenPipe);
    });
}

#[test]
fn pipes_do_as_well() {
    let memory = &memories()[2].1;
    let (reader, writer) = std::io::pipe().unwrap();
    let pieces = [Piece::Bytes(b"by "), Piece::Ram(ram(9, 5))];
    assert_eq!(memory.direct().unwrap().send(&pieces, writer.as_fd()).unwrap(), 8);
    assert_eq!(memory.direct().unwrap().receive(&[ram(PAGE, 8)], reader.as_fd()).unwrap(), 8);
    assert_eq!(bytes(&**memory, PAGE, 8), [b"by ".to_vec(), pattern(9, 5)].concat());
}

#[test]
fn time_limits_of_a_socket_show_as_would_block() {
    let memory = &memories()[0].1;
    let direct = memory.direct().unwrap();
    for tcp_too in [false, true] {
        let of = |error: Result<usize, RamError>| match error {
            Err(RamError::Descriptor(cause)) => cause.kind(),
            other => panic!("{other:?}"),
        };
        let short = Some(Duration::from_millis(30));
        let pieces = vec![Piece::Ram(ram(0, 40 * PAGE)); 1000];
        let (unix, (near, _far)) = (sockets(), tcp());
        near.set_read_timeout(short).unwrap();
        near.set_write_timeout(short).unwrap();
        unix.0.set_read_timeout(short).unwrap();
        unix.0.set_write_timeout(short).unwrap();
        let socket = if tcp_too { near.as_fd() } else { unix.0.as_fd() };
        assert_eq!(of(direct.receive(&[ram(0, 8)], socket)), ErrorKind::WouldBlock);
        let refused = (0..100).map(|_| direct.send(&pieces, socket)).find(Result::is_err);
        assert_eq!(of(refused.expect("nobody reads")), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_signal_in_between_is_not_told() {
    let memory = &memories()[0].1;
    let mut calls = 0;
    let mut outcomes =
        [Err(io::ErrorKind::Interrupted.into()), Err(io::ErrorKind::Interrupted.into()), Ok(3)].into_iter();
    let sent = again(|| {
        calls += 1;
        outcomes.next().unwrap()
    });
    assert_eq!((sent.unwrap(), calls), (3, 3));
    // And what is no signal is told, of the memory only where it is that.
    let (near, _far) = sockets();
    let refused = |errno| {
        let refused = Refuse::call(libc::SYS_sendmsg, errno);
        refusing(&[refused], || memory.direct().unwrap().send(&[Piece::Ram(ram(4, 8))], near.as_fd()))
    };
    assert!(matches!(refused(Errno::NOBUFS), Err(RamError::Descriptor(cause))
        if Errno::from_io_error(&cause) == Some(Errno::NOBUFS)));
    assert!(matches!(refused(Errno::FAULT), Err(RamError::Failed { at: Gpa(4), .. })));
}

/// The pages that `log` reports.
fn harvest(log: &mut dyn DirtyLog) -> Vec<u64> {
    let mut found = PageSet::new(layout().numbers());
    log.harvest(&mut found).unwrap();
    found.pages().map(|page| page.0).collect()
}

#[test]
fn what_the_kernel_receives_is_in_its_own_log_and_in_no_other() {
    if !has_userfaultfd() {
        return;
    }
    for backing in Backing::ALL {
        let memory = Arc::new(GuestMemory::new(layout(), backing).unwrap());
        memory.populate().unwrap();
        let mut software = SoftwareLog::new(&layout());
        let mut kernel = UserfaultfdLog::new(memory.clone()).unwrap();
        software.start().unwrap();
        kernel.start().unwrap();
        let (near, mut far) = sockets();
        far.write_all(&[7; 3 * 4096]).unwrap();
        // Over the bounds of pages 2 and 3, and all of the last one; 66 is the third of the second region.
        let ranges = [ram(3 * PAGE - 1, 2), ram(SECOND + 2 * PAGE, PAGE), ram(SECOND + 29 * PAGE, PAGE)];
        let direct = memory.direct().unwrap();
        assert_eq!(direct.receive(&ranges, near.as_fd()).unwrap(), 2 + 2 * 4096);
        assert_eq!(harvest(&mut kernel), [2, 3, 66, 93], "{backing}");
        assert_eq!(harvest(&mut software), Vec::<u64>::new(), "{backing}");
        // Sending is no write.
        let pieces = [Piece::Ram(ram(0, 10 * PAGE)), Piece::Ram(ram(SECOND, 10 * PAGE))];
        assert_eq!(direct.send(&pieces, near.as_fd()).unwrap(), 20 * 4096);
        assert_eq!(harvest(&mut kernel), Vec::<u64>::new(), "{backing}");
        // And under protection everything arrives as it is.
        let mut came = vec![0; 20 * 4096];
        far.read_exact(&mut came).unwrap();
        let expected = [bytes(&*memory, 0, 10 * PAGE), bytes(&*memory, SECOND, 10 * PAGE)].concat();
        assert!(came == expected && came[3 * 4096 - 1..][..2] == [7, 7], "{backing}");
        let page = GuestRam::layout(&*memory).page_at(Gpa(SECOND + 2 * PAGE));
        assert_eq!(page, Some(PageNumber(66)));
    }
}

#[test]
fn prepared_memory_is_resident_in_whole_pages_and_keeps_its_content() {
    for backing in [Backing::Private, Backing::Shared, Backing::Memfd] {
        let layout = RamLayout::contiguous(ByteCount::mib(4), PageSize::Kib4).unwrap();
        let memory = GuestMemory::new(layout, backing).unwrap();
        let at = memory.ranges()[0].address;
        // The kernel may have joined it with a neighbour that has pages already.
        let before = smaps(at, "Rss");
        let rss = || smaps(at, "Rss") - before;
        memory.prepare(ram(PAGE - 1, 2)).unwrap();
        assert_eq!(rss(), 2 * PAGE, "{backing}");
        memory.prepare(ram((4 << 20) - 1, 1)).unwrap();
        memory.prepare(ram(77, 0)).unwrap();
        assert_eq!(rss(), 3 * PAGE, "{backing}");
        memory.write(Gpa(5 * PAGE), &[9; 100]).unwrap();
        memory.prepare(ram(0, 4 << 20)).unwrap();
        assert_eq!(rss(), 4 << 20, "{backing}");
        assert_eq!(bytes(&memory, 5 * PAGE, 101), [[9; 100].as_slice(), &[0]].concat(), "{backing}");
    }
}

#[cfg(feature = "rust-vmm")]
#[test]
fn memory_of_rust_vmm_is_prepared_as_well() {
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
    let memory = crate::rust_vmm::VmMemory::new(ram, PageSize::Kib4).unwrap();
    let at = memory.ranges()[0].address;
    // The kernel may have joined it with a neighbour that has pages already.
    let before = smaps(at, "Rss");
    memory.prepare(super::tests::ram(PAGE - 1, 2)).unwrap();
    assert_eq!(smaps(at, "Rss") - before, 2 * PAGE);
    assert!(matches!(memory.prepare(super::tests::ram(4 << 20, 1)), Err(RamError::NotMemory { .. })));
}

#[test]
fn memory_that_cannot_be_had_says_what_to_do() {
    // Never touched: what is there need not be had.
    let memory = GuestMemory::new(layout(), Backing::Private).unwrap();
    let refuse = |errno| Refuse::advice(libc::MADV_POPULATE_WRITE, errno);
    let short = refusing(&[refuse(Errno::NOMEM)], || memory.prepare(ram(PAGE, PAGE))).unwrap_err();
    let RamError::Failed { at: Gpa(PAGE), cause } = short else { panic!("{short}") };
    assert_eq!(cause.kind(), ErrorKind::OutOfMemory);
    assert!(cause.to_string().contains("memory.max"), "{cause}");
    // Before Linux 5.14.
    refusing(&[refuse(Errno::INVAL)], || memory.prepare(ram(PAGE, PAGE))).unwrap();
}

#[test]
fn what_is_unsent_is_what_the_peer_has_not_taken() {
    let memory = &memories()[0].1;
    let put = |socket: BorrowedFd<'_>, len| {
        memory.direct().unwrap().send(&[Piece::Ram(ram(0, len))], socket).unwrap() as u64
    };
    let (near, mut far) = sockets();
    assert_eq!(unsent(near.as_fd()).unwrap(), ByteCount(0));
    // Unix: what it takes to hold them, until they are read.
    for len in [1, 5000, 100_000] {
        assert_eq!(put(near.as_fd(), len), len);
        let held = unsent(near.as_fd()).unwrap();
        eprintln!("unix: {} for {len} bytes", held.0);
        assert!((len..2 * len + 8192).contains(&held.0), "{held}");
        far.read_exact(&mut vec![0; len as usize]).unwrap();
        assert_eq!(unsent(near.as_fd()).unwrap(), ByteCount(0));
    }
    // TCP: what is neither here nor there, once the peer's buffer is full.
    let (near, mut far) = tcp();
    near.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(taken) = memory.direct().unwrap().send(&[Piece::Ram(ram(0, 40 * PAGE))], near.as_fd()) {
        sent += taken as u64;
    }
    let held = unsent(near.as_fd()).unwrap();
    eprintln!("tcp: {held} of {} are not acknowledged", ByteCount(sent));
    assert!(held.0 > 0 && held.0 <= sent, "{held} of {sent}");
    far.read_exact(&mut vec![0; sent as usize]).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while unsent(near.as_fd()).unwrap() > ByteCount(0) {
        assert!(std::time::Instant::now() < end, "all was read");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (pipe, file) = (std::io::pipe().unwrap(), std::fs::File::open("/dev/null").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let errno = |socket: BorrowedFd<'_>| Errno::from_io_error(&unsent(socket).unwrap_err());
    assert_eq!(errno(pipe.1.as_fd()), Some(Errno::NOTTY));
    assert_eq!(errno(file.as_fd()), Some(Errno::NOTTY));
    assert_eq!(errno(listener.as_fd()), Some(Errno::INVAL));
}
