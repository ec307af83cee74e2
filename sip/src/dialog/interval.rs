//! How long a subscription or publication is granted (RFC 6665 §4.2.1.1, RFC 3903 §6 step 4).

use std::time::Duration;

use crate::message::{Headers, Name, Request, Response, StatusCode};

/// The shortest interval that we grant; one that asks for less gets 423 (RFC 6665 §4.2.1.1, RFC 3903 §6 step 4).
pub const MIN_EXPIRES: Duration = Duration::from_secs(60);
/// The longest interval that we grant, and the one for who asks for none (RFC 3856 §6.4, RFC 4235 §3.4).
pub const MAX_EXPIRES: Duration = Duration::from_secs(3600);

/// Why an interval is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Expires is no number: 400.
    #[error("malformed Expires")]
    Malformed,
    /// It is shorter than [`MIN_EXPIRES`]: 423.
    #[error("the interval is too brief")]
    TooBrief,
}

impl IntervalError {
    /// Makes the response: 400, or 423 with Min-Expires.
    #[must_use]
    pub fn response(self, request: &Request) -> Response {
        match self {
            Self::Malformed => Response::to(request, StatusCode::BAD_REQUEST),
            Self::TooBrief => {
                let mut response = Response::to(request, StatusCode::INTERVAL_TOO_BRIEF);
                response.headers.push(Name::MinExpires, MIN_EXPIRES.as_secs().to_string());
                response
            }
        }
    }
}

/// Returns the interval to grant to a SUBSCRIBE or PUBLISH; zero for one that ends.
///
/// # Errors
/// See [`IntervalError`].
pub fn interval(headers: &Headers) -> Result<Duration, IntervalError> {
    let asked = headers.number(Name::Expires).map_err(|_| IntervalError::Malformed)?;
    let asked = asked.map_or(MAX_EXPIRES, |seconds| Duration::from_secs(seconds.into()));
    if asked.is_zero() || asked >= MIN_EXPIRES { Ok(asked.min(MAX_EXPIRES)) } else { Err(IntervalError::TooBrief) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_granted_within_the_bounds() {
        let granted = |value: Option<&str>| {
            let mut headers = Headers::default();
            value.into_iter().for_each(|value| headers.push(Name::Expires, value));
            interval(&headers)
        };
        assert_eq!(granted(None), Ok(MAX_EXPIRES));
        assert_eq!(granted(Some("0")), Ok(Duration::ZERO));
        assert_eq!(granted(Some("1")), Err(IntervalError::TooBrief));
        assert_eq!(granted(Some("59")), Err(IntervalError::TooBrief));
        assert_eq!(granted(Some("60")), Ok(MIN_EXPIRES));
        assert_eq!(granted(Some("4294967295")), Ok(MAX_EXPIRES));
        for bad in ["", "x", "-1", "4294967296"] {
            assert_eq!(granted(Some(bad)), Err(IntervalError::Malformed), "{bad}");
        }
    }
}
