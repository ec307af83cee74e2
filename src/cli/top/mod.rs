//! `tandem top`: a live screen of the switch. Here is the loop; what is on the screen is in `screen.rs`, the figures are in `figures.rs`.

mod figures;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::client::Client;
use super::command::{Options, block_on};
use super::failure::{Exit, Failure};
use super::table::say_json;
use crate::clock;
use figures::Figures;
use screen::Screen;

/// How often the screen is made anew where nothing else is said.
const PERIOD: &str = "1s";
/// The shortest period: the switch has other work.
const SHORTEST: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct Args {
    /// How often the screen is made anew, such as 2s
    #[arg(long, value_name = "TIME", default_value = PERIOD, value_parser = super::text::duration)]
    every: Duration,
}

pub(super) fn run(options: &Options, args: &Args) -> anyhow::Result<()> {
    if options.json {
        return once(options);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let sentence = "top draws on a terminal and this is none; `tandem status` and `tandem top --json` print the same once";
        return Err(Failure::new(Exit::Error, sentence).into());
    }
    block_on(async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
        let shown = watch(&mut client, &mut terminal, args.every.max(SHORTEST)).await;
        ratatui::restore();
        client.sign_out().await;
        shown
    })
}

/// Prints one look as JSON.
fn once(options: &Options) -> anyhow::Result<()> {
    let look = block_on(async {
        let mut client = Client::sign_in(&options.on, options.show()).await?;
        let look = look(&mut client).await;
        client.sign_out().await;
        look
    })?;
    say_json(&json!({ "status": look.status, "calls": look.calls, "metrics": look.figures }))
}

/// What the switch said when it was asked last.
#[derive(Debug, Default)]
struct Look {
    status: Value,
    calls: Value,
    figures: Figures,
}

async fn look(client: &mut Client) -> anyhow::Result<Look> {
    let status = client.ask("admin", "status", json!({})).await?;
    let calls = client.ask("tel", "list", json!({})).await?["calls"].take();
    // a switch that keeps its figures from us still has calls to show
    let figures = client.get("/metrics").await.map(|(_, text)| Figures::read(&String::from_utf8_lossy(&text)));
    Ok(Look { status, calls, figures: figures.unwrap_or_default() })
}

async fn watch(client: &mut Client, terminal: &mut ratatui::DefaultTerminal, every: Duration) -> anyhow::Result<()> {
    let mut screen = Screen::default();
    loop {
        screen.take(clock::now(), look(client).await.map_err(|error| format!("{error:#}")));
        let next = clock::now() + every;
        loop {
            terminal.draw(|frame| screen.draw(frame)).context("the terminal cannot be drawn on")?;
            match key(next.saturating_duration_since(clock::now())).await? {
                Key::Quit => return Ok(()),
                Key::Scroll(rows) => screen.scroll(rows),
                Key::Draw => {}
                Key::None => break,
            }
        }
    }
}

/// What somebody pressed.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Quit,
    /// Down by so many rows; negative: up.
    Scroll(i32),
    /// Something that changes nothing but the screen's size.
    Draw,
    None,
}

/// Waits for a key.
async fn key(wait: Duration) -> anyhow::Result<Key> {
    let read = spawn_blocking(move || if event::poll(wait)? { event::read().map(Some) } else { Ok(None) });
    let event = read.await.context("the keyboard is gone")?.context("the keyboard is gone")?;
    Ok(event.map_or(Key::None, |event| meaning(&event)))
}

fn meaning(event: &Event) -> Key {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return Key::Draw };
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other key means nothing here")]
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Down | KeyCode::Char('j') => Key::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Key::Scroll(-1),
        KeyCode::PageDown => Key::Scroll(10),
        KeyCode::PageUp => Key::Scroll(-10),
        _ => Key::Draw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it() {
        let press = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::NONE), Key::Quit);
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), Key::Quit);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Key::Quit);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), Key::Draw);
        assert_eq!(press(KeyCode::Down, KeyModifiers::NONE), Key::Scroll(1));
        assert_eq!(meaning(&Event::Resize(1, 1)), Key::Draw);
    }
}
