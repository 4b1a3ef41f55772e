//! Another policy takes over at the source.

use super::Source;
use crate::controller::ReplaceError;
use crate::policy::Policy;
use crate::units::Timestamp;

impl Source {
    /// Lets another policy take over. What it waits for or has asked its driver to do goes on as it is; the
    /// policy is asked from the next moment on.
    ///
    /// # Errors
    ///
    /// As [`Controller::replace_policy`](crate::controller::Controller::replace_policy), and if how the migration ends is decided already. Nothing is
    /// changed then.
    pub fn replace_policy(&mut self, policy: Box<dyn Policy>, now: Timestamp) -> Result<(), ReplaceError> {
        if !self.has_a_say() {
            return Err(ReplaceError::Decided { policy: policy.name().to_owned() });
        }
        self.controller.replace_policy(policy, now)
    }

    /// Whether the policy will be asked again.
    pub fn has_a_say(&self) -> bool {
        self.phase.has_a_policy() && self.ending.is_none()
    }
}
