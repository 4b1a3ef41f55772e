//! Which pages are dirty.
