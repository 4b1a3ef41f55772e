//! The state of a vCPU as bytes.
//!
//! Version 1 is the registers one after the other, little-endian, without padding: the general ones in the order of `kvm_regs`,
//! segments, tables and control registers in that of `kvm_sregs`, then floating point and vectors as `FXSAVE` writes them. That is
//! all that such a guest has: it has no interrupt controller, no pending events and no wider vectors, and neither reads nor writes a
//! clock or any model-specific register but `EFER`, which is among the control registers.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs, kvm_xsave};

/// Version of the encoding.
pub(super) const VERSION: u32 = 1;

/// Bytes of version 1: general registers; segments, tables, control registers, interrupts; floating point and vectors.
const LEN: usize = 18 * 8 + (8 * 23 + 2 * 10 + 7 * 8 + 4 * 8) + FXSAVE;

/// What `FXSAVE` writes in 64-bit mode: control and status, 8 registers for floating point, 16 vectors. What is behind it, up to
/// 512 bytes, is reserved.
const FXSAVE: usize = 416;

/// Where it has `xmm0`.
const XMM0: usize = 160;

/// Floating point and vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vectors([u8; FXSAVE]);

impl Vectors {
    /// Those of a vCPU, of which KVM has given this.
    pub(super) fn of(xsave: &kvm_xsave) -> Self {
        let mut bytes = [0; FXSAVE];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(xsave.region) {
            *bytes = word.to_le_bytes();
        }
        Self(bytes)
    }

    /// The same for KVM, with all else as after a reset.
    pub(super) fn xsave(&self) -> kvm_xsave {
        /// Word of the header, behind the 512 bytes, that says which parts there are; without it they count as unused.
        const PARTS: usize = 512 / 4;
        /// Floating point and vectors.
        const PRESENT: u32 = 0b11;
        let mut xsave = kvm_xsave::default();
        for (word, bytes) in xsave.region.iter_mut().zip(self.0.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        xsave.region[PARTS] = PRESENT;
        xsave
    }

    /// The first vector register.
    pub(super) fn xmm0(&self) -> [u8; 16] {
        std::array::from_fn(|byte| self.0[XMM0 + byte])
    }

    /// Sets it.
    pub(super) fn set_xmm0(&mut self, value: [u8; 16]) {
        self.0[XMM0..XMM0 + 16].copy_from_slice(&value);
    }
}

/// All of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VcpuState {
    pub(super) regs: kvm_regs,
    pub(super) sregs: kvm_sregs,
    pub(super) vectors: Vectors,
}

/// Something that registers are written to or read from, one after the other: so the order stands in one place.
trait Fields {
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]);

    fn u8(&mut self, field: &mut u8) {
        let mut bytes = field.to_le_bytes();
        self.bytes(&mut bytes);
        *field = u8::from_le_bytes(bytes);
    }

    fn u16(&mut self, field: &mut u16) {
        let mut bytes = field.to_le_bytes();
        self.bytes(&mut bytes);
        *field = u16::from_le_bytes(bytes);
    }

    fn u32(&mut self, field: &mut u32) {
        let mut bytes = field.to_le_bytes();
        self.bytes(&mut bytes);
        *field = u32::from_le_bytes(bytes);
    }

    fn u64(&mut self, field: &mut u64) {
        let mut bytes = field.to_le_bytes();
        self.bytes(&mut bytes);
        *field = u64::from_le_bytes(bytes);
    }
}

struct Writing(Vec<u8>);

impl Fields for Writing {
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]) {
        self.0.extend_from_slice(field);
    }
}

/// What is left to read. Its length is checked before; what is missing would be zero.
struct Reading<'a>(&'a [u8]);

impl Fields for Reading<'_> {
    fn bytes<const N: usize>(&mut self, field: &mut [u8; N]) {
        if let Some((bytes, rest)) = self.0.split_first_chunk() {
            (*field, self.0) = (*bytes, rest);
        }
    }
}

