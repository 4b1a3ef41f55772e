//! Makes keys and certificates: what `whimbrel keygen` does.
//!
//! Either each host has a certificate signed by itself, and its peers pin the fingerprint; or a CA signs one for each host, and
//! all trust the CA. Keys are ECDSA on the curve P-256, from the system's randomness. Files are in PEM format and come into
//! being whole or not at all; nothing is overwritten without being told to.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use super::tls::{Fingerprint, IdentityError, Trust};

/// How the name of every CA made here begins; a fingerprint of its key follows. So two CAs have two names, and the key alone is
/// enough to know the name that a certificate has to give as its signer's.
const AUTHORITY: &str = "whimbrel migration CA";

/// Clocks differ: a certificate is valid from this much before it was made.
const BEFORE: Duration = Duration::hours(1);

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct Keygen {
    /// Where the files go. It must be there.
    pub directory: PathBuf,
    /// What the files are called: `NAME.pem` is the certificate, `NAME.key` the key.
    pub name: String,
    /// What is made.
    pub kind: Kind,
    /// For how many days the certificate is valid, 1 to 36,500.
    pub days: u32,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
}

/// Kinds of certificates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Of a host, signed by itself: its peers pin the fingerprint.
    Host {
        /// Names and addresses by which it is connected to.
        names: Vec<String>,
    },
    /// Of a CA.
    Authority,
    /// Of a host, signed by a CA that was made here.
    Signed {
        /// Names and addresses by which it is connected to.
        names: Vec<String>,
        /// The CA's certificate.
        authority: PathBuf,
        /// The CA's key.
        key: PathBuf,
    },
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The file with the certificate, readable by all.
    pub certificate: PathBuf,
    /// The file with the private key, readable by this user alone.
    pub key: PathBuf,
    /// By which the certificate is pinned.
    pub fingerprint: Fingerprint,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeygenError {
    /// A file is there.
    #[error("{} is there already, and is replaced only if that is asked for", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A file was not written.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A name that cannot be part of a file's name.
    #[error(
        "`{name}` is no name for a file: accepted are letters, digits, `.`, `-` and `_`, not beginning with a dot"
    )]
    BadFileName {
        /// What was given.
        name: String,
    },
    /// A certificate that nobody could be connected to by.
    #[error("a host's certificate needs a name or an address by which it is connected to")]
    NoNames,
    /// A name that nobody can be connected to by.
    #[error(
        "`{name}` is neither a host name nor an address: accepted are names as `alpha.example` and addresses as `10.0.0.7` or \
         `fd00::7`, without a port and without brackets"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// A time that makes no sense.
    #[error("a certificate cannot be valid for {days} days: accepted are 1 to 36500")]
    BadDays {
        /// What was given.
        days: u32,
    },
    /// The CA's files cannot be used.
    #[error("the CA cannot be used")]
    Authority(#[source] IdentityError),
    /// The CA was not made here, or its files do not belong together.
    #[error("what {} signs is not accepted by {}: only a CA made by keygen can sign here", key.display(), authority.display())]
    NotAccepted {
        /// The CA's key.
        key: PathBuf,
        /// The CA's certificate.
        authority: PathBuf,
        /// What a peer would say.
        #[source]
        cause: rustls::Error,
    },
    /// The library failed.
    #[error("the certificate cannot be made")]
    Failed(#[source] rcgen::Error),
}

/// Makes a key and a certificate, and writes both.
///
/// # Errors
///
/// [`KeygenError`]; no file is then new or changed, except that with [`Keygen::overwrite`] a crash between the two
/// replacements leaves a pair that does not belong together, which [`super::tls::Identity::from_files`] refuses.
pub fn keygen(what: &Keygen) -> Result<Made, KeygenError> {
    let files = Files::new(what)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeygenError::Failed)?;
    let certificate = match &what.kind {
        Kind::Authority => authority(&key, what.days)?.self_signed(&key).map_err(KeygenError::Failed)?,
        Kind::Host { names } => host(names, what.days)?.self_signed(&key).map_err(KeygenError::Failed)?,
        Kind::Signed { names, authority, key: signer } => {
            sign(&host(names, what.days)?, &key, authority, signer)?
        }
    };
    files.write(&certificate.pem(), &key.serialize_pem(), what.overwrite)?;
    let fingerprint = Fingerprint::of(certificate.der());
    Ok(Made { certificate: files.certificate, key: files.key, fingerprint })
}

