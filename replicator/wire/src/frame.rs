//! Frames: a length, a header with a correlation id, a body. Pure but for [`read`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::Api;
use crate::counts;
use crate::settings::MAX_FRAME;

/// Memory taken at once for an announced frame; more only as bytes come, so that a false length costs nothing.
const STEP: usize = 1 << 20;

/// The bytes of a request, or why this version cannot carry it.
pub(crate) fn encode<R: Api>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: &StrBytes,
) -> Result<Bytes, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(client_id.clone()));
    let mut body = BytesMut::new();
    header
        .encode(&mut body, R::header_version(version))
        .map_err(|error| format!("{error:#}"))?;
    request
        .encode(&mut body, version)
        .map_err(|error| format!("{error:#}"))?;
    let length = i32::try_from(body.len()).map_err(|_| format!("{} bytes are no frame", body.len()))?;
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.put_i32(length);
    frame.extend_from_slice(&body);
    Ok(frame.freeze())
}

/// Reads the answer to a request of type `R` from the bytes of a frame.
pub(crate) fn decode<R: Api>(mut frame: Bytes, version: i16) -> Result<R::Response, String> {
    counts::read::<ResponseHeader>(&mut frame, R::Response::header_version(version))?;
    counts::read(&mut frame, version)
}

/// The correlation id of an answer.
pub(crate) fn correlation(frame: &Bytes) -> Option<i32> {
    frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Reads one frame, without its length. The error says what is wrong with the stream.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, String> {
    let announced = match stream.read_i32().await {
        Ok(announced) => announced,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err("closed by the broker".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    };
    let length = match usize::try_from(announced) {
        Ok(length) if (4..=MAX_FRAME).contains(&length) => length,
        _ => {
            return Err(format!(
                "it announced a frame of {announced} bytes, allowed are 4 to {MAX_FRAME}"
            ));
        }
    };
    let mut frame = BytesMut::with_capacity(length.min(STEP));
    while frame.len() < length {
        let missing = length - frame.len();
        frame.reserve(missing.min(STEP));
        let mut rest = (&mut frame).limit(missing);
        if stream
            .read_buf(&mut rest)
            .await
            .map_err(|error| error.to_string())?
            == 0
        {
            return Err(format!(
                "closed by the broker after {} of {length} bytes of an answer",
                frame.len()
            ));
        }
    }
    debug_assert_eq!(frame.remaining(), length);
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
    use proptest::prelude::*;

    #[test]
    fn a_request_has_length_header_and_body() {
        let client = StrBytes::from_static_str("me");
        let request = HeartbeatRequest::default()
            .with_group_id(StrBytes::from_static_str("g").into())
            .with_generation_id(7);
        // Heartbeat v0: header v1, body: group, generation, member.
        let frame = encode(&request, 0, 9, &client).unwrap();
        let expected = [
            &21_i32.to_be_bytes()[..],
            &12_i16.to_be_bytes(),
            &0_i16.to_be_bytes(),
            &9_i32.to_be_bytes(),
            &[0, 2, b'm', b'e'],
            &[0, 1, b'g'],
            &7_i32.to_be_bytes(),
            &[0, 0],
        ]
        .concat();
        assert_eq!(frame, expected);
    }

    #[test]
    fn what_a_version_cannot_carry_is_an_error() {
        let request =
            HeartbeatRequest::default().with_group_instance_id(Some(StrBytes::from_static_str("i")));
        assert!(encode(&request, 2, 1, &StrBytes::new()).is_err());
        assert!(encode(&request, 3, 1, &StrBytes::new()).is_ok());
    }

    #[tokio::test]
    async fn frames_are_read_one_by_one_and_cut_streams_refused() {
        let stream = [
            &6_i32.to_be_bytes()[..],
            &[0, 0, 0, 1, 8, 9],
            &4_i32.to_be_bytes(),
            &[0, 0, 0, 2],
        ]
        .concat();
        let mut whole = &stream[..];
        let first = read(&mut whole).await.unwrap();
        assert_eq!((correlation(&first), &first[4..]), (Some(1), &[8, 9][..]));
        assert_eq!(correlation(&read(&mut whole).await.unwrap()), Some(2));
        assert_eq!(read(&mut whole).await.unwrap_err(), "closed by the broker");
        let mut cut = &stream[..7];
        assert_eq!(
            read(&mut cut).await.unwrap_err(),
            "closed by the broker after 3 of 6 bytes of an answer"
        );
    }

    #[tokio::test]
    async fn lengths_out_of_bounds_are_refused() {
        for length in [
            -1,
            0,
            3,
            i32::MIN,
            i32::try_from(MAX_FRAME).unwrap() + 1,
            0x4854_5450,
        ] {
            let bytes = length.to_be_bytes();
            let error = read(&mut &bytes[..]).await.unwrap_err();
            assert!(error.contains(&format!("{length} bytes")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn answers_survive_the_wire(code in any::<i16>(), throttle in 0..i32::MAX, version in 1_i16..=4) {
            let answer = HeartbeatResponse::default().with_error_code(code).with_throttle_time_ms(throttle);
            let mut frame = BytesMut::new();
            ResponseHeader::default().with_correlation_id(3).encode(&mut frame, HeartbeatResponse::header_version(version)).unwrap();
            answer.encode(&mut frame, version).unwrap();
            let frame = frame.freeze();
            prop_assert_eq!(correlation(&frame), Some(3));
            prop_assert_eq!(decode::<HeartbeatRequest>(frame.clone(), version).unwrap(), answer);
            for cut in 0..frame.len() {
                prop_assert!(decode::<HeartbeatRequest>(frame.slice(..cut), version).is_err());
            }
        }
    }
}
