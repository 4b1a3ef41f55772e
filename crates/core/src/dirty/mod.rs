//! Which pages are dirty, pending and in flight.
//!
//! | type | owned by | holds |
//! |---|---|---|
//! | [`DirtyBitmap`] | shared by vCPU threads and a harvester | pages written since the last harvest |
//! | [`PageSet`] | one owner | any set of pages |
//! | [`Backlog`] | the engine or the simulator | pages pending and in flight: the only place where a page could be lost; knows each of them or, fluid, how many are expected |
//!
//! All three number pages as a [`RamLayout`](crate::layout::RamLayout) does and keep two levels: a bit
//! a page, and above it a summary with a bit for a *line* of 512 pages. A huge guest that is nearly
//! clean therefore costs what is dirty, and a clean terabyte is a glance at 64 KiB of summary.
//!
//! Nothing here reads a clock, draws a random number or allocates after the first rounds.

mod backlog;
mod dirty_bitmap;
mod page_set;
mod primitive;
mod stock;
mod words;

pub use backlog::{Backlog, Block, Gate, GateError, Harvested, LineTake, Take, Taken};
pub use dirty_bitmap::DirtyBitmap;
pub use page_set::{PageSet, RangeError};
pub use stock::{Expected, Stock};
pub use words::{LINE_WORDS, Line, WORD_PAGES};
