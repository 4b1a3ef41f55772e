//! What is to be expected of a migration, from what it has shown so far.
//!
//! Pieces that a policy or a progress display puts together: [`DirtyCurve`] is the writable working set as
//! seen so far (how many distinct pages a window of a given length dirties), [`SendRate`] how fast pages
//! go, [`HostPair`] what a handover costs beside the pages. [`Forecast`] joins them: the downtime if one
//! stopped now, the length of the next round and what it will leave, and after how many rounds the rest
//! will fit. All are plain values of fixed size; nothing here allocates, decides, or knows a policy's rule.
//!
//! That the dirty pages of a window are no rate times its length is old news: Clark 2005 measured the
//! *writable working set*, Akoush 2010 predicted migrations from such histories, and Nathan 2015 showed
//! that models with a constant rate fail because pages are dirtied again.

mod curve;
mod early;
mod host_pair;
mod mixture;
mod path;
mod rate;
mod working_set;

pub use self::curve::{DirtyCurve, Expected};
pub use self::early::Early;
pub use self::host_pair::HostPair;
pub(crate) use self::mixture::Mixture;
pub use self::path::{Forecast, Path};
pub use self::rate::SendRate;
pub(crate) use self::working_set::{Guessed, WorkingSet};

#[cfg(test)]
mod tests;
