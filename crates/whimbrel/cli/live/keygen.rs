//! `whimbrel keygen`: keys and certificates for TLS.

use anyhow::anyhow;
use serde_json::json;
use whimbrel_engine::transport::keys::{Keygen, KeygenError, Kind, keygen};

use super::super::args::{KeygenArgs, TextFormat};
use super::super::failure::Failure;
use super::super::print;

/// By which a host is connected to that was given no name: from this machine alone.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes them and says what was made.
pub(in crate::cli) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let names = if args.hosts.is_empty() { HERE.map(str::to_owned).to_vec() } else { args.hosts.clone() };
    let kind = match &args.signed_by {
        _ if args.ca => Kind::Authority,
        None => Kind::Host { names },
        Some(ca) => {
            let name = ca
                .file_name()
                .ok_or_else(|| Failure::BadInput(anyhow!("--signed-by {} names no CA", ca.display())))?;
            let file = |end: &str| {
                let mut name = name.to_owned();
                name.push(end);
                ca.with_file_name(name)
            };
            Kind::Signed { names, authority: file(".pem"), key: file(".key") }
        }
    };
    let what = Keygen {
        directory: args.out.clone(),
        name: args.name.clone(),
        kind,
        days: args.days,
        overwrite: args.force,
    };
    let made = keygen(&what).map_err(|error| match error {
        KeygenError::BadFileName { .. } | KeygenError::BadName { .. } | KeygenError::Authority(_) => {
            Failure::bad_input(error)
        }
        error => Failure::failed(error),
    })?;
    let (certificate, key) = (made.certificate.display().to_string(), made.key.display().to_string());
    let fingerprint = made.fingerprint.to_string();
    print(&match args.format {
        TextFormat::Table => {
            format!("certificate  {certificate}\nkey          {key}\nfingerprint  {fingerprint}\n")
        }
        TextFormat::Json => {
            format!("{:#}\n", json!({ "certificate": certificate, "key": key, "fingerprint": fingerprint }))
        }
    })
}
