//! `tls` and `sasl` of a cluster.

use super::mistakes::{Mistakes, below};
use super::raw::{RawSasl, RawSecret, RawTls};
use super::words::Mechanism;
use super::{Sasl, Tls, TokenServer, User};

pub(super) fn tls(raw: RawTls, path: &str, mistakes: &mut Mistakes) -> Option<Tls> {
    let identity = match (raw.cert_file, raw.key_file) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (there, _) => {
            let (has, lacks) = if there.is_some() {
                ("cert_file", "key_file")
            } else {
                ("key_file", "cert_file")
            };
            let why = format!("a certificate and its key go together; add {lacks}, or remove it");
            mistakes.add(below(path, has), why);
            return None;
        }
    };
    Some(Tls {
        ca_file: raw.ca_file.map(Into::into),
        identity,
    })
}

/// Keys of `sasl` beside `mechanism`.
#[derive(Default)]
struct Keys {
    texts: Vec<(&'static str, Option<String>)>,
    secrets: Vec<(&'static str, Option<RawSecret>)>,
}

impl Keys {
    fn text(&mut self, key: &str) -> Option<String> {
        let (_, value) = self.texts.iter_mut().find(|(name, _)| *name == key)?;
        value.take()
    }

    fn secret(&mut self, key: &str) -> Option<RawSecret> {
        let (_, value) = self.secrets.iter_mut().find(|(name, _)| *name == key)?;
        value.take()
    }

    /// Those that nobody took.
    fn left(&self) -> impl Iterator<Item = &'static str> {
        let texts = self
            .texts
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| *key);
        let secrets = self.secrets.iter().filter(|(_, value)| value.is_some());
        texts.chain(secrets.map(|(key, _)| *key))
    }
}

/// Who we are, by the mechanism's own keys and no others.
pub(super) fn sasl(raw: RawSasl, tls: bool, path: &str, mistakes: &mut Mistakes) -> Option<Sasl> {
    let mut keys = Keys {
        texts: vec![
            ("username", raw.username),
            ("token_url", raw.token_url),
            ("client_id", raw.client_id),
            ("scope", raw.scope),
            ("aws_region", raw.aws_region),
            ("role_arn", raw.role_arn),
        ],
        secrets: vec![("password", raw.password), ("client_secret", raw.client_secret)],
    };
    let word = raw.mechanism.as_str();
    let found = match raw.mechanism {
        Mechanism::Plain => user(&mut keys).map(Sasl::Plain),
        Mechanism::ScramSha256 => user(&mut keys).map(Sasl::ScramSha256),
        Mechanism::ScramSha512 => user(&mut keys).map(Sasl::ScramSha512),
        Mechanism::Oauthbearer => {
            let server = token_server(&mut keys);
            if server.as_ref().is_ok_and(|server| !is_private(&server.url)) {
                mistakes.add(
                    below(path, "token_url"),
                    "would send the secret in clear; write https://",
                );
            }
            server.map(Sasl::OauthBearer)
        }
        Mechanism::AwsMskIam => {
            if !tls {
                mistakes.add(
                    path,
                    "a listener with IAM wants TLS; add `tls: {}` to the cluster",
                );
            }
            let role_arn = keys.text("role_arn").map(Into::into);
            let region = keys.text("aws_region").ok_or("aws_region");
            region.map(|region| Sasl::AwsMskIam {
                region: region.into(),
                role_arn,
            })
        }
    };
    match &found {
        Ok(_) => {
            for key in keys.left() {
                let why = format!("is not a key of the mechanism {word}; remove it");
                mistakes.add(below(path, key), why);
            }
        }
        Err(missing) => mistakes.add(path, format!("the mechanism {word} needs {missing}; add it")),
    }
    found.ok()
}

/// Nobody else reads what is sent there: HTTPS, or this machine.
fn is_private(url: &str) -> bool {
    let local = url.strip_prefix("http://").and_then(|rest| {
        let authority = rest.split(['/', '?']).next()?;
        let host = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'));
        Some(matches!(
            host.map_or(authority, |(host, _)| host),
            "localhost" | "127.0.0.1" | "[::1]"
        ))
    });
    url.starts_with("https://") || local.unwrap_or(false)
}

fn user(keys: &mut Keys) -> Result<User, &'static str> {
    Ok(User {
        name: keys.text("username").ok_or("username")?,
        password: keys.secret("password").ok_or("password")?.0.into(),
    })
}

fn token_server(keys: &mut Keys) -> Result<TokenServer, &'static str> {
    Ok(TokenServer {
        url: keys.text("token_url").ok_or("token_url")?,
        client_id: keys.text("client_id").ok_or("client_id")?,
        client_secret: keys.secret("client_secret").ok_or("client_secret")?.0.into(),
        scope: keys.text("scope"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_in_clear_to_this_machine_only() {
        for (url, private) in [
            ("https://idp.example/token", true),
            ("http://idp.example/token", false),
            ("http://localhost/token", true),
            ("http://localhost:8080/token", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080/", true),
            ("http://[::1]/", true),
            ("http://localhost.example/token", false),
            ("http://localhost@idp.example/", false),
            ("ftp://localhost/", false),
            ("", false),
        ] {
            assert_eq!(is_private(url), private, "{url}");
        }
    }
}
