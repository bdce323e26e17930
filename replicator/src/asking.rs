//! HTTPS where we are who asks: running instances, and token servers.

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// TLS that trusts these roots alone.
#[must_use]
pub fn tls(roots: Vec<Certificate<'static>>) -> TlsConfig {
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build()
}

/// The system's; those that cannot be read are not among them.
#[must_use]
pub fn system_roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found
        .iter()
        .map(|root| Certificate::from_der(root).to_owned())
        .collect()
}

/// Those of a PEM file, at least one.
///
/// # Errors
/// The file and what is wrong with it, in words.
pub fn roots_of(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let bad = |why: String| format!("{}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
    let roots: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(root)) => Some(Ok(root)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}
