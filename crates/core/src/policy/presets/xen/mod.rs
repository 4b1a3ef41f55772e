//! Xen's rules, oldest first: the one that its inventors published ([`clark`]), the code that Xen shipped
//! for a decade ([`classic`]), and what libxc does since ([`five`]). They share a guest and a product, no
//! code: each is as its source has it.

pub(super) mod clark;
pub(super) mod classic;
pub(super) mod five;

pub use self::clark::Clark2005;
pub use self::classic::{AdaptiveRate, XenClassic};
pub use self::five::Xen5;