fn params(names: &[String], days: u32) -> Result<CertificateParams, KeygenError> {
    if !(1..=36_500).contains(&days) {
        return Err(KeygenError::BadDays { days });
    }
    let mut params = CertificateParams::default();
    for name in names {
        // As a source reads it when it connects: rcgen takes nearly anything, and nobody could ever use the certificate.
        ServerName::try_from(name.as_str()).map_err(|_| KeygenError::BadName { name: name.clone() })?;
        let one = CertificateParams::new(vec![name.clone()]).map_err(KeygenError::Failed)?;
        params.subject_alt_names.extend(one.subject_alt_names);
    }
    let now = OffsetDateTime::from(SystemTime::now());
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(i64::from(days));
    Ok(params)
}

fn authority(key: &KeyPair, days: u32) -> Result<CertificateParams, KeygenError> {
    let mut params = params(&[], days)?;
    params.distinguished_name = authority_name(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn authority_name(key: &KeyPair) -> DistinguishedName {
    let fingerprint = Fingerprint::of(key.public_key_raw()).to_string();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{AUTHORITY} {fingerprint:.23}"));
    name
}

/// Every host sends and receives, so its certificate is good for both.
fn host(names: &[String], days: u32) -> Result<CertificateParams, KeygenError> {
    let first = names.first().ok_or(KeygenError::NoNames)?;
    let mut params = params(names, days)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// Signs with a CA made here, and looks whether a peer that trusts it would accept the result.
fn sign(
    params: &CertificateParams,
    key: &KeyPair,
    authority: &Path,
    signer: &Path,
) -> Result<rcgen::Certificate, KeygenError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |cause| KeygenError::Authority(IdentityError::Unreadable { path, cause })
    };
    let trust = Trust::authority_from_file(authority).map_err(KeygenError::Authority)?;
    let text = fs::read_to_string(signer).map_err(unreadable(signer))?;
    let signing = KeyPair::from_pem(&text).map_err(KeygenError::Failed)?;
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = authority_name(&signing);
    issuer.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let made = params.signed_by(key, &Issuer::new(issuer, signing)).map_err(KeygenError::Failed)?;
    trust.accepts(made.der(), UnixTime::now()).map_err(|cause| KeygenError::NotAccepted {
        key: signer.to_owned(),
        authority: authority.to_owned(),
        cause,
    })?;
    Ok(made)
}

/// The two files.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Looks first whether they are there, so that nothing is made in vain.
    fn new(what: &Keygen) -> Result<Self, KeygenError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let name = &what.name;
        if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
            return Err(KeygenError::BadFileName { name: name.clone() });
        }
        let [certificate, key] = ["pem", "key"].map(|end| what.directory.join(format!("{name}.{end}")));
        for path in [&certificate, &key] {
            if !what.overwrite && fs::symlink_metadata(path).is_ok() {
                return Err(KeygenError::Exists { path: path.clone() });
            }
        }
        Ok(Self { certificate, key })
    }

    fn write(&self, certificate: &str, key: &str, overwrite: bool) -> Result<(), KeygenError> {
        let key = Draft::new(&self.key, key, 0o600)?;
        let certificate = Draft::new(&self.certificate, certificate, 0o644)?;
        key.publish(overwrite)?;
        let result = certificate.publish(overwrite);
        if result.is_err() && !overwrite {
            // It is the one that was just made: nothing was there before.
            let _ = fs::remove_file(&self.key);
        }
        result?;
        sync_directory(&self.certificate)
    }
}

/// A file that is on disk, but not under its name yet. Dropping it removes it.
struct Draft<'a> {
    path: &'a Path,
    draft: PathBuf,
}

impl<'a> Draft<'a> {
    fn new(path: &'a Path, text: &str, mode: u32) -> Result<Self, KeygenError> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", process::id()));
        let draft = Self { path, draft: path.with_file_name(name) };
        let failed = |cause| KeygenError::Unwritable { path: draft.draft.clone(), cause };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft.draft).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(draft)
    }

    /// Gives it its name. A link, unlike a renaming, fails if somebody was faster.
    fn publish(&self, overwrite: bool) -> Result<(), KeygenError> {
        let result = if overwrite {
            fs::rename(&self.draft, self.path)
        } else {
            fs::hard_link(&self.draft, self.path)
        };
        result.map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => KeygenError::Exists { path: self.path.to_owned() },
            _ => KeygenError::Unwritable { path: self.path.to_owned(), cause },
        })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.draft);
    }
}

/// Names are part of the directory, and on disk only when that is.
fn sync_directory(file: &Path) -> Result<(), KeygenError> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |cause| KeygenError::Unwritable { path: parent.to_owned(), cause };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests;
