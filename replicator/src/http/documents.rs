//! Long answers: so many bytes of them at a time, until they have been read.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{self, Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::Semaphore;

/// Bytes of documents that may wait in memory for their readers; a longer one has all of it for itself. Ten thousand partitions make 1.5 MB of
/// metrics, a thousand groups over twenty partitions ten times as much.
pub(super) const WAITING_MAX: usize = 32 << 20;
/// Bytes are counted, and handed on, in units of so many.
const UNIT: usize = 16 << 10;

/// What `WAITING_MAX` is given out by.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(WAITING_MAX / UNIT))
}

/// Answers unless too much of earlier answers has not been read yet.
pub(super) async fn hold(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Nothing is drawn up while there is no room at all.
    let Ok(mut place) = Arc::clone(&room).try_acquire_owned() else {
        return refuse();
    };
    let (mut parts, body) = next.run(request).await.into_parts();
    let drawn = match body::to_bytes(body, usize::MAX).await {
        Ok(drawn) => drawn,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let units = (drawn.len() / UNIT).min(WAITING_MAX / UNIT - 1);
    match u32::try_from(units).map(|units| room.try_acquire_many_owned(units)) {
        Ok(Ok(rest)) => place.merge(rest),
        _ => return refuse(),
    }
    // While it was drawn up its buffer grew to up to twice its length.
    let text = Bytes::copy_from_slice(&drawn);
    drop(drawn);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    let pieces = (0..text.len()).step_by(UNIT).map(move |at| {
        // It goes with the last piece, or with the connection.
        let _held = &place;
        Ok::<_, Infallible>(text.slice(at..text.len().min(at + UNIT)))
    });
    Response::from_parts(parts, Body::from_stream(stream::iter(pieces)))
}

fn refuse() -> Response {
    let why = "too many callers are still reading their answers; try again\n";
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
