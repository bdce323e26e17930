//! TLS of the server. The files are looked at for every connection, so what was rotated holds for the next one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::config::HttpTls;

/// Who answers, as the files say.
pub(super) struct Identity {
    files: HttpTls,
    /// What the files held when `config` was made of them.
    read: [Vec<u8>; 2],
    config: Arc<ServerConfig>,
    /// What was last wrong with them since, so that it is told once.
    told: Option<String>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be used; the text names the key.
    pub(super) fn new(files: HttpTls) -> io::Result<Self> {
        let read = contents(&files);
        let made = read.and_then(|read| Ok((config(&files, &read)?, read)));
        let (config, read) = made.map_err(io::Error::other)?;
        Ok(Self {
            files,
            read,
            config: Arc::new(config),
            told: None,
        })
    }

    /// Encrypts a connection.
    pub(super) fn accept(&mut self, stream: TcpStream) -> Accept<TcpStream> {
        self.look();
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream)
    }

    /// Goes on with what was there while the files are being replaced, or are wrong.
    fn look(&mut self) {
        let renewed = match contents(&self.files) {
            Ok(read) if self.read == read => return,
            Ok(read) => config(&self.files, &read).map(|config| (config, read)),
            Err(why) => Err(why),
        };
        match renewed {
            Ok((config, read)) => {
                tracing::info!("the certificate of the HTTP server was renewed");
                self.config = Arc::new(config);
                self.read = read;
                self.told = None;
            }
            Err(error) if self.told.as_ref() != Some(&error) => {
                tracing::warn!(error, "the certificate of the HTTP server stays the old one");
                self.told = Some(error);
            }
            Err(_) => {}
        }
    }
}

fn contents(files: &HttpTls) -> Result<[Vec<u8>; 2], String> {
    let read = |key: &str, file: &Path| {
        fs::read(file).map_err(|error| format!("http.tls.{key}: {} cannot be read: {error}", file.display()))
    };
    Ok([
        read("cert_file", &files.cert_file)?,
        read("key_file", &files.key_file)?,
    ])
}

fn config(files: &HttpTls, [certificate, key]: &[Vec<u8>; 2]) -> Result<ServerConfig, String> {
    let (cert_file, key_file) = (files.cert_file.display(), files.key_file.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| format!("http.tls.cert_file: {cert_file}: {error}"))?;
    if chain.is_empty() {
        return Err(format!(
            "http.tls.cert_file: there is no certificate in {cert_file}"
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("http.tls.key_file: {key_file}: {error}"))?;
    let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = versions.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config
        .map_err(|error| format!("http.tls: {cert_file} and {key_file} do not go together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
