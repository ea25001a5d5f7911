//! Draws a screen: streams, views, and the selected one in detail.
//!
//! Invariant: the drawing depends only on the screen, the time and the area, and works in an area of any size.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};
use thalweg_schemas::api::runs::RunEnd;
use thalweg_schemas::api::streams::{StreamPhase, StreamStatus};
use thalweg_schemas::api::views::{ViewPhase, ViewStatus};

use super::details::{self, outcome};
use super::samples::{Sample, unarchived};
use super::screen::Screen;
use crate::terminal::grouped;

const KEYS: &str = " ↑↓ select   p pause   q quit";
const DETAIL_LINES: u16 = 7;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const DOUBTFUL: Style = Style::new().fg(Color::Yellow);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws all of `screen`; `now` has the same origin as the times of the samples.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, now: Duration) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let lines = vec![title(screen), notice(screen, now)];
    frame.render_widget(Paragraph::new(lines), head);
    frame.render_widget(Paragraph::new(Line::styled(KEYS, FAINT)), foot);
    if let Some(sample) = screen.history.newest() {
        draw_sample(frame, screen, sample, body);
    }
}

fn title(screen: &Screen) -> Line<'static> {
    let mut title = format!(" {}", screen.url);
    if let Some(sample) = screen.history.newest() {
        let process = &sample.process;
        title.push_str(&format!(
            "  up {}  queries: {} running, {} answered, {} failed",
            span(process.uptime_seconds),
            process.queries_running,
            grouped(process.queries_answered),
            grouped(process.queries_failed),
        ));
    }
    Line::styled(title, BOLD)
}

fn notice(screen: &Screen, now: Duration) -> Line<'static> {
    match &screen.silent {
        Some((since, reason)) => {
            let silent = now.saturating_sub(*since).as_secs_f64();
            Line::styled(format!(" silent for {}: {reason}", span(silent)), BAD)
        }
        None if screen.paused => Line::styled(" paused; p goes on", DOUBTFUL),
        None if screen.history.newest().is_none() => Line::styled(" asking …", FAINT),
        None => Line::default(),
    }
}

fn draw_sample(frame: &mut Frame<'_>, screen: &Screen, sample: &Sample, area: Rect) {
    let (streams, views) = (sample.streams.len() as u16, sample.views.len() as u16);
    if streams == 0 {
        let hint = " no streams yet; `thalweg apply FILE.sql` creates them";
        frame.render_widget(Paragraph::new(hint), area);
        return;
    }
    let detail = DETAIL_LINES.min(area.height / 3);
    // Each table has a header and a blank line below. The views' table shrinks first, but keeps some lines.
    let both = area.height.saturating_sub(detail);
    let upper = (streams + 2).min((both / 2).max(both.saturating_sub(views + 2)));
    let [upper, lower, detail] =
        Layout::vertical([Constraint::Length(upper), Constraint::Fill(1), Constraint::Length(detail)]).areas(area);
    let above = screen.selected.min(sample.streams.len());
    let of_streams = (screen.selected < sample.streams.len()).then_some(screen.selected);
    let of_views = (above == sample.streams.len()).then(|| screen.selected - above);
    draw_streams(frame, screen, sample, of_streams, inner(upper));
    draw_views(frame, &sample.views, of_views, inner(lower));
    let (name, lines) = match of_streams {
        Some(at) => details::of_stream(&sample.streams[at]),
        None => match of_views.and_then(|at| sample.views.get(at)) {
            Some(view) => details::of_view(view),
            None => return,
        },
    };
    let block = Block::new().borders(Borders::TOP).title(format!(" {name} "));
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(block), detail);
}

/// Returns the area without the blank line at its end.
fn inner(area: Rect) -> Rect {
    Rect { height: area.height.saturating_sub(1), ..area }
}

fn draw_streams(frame: &mut Frame<'_>, screen: &Screen, sample: &Sample, selected: Option<usize>, area: Rect) {
    let rows = sample.streams.iter().map(|stream| stream_row(stream, screen.history.rate(stream.name.as_str())));
    let table = Table::new(
        rows,
        [
            Constraint::Fill(1),
            Constraint::Length(11),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Length(7),
            Constraint::Length(4),
            Constraint::Length(14),
        ],
    )
    .header(
        Row::new([
            Cell::from(" STREAM"),
            Cell::from("status"),
            right("msg/s"),
            right("lag"),
            right("unarchived"),
            right("rejects"),
            right("mem"),
            Cell::from("latest event"),
        ])
        .style(FAINT),
    )
    .row_highlight_style(SELECTED);
    render(frame, table, selected, area);
}

