//! TLS of connections to brokers: certificates are verified, and so is that they are for the name that was asked for.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::Unreachable;
use crate::settings::{Security, Tls};

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// What rustls says of an alert that came from the other side.
pub(crate) const ALERT: &str = "fatal alert";

/// The stream, encrypted if that is wanted.
pub(crate) async fn secure(
    stream: TcpStream,
    host: &str,
    security: &Security,
) -> Result<(Reader, Writer), Unreachable> {
    let Some(tls) = &security.tls else {
        let (reader, writer) = stream.into_split();
        return Ok((Box::new(reader), Box::new(writer)));
    };
    let config = config(tls).map_err(|why| Unreachable::Tls(why.into()))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Unreachable::Tls(format!("{host} is no name that a certificate can be for").into()))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| Unreachable::Tls(in_words(host, &error).into()))?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

/// Read anew each time: files that were rotated hold for the next connection.
pub(crate) fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(tls.ca_file.as_deref())?);
    let Some((cert_file, key_file)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| format!("key_file {}: {error}", key_file.display()))?;
    let identity = builder.with_client_auth_cert(chain, key);
    identity.map_err(|error| {
        format!(
            "cert_file {} with key_file {}: {error}",
            cert_file.display(),
            key_file.display()
        )
    })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("ca_file {}: {error}", file.display()))?;
            }
        }
        None => {
            // One that cannot be read is not trusted; that none can is an error.
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(
                    "the system has no roots to trust; install its ca-certificates, or set tls.ca_file"
                        .to_owned(),
                );
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: rustls::pki_types::pem::Error| format!("{}: {error}", file.display());
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(named)?.collect();
    let read = read.map_err(named)?;
    if read.is_empty() {
        return Err(format!("{}: there is no certificate in it", file.display()));
    }
    Ok(read)
}

/// What was wrong, and what may be done.
fn in_words(host: &str, error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(tls) = tls else {
        return format!("{error} (a listener that wants no TLS, or that closes at once?)");
    };
    match tls {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {host} has expired")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate that {host} shows is not for that name ({why})")
            }
            CertificateError::UnknownIssuer => format!(
                "the certificate of {host} is signed by nobody who is trusted here (set tls.ca_file to its roots)"
            ),
            other => format!("the certificate of {host} is not valid: {other}"),
        },
        Error::InvalidMessage(_) => {
            format!("what {host} answers is no TLS (the port of a plaintext listener?)")
        }
        Error::AlertReceived(alert) => refusal(&format!("{alert:?}")),
        other => other.to_string(),
    }
}

fn refusal(why: &str) -> String {
    format!("the broker refused us: {why} (does it trust the client certificate, tls.cert_file?)")
}

/// The broker said so in an alert, after the handshake.
pub(crate) fn refused(why: &str) -> Unreachable {
    Unreachable::Tls(refusal(why).into())
}
