//! How replies are shown to people: tables and records made by a list of columns. Nothing is cut: what is too wide goes on in the next
//! line. Knows no command.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::text::{harmless_json, moment, printable, span};

/// One column: its title, where its value is in a record, and how it is written.
pub(super) struct Column(pub(super) &'static str, pub(super) &'static str, pub(super) Form);

/// How a value is written.
pub(super) enum Form {
    /// As it is; lists with commas.
    Plain,
    /// Milliseconds since 1970 as date and time.
    Moment,
    /// Milliseconds as a span of time.
    Span,
    /// In a way of its own.
    By(fn(&Value) -> String),
}

/// How a reply is shown.
pub(super) enum View {
    /// The list at this place, a row for each record; and what is said where there is none.
    List(&'static str, &'static [Column], &'static str),
    /// The record at this place, a line for each column that has a value.
    Record(&'static str, &'static [Column]),
    /// In a way of its own.
    By(fn(&Value) -> String),
    /// This sentence, whatever the reply is.
    Says(String),
}

/// Prints a line to standard output.
///
/// # Errors
///
/// Nobody reads it.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Prints a reply as JSON.
///
/// # Errors
///
/// Nobody reads it.
pub(super) fn say_json(reply: &Value) -> anyhow::Result<()> {
    say(&harmless_json(&format!("{reply:#}")))
}

/// Prints one value as one line of JSON, for streams.
///
/// # Errors
///
/// Nobody reads it.
pub(super) fn say_json_line(value: &Value) -> anyhow::Result<()> {
    say(&harmless_json(&value.to_string()))
}

/// Writes a reply for people.
pub(super) fn render(view: &View, reply: &Value) -> String {
    match view {
        View::List(at, columns, none) => match reply.pointer(at).and_then(Value::as_array) {
            Some(records) if !records.is_empty() => list(columns, records),
            _ => (*none).to_owned(),
        },
        View::Record(at, columns) => record(columns, reply.pointer(at).unwrap_or(&Value::Null)),
        View::By(write) => write(reply),
        View::Says(sentence) => sentence.clone(),
    }
}

fn list(columns: &[Column], records: &[Value]) -> String {
    let mut table = bare();
    table.set_header(columns.iter().map(|column| column.0.to_uppercase()));
    for record in records {
        table.add_row(columns.iter().map(|column| column.cell(record)));
    }
    written(&table)
}

fn record(columns: &[Column], record: &Value) -> String {
    let mut table = bare();
    let rows = columns.iter().map(|column| (column.0, column.cell(record)));
    for (title, cell) in rows.filter(|(_, cell)| !cell.is_empty()) {
        table.add_row([title, &cell]);
    }
    written(&table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn written(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().strip_prefix(' ').map_or_else(String::new, str::to_owned)).collect::<Vec<_>>().join("\n")
}

impl Column {
    /// Writes the value of a record.
    pub(super) fn cell(&self, record: &Value) -> String {
        let value = record.pointer(self.1).unwrap_or(&Value::Null);
        let text = match (&self.2, value) {
            (_, Value::Null) => String::new(),
            (Form::By(write), _) => write(value),
            (Form::Moment, _) => value.as_u64().map_or_else(|| plain(value), moment),
            (Form::Span, _) => value.as_u64().map_or_else(|| plain(value), span),
            (Form::Plain, _) => plain(value),
        };
        printable(&text)
    }
}

/// Writes a value without the marks of JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column("user", "/user", Form::Plain),
        Column("numbers", "/numbers", Form::Plain),
        Column("since", "/since", Form::Moment),
        Column("count", "/list", Form::By(|list| list.as_array().map_or(0, Vec::len).to_string())),
    ];

    #[test]
    fn a_list_has_a_row_for_each_record_and_nothing_is_cut() {
        let long = "x".repeat(500);
        let reply = json!({ "users": [{ "user": "ann", "numbers": ["1", "2"], "since": 0, "list": [] }, { "user": long }] });
        let text = render(&View::List("/users", COLUMNS, "nobody"), &reply);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("USER") && lines[0].ends_with("COUNT"), "{text}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["ann", "1,", "2", "1970-01-01", "00:00:00Z", "0"]);
        assert_eq!(lines[2], long);
        assert_eq!(render(&View::List("/users", COLUMNS, "nobody"), &json!({ "users": [] })), "nobody");
    }

    #[test]
    fn a_record_has_a_line_for_each_value() {
        let text = render(&View::Record("", COLUMNS), &json!({ "user": "a\x1b[2J", "since": 1000 }));
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines, [vec!["user", "a\\u{1b}[2J"], vec!["since", "1970-01-01", "00:00:01Z"]]);
    }
}