fn general(fields: &mut impl Fields, regs: &mut kvm_regs) {
    for register in [
        &mut regs.rax,
        &mut regs.rbx,
        &mut regs.rcx,
        &mut regs.rdx,
        &mut regs.rsi,
        &mut regs.rdi,
        &mut regs.rsp,
        &mut regs.rbp,
        &mut regs.r8,
        &mut regs.r9,
        &mut regs.r10,
        &mut regs.r11,
        &mut regs.r12,
        &mut regs.r13,
        &mut regs.r14,
        &mut regs.r15,
        &mut regs.rip,
        &mut regs.rflags,
    ] {
        fields.u64(register);
    }
}

fn segment(fields: &mut impl Fields, segment: &mut kvm_segment) {
    fields.u64(&mut segment.base);
    fields.u32(&mut segment.limit);
    fields.u16(&mut segment.selector);
    for part in [
        &mut segment.type_,
        &mut segment.present,
        &mut segment.dpl,
        &mut segment.db,
        &mut segment.s,
        &mut segment.l,
        &mut segment.g,
        &mut segment.avl,
        &mut segment.unusable,
    ] {
        fields.u8(part);
    }
}

fn table(fields: &mut impl Fields, table: &mut kvm_dtable) {
    fields.u64(&mut table.base);
    fields.u16(&mut table.limit);
}

fn special(fields: &mut impl Fields, sregs: &mut kvm_sregs) {
    for part in [
        &mut sregs.cs,
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
        &mut sregs.tr,
        &mut sregs.ldt,
    ] {
        segment(fields, part);
    }
    table(fields, &mut sregs.gdt);
    table(fields, &mut sregs.idt);
    for register in [
        &mut sregs.cr0,
        &mut sregs.cr2,
        &mut sregs.cr3,
        &mut sregs.cr4,
        &mut sregs.cr8,
        &mut sregs.efer,
        &mut sregs.apic_base,
    ] {
        fields.u64(register);
    }
    for word in &mut sregs.interrupt_bitmap {
        fields.u64(word);
    }
}

impl VcpuState {
    fn visit(&mut self, fields: &mut impl Fields) {
        general(fields, &mut self.regs);
        special(fields, &mut self.sregs);
        fields.bytes(&mut self.vectors.0);
    }

    /// What [`VcpuState::decode`] reads.
    pub(super) fn encode(mut self) -> Vec<u8> {
        let mut writing = Writing(Vec::with_capacity(LEN));
        self.visit(&mut writing);
        writing.0
    }

    /// Reads a state of version 1. Whether such a guest can be in it is another question.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != LEN {
            return Err(format!("{} bytes, a vCPU of version {VERSION} has {LEN}", bytes.len()));
        }
        let vectors = Vectors([0; FXSAVE]);
        let mut state = Self { regs: kvm_regs::default(), sregs: kvm_sregs::default(), vectors };
        state.visit(&mut Reading(bytes));
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every byte has its place in the state and comes back from there.
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), LEN)) {
            prop_assert_eq!(VcpuState::decode(&bytes).unwrap().encode(), bytes);
        }
    }

    #[test]
    fn another_length_is_refused() {
        for len in [0, LEN - 1, LEN + 1] {
            let fault = VcpuState::decode(&vec![0; len]).unwrap_err();
            assert_eq!(fault, format!("{len} bytes, a vCPU of version 1 has {LEN}"));
        }
    }

    #[test]
    fn the_order_is_that_of_the_description() {
        let mut state = VcpuState::decode(&[0; LEN]).unwrap();
        state.regs.rbx = 0x0102;
        state.regs.rflags = 2;
        state.sregs.cr3 = 0x1000;
        state.vectors.set_xmm0([7; 16]);
        let bytes = state.encode();
        assert_eq!(bytes[8..10], [2, 1]);
        assert_eq!(bytes[17 * 8], 2);
        assert_eq!(bytes[18 * 8 + 8 * 23 + 2 * 10 + 2 * 8 + 1], 0x10);
        assert_eq!(bytes[LEN - 16 * 16..LEN - 15 * 16], [7; 16]);
    }

    #[test]
    fn vectors_are_what_kvm_is_given_and_gives() {
        let mut vectors = Vectors(std::array::from_fn(|byte| byte as u8));
        assert_eq!(Vectors::of(&vectors.xsave()), vectors);
        vectors.set_xmm0([9; 16]);
        assert_eq!(Vectors::of(&vectors.xsave()).xmm0(), [9; 16]);
    }
}
