//! Who may read, and who may command, where `http.token` is set.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kuroshio_core::secret::Secret;
use subtle::ConstantTimeEq;

use super::Shown;

/// Lets through who shows the token, if there is one.
pub(super) async fn ask(State(shown): State<Shown>, request: Request, next: Next) -> Response {
    if shown.is_open_to(request.headers()) {
        return next.run(request).await;
    }
    let mut refused = (
        StatusCode::UNAUTHORIZED,
        "the token of http.token is needed: Authorization: Bearer <token>\n",
    )
        .into_response();
    // Browsers ask for a password then; the name does not matter.
    for scheme in ["Bearer", "Basic realm=\"Kuroshio\""] {
        let headers = refused.headers_mut();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    refused
}

impl Shown {
    /// Whether there is no token, or these headers show it.
    pub(super) fn is_open_to(&self, headers: &HeaderMap) -> bool {
        let token = self.token.borrow();
        let Some(token) = &*token else {
            return true;
        };
        let shown = headers.get(header::AUTHORIZATION);
        shown.is_some_and(|shown| is_shown(token, shown.as_bytes()))
    }
}

/// Takes as long for every wrong token of a length.
fn is_shown(token: &Secret, authorization: &[u8]) -> bool {
    let mut parts = authorization.splitn(2, |byte| *byte == b' ');
    let scheme = parts.next().unwrap_or_default();
    let shown = parts.next().unwrap_or_default().trim_ascii_start();
    let same = |shown: &[u8]| bool::from(token.reveal().as_bytes().ct_eq(shown));
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return same(shown);
    }
    let password = || {
        let pair = STANDARD.decode(shown).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        Some(same(&pair[colon + 1..]))
    };
    scheme.eq_ignore_ascii_case(b"basic") && password().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_shown_as_it_is_or_as_a_password() {
        let token = Secret::from("s3cret");
        for (authorization, is) in [
            ("Bearer s3cret", true),
            ("bearer  s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3crets", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("", false),
            ("s3cret", false),
            ("Basic czNjcmV0", false),        // s3cret
            ("Basic OnMzY3JldA==", true),     // :s3cret
            ("Basic YWRtaW46czNjcmV0", true), // admin:s3cret
            ("Basic YWRtaW46czNjcmV1", false),
            ("Basic ???", false),
            ("Digest s3cret", false),
        ] {
            assert_eq!(is_shown(&token, authorization.as_bytes()), is, "{authorization}");
        }
    }
}
