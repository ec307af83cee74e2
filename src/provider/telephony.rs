//! Calls, and who is in them with which devices.

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::provider::{Graph, Telephony};
use cas::text::{CallId, UserName};
use cas::topic::graph;
use cas::topic::tel::{Act, Acted, Call, MakeCall};
use std::sync::Arc;

use super::{Provider, view};
use crate::call;
use crate::call::graph::View;

impl Telephony for Provider {
    async fn call(&self, call: &CallId) -> Result<Call, Error> {
        view::call(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }

    async fn calls(&self, user: Option<&UserName>) -> Result<Vec<Call>, Error> {
        let views = self.signaling.calls(user.map(ToString::to_string)).await?;
        Ok(views.iter().filter_map(|view| view::call(view)).collect())
    }

    async fn make_call(&self, _: &Caller, _: &UserName, _: MakeCall) -> Result<Acted, Error> {
        Err(Error::new(Fault::NotSupported, "this switch makes no calls for clients yet"))
    }

    async fn act(&self, _: &Caller, _: &UserName, act: Act) -> Result<Acted, Error> {
        Err(Error::new(Fault::NotSupported, format!("this switch does not do {} yet", act.action().name())))
    }

    async fn why(&self, call: &CallId) -> Result<String, Error> {
        let view = self.view(call).await?;
        Ok(view.why.clone().unwrap_or_else(|| "the call goes on".to_owned()))
    }
}

impl Graph for Provider {
    async fn graph(&self, call: &CallId) -> Result<graph::Graph, Error> {
        view::graph(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }
}

impl Provider {
    async fn view(&self, call: &CallId) -> Result<Arc<View>, Error> {
        let id = u64::from_str_radix(call.as_str(), 16).map_err(|_| unknown(call))?;
        self.signaling.call(call::Id(id)).await?.ok_or_else(|| unknown(call))
    }
}

fn unknown(call: &CallId) -> Error {
    Error::new(Fault::NotFound, format!("no call {call}"))
}
