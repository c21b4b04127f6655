//! `pod-id`: the EKS agent on the node, which trusts the token of the pod.
//!
//! aws-config has a provider for this, but none that fits: it takes the address and the token from the environment
//! alone, prefers `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, which the original does not know, and refuses a token file
//! that ends with a line break. One request is not worth giving the engine an environment.

use std::path::Path;

use aws_smithy_types::body::SdkBody;
use http::{HeaderValue, Request, StatusCode};

use super::{Result, exchange, from_json, parse_json, read_token, refused, unusable};
use crate::storage::s3::credentials::{CredentialSource, Fetched};

pub(in crate::storage::s3::credentials) async fn fetch_pod_id(
    source: &CredentialSource,
    url: &str,
    token_file: &Path,
) -> Result<Fetched> {
    let token = read_token(source, token_file).await?;
    let mut token =
        HeaderValue::from_str(&token).map_err(|_| unusable("the authorization token has control characters"))?;
    token.set_sensitive(true);
    let request = Request::get(url)
        .header(http::header::AUTHORIZATION, token)
        .body(SdkBody::empty())
        .map_err(|error| unusable(&format!("the address of the pod identity agent: {error}")))?;
    match exchange(source, request).await? {
        (StatusCode::OK, body) => from_json(&parse_json(&body)?),
        (status, body) => Err(refused(&source.redactions, "the pod identity agent", status, &body)),
    }
}
