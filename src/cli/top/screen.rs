//! What `tandem top` shows: how the switch is, its calls, its figures. What does not fit ends with a mark. No colours, so that every
//! terminal can be read.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph};
use serde_json::Value;

use super::Look;
use crate::cli::call;
use crate::cli::status;
use crate::cli::text::printable;

/// Share of the width that calls have, in percent.
const CALLS: u16 = 60;

/// What is on the screen.
#[derive(Default)]
pub(super) struct Screen {
    now: Look,
    now_at: Option<Instant>,
    before: Option<(Look, Instant)>,
    /// Why there is nothing newer.
    fault: Option<String>,
    /// The first row of each list that is shown.
    top: usize,
}

impl Screen {
    /// Takes what the switch said, or why it said nothing.
    pub(super) fn take(&mut self, now: Instant, look: Result<Look, String>) {
        match look {
            Ok(look) => {
                let old = std::mem::replace(&mut self.now, look);
                self.before = self.now_at.replace(now).map(|at| (old, at));
                self.fault = None;
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Moves both lists.
    pub(super) fn scroll(&mut self, rows: i32) {
        let by = usize::try_from(rows.unsigned_abs()).unwrap_or(usize::MAX);
        self.top = if rows < 0 { self.top.saturating_sub(by) } else { self.top.saturating_add(by) };
    }

    /// Draws.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, foot] = Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
        let [calls, figures] = Layout::horizontal([Constraint::Percentage(CALLS), Constraint::Min(10)]).areas(body);
        frame.render_widget(Paragraph::new(self.head(head.width)), head);
        let (rows, lines) = (self.calls(), self.figures(figures.width.saturating_sub(2)));
        self.top = self.top.min(rows.len().max(lines.len()).saturating_sub(1));
        self.list(frame, calls, "Calls", &rows);
        self.list(frame, figures, "Figures", &lines);
        let keys = "q quits, arrows and page keys move";
        let foot_text =
            self.fault.as_ref().map_or_else(|| keys.to_owned(), |fault| format!("{keys} | nothing newer: {}", printable(fault)));
        let style = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(Line::styled(fitting(&foot_text, foot.width), style)), foot);
    }

    fn head(&self, width: u16) -> Vec<Line<'static>> {
        let status = &self.now.status;
        let figures = status::COLUMNS.iter().map(|column| (column.0, column.cell(status))).filter(|(_, cell)| !cell.is_empty());
        let text: Vec<String> = figures.map(|(title, cell)| format!("{title} {cell}")).collect();
        let bold = Style::new().add_modifier(Modifier::BOLD);
        vec![Line::styled(fitting(&format!("tandem  {}", text.join("  ")), width), bold), Line::raw("")]
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.now.calls.as_array().into_iter().flatten();
        let cells = |call: &Value| call::COLUMNS.iter().map(|column| column.cell(call)).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        calls.map(|call| cells(call).join("  ")).collect()
    }

    fn figures(&self, width: u16) -> Vec<String> {
        let before = self.before.as_ref().zip(self.now_at).map(|((old, at), now)| (&old.figures, now.saturating_duration_since(*at)));
        let width = usize::from(width);
        let aligned = |(name, figure): (String, String)| {
            let gap = width.saturating_sub(name.chars().count() + figure.chars().count()).max(1);
            printable(&format!("{name}{:gap$}{figure}", ""))
        };
        self.now.figures.lines(before).into_iter().map(aligned).collect()
    }

    fn list(&self, frame: &mut Frame<'_>, area: Rect, title: &str, rows: &[String]) {
        let (width, height) = (area.width.saturating_sub(2), usize::from(area.height.saturating_sub(2)));
        let shown = rows.iter().skip(self.top.min(rows.len().saturating_sub(1)));
        let lines: Vec<Line<'_>> = shown.take(height).map(|row| Line::raw(fitting(row, width))).collect();
        let title = if rows.len() > height { format!(" {title}: {} in all ", rows.len()) } else { format!(" {title}: {} ", rows.len()) };
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
    }
}

/// Cuts a line that is too long, with a mark.
fn fitting(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::figures::Figures;
    use super::*;

    fn drawn(screen: &mut Screen, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 12)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn look(calls: usize, packets: u32) -> Look {
        let call =
            |n: usize| json!({ "id": format!("{n:016x}"), "state": "connected", "parties": [{ "user": "ann" }, { "user": "bob\u{1b}" }] });
        Look {
            status: json!({ "version": "1.0", "uptime": 61_000, "users": 2, "devices": 3, "calls": calls, "draining": false }),
            calls: (0..calls).map(call).collect::<Vec<_>>().into(),
            figures: Figures::read(&format!("tandem_packets_total {packets}\n")),
        }
    }

    #[test]
    fn the_switch_its_calls_and_its_figures_are_there() {
        let mut screen = Screen::default();
        let begin = crate::clock::now();
        screen.take(begin, Ok(look(1, 100)));
        screen.take(begin + Duration::from_secs(1), Ok(look(2, 150)));
        let text = drawn(&mut screen, 120);
        for part in ["version 1.0  up for 1m 1s", "Calls: 2", "0000000000000001", "ann, bob\\u{1b}", "packets_total", "150 50/s", "q quits"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        screen.take(begin, Err("no switch answers".to_owned()));
        let text = drawn(&mut screen, 120);
        assert!(text.contains("nothing newer: no switch answers") && text.contains("Calls: 2"), "{text}");
    }

    #[test]
    fn what_does_not_fit_ends_with_a_mark_and_can_be_reached() {
        let mut screen = Screen::default();
        screen.take(crate::clock::now(), Ok(look(40, 1)));
        let text = drawn(&mut screen, 40);
        assert!(text.contains('…') && text.contains("Calls: 40 in all"), "{text}");
        screen.scroll(1000);
        assert!(drawn(&mut screen, 60).contains(&format!("{:016x}", 39)));
        screen.scroll(-1000);
        assert!(drawn(&mut screen, 60).contains(&format!("{:016x}", 0)));
    }
}
