//! What tuning promises.

mod known;
mod nsga2;
mod results;
mod search;
mod space;
