//! Whether users that a request names exist: asked of the host, once the right is decided, so that who may not ask learns nothing.

use serde_json::Value;

use super::{Done, Effect, Request as Any, admin, history, login, subscription, tel};
use crate::error::{Error, Fault};
use crate::permission::Caller;
use crate::provider::Store;
use crate::text::UserName;

/// A request that the server serves itself, once it is known that its users exist.
#[derive(Debug)]
pub struct Request {
    pub(crate) users: Vec<UserName>,
    pub(crate) then: Then,
}

/// What the server does then.
#[derive(Debug)]
pub(crate) enum Then {
    Subscription(subscription::Request),
    Logins(login::List),
}

/// Serves a request.
pub(crate) async fn serve<S: Store>(store: &S, request: Request) -> Result<Done, Error> {
    if let Some(unknown) = store.unknown(&request.users).await? {
        let field = match &request.then {
            Then::Logins(_) => "user".to_owned(),
            Then::Subscription(_) => {
                let position = request.users.iter().position(|user| *user == unknown).unwrap_or_default();
                format!("users[{position}]")
            }
        };
        return Err(no_user(&unknown, &field));
    }
    Ok(Done { body: Value::Null, effects: vec![Effect::Serve(request.then)] })
}

/// Returns whose list somebody else asks for, and what the list is called.
pub(crate) fn listed(request: &Any, caller: &Caller) -> Option<(UserName, &'static str)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "these are the lists of a user that are empty for one who does not exist")]
    let (user, list) = match request {
        Any::Tel(tel::Request::List(request)) => (request.user.as_ref()?, "calls"),
        Any::History(history::Request::List(request)) => (request.user.as_ref()?, "entries"),
        Any::Admin(admin::Request::ListDevices(request)) => (request.user.as_ref()?, "devices"),
        _ => return None,
    };
    (*user != caller.user).then(|| (user.clone(), list))
}

/// Refuses an empty list of somebody who does not exist.
pub(crate) async fn check<S: Store>(store: &S, done: Done, (user, list): (UserName, &'static str)) -> Result<Done, Error> {
    if done.body.get(list).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Ok(done);
    }
    match store.unknown(std::slice::from_ref(&user)).await? {
        Some(unknown) => Err(no_user(&unknown, "user")),
        None => Ok(done),
    }
}

fn no_user(user: &UserName, field: &str) -> Error {
    Error { field: Some(field.into()), ..Error::new(Fault::NotFound, format!("no user {user}")) }
}
