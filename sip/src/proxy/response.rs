//! The choice of the final response (§16.7 steps 6 and 7).

use crate::message::{Name, Response, StatusCode};

/// Most challenges that are put together from all branches; further ones are left out.
const MAX_CHALLENGES: usize = 32;

/// Chooses the best of the final responses and completes it; none if there are none.
pub(super) fn best(mut responses: Vec<Response>) -> Option<Response> {
    let at = (0..responses.len()).min_by_key(|at| responses.get(*at).map(|response| rank(response.status)))?;
    let mut best = responses.remove(at);
    if is_challenge(best.status) {
        add_challenges(&mut best, &responses);
    }
    // That a flow failed is between us and the device's edge (RFC 5626 §11.5); the caller learns that it cannot be reached.
    if best.status == StatusCode::FLOW_FAILED {
        replace(&mut best, StatusCode::TEMPORARILY_UNAVAILABLE);
    }
    // A 503 would make the client avoid us, and we are well (§16.7 step 6).
    if best.status == StatusCode::SERVICE_UNAVAILABLE {
        replace(&mut best, StatusCode::SERVER_INTERNAL_ERROR);
        best.headers.remove(Name::RetryAfter);
    }
    Some(best)
}

fn replace(response: &mut Response, status: StatusCode) {
    response.status = status;
    response.reason = bytes::Bytes::new();
}

/// The lowest is the best: 6xx, then the lowest class; in it what helps the client to try again, and last what says the least.
fn rank(status: StatusCode) -> (u16, u8) {
    let class = if status.code() >= 600 { 0 } else { status.code() / 100 };
    let preference = match status.code() {
        401 | 407 | 415 | 420 | 484 => 0,
        408 | 430 | 503 => 2,
        _ => 1,
    };
    (class, preference)
}

fn is_challenge(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}

/// Puts the challenges of all branches into one response, so that the client can answer them at once (§22.3).
fn add_challenges(best: &mut Response, others: &[Response]) {
    let names = [Name::WwwAuthenticate, Name::ProxyAuthenticate];
    let had: usize = names.iter().map(|name| best.headers.all(*name).count()).sum();
    let challenges = others.iter().filter(|response| is_challenge(response.status));
    let rows = challenges.flat_map(|response| names.iter().flat_map(|name| response.headers.all(*name).map(|row| (*name, row))));
    for (name, row) in rows.take(MAX_CHALLENGES.saturating_sub(had)) {
        best.headers.push(name, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(code: u16) -> Response {
        Response::new(StatusCode::new(code).unwrap())
    }

    #[test]
    fn the_best_response_is_chosen() {
        for (codes, expected) in [
            (&[486, 603, 302][..], 603),
            (&[486, 302, 503], 302),
            (&[480, 407, 404], 407),
            (&[408, 486, 500], 486),
            (&[503, 502], 502),
            (&[503, 503], 500),
            (&[430, 486], 486),
            (&[430], 480),
            (&[486, 404], 486),
        ] {
            assert_eq!(best(codes.iter().map(|code| response(*code)).collect()).unwrap().status.code(), expected, "{codes:?}");
        }
        assert!(best(Vec::new()).is_none());
    }

    #[test]
    fn challenges_of_all_branches_are_put_together() {
        let mut one = response(401);
        one.headers.push(Name::WwwAuthenticate, "a");
        let mut two = response(407);
        two.headers.push(Name::ProxyAuthenticate, "b");
        let mut other = response(486);
        other.headers.push(Name::WwwAuthenticate, "no");
        let mut many = response(401);
        for _ in 0..100 {
            many.headers.push(Name::WwwAuthenticate, "c");
        }
        let best = best(vec![one, other, two, many]).unwrap();
        assert_eq!(best.headers.all(Name::ProxyAuthenticate).collect::<Vec<_>>(), [b"b"]);
        let rows: Vec<_> = best.headers.all(Name::WwwAuthenticate).collect();
        assert_eq!(&rows[..2], [b"a", b"c"]);
        assert_eq!(rows.len(), MAX_CHALLENGES - 1);
    }

    #[test]
    fn a_503_becomes_a_500_without_retry_after() {
        let mut busy = response(503);
        busy.headers.push(Name::RetryAfter, "5");
        let best = best(vec![busy]).unwrap();
        assert_eq!((best.status.code(), best.headers.has(Name::RetryAfter)), (500, false));
    }
}
