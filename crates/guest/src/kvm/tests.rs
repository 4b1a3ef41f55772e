use super::*;

/// Whether there is KVM; says so if not.
pub(super) fn kvm() -> bool {
    match open() {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIPPED, no KVM here: {error}");
            false
        }
    }
}
