//! Long answers: so many at a time, until they have been read.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{self, Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::Semaphore;

/// Documents in memory at a time. Ten thousand partitions make some MiB of each, and those who read slowly hold it.
pub(super) const DOCUMENTS_MAX: usize = 8;
/// Bytes that are handed on at a time.
const PIECE: usize = 16 << 10;

/// Answers unless too many answers are still being read.
pub(super) async fn hold(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        let why = "too many callers are still reading their answers; try again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let (mut parts, body) = next.run(request).await.into_parts();
    let length = body.size_hint().exact();
    let text = match body::to_bytes(body, usize::MAX).await {
        Ok(text) => text,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    if let Some(length) = length {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let pieces = (0..text.len()).step_by(PIECE).map(move |at| {
        // It goes with the last piece, or with the connection.
        let _held = &place;
        Ok::<_, Infallible>(text.slice(at..text.len().min(at + PIECE)))
    });
    Response::from_parts(parts, Body::from_stream(stream::iter(pieces)))
}
