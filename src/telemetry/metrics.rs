//! Figures for Prometheus: what they are called and what they mean. What is counted is counted where it happens, by handles made once;
//! what there is at the moment is asked for when somebody looks.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::call::record::Record;

/// Bounds of the histograms, in seconds: from what nobody notices to what everybody does.
const SECONDS: &[f64] = &[0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Starts counting, once for the process, and returns what writes the figures; none where another library counts already.
pub fn start() -> Option<&'static PrometheusHandle> {
    static WRITER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let writer = WRITER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().set_buckets(SECONDS).ok()?.build_recorder();
        let writer = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        describe();
        Some(writer)
    });
    writer.as_ref()
}

fn describe() {
    describe_counter!("tandem_calls_total", "Calls that are over, by what the caller was told");
    describe_counter!("tandem_calls_refused_total", "New calls refused with 503: overload, or draining");
    describe_counter!("tandem_registrations_total", "REGISTER requests acknowledged");
    describe_counter!("tandem_media_packets_received_total", "RTP packets of calls that are over, as they came in");
    describe_counter!("tandem_media_packets_sent_total", "RTP packets of calls that are over, as they went out");
    describe_counter!("tandem_media_packets_lost_total", "RTP packets of calls that are over, missing in what came in");
    describe_counter!("tandem_media_thread_packets_received_total", "Datagrams that a media thread took from its sockets");
    describe_counter!("tandem_media_thread_packets_sent_total", "Datagrams that a media thread sent");
    describe_counter!(
        "tandem_media_thread_packets_lost_total",
        "RTP packets missing in what came to ports of a media thread, counted at their end"
    );
    describe_gauge!("tandem_media_thread_ports", "Open ports of a media thread");
    describe_histogram!("tandem_loop_turn_seconds", Unit::Seconds, "How long one turn of the signaling loop takes");
    describe_histogram!("tandem_storage_commit_seconds", Unit::Seconds, "How long a write takes until it is durable");
    describe_counter!("tandem_cas_replies_total", "Replies to client applications, by their number");
    describe_counter!("tandem_cas_events_total", "Events handed to connections of client applications");
    describe_gauge!("tandem_calls", "Calls in progress");
    describe_gauge!("tandem_users", "Users");
    describe_gauge!("tandem_users_registered", "Users with a registered device");
    describe_gauge!("tandem_sip_dialogs", "INVITE dialogs");
    describe_gauge!("tandem_sip_transactions", "SIP transactions");
    describe_gauge!("tandem_draining", "1 while no new calls are taken");
    describe_gauge!("tandem_store_failed", "1 where nothing can be kept any more");
    describe_gauge!("tandem_cas_logins", "Logins of client applications");
    describe_gauge!("tandem_cas_streams", "Open streams of events");
    describe_gauge!("tandem_cas_polls", "Requests that wait for events");
    describe_gauge!("tandem_cas_pending", "Requests that wait for a provider or a plug-in");
    describe_gauge!("tandem_cas_plugins", "Plug-ins");
}

/// Sets what there is at the moment.
pub(crate) fn set(name: &'static str, value: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53")]
    metrics::gauge!(name).set(value as f64);
}

/// Counts a reply to a client application.
pub(crate) fn replied(response: u16) {
    counter!("tandem_cas_replies_total", "response" => response.to_string()).increment(1);
}

/// What a media thread counts, as it passes and not for each packet.
pub(crate) struct OfThread {
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    lost: Counter,
    ports: Gauge,
}

impl OfThread {
    pub(crate) fn new(thread: u16) -> Self {
        start();
        let thread = thread.to_string();
        Self {
            received: counter!("tandem_media_thread_packets_received_total", "thread" => thread.clone()),
            sent: counter!("tandem_media_thread_packets_sent_total", "thread" => thread.clone()),
            lost: counter!("tandem_media_thread_packets_lost_total", "thread" => thread.clone()),
            ports: gauge!("tandem_media_thread_ports", "thread" => thread),
        }
    }

    /// Counts what a port that is closed missed.
    pub(crate) fn event(&self, event: &media::Event) {
        if let media::Event::Closed { statistics, .. } = event {
            self.lost.increment(statistics.streams.iter().map(|stream| stream.lost).sum());
        }
    }

    /// Sets how many ports are open.
    pub(crate) fn ports(&self, open: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53")]
        self.ports.set(open as f64);
    }
}

/// What the signaling loop counts.
pub(crate) struct Metrics {
    pub(crate) refused: Counter,
    pub(crate) registrations: Counter,
    pub(crate) turn: Histogram,
    pub(crate) commit: Histogram,
    received: Counter,
    sent: Counter,
    lost: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        start();
        Self {
            refused: counter!("tandem_calls_refused_total"),
            registrations: counter!("tandem_registrations_total"),
            turn: histogram!("tandem_loop_turn_seconds"),
            commit: histogram!("tandem_storage_commit_seconds"),
            received: counter!("tandem_media_packets_received_total"),
            sent: counter!("tandem_media_packets_sent_total"),
            lost: counter!("tandem_media_packets_lost_total"),
        }
    }

    /// Counts a call that is over.
    pub(crate) fn record(&self, record: &Record) {
        counter!("tandem_calls_total", "status" => record.status.to_string()).increment(1);
        for leg in &record.media {
            self.received.increment(leg.received);
            self.sent.increment(leg.sent);
            self.lost.increment(leg.lost);
        }
    }
}
