//! What a vCPU writes, as its registers hold it, and what memory must hold for it.
//!
//! A vCPU that has written `n` times has stored the number of a page's last write in a word of its own of that page. The generator
//! can be led backwards from where it is, so that is known without playing all writes, however many there were: it is enough
//! to go back until every page has been met.

use kvm_bindings::kvm_regs;

use whimbrel_core::layout::{Gpa, PageNumber, PageRun, RamLayout};
use whimbrel_core::units::Pages;

use super::board::Board;
use super::code::at;

/// In which order a vCPU writes its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// Any of them, each as likely as any other, by a generator that begins with `seed`.
    Uniform {
        /// Where it begins.
        seed: u64,
    },
    /// One after the other, and again from the first.
    Sequential,
}

/// What one vCPU writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    /// Its working set: a power of two of pages, with addresses that follow each other.
    pub pages: PageRun,
    /// In which order.
    pub pattern: Pattern,
}

/// Pages that no vCPU can write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The generator gives pages by whole bits.
    #[error("a vCPU writes a power of two of pages, not {pages}")]
    NoPowerOfTwo {
        /// How many were asked for.
        pages: u64,
    },
    /// Not all of it is guest memory, or there is a hole in it.
    #[error("pages {first} to {last} are not guest memory without a hole")]
    NotMemory {
        /// The first of them.
        first: PageNumber,
        /// The last.
        last: PageNumber,
    },
}

/// The generator: `state · multiplier + increment`, modulo 2⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Generator {
    multiplier: u64,
    increment: u64,
}

/// The generator of uniform writes: Knuth's for 64 bits, as in MMIX.
const UNIFORM: Generator =
    Generator { multiplier: 6_364_136_223_846_793_005, increment: 1_442_695_040_888_963_407 };

impl Generator {
    /// The generator of a sequence over 2^`pages` pages. The page is in the uppermost bits; for a single page there are none.
    fn sequential(pages: u32) -> Self {
        Self { multiplier: 1, increment: 1_u64.checked_shl(64 - pages).unwrap_or(0) }
    }

    fn step(self, state: u64) -> u64 {
        state.wrapping_mul(self.multiplier).wrapping_add(self.increment)
    }

    /// The state after `steps` steps: each bit of `steps` doubles the step (F. Brown, 1994).
    fn jump(self, state: u64, mut steps: u64) -> u64 {
        let (mut state, mut far) = (state, self);
        while steps != 0 {
            if steps & 1 != 0 {
                state = far.step(state);
            }
            far = Self {
                multiplier: far.multiplier.wrapping_mul(far.multiplier),
                increment: far.increment.wrapping_mul(far.multiplier).wrapping_add(far.increment),
            };
            steps >>= 1;
        }
        state
    }

    /// The generator that steps backwards; the multiplier is odd.
    fn inverse(self) -> Self {
        // Newton's iteration doubles the bits that are right; a number is its own inverse modulo 8.
        let inverse = (0..5).fold(self.multiplier, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(self.multiplier.wrapping_mul(inverse)))
        });
        Self { multiplier: inverse, increment: self.increment.wrapping_neg().wrapping_mul(inverse) }
    }
}

/// What a vCPU writes, as registers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The first page.
    first: PageNumber,
    /// As a power of two.
    pages: u32,
    generator: Generator,
    start: u64,
}

impl Task {
    /// The task of `writer` in memory of this layout.
    pub(super) fn new(writer: Writer, layout: &RamLayout) -> Result<Self, WriterError> {
        let PageRun { first, count: Pages(count) } = writer.pages;
        if !count.is_power_of_two() {
            return Err(WriterError::NoPowerOfTwo { pages: count });
        }
        let last = PageNumber(first.0.saturating_add(count - 1));
        let pages = count.ilog2();
        let hole = || WriterError::NotMemory { first, last };
        let (start, end) = layout.address_of(first).zip(layout.address_of(last)).ok_or_else(hole)?;
        if end.0 - start.0 != (count - 1) << layout.page_size().shift() {
            return Err(hole());
        }
        let (generator, start) = match writer.pattern {
            Pattern::Uniform { seed } => (UNIFORM, seed),
            Pattern::Sequential => {
                let generator = Generator::sequential(pages);
                (generator, generator.increment.wrapping_neg())
            }
        };
        Ok(Self { first, pages, generator, start })
    }

