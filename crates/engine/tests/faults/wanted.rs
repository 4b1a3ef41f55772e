//! What only these moves want of a world: other connections, disks that fail, a source that crashes.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_engine::stable;
use whimbrel_engine::transport::{Connect, Listen};

use super::world::World;

impl World {
    /// Both sides wait no longer than this for one another.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self.destination.patience = patience;
        self
    }

    /// The guest's writes are seen by the best dirty log of this machine.
    pub(crate) fn best_log(mut self) -> Self {
        self.best_log = true;
        self
    }

    /// Connections are of this kind.
    pub(crate) fn over(mut self, connect: Arc<dyn Connect>, listen: Arc<dyn Listen>) -> Self {
        (self.connect, self.host.listen) = (connect, listen);
        self
    }

    /// This goes wrong with the records of the source, and of the destination.
    pub(crate) fn disks(mut self, source: Vec<stable::Fault>, destination: Vec<stable::Fault>) -> Self {
        self.disks = [source, destination];
        self
    }

    /// This happens when the source is about to write *go*.
    pub(crate) fn at_go(mut self, act: impl FnMut() + Send + 'static) -> Self {
        self.at_go = Some(Box::new(act));
        self
    }
}
