//! The call detail record of a scripted call: found in the store, and compared with what was done.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::time::sleep;

use super::HOST;
use crate::app::Running;

/// How often the store is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A record, as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Record {
    caller: String,
    dialled: String,
    callee: String,
    answered_at: Option<u64>,
    ended_at: u64,
    status: u16,
    ended_by: String,
    media: Vec<Leg>,
}

/// What one leg carried.
#[derive(Deserialize)]
pub(super) struct Leg {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) lost: u64,
}

impl Record {
    /// Waits for a call's record by its place in the store: it is written when the media ports have said their last.
    pub(super) async fn find(switch: &Running, place: usize) -> anyhow::Result<Self> {
        loop {
            if let Some(record) = switch.records()?.into_iter().nth(place) {
                return serde_json::from_value(record.into()).context("it cannot be read");
            }
            sleep(LOOK).await;
        }
    }

    /// Refuses a record that does not tell of a call from one user to another by a number; returns how it went, and the caller's and the
    /// callee's leg.
    pub(super) fn checked(self, caller: &str, number: &str, callee: &str) -> anyhow::Result<(String, [Leg; 2])> {
        let Self { caller: by, dialled, callee: reached, answered_at, ended_at, status, ended_by, media } = self;
        let is_right = by == format!("{caller}@{HOST}") && dialled == number && reached == format!("{callee}@{HOST}");
        ensure!(is_right, "the call's record is wrong: {by} dialled {dialled} and reached {reached}");
        ensure!(status == 200 && ended_by == "caller", "the call's record is wrong: status {status}, ended by {ended_by}");
        let answered = answered_at.context("the call's record is wrong: it was never answered")?;
        let legs = media.len();
        let Ok(media) = media.try_into() else { bail!("the call's record is wrong: media of {legs} legs") };
        let talked = Duration::from_millis(ended_at.saturating_sub(answered)).as_secs_f64();
        Ok((format!("{by} dialled {dialled}, reached {reached}, talked {talked:.1} s"), media))
    }
}