    pub(super) fn run(&self) -> PageRun {
        PageRun { first: self.first, count: Pages(1 << self.pages) }
    }

    /// Registers of vCPU `vcpu` before its first write.
    pub(super) fn boot(&self, vcpu: usize, layout: &RamLayout, board: &Board) -> kvm_regs {
        kvm_regs { rip: board.entry(at::ASK), rbx: self.start, ..self.fixed(vcpu, layout, board) }
    }

    /// `xmm0`, from the first write on: what else would be believed of `r12` and `rdi`, whatever they are.
    pub(super) fn vector(&self) -> [u8; 16] {
        (u128::from(self.first.0) << 64 | u128::from(self.start)).to_le_bytes()
    }

    /// What of the registers never changes; zero in the others.
    fn fixed(&self, vcpu: usize, layout: &RamLayout, board: &Board) -> kvm_regs {
        let shift = layout.page_size().shift();
        let first = layout.address_of(self.first).unwrap_or_default();
        kvm_regs {
            rdi: first.0 + 8 * vcpu as u64,
            rcx: u64::from(64 - shift - self.pages),
            r8: ((1 << self.pages) - 1) << shift,
            r10: self.generator.multiplier,
            r11: self.generator.increment,
            r12: self.start,
            r14: board.device().0,
            rflags: RFLAGS,
            ..kvm_regs::default()
        }
    }

    /// The page that the generator means.
    fn page(&self, state: u64) -> u64 {
        state.checked_shr(64 - self.pages).unwrap_or(0)
    }

    /// The number of the last write to each page, in their order; zero for those that were never written.
    pub(super) fn last_writes(&self, writes: u64) -> Vec<u64> {
        let mut last = vec![0; 1 << self.pages];
        let mut missing = last.len();
        let (back, mut state) = (self.generator.inverse(), self.generator.jump(self.start, writes));
        for number in (1..=writes).rev() {
            let last = &mut last[self.page(state) as usize];
            if *last == 0 {
                *last = number;
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
            state = back.step(state);
        }
        last
    }
}

/// The bit of the flags that is always set; no interrupts.
pub(super) const RFLAGS: u64 = 1 << 1;

/// Flags that instructions leave behind: carry, parity, adjust, zero, sign, overflow, and what the processor notes of one that it is
/// to resume.
const LEFT_BEHIND: u64 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 11 | 1 << 16;

/// The first of the registers that never change which is not as `fixed` has it.
fn changed(registers: &kvm_regs, fixed: &kvm_regs) -> Option<&'static str> {
    let pairs = [
        ("rcx", registers.rcx, fixed.rcx),
        ("rdx", registers.rdx, fixed.rdx),
        ("rsi", registers.rsi, fixed.rsi),
        ("rdi", registers.rdi, fixed.rdi),
        ("rsp", registers.rsp, fixed.rsp),
        ("r8", registers.r8, fixed.r8),
        ("r9", registers.r9, fixed.r9),
        ("r10", registers.r10, fixed.r10),
        ("r11", registers.r11, fixed.r11),
        ("r12", registers.r12, fixed.r12),
        ("r14", registers.r14, fixed.r14),
        ("r15", registers.r15, fixed.r15),
        ("rflags", registers.rflags & !LEFT_BEHIND, fixed.rflags),
    ];
    pairs.into_iter().find(|(_, found, fixed)| found != fixed).map(|(name, ..)| name)
}

/// How far a vCPU has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) task: Task,
    /// Writes that are in memory.
    pub(super) writes: u64,
}

impl Progress {
    /// Reads registers, of vCPU `vcpu` in such memory with such a board, and checks that they fit together: the
    /// generator is where it must be after so many writes, and what never changes is as it was. `vector` is `xmm0`.
    pub(super) fn read(
        registers: &kvm_regs,
        vector: [u8; 16],
        vcpu: usize,
        layout: &RamLayout,
        board: &Board,
    ) -> Result<Self, String> {
        let task = task(registers, vcpu, layout)?;
        if let Some(name) = changed(registers, &task.fixed(vcpu, layout, board)) {
            return Err(format!("`{name}` never changes, and has"));
        }
        let offset = registers.rip.wrapping_sub(board.code().0);
        let counted = registers.rbp;
        let (steps, writes) = match offset {
            at::MULTIPLY | at::ADD | at::SPEND | at::NEXT | at::ASK | at::AGAIN => (counted, counted),
            at::TAKE | at::SHIFT | at::MASK | at::COUNT => (counted.wrapping_add(1), counted),
            at::STORE => (counted, counted.wrapping_sub(1)),
            _ => return Err(format!("{:#x} is no instruction of this guest", registers.rip)),
        };
        let state = task.generator.jump(task.start, steps);
        let state = if offset == at::ADD { state.wrapping_mul(task.generator.multiplier) } else { state };
        if registers.rbx != state {
            return Err(format!("its generator is not where {counted} writes bring it"));
        }
        if vector != task.vector() {
            return Err("its vector registers are not those it began with".into());
        }
        Ok(Self { task, writes })
    }
}

