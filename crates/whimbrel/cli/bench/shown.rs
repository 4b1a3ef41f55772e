//! What a bench prints. A reader that closes the pipe has seen enough; what the moves come to is not decided by that.

use super::super::failure::Failure;
use super::super::print;

/// Standard output, until nobody reads it any more.
#[derive(Debug, Default)]
pub(super) struct Shown {
    closed: bool,
}

impl Shown {
    /// Prints it, if somebody reads.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.note(if self.closed { Ok(()) } else { print(text) })
    }

    fn note(&mut self, printed: Result<(), Failure>) -> Result<(), Failure> {
        match printed {
            Err(Failure::ClosedPipe) => {
                self.closed = true;
                Ok(())
            }
            printed => printed,
        }
    }

    /// When all else is done.
    pub(super) fn end(self) -> Result<(), Failure> {
        if self.closed { Err(Failure::ClosedPipe) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_until_all_else_is_done() {
        let mut shown = Shown::default();
        assert!(shown.note(Ok(())).is_ok() && !shown.closed);
        assert!(shown.note(Err(Failure::ClosedPipe)).is_ok());
        assert!(shown.print("nobody reads this").is_ok());
        assert!(matches!(shown.end(), Err(Failure::ClosedPipe)));
        let full = || Err(Failure::Failed(anyhow::anyhow!("no room")));
        assert!(matches!(Shown::default().note(full()), Err(Failure::Failed(_))));
    }
}
