//! `healthcheck unix`: what the startup probe of a sidecar runs.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How long the server may take to answer. A probe of a pod waits 10 s.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It could not be asked: why.
    Unreachable(String),
    /// It does not know.
    Unknown,
    /// It does not serve.
    NotServing,
    /// It says something else: the number of its answer.
    Other(i32),
}

impl Health {
    /// The exit code of the check.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::Unreachable(_) => 1,
            Self::Unknown => 2,
            Self::NotServing => 3,
            Self::Other(_) => 125,
        }
    }
}

/// Asks the server behind a socket.
pub async fn check(socket: &Path) -> Health {
    match tokio::time::timeout(ANSWER_TIME_MAX, ask(socket)).await {
        Ok(Ok(status)) => match ServingStatus::try_from(status) {
            Ok(ServingStatus::Serving) => Health::Serving,
            Ok(ServingStatus::Unknown) => Health::Unknown,
            Ok(ServingStatus::NotServing) => Health::NotServing,
            _ => Health::Other(status),
        },
        Ok(Err(reason)) => Health::Unreachable(reason),
        Err(_) => Health::Unreachable(format!("no answer in {} s", ANSWER_TIME_MAX.as_secs())),
    }
}

async fn ask(socket: &Path) -> Result<i32, String> {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| with_causes(&error))?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.map(|answer| answer.into_inner().status).map_err(|status| status.to_string())
}

/// tonic's own text is "transport error"; what happened is among its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
