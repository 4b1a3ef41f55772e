//! The laboratory: scenarios, runs, tables, charts, reports, and validation against measured migrations.
//!
//! Data flows one way: a [`scenario`] becomes simulator setups, a run becomes a [`result`] record, records
//! become tables, [`chart`]s and a [`report`]. [`validate`] takes measured migrations in place of a
//! scenario, [`import`] real settings as a policy. Nothing here decides anything about a migration.
#![forbid(unsafe_code)]

pub mod chart;
pub mod import;
pub mod measured;
pub mod output;
pub mod report;
pub mod result;
pub mod scenario;
pub mod sweep;
pub mod table;
pub mod validate;
