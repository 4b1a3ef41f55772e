//! What the vCPUs execute, as bytes.
//!
//! Two programs, of instructions that KVM can also emulate: some of its hosts have no other way. *Write* goes on for ever: it steps a linear congruential generator, takes the page from its uppermost
//! bits, and stores the number of the write there; when its budget of writes is used up it asks the monitor for the next,
//! which is how it is paced. *List* adds one to each word that a list in memory names, and halts. Neither has a stack, takes
//! an interrupt or looks at anything but its registers.
//!
//! | register | of *write* |
//! |---|---|
//! | `rbx` | state of the generator |
//! | `r10`, `r11` | its multiplier and increment; a sequence is the generator that adds one page |
//! | `r12` | the state that it began with; never read, kept for whoever asks what memory must hold |
//! | `xmm0` | the same as `r12`, twice: so that state beyond the general registers must arrive too |
//! | `rbp` | writes so far |
//! | `rdi` | address of its own word in the first page that it writes |
//! | `cl`, `r8` | how far to shift the state, and what to keep of it: the page as an offset from `rdi` |
//! | `r13` | writes that are left of its budget |
//! | `rax` | scratch |

/// The port where it asks for a budget.
pub(super) const PORT: u16 = 0x10;

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
    /// The budget is in `rax`.
    pub(in super::super) const GRANTED: u64 = 30;
    /// It is in place.
    pub(in super::super) const AGAIN: u64 = 33;

    /// Where *list* begins.
    pub(in super::super) const LIST: u64 = 36;
}

/// Both programs, to be run at any page.
#[rustfmt::skip]
pub(super) const CODE: [u8; 52] = [
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
    0xe5, PORT as u8,           // 28  in    eax, PORT          how many more?
    0x41, 0x89, 0xc5,           // 30  mov   r13d, eax
    0xeb, 0xdd,                 // 33  jmp   write
    0xf4,                       // 35  hlt                      never reached
    // list: rsi is where the list is, rdx how long it is, not zero
    0x48, 0x8b, 0x06,           // 36  mov   rax, [rsi]
    0x48, 0xff, 0x00,           // 39  inc   qword [rax]
    0x48, 0x83, 0xc6, 0x08,     // 42  add   rsi, 8
    0x48, 0xff, 0xca,           // 46  dec   rdx
    0x75, 0xf1,                 // 49  jnz   list
    0xf4,                       // 51  hlt
];
