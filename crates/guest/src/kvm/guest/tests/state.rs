//! Only the whole state of such a guest is taken, or nothing is changed.

use super::*;

fn section(kind: &str) -> Section {
    Section { kind: kind.to_owned(), version: VERSION, bytes: Vec::new() }
}

/// A guest that has run, and its state.
fn ran() -> (KvmGuest, Vec<Section>) {
    let mut guest = KvmGuest::boot(memory(), &shape(Pace::Free)).unwrap();
    let_run(&mut guest, Duration::from_millis(1));
    let state = guest.save().unwrap();
    (guest, state)
}

fn replica() -> KvmGuest {
    KvmGuest::replica(memory(), 3, Pace::Free).unwrap()
}

/// What it says to such a state; it must be as before.
fn refusal(guest: &mut KvmGuest, state: Vec<Section>) -> String {
    let before = guest.states("").unwrap();
    let error = guest.restore(state).unwrap_err();
    assert_eq!(guest.states("").unwrap(), before);
    let error: &dyn std::error::Error = &error;
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn sections_are_all_known_and_all_there() {
    if !kvm() {
        return;
    }
    let (_, state) = ran();
    assert!(state.iter().map(|section| &section.kind).eq(["vcpu-0", "vcpu-1", "vcpu-2"]));
    let mut guest = replica();
    let with = |more: Section| [&state[..], &[more]].concat();
    let cases = [
        (with(section("vcpu-3")), "no device of this guest has state of kind `vcpu-3`, version 1"),
        (with(section("serial")), "no device of this guest has state of kind `serial`, version 1"),
        (
            with(Section { version: 2, ..state[0].clone() }),
            "no device of this guest has state of kind `vcpu-0`, version 2",
        ),
        (with(state[1].clone()), "the state of `vcpu-1` is damaged: it is there twice"),
        (with(section("vcpu-2")), "the state of `vcpu-2` is damaged: 0 bytes, a vCPU of version 1 has 852"),
        (state[..2].to_vec(), "the state of `vcpu-2` is missing"),
        (Vec::new(), "the state of `vcpu-0` is missing"),
    ];
    for (state, message) in cases {
        assert_eq!(refusal(&mut guest, state), message);
    }
    // And after all that it takes the right one, in any order.
    guest.restore(state.iter().rev().cloned().collect()).unwrap();
}

#[test]
fn a_state_is_that_of_the_vcpu_that_it_is_for() {
    if !kvm() {
        return;
    }
    let (_, mut state) = ran();
    let (one, other) = (state[1].bytes.clone(), state[2].bytes.clone());
    (state[1].bytes, state[2].bytes) = (other, one);
    assert_eq!(
        refusal(&mut replica(), state),
        "the state of `vcpu-1` is damaged: what it writes is not memory of this guest"
    );
}

/// Any byte of a register that the guest uses, or that decides how the processor runs it.
#[test]
fn a_damaged_register_is_refused() {
    if !kvm() {
        return;
    }
    let (mut source, state) = ran();
    let mut guest = replica();
    let scratch = [0, 13].map(|register: usize| register * 8..register * 8 + 8);
    let xmm0 = 852 - 256..852 - 240;
    let used = (0..436).filter(|byte| !scratch.iter().any(|range| range.contains(byte))).chain(xmm0);
    let flags = 17 * 8..17 * 8 + 8;
    for byte in used {
        // A bit that arithmetic does not change.
        let bit = if flags.contains(&byte) { 1 << 1 } else { 1 << (byte % 8) };
        let mut damaged = state.clone();
        damaged[2].bytes[byte] ^= bit;

        let message = refusal(&mut guest, damaged);
        assert!(message.starts_with("the state of `vcpu-2` is damaged"), "byte {byte}: {message}");
    }
    // The source does not mind having been saved.
    let_run(&mut source, Duration::from_millis(1));
}

/// Control of vector arithmetic, as `FXSAVE` writes it.
const MXCSR: usize = 436 + 24;

/// What KVM itself refuses, after it has taken the state of another vCPU.
#[test]
fn what_kvm_refuses_leaves_all_vcpus_as_they_were() {
    if !kvm() {
        return;
    }
    let (_, mut state) = ran();
    state[2].bytes[MXCSR + 3] = 0xff;
    let message = refusal(&mut replica(), state);
    assert!(message.starts_with("the guest cannot restore a state: "), "{message}");
}

#[test]
fn everything_has_its_moment() {
    if !kvm() {
        return;
    }
    let mut guest = replica();
    let said = |result: Result<(), GuestError>| result.unwrap_err().to_string();
    assert_eq!(said(guest.resume()), "the guest cannot resume while it waits for its state");
    assert_eq!(
        said(guest.save().map(|_| ())),
        "the guest cannot save its state while it waits for its state"
    );
    let (mut source, state) = ran();
    guest.restore(state.clone()).unwrap();
    source.resume().unwrap();
    source.resume().unwrap();
    assert_eq!(said(source.save().map(|_| ())), "the guest cannot save its state while it runs");
    assert_eq!(said(source.restore(state)), "the guest cannot restore a state while it runs");
    assert_eq!(said(source.writes().map(|_| ())), "the guest cannot count its writes while it runs");
    assert_eq!(said(source.write_to(&[])), "the guest cannot write to pages while it runs");
    source.pause().unwrap();
    source.pause().unwrap();
    source.save().unwrap();
}
