//! Real guests beside their simulation: the lab guest of a scenario is run, its dirty log harvested, and the same is
//! simulated at the same times.
//!
//! [`guest::lab_guest`] makes a lab guest of what a scenario says of its guest, [`here::Here`] puts it into this machine's memory,
//! [`run::watch`] runs it and makes a trace of what it dirties, [`beside::Beside`] sets that against the simulator's, [`text`]
//! tells it. [`journal`] is what a real migration leaves, and replays it. [`ground::Ground`] is what moving costs here,
//! [`fidelity::Fidelity`] a real migration beside the simulator's forecast. Nothing here migrates anything.

pub mod beside;
pub mod fidelity;
pub mod ground;
pub mod guest;
pub mod here;
pub mod journal;
pub mod run;
pub mod text;

#[cfg(test)]
mod tests;
