//! What memory does beyond the suite: it breaks on demand.

use super::*;

fn write(stream: &MemoryStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(&[IoSlice::new(bytes)])
}

#[test]
fn a_cut_is_noticed_by_both_ends_and_loses_what_is_under_way() {
    let (near, far, link) = pair();
    write(&near, b"lost").unwrap();
    assert!(!link.is_cut());
    link.cut();
    let reset = |result: io::Result<usize>| result.unwrap_err().kind() == io::ErrorKind::ConnectionReset;
    for end in [&near, &far] {
        assert!(reset(end.read(&mut [0; 8])) && reset(write(end, b"more")));
    }
    assert!(link.is_cut());
}

#[test]
fn a_cut_wakes_who_waits() {
    let (near, far, link) = pair();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| near.read(&mut [0; 8]));
        let writing = scope.spawn(|| while write(&far, &[0; 1 << 14]).is_ok() {});
        std::thread::sleep(Duration::from_millis(50));
        link.cut();
        let _ = reading.join().unwrap();
        writing.join().unwrap();
    });
}

#[test]
fn a_cut_comes_behind_the_bytes_that_were_asked_for() {
    let (near, far, link) = pair();
    link.cut_after(10);
    assert_eq!(write(&near, &[1; 6]).unwrap(), 6);
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 6);
    assert_eq!(write(&far, &[2; 3]).unwrap(), 3);
    assert!(!link.is_cut());
    assert_eq!(write(&near, &[3; 6]).unwrap(), 1);
    assert!(link.is_cut() && far.read(&mut [0; 8]).is_err());
}

#[test]
fn nothing_arrives_while_stalled_and_everything_afterwards() {
    let (near, far, link) = pair();
    let patience = Some(Duration::from_millis(20));
    near.set_patience(patience, patience).unwrap();
    far.set_patience(patience, patience).unwrap();
    link.stall(true);
    let mut taken = 0;
    while let Ok(count) = write(&near, &[7; 10_000]) {
        taken += count;
    }
    assert_eq!(taken, ROOM);
    near.shutdown();
    assert_eq!(far.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    link.stall(false);
    let mut came = 0;
    loop {
        match far.read(&mut [0; 5_000]).unwrap() {
            0 => break,
            count => came += count,
        }
    }
    assert_eq!(came, ROOM);
}

#[test]
fn a_place_has_one_listener_at_a_time() {
    let hub = MemoryHub::new();
    let first = hub.listen().unwrap();
    assert!(hub.listen().is_err());
    drop(first);
    assert!(hub.listen().is_ok());
}

#[test]
fn a_connection_that_nobody_took_ends_with_its_listener() {
    let hub = MemoryHub::new();
    let listener = hub.listen().unwrap();
    let near = hub.connector().connect(Duration::ZERO).unwrap();
    drop(listener);
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
    assert!(hub.connector().connect(Duration::from_secs(1)).is_err());
}

#[test]
fn who_cannot_reach_the_place_waits_in_vain_until_it_can() {
    let hub = MemoryHub::new();
    let _listener = hub.listen().unwrap();
    hub.set_reachable(false);
    let refused = hub.connector().connect(Duration::from_millis(20)).err().unwrap();
    assert_eq!(refused.cause.kind(), io::ErrorKind::TimedOut);
    hub.set_reachable(true);
    assert!(hub.connector().connect(Duration::from_millis(20)).is_ok());
    assert_eq!(hub.links().len(), 1);
}
