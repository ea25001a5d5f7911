//! ApiVersions: the served requests and their versions.
//!
//! Invariant: a client with an unknown version of ApiVersions gets our versions in version 0, which every client can
//! read.

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

/// The answer to an unsupported version.
pub(crate) fn refuse(correlation: i32) -> Result<BytesMut, Broken> {
    let answer = offered(&ApiVersionsRequest::default()).with_error_code(ResponseError::UnsupportedVersion.code());
    encode(ApiKey::ApiVersions, 0, correlation, &answer)
}
