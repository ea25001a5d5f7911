//! ApiVersions: what is offered.
//!
//! Invariant: a client that asks in a version of its own is told of ours in the one that every client reads.

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::OFFERED;
use crate::broker::frame::{Broken, encode};

pub(crate) fn offered(_: &ApiVersionsRequest) -> ApiVersionsResponse {
    let version = |(key, first, last): (ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(first).with_max_version(last)
    };
    ApiVersionsResponse::default().with_api_keys(OFFERED.map(version).to_vec())
}

/// The answer to a version that is not offered.
pub(crate) fn refuse(correlation: i32) -> Result<BytesMut, Broken> {
    let answer = offered(&ApiVersionsRequest::default()).with_error_code(ResponseError::UnsupportedVersion.code());
    encode(ApiKey::ApiVersions, 0, correlation, &answer)
}
