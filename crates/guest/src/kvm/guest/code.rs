//! What the vCPUs execute, as bytes.
//!
//! Two programs. *Write* goes on for ever: it steps a linear congruential generator, takes the page from its uppermost
//! bits, and stores the number of the write there; when its budget of writes is used up it asks the monitor for the next,
//! which is how it is paced. *List* adds one to each word that a list in memory names, and says that it is done. Neither has a
//! stack, takes an interrupt or looks at anything but its registers.
//!
//! The monitor is spoken to through a word of a device ([`Board::device`](super::board::Board::device)): reading it asks for a budget,
//! writing it says that a list is done. All of it runs unprivileged, as a program and not as a kernel: so the processor runs it even
//! on hosts that have to emulate what a kernel does, and nothing it needs is privileged.
//!
//! | register | of *write* |
//! |---|---|
//! | `rbx` | state of the generator |
//! | `r10`, `r11` | its multiplier and increment; a sequence is the generator that adds one page |
//! | `r12` | the state that it began with; never read, kept for whoever asks what memory must hold |
//! | `xmm0` | that state, and the number of the first page: so that state beyond the general registers must arrive too |
//! | `rbp` | writes so far |
//! | `rdi` | address of its own word in the first page that it writes |
//! | `cl`, `r8` | how far to shift the state, and what to keep of it: the page as an offset from `rdi` |
//! | `r13`, `r14` | writes that are left of its budget, and where it asks for the next |
//! | `rax` | scratch |

/// Offsets in [`CODE`] of the instructions of *write*, by what is done when they are the next.
pub(super) mod at {
    /// All that is counted is written.
    pub(in super::super) const MULTIPLY: u64 = 0;
    /// The state is half stepped.
    pub(in super::super) const ADD: u64 = 4;
    /// The state is that of the next write.
    pub(in super::super) const TAKE: u64 = 7;
    /// So it is.
    pub(in super::super) const SHIFT: u64 = 10;
    /// So it is.
    pub(in super::super) const MASK: u64 = 13;
    /// So it is.
    pub(in super::super) const COUNT: u64 = 16;
    /// The write is counted and not done.
    pub(in super::super) const STORE: u64 = 19;
    /// All that is counted is written, here and from here on.
    pub(in super::super) const SPEND: u64 = 23;
    /// So it is.
    pub(in super::super) const NEXT: u64 = 26;
    /// Where a new vCPU begins: its budget is used up.
    pub(in super::super) const ASK: u64 = 28;
    /// It has a new one.
    pub(in super::super) const AGAIN: u64 = 31;

    /// Where *list* begins.
    pub(in super::super) const LIST: u64 = 33;
}

/// Both programs, to be run at any page.
#[rustfmt::skip]
pub(super) const CODE: [u8; 53] = [
    // write:
    0x49, 0x0f, 0xaf, 0xda,     //  0  imul  rbx, r10           state · multiplier
    0x4c, 0x01, 0xdb,           //  4  add   rbx, r11                 + increment
    0x48, 0x89, 0xd8,           //  7  mov   rax, rbx
    0x48, 0xd3, 0xe8,           // 10  shr   rax, cl
    0x4c, 0x21, 0xc0,           // 13  and   rax, r8            the page, as an offset
    0x48, 0xff, 0xc5,           // 16  inc   rbp                the number of this write
    0x48, 0x89, 0x2c, 0x07,     // 19  mov   [rdi + rax], rbp
    0x49, 0xff, 0xcd,           // 23  dec   r13
    0x75, 0xe4,                 // 26  jnz   write
    0x45, 0x8b, 0x2e,           // 28  mov   r13d, [r14]        how many more?
    0xeb, 0xdf,                 // 31  jmp   write
    // list: rsi is where the list is, rdx how long it is, not zero
    0x48, 0x8b, 0x06,           // 33  mov   rax, [rsi]
    0x48, 0xff, 0x00,           // 36  inc   qword [rax]
    0x48, 0x83, 0xc6, 0x08,     // 39  add   rsi, 8
    0x48, 0xff, 0xca,           // 43  dec   rdx
    0x75, 0xf1,                 // 46  jnz   list
    0x41, 0x89, 0x06,           // 48  mov   [r14], eax         that was all
    0xeb, 0xfe,                 // 51  jmp   .                  until it is given other registers
];
