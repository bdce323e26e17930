//! Callers who want TLS, and certificates that change.

use super::*;

/// Who signs, and a certificate with its key for 127.0.0.1.
fn signed() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    (root, certificate, key.serialize_pem())
}

/// Files of a server in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
    tls: HttpTls,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = HttpTls {
            cert_file: folder.path().join("cert.pem"),
            key_file: folder.path().join("key.pem"),
        };
        Self { folder, tls }
    }

    fn put(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn bind(&self) -> io::Result<Door> {
        bind(([127, 0, 0, 1], 0).into(), Some(self.tls.clone())).await
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let files = Files::new();
    let refused = async || files.bind().await.err().unwrap().to_string();
    let ((_, certificate, key), (_, _, other_key)) = (signed(), signed());
    let why = refused().await;
    assert!(
        why.starts_with("http.tls.cert_file: ") && why.contains("cannot be read"),
        "{why}"
    );
    files.put("cert.pem", "nothing");
    let why = refused().await;
    assert!(
        why.starts_with("http.tls.key_file: ") && why.contains("cannot be read"),
        "{why}"
    );
    files.put("key.pem", &other_key);
    assert!(
        refused().await.contains("there is no certificate in"),
        "{}",
        refused().await
    );
    files.put("cert.pem", &certificate);
    assert!(
        refused().await.contains("do not go together"),
        "{}",
        refused().await
    );
    files.put("key.pem", &key);
    assert!(files.bind().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_callers_of_our_own_know_whom_to_trust() {
    let files = Files::new();
    let ((first, certificate, key), (second, other, other_key)) = (signed(), signed());
    files.put("cert.pem", &certificate);
    files.put("key.pem", &key);
    let (first, second) = (files.put("first.pem", &first), files.put("second.pem", &second));
    let door = files.bind().await.unwrap();
    let (at, stop) = (door.address().unwrap(), CancellationToken::new());
    let server = tokio::spawn(serve(door, guarded(), stop.clone()));
    let status = async |token: Option<&str>, root: &std::path::Path| {
        let (token, root) = (token.map(Into::into), root.to_owned());
        let ask = move || {
            let instance = crate::show::Instance::new(&format!("https://{at}"), token, Some(&root));
            let status = instance.unwrap().status();
            status
                .map(|status| status.instance)
                .map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    };
    assert_eq!(status(Some("s3cret"), &first).await.unwrap(), "pod-0");
    for token in [None, Some("wrong")] {
        let error = status(token, &first).await.unwrap_err();
        assert!(
            error.contains("401") && error.contains("KUROSHIO_TOKEN"),
            "{error}"
        );
        assert!(!error.contains("wrong") && !error.contains("s3cret"), "{error}");
    }
    let error = status(Some("s3cret"), &second).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    // Whoever speaks no TLS is told nothing.
    assert!(!answer(at, "/livez").await.contains("HTTP/1.1"));

    // Half of the files are there: the old ones hold.
    files.put("cert.pem", &other);
    assert!(status(Some("s3cret"), &first).await.is_ok());
    files.put("key.pem", &other_key);
    assert!(status(Some("s3cret"), &second).await.is_ok());
    assert!(status(Some("s3cret"), &first).await.is_err());
    stop.cancel();
    server.await.unwrap();
}
