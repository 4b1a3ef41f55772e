//! The laboratory: scenarios, runs, tables, charts, reports, and validation against measured migrations.
//!
//! Data flows one way: a [`scenario`] becomes simulator setups, a run becomes a [`result`] record, records become
//! tables, [`chart`]s and [`page`]s. Nothing here decides anything about a migration.
//!
//! * where runs come from: [`scenario`], [`workloads`] (the built-in ones), [`import`] (real settings as a policy),
//!   [`mod@trace`] (what a guest wrote), [`measured`] (models of programs that were measured);
//! * what is done with them: [`sweep`], [`compare`], [`explain`], [`tune`], [`forecast`], [`validate`] (against
//!   measured migrations);
//! * what real guests dirty, beside their simulation: `real`;
//! * how they are judged: [`outcome`], [`stats`];
//! * how they are told: [`result`], [`table`], [`chart`], [`page`], [`report`], [`output`].
#![forbid(unsafe_code)]

pub mod chart;
pub mod compare;
pub mod explain;
pub mod forecast;
pub mod import;
mod input;
pub mod intents;
pub mod measured;
pub mod outcome;
pub mod output;
pub mod page;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod real;
pub mod report;
pub mod result;
pub mod scenario;
pub mod stats;
pub mod sweep;
pub mod table;
pub mod trace;
pub mod tune;
pub mod validate;
pub mod workloads;
