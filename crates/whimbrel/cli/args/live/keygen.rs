//! The arguments of `whimbrel keygen`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::super::TextFormat;
use super::super::values::whole;

/// Make a key and a certificate for TLS: of a host, signed by itself or by a CA made here, or of such a CA.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel keygen a --for a.example.org           a.pem and a.key; its peers pin the fingerprint that is printed
  whimbrel keygen ca --ca                         a CA of your own
  whimbrel keygen b --for b.example.org --for 10.0.0.7 --signed-by ca   signed by ca.pem with ca.key

Who pins a fingerprint (--tls-peer) accepts this key and no other, whatever names and dates are in the certificate. Who trusts
a CA (--tls-ca) accepts what it has signed; a host that is connected to must then have been named by --for.")]
pub(crate) struct KeygenArgs {
    /// What the files are called: NAME.pem is the certificate, NAME.key the private key, readable by you alone.
    pub(crate) name: String,
    /// A name or address by which the host is connected to; may be given many times. Without it, this machine's own.
    #[arg(long = "for", value_name = "HOST", conflicts_with = "ca")]
    pub(crate) hosts: Vec<String>,
    /// Makes a CA, which signs certificates of hosts.
    #[arg(long, conflicts_with = "signed_by")]
    pub(crate) ca: bool,
    /// The CA that signs it: the files NAME.pem and NAME.key that --ca has made; a path without the ending.
    #[arg(long, value_name = "NAME")]
    pub(crate) signed_by: Option<PathBuf>,
    /// For how many days it is valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = whole::<u32>(1..=36_500))]
    pub(crate) days: u32,
    /// Directory of the files. It must be there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Replaces files that are there.
    #[arg(long)]
    pub(crate) force: bool,
    /// Text to read, or JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}