fn stream_row(stream: &StreamStatus, rate: Option<f64>) -> Row<'static> {
    let (status, style) = match stream.status {
        StreamPhase::Stopped => ("stopped".to_owned(), BAD),
        _ if stream.archive_failure.is_some() => ("unarchived".to_owned(), BAD),
        _ if stream.paused => ("paused".to_owned(), DOUBTFUL),
        StreamPhase::Running => ("running".to_owned(), Style::new()),
        other => (other.as_str().replace('_', " "), DOUBTFUL),
    };
    let memory = match stream.memory_budget {
        0 => String::new(),
        budget => format!("{}%", stream.memory_bytes.saturating_mul(100) / budget),
    };
    let rejects = right(&short(stream.rejects as i64));
    Row::new([
        Cell::from(format!(" {}", stream.name)),
        Cell::from(Span::styled(status, style)),
        right(&rate.map_or_else(|| "–".to_owned(), |rate| short(rate.round() as i64))),
        right(&short(stream.lag)),
        right(&short(unarchived(stream))),
        match stream.rejects {
            0 => rejects,
            _ => rejects.style(DOUBTFUL),
        },
        right(&memory),
        Cell::from(moment(stream.latest_event.as_deref())),
    ])
}

fn draw_views(frame: &mut Frame<'_>, views: &[ViewStatus], selected: Option<usize>, area: Rect) {
    if views.is_empty() {
        return;
    }
    let table = Table::new(
        views.iter().map(view_row),
        [
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Length(9),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(5),
            Constraint::Length(15),
        ],
    )
    .header(
        Row::new([
            Cell::from(" VIEW"),
            Cell::from("stream"),
            Cell::from("status"),
            right("age"),
            right("groups"),
            right("segs"),
            Cell::from("last run"),
        ])
        .style(FAINT),
    )
    .row_highlight_style(SELECTED);
    render(frame, table, selected, area);
}

fn view_row(view: &ViewStatus) -> Row<'static> {
    let (status, style) = match (view.status, &view.building) {
        (ViewPhase::Failed, _) => ("failed", BAD),
        (ViewPhase::Serving, None) => ("serving", Style::new()),
        (ViewPhase::Serving, Some(_)) => ("replacing", DOUBTFUL),
        _ => ("building", DOUBTFUL),
    };
    let number = |n: Option<u64>| n.map(|n| short(n as i64)).unwrap_or_default();
    let run = match &view.last_run {
        Some(run) if run.outcome == RunEnd::Failed => Cell::from(Span::styled(outcome(run), BAD)),
        Some(run) => Cell::from(outcome(run)),
        None => Cell::from(Span::styled("none yet", FAINT)),
    };
    Row::new([
        Cell::from(format!(" {}", view.name)),
        Cell::from(view.stream.to_string()),
        Cell::from(Span::styled(status, style)),
        right(&view.age_seconds.map(span).unwrap_or_default()),
        right(&number(view.batch_rows)),
        right(&number(view.segments.map(|n| n as u64))),
        run,
    ])
}

fn render(frame: &mut Frame<'_>, table: Table<'_>, selected: Option<usize>, area: Rect) {
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn right(text: &str) -> Cell<'static> {
    Cell::from(Line::from(text.to_owned()).right_aligned())
}

/// Formats a count in at most six characters: 123456, 1234k, 12M.
fn short(n: i64) -> String {
    match n {
        ..1_000_000 => n.to_string(),
        1_000_000..10_000_000 => format!("{}k", n / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{}G", n / 1_000_000_000),
    }
}

/// Formats a time span in its two largest units: 5s, 3m 12s, 2h 5m, 4d 3h.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size);
    let at = first.unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, size) in &units[at..units.len().min(at + 2)] {
        parts.push(format!("{}{unit}", left / size));
        left %= size;
    }
    parts.retain(|part| parts_matter(part, seconds));
    parts.join(" ")
}

/// False for a zero that can be left out: "3m 0s" becomes "3m", but "0s" alone stays.
fn parts_matter(part: &str, seconds: u64) -> bool {
    seconds == 0 || !part.starts_with('0')
}

/// `2026-11-24T17:00:01.25Z` as `11-24 17:00:01`.
fn moment(iso: Option<&str>) -> String {
    let text = iso.and_then(|iso| iso.get(5..19)).unwrap_or_default();
    text.replace('T', " ")
}

#[cfg(test)]
mod tests;
