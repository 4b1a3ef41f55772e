//! The laboratory: scenarios, runs, tables, charts, reports, and validation against measured migrations.
//!
//! Data flows one way: a [`scenario`] becomes simulator setups, a run becomes a [`result`] record, records
//! become tables, [`chart`]s and a [`report`]. [`validate`] takes measured migrations in place of a
//! scenario, [`import`] real settings as a policy, [`mod@trace`] what a guest wrote. [`workloads`] are the built-in
//! scenarios, [`outcome`] and [`stats`] how runs are judged; [`explain`] says why a run went as it did.
//! Nothing here decides anything about a migration.
#![forbid(unsafe_code)]

pub mod chart;
pub mod explain;
pub mod import;
pub mod measured;
pub mod outcome;
pub mod output;
pub mod page;
pub mod report;
pub mod result;
pub mod scenario;
pub mod stats;
pub mod sweep;
pub mod table;
pub mod trace;
pub mod validate;
pub mod workloads;
