//! Figures of `/metrics` (Prometheus text format): what each is now, and by how much the counters grow. It knows one name.

use std::collections::BTreeMap;
use std::time::Duration;

/// Most figures that are kept; what comes after is left out.
const MOST: usize = 2000;

/// How long the turns of the signaling loop took in all; what it grows by in a second is the loop's load.
const BUSY: &str = "tandem_loop_turn_seconds_sum";

/// Figures by name and labels, as they stand in the text.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads the text; lines that are no figures are left out.
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // buckets are for graphs: there are too many to read
        let figures = lines.filter(|line| !line.contains("_bucket{")).filter_map(|line| {
            let (name, rest) = match line.rfind('}') {
                Some(end) => line.split_at_checked(end + 1)?,
                None => line.split_once(' ')?,
            };
            let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
            value.is_finite().then(|| (name.to_owned(), value))
        });
        Self(figures.take(MOST).collect())
    }

    /// Lists them with what they are now, and for counters by how much they grow in a second.
    pub(super) fn lines(&self, before: Option<(&Self, Duration)>) -> Vec<(String, String)> {
        let busy = before.and_then(|(old, passed)| Some((self.0.get(BUSY)? - old.0.get(BUSY)?) / passed.as_secs_f64()));
        let load = busy.filter(|busy| busy.is_finite()).map(|busy| ("loop load".to_owned(), format!("{:.1} %", busy * 100.0)));
        let written = |(name, value): (&String, &f64)| {
            let bare = name.split('{').next().unwrap_or_default();
            let is_counter = ["_total", "_sum", "_count"].iter().any(|end| bare.ends_with(end));
            let old = before.filter(|_| is_counter).and_then(|(old, passed)| Some((old.0.get(name)?, passed)));
            let rate = old.filter(|(_, passed)| !passed.is_zero()).map(|(old, passed)| (value - old) / passed.as_secs_f64());
            let rate = rate.map_or_else(String::new, |rate| format!("{}/s", number(rate)));
            (name.strip_prefix("tandem_").unwrap_or(name).to_owned(), format!("{} {rate}", number(*value)).trim_end().to_owned())
        };
        load.into_iter().chain(self.0.iter().map(written)).collect()
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_counters_have_a_rate() {
        let read = |sent: u32| {
            Figures::read(&format!(
                "# HELP x y\n# TYPE x counter\ntandem_calls 3\ntandem_rtp_total{{way=\"in }}}} out\"}} {sent} 17\n\
                 tandem_lag_bucket{{le=\"1\"}} 4\ntandem_lag NaN\nodd\ntandem_load 0.25\n"
            ))
        };
        let (old, new) = (read(100), read(300));
        let lines = new.lines(Some((&old, Duration::from_secs(2))));
        let line = |name: &str, figure: &str| (name.to_owned(), figure.to_owned());
        assert_eq!(lines, [line("calls", "3"), line("load", "0.2500"), line("rtp_total{way=\"in }} out\"}", "300 100/s")]);
        let busy = |seconds: f64| Figures::read(&format!("{BUSY} {seconds}\n"));
        assert_eq!(busy(1.5).lines(Some((&busy(1.0), Duration::from_secs(2))))[0], line("loop load", "25.0 %"));
        assert_eq!(new.lines(None).last(), Some(&line("rtp_total{way=\"in }} out\"}", "300")));
    }
}
