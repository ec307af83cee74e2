//! Calls, and who is in them with which devices.

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::provider::{Graph, Telephony};
use cas::text::{CallId, UserName};
use cas::topic::graph;
use cas::topic::tel::{Act, Acted, Call, MakeCall};

use super::Provider;

impl Telephony for Provider {
    async fn call(&self, call: &CallId) -> Result<Call, Error> {
        Err(unknown(call))
    }

    async fn calls(&self, _: Option<&UserName>) -> Result<Vec<Call>, Error> {
        Ok(Vec::new())
    }

    async fn make_call(&self, _: &Caller, _: &UserName, _: MakeCall) -> Result<Acted, Error> {
        Err(Error::new(Fault::NotSupported, "this switch makes no calls for clients yet"))
    }

    async fn act(&self, _: &Caller, _: &UserName, act: Act) -> Result<Acted, Error> {
        Err(unknown(act.call()))
    }

    async fn why(&self, call: &CallId) -> Result<String, Error> {
        Err(unknown(call))
    }
}

impl Graph for Provider {
    async fn graph(&self, call: &CallId) -> Result<graph::Graph, Error> {
        Err(unknown(call))
    }
}

fn unknown(call: &CallId) -> Error {
    Error::new(Fault::NotFound, format!("no call {call}"))
}
