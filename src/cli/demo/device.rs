//! What every scripted device can do, so that one script plays with all of them.

use super::phone::Phone;
use super::talk::Talk;
use super::tone::Tone;

/// A device of a user: its SIP, and its media.
#[expect(async_fn_in_trait, reason = "the script waits for its devices in its own task; none needs a future that is Send")]
pub trait Device {
    /// A call that is up.
    type Call;

    /// Returns the device's SIP, to register with.
    fn phone(&mut self) -> &mut Phone;

    /// Calls, and returns when the other side has answered.
    ///
    /// # Errors
    /// The switch cannot be reached, refuses, or answers with what this device cannot use.
    async fn call(&mut self, number: &str) -> anyhow::Result<Self::Call>;

    /// Waits for a call, rings, answers, and returns when that is acknowledged.
    ///
    /// # Errors
    /// The switch cannot be reached, gives up, or offers what this device cannot use.
    async fn answer(&mut self) -> anyhow::Result<Self::Call>;

    /// Waits until media can flow.
    ///
    /// # Errors
    /// It never will.
    async fn connected(&mut self, call: &mut Self::Call) -> anyhow::Result<()>;

    /// Speaks one tone for about two seconds and listens for that and another.
    ///
    /// # Errors
    /// The call or its media end before that.
    async fn talk(&mut self, call: &mut Self::Call, own: Tone, others: Tone) -> anyhow::Result<Talk>;

    /// Hangs up.
    ///
    /// # Errors
    /// The switch cannot be reached.
    async fn hang_up(&mut self, call: Self::Call) -> anyhow::Result<()>;

    /// Waits until the other side hangs up.
    ///
    /// # Errors
    /// The switch cannot be reached.
    async fn until_over(&mut self, call: Self::Call) -> anyhow::Result<()>;
}
