//! What went wrong with a request, as the one document that every status from 400 up carries.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::ControlError;
use crate::api::wire::{ErrorDocument, NO_SUCH_PATH, Situation};
use crate::model::{Diagnostic, Exit};

/// Describes what went wrong with a request.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    status: StatusCode,
    document: ErrorDocument,
    /// In how many seconds it is worth asking again.
    retry_after: Option<u64>,
}

impl From<ControlError> for ErrorResponse {
    fn from(error: ControlError) -> Self {
        let (status, document) = ErrorDocument::from_error(&error, None);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = matches!(error, ControlError::Unreachable(_) | ControlError::OperationRunning { .. }).then_some(1);
        Self { status, document, retry_after }
    }
}

impl ErrorResponse {
    /// Returns the request is not one that a client of this version sends.
    pub(super) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        ControlError::BadRequest(Diagnostic::new(code, message)).into()
    }

    /// It cannot be answered now; asking again later may work.
    pub(super) fn retry_later(status: StatusCode, code: &str, message: impl Into<String>, seconds: u64) -> Self {
        let problem = Self::from(ControlError::Unreachable(Diagnostic::new(code, message)));
        Self { status, retry_after: Some(seconds.max(1)), ..problem }
    }

    /// Returns the server takes no more work.
    pub(super) fn draining() -> Self {
        let message = "this control plane is shutting down and takes no more work";
        Self::retry_later(StatusCode::SERVICE_UNAVAILABLE, "server.draining", message, 2)
    }

    /// Something in the server is wrong.
    pub(super) fn bug() -> Self {
        let finding = Diagnostic::new("bug", "something in the control plane is wrong; this is a bug in convexinfra")
            .with_help("its log has more under the id of this request");
        let problem = Self::from(ControlError::Record(finding));
        let document = ErrorDocument { exit: Exit::Bug, ..problem.document };
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, document, retry_after: None }
    }

    /// Returns the same under another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Returns the same with what to do about it.
    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        if let Some(finding) = self.document.errors.first_mut() {
            finding.help = Some(help.into());
        }
        self
    }

    /// Returns what a status means that no route of ours has said.
    pub(super) fn from_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => (NO_SUCH_PATH, "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("wire.method", "this path does not have that method; `Allow` says which ones it has")
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
                let message = "this took longer than the control plane gives a request";
                return Self::retry_later(status, "server.timeout", message, 1);
            }
            status if status.is_server_error() => return Self::bug(),
            _ => ("wire.request", "the request is not one of this version"),
        };
        Self::bad_request(code, message)
            .with_status(status)
            .with_help("the paths of this version are listed at `/openapi.json`")
    }
}

/// The body is made at the very end, where the id of the request is known.
impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.document.situation, Situation::NotAuthenticated) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.document);
        response
    }
}
