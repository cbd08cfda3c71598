//! Failures as answers of the control API.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use steading_api::{Failure, FailureKind};

/// A failure that is the answer to a request.
pub(crate) struct Failed(Failure);

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            FailureKind::BadRequest => StatusCode::BAD_REQUEST,
            FailureKind::VmEnded => StatusCode::CONFLICT,
            FailureKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            FailureKind::Failed | FailureKind::NoProgram | FailureKind::CannotStart => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(self.0)).into_response()
    }
}

/// A failure of this kind.
pub(crate) fn failed(kind: FailureKind, message: impl Into<String>) -> Failed {
    Failed(Failure::new(kind, message.into()))
}

/// A request that makes no sense.
pub(crate) fn bad_request(message: impl Into<String>) -> Failed {
    failed(FailureKind::BadRequest, message)
}
