//! Why a request was refused, as the client reads it: the fault, the header or field, what would have been accepted, the missing right.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest detail that is sent; what comes after is cut, so that no answer grows with a hostile request.
pub const MAX_DETAIL: usize = 400;

/// A refusal: the body of a reply whose `response` is not 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[error("{detail}")]
pub struct Error {
    /// What kind of fault it is.
    #[serde(rename = "error")]
    pub fault: Fault,
    /// What was wrong, in plain words.
    pub detail: Box<str>,
    /// The header at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Box<str>>,
    /// The field of the body at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Box<str>>,
    /// What would have been accepted there.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub accepted: Box<[Box<str>]>,
    /// The right that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Box<str>>,
}

/// The kinds of fault, each with the number that the `response` header carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// 400: the message, a header or a field is missing or wrong.
    BadMessage,
    /// 401: there is no login, or its token is unknown or has expired.
    LoginRequired,
    /// 401: user and password, or the API key, are wrong.
    WrongCredentials,
    /// 403: the caller lacks the right that `right` names.
    MissingRight,
    /// 403: credentials were sent over a connection that others can read.
    TlsRequired,
    /// 403: the topic belongs to the switch; no plug-in may take it.
    RestrictedTopic,
    /// 404: nothing serves this topic.
    NoProvider,
    /// 404: the topic has no such message.
    UnknownMessage,
    /// 404: the object does not exist.
    NotFound,
    /// 406: none of the encodings that the client accepts is spoken here.
    NotAcceptable,
    /// 408: the client did not send the whole message in time.
    RequestTimeout,
    /// 409: the object's state does not allow it now; `accepted` has the actions that it allows.
    NotNow,
    /// 409: it exists already, or another changed it meanwhile.
    Conflict,
    /// 413: the message or a list in it is too large.
    TooLarge,
    /// 415: the message is in an encoding that is not spoken here.
    UnknownEncoding,
    /// 429: too many at once, or too fast.
    TooMany,
    /// 500: the fault is ours.
    Internal,
    /// 501: this switch does not do that.
    NotSupported,
    /// 503: what serves the topic is away or overloaded.
    Unavailable,
    /// 504: what serves the topic did not answer in time.
    Timeout,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 20] = [
        Self::BadMessage,
        Self::LoginRequired,
        Self::WrongCredentials,
        Self::MissingRight,
        Self::TlsRequired,
        Self::RestrictedTopic,
        Self::NoProvider,
        Self::UnknownMessage,
        Self::NotFound,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::NotNow,
        Self::Conflict,
        Self::TooLarge,
        Self::UnknownEncoding,
        Self::TooMany,
        Self::Internal,
        Self::NotSupported,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// Returns the number of the `response` header; over HTTP it is the status code too.
    #[must_use]
    pub fn response(self) -> u16 {
        match self {
            Self::BadMessage => 400,
            Self::LoginRequired | Self::WrongCredentials => 401,
            Self::MissingRight | Self::TlsRequired | Self::RestrictedTopic => 403,
            Self::NoProvider | Self::UnknownMessage | Self::NotFound => 404,
            Self::NotAcceptable => 406,
            Self::RequestTimeout => 408,
            Self::NotNow | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnknownEncoding => 415,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::NotSupported => 501,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

impl Error {
    /// Makes a refusal with a detail in plain words.
    #[must_use]
    pub fn new<'a>(fault: Fault, detail: impl Into<Cow<'a, str>>) -> Self {
        let detail = detail.into();
        let cut = detail.char_indices().nth(MAX_DETAIL).map_or(detail.len(), |(at, _)| at);
        let detail = detail.get(..cut).unwrap_or_default().into();
        Self { fault, detail, header: None, field: None, accepted: Box::default(), right: None }
    }

    /// Makes a refusal of a header.
    #[must_use]
    pub fn header<'a>(name: &str, detail: impl Into<Cow<'a, str>>) -> Self {
        Self { header: Some(name.into()), ..Self::new(Fault::BadMessage, detail) }
    }

    /// Makes a refusal of a field of the body.
    #[must_use]
    pub fn field<'a>(path: &str, detail: impl Into<Cow<'a, str>>) -> Self {
        Self { field: Some(path.chars().take(128).collect::<String>().into()), ..Self::new(Fault::BadMessage, detail) }
    }

    /// Makes a refusal for want of a right.
    #[must_use]
    pub fn missing_right(right: &str) -> Self {
        Self { right: Some(right.into()), ..Self::new(Fault::MissingRight, format!("this needs the right {right}")) }
    }

    /// Adds what would have been accepted.
    #[must_use]
    pub fn accepting<T: AsRef<str>>(mut self, accepted: impl IntoIterator<Item = T>) -> Self {
        self.accepted = accepted.into_iter().map(|text| text.as_ref().into()).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_at_its_bound() {
        let error = Error::new(Fault::BadMessage, "é".repeat(MAX_DETAIL + 1));
        assert_eq!(error.detail.chars().count(), MAX_DETAIL);
    }

    #[test]
    fn a_missing_right_is_named() {
        let body = serde_json::to_value(Error::missing_right("history.delete")).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": "missing-right", "detail": "this needs the right history.delete", "right": "history.delete"})
        );
    }
}
