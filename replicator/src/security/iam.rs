//! Tokens for MSK's IAM: a presigned request to connect, as `aws-msk-iam-sasl-signer` of AWS makes it in other languages.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use kuroshio_core::secret::{Secret, Token};
use tokio::sync::OnceCell;

/// A token is good for so long.
const LIFE: Duration = Duration::from_secs(900);
/// Credentials are looked for no longer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Signs tokens for one region.
pub(super) struct Signer {
    region: Arc<str>,
    role_arn: Option<Arc<str>>,
    provider: OnceCell<SharedCredentialsProvider>,
}

impl Signer {
    pub(super) fn new(region: Arc<str>, role_arn: Option<Arc<str>>) -> Self {
        Self {
            region,
            role_arn,
            provider: OnceCell::new(),
        }
    }

    pub(super) async fn sign(&self, now: SystemTime) -> Result<Token, String> {
        let found = async {
            let provider = self.provider.get_or_try_init(|| self.provider()).await?;
            let found = provider.provide_credentials().await;
            found.map_err(|error| in_words(&error))
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        let found = found.map_err(|_| format!("AWS credentials: none within {PATIENCE:?}"))?;
        let credentials = found.map_err(|why| format!("AWS credentials: {why}"))?;
        token(&self.region, &credentials, now)
    }

    /// Where credentials come from: the environment, a web identity (IRSA), a container's (Pod Identity), a profile, an instance; and the role
    /// that they assume.
    async fn provider(&self) -> Result<SharedCredentialsProvider, String> {
        let client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.region.to_string()))
            .http_client(client)
            .load()
            .await;
        let Some(role) = &self.role_arn else {
            return config
                .credentials_provider()
                .ok_or_else(|| "there is no way to get any".to_owned());
        };
        let assumed = AssumeRoleProvider::builder(role.to_string())
            .session_name("kuroshio")
            .configure(&config);
        Ok(SharedCredentialsProvider::new(assumed.build().await))
    }
}

/// All that an error says, its causes too; it holds no key.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// A request to connect, signed and wrapped.
fn token(region: &str, credentials: &Credentials, now: SystemTime) -> Result<Token, String> {
    let host = format!("kafka.{region}.amazonaws.com");
    let url = format!("https://{host}/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFE);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kafka-cluster")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| format!("the token cannot be signed: {error}"))?;
    let unsigned = |error: &dyn std::error::Error| format!("the token cannot be signed: {}", in_words(error));
    let headers = std::iter::once(("host", host.as_str()));
    let request = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(&[]))
        .map_err(|error| unsigned(&error))?;
    let (signed, _) = sign(request, &params.into())
        .map_err(|error| unsigned(&error))?
        .into_parts();
    let mut request = http::Request::get(&url)
        .body(())
        .map_err(|error| unsigned(&error))?;
    signed.apply_to_request_http1x(&mut request);
    // Not part of what is signed; brokers log it.
    let url = format!(
        "{}&User-Agent=kuroshio%2F{}",
        request.uri(),
        env!("CARGO_PKG_VERSION")
    );
    // A token does not outlive who signed it.
    let expires = credentials
        .expiry()
        .map_or(now + LIFE, |expiry| expiry.min(now + LIFE));
    let ms = |at: SystemTime| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    Ok(Token {
        value: Secret::from(BASE64_URL_SAFE_NO_PAD.encode(url)),
        issued: ms(now),
        expires: ms(expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Field by field as AWS publishes it (its signers for Go and Java): a GET of `/?Action=kafka-cluster:Connect`, presigned for 900 seconds.
    #[test]
    fn a_token_is_a_presigned_request_to_connect() {
        let now = UNIX_EPOCH + Duration::from_secs(1_796_000_000);
        let expiry = |seconds| Some(now + Duration::from_secs(seconds));
        for (session, expires, life) in [
            (None, None, 900),
            (Some("sess/ion=="), expiry(3_600), 900),
            (None, expiry(60), 60),
        ] {
            let credentials = Credentials::new(
                "AKIDEXAMPLE",
                "planted",
                session.map(str::to_owned),
                expires,
                "test",
            );
            let token = token("ap-northeast-1", &credentials, now).unwrap();
            assert_eq!(
                (token.issued, token.expires),
                (1_796_000_000_000, 1_796_000_000_000 + 1_000 * life)
            );
            let value = token.value.reveal();
            assert!(
                !value.contains('=') && !value.contains('+') && !value.contains('/'),
                "{value}"
            );
            let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(value).unwrap()).unwrap();
            let query = url
                .strip_prefix("https://kafka.ap-northeast-1.amazonaws.com/?")
                .expect(&url);
            let mut fields: BTreeMap<&str, &str> = query
                .split('&')
                .filter_map(|field| field.split_once('='))
                .collect();
            let signature = fields.remove("X-Amz-Signature").unwrap();
            assert!(
                signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{signature}"
            );
            assert!(fields.remove("User-Agent").unwrap().starts_with("kuroshio%2F"));
            assert_eq!(
                fields.remove("X-Amz-Security-Token"),
                session.map(|_| "sess%2Fion%3D%3D")
            );
            let expected = [
                ("Action", "kafka-cluster%3AConnect"),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                (
                    "X-Amz-Credential",
                    "AKIDEXAMPLE%2F20261130%2Fap-northeast-1%2Fkafka-cluster%2Faws4_request",
                ),
                ("X-Amz-Date", "20261130T005320Z"),
                ("X-Amz-Expires", "900"),
                ("X-Amz-SignedHeaders", "host"),
            ];
            assert_eq!(fields, BTreeMap::from(expected));
        }
    }
}