/// The task that registers hold, as far as they can be those of one.
fn task(registers: &kvm_regs, vcpu: usize, layout: &RamLayout) -> Result<Task, String> {
    let wrong = || "what it writes is not memory of this guest".to_owned();
    let word = 8 * vcpu as u64;
    let first = registers.rdi.checked_sub(word).map(Gpa).ok_or_else(wrong)?;
    let page =
        layout.page_at(first).filter(|&page| layout.address_of(page) == Some(first)).ok_or_else(wrong)?;
    let count = (registers.r8 >> layout.page_size().shift()) + 1;
    let pages = PageRun { first: page, count: Pages(count) };
    // Whatever the pattern: only the generator differs.
    let task = Task::new(Writer { pages, pattern: Pattern::Sequential }, layout).map_err(|_| wrong())?;
    let generator = Generator { multiplier: registers.r10, increment: registers.r11 };
    if generator != UNIFORM && generator != Generator::sequential(task.pages) {
        return Err("no vCPU of such a guest has this generator".into());
    }
    Ok(Task { generator, start: registers.r12, ..task })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use whimbrel_core::layout::PageSize;
    use whimbrel_core::units::ByteCount;

    fn layout() -> RamLayout {
        RamLayout::contiguous(ByteCount::mib(1), PageSize::Kib4).unwrap()
    }

    fn writer(pages: u64, pattern: Pattern) -> Writer {
        Writer { pages: PageRun { first: PageNumber(3), count: Pages(pages) }, pattern }
    }

    proptest! {
        /// Going back from where the generator is finds what playing all writes finds.
        #[test]
        fn going_back_finds_the_last_write_to_each_page(
            pages in 0_u32..7,
            seed in prop::option::of(any::<u64>()),
            writes in 0_u64..2000,
        ) {
            let pattern = seed.map_or(Pattern::Sequential, |seed| Pattern::Uniform { seed });
            let task = Task::new(writer(1 << pages, pattern), &layout()).unwrap();
            let mut played = vec![0; 1 << pages];
            let mut state = task.start;
            for number in 1..=writes {
                state = task.generator.step(state);
                played[task.page(state) as usize] = number;
            }
            prop_assert_eq!(state, task.generator.jump(task.start, writes));
            prop_assert_eq!(task.last_writes(writes), played);
        }
    }

    #[test]
    fn a_sequence_begins_with_the_first_page_and_comes_round() {
        let task = Task::new(writer(4, Pattern::Sequential), &layout()).unwrap();
        assert_eq!(task.last_writes(3), [1, 2, 3, 0]);
        assert_eq!(task.last_writes(6), [5, 6, 3, 4]);
    }

    #[test]
    fn uniform_writes_are_uniform() {
        let task = Task::new(writer(64, Pattern::Uniform { seed: 1 }), &layout()).unwrap();
        let mut counts = [0_u32; 64];
        let mut state = task.start;
        for _ in 0..64_000 {
            state = task.generator.step(state);
            counts[task.page(state) as usize] += 1;
        }
        // Five standard deviations of a binomial around 1,000.
        assert!(counts.iter().all(|count| (842..=1158).contains(count)), "{counts:?}");
    }

    #[test]
    fn pages_that_cannot_be_written_are_refused() {
        assert_eq!(
            Task::new(writer(3, Pattern::Sequential), &layout()),
            Err(WriterError::NoPowerOfTwo { pages: 3 })
        );
        let beyond = WriterError::NotMemory { first: PageNumber(3), last: PageNumber(258) };
        assert_eq!(Task::new(writer(256, Pattern::Sequential), &layout()), Err(beyond));
        let none = WriterError::NoPowerOfTwo { pages: 0 };
        assert_eq!(Task::new(writer(0, Pattern::Sequential), &layout()), Err(none));
    }
}
