//! Repeats the status: live on a terminal, as text elsewhere.
//!
//! Invariant: every exit restores the terminal, also a panic.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, try_init};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::answer::{StatusAnswer, look};
use super::frame::draw;
use super::samples::Sample;
use super::screen::{Press, Screen};
use crate::http::Client;
use crate::terminal;

/// Pause between redraws, which update the ages on the screen without new answers.
const REDRAW: Duration = Duration::from_secs(1);
/// Pause between two checks of the key-reading thread for a dropped receiver.
const LISTEN: Duration = Duration::from_millis(200);

/// The terminal while this program draws on it.
struct Borrowed(DefaultTerminal);

impl Borrowed {
    fn take() -> Result<Self> {
        // The panic hook of `try_init` restores the terminal before the panic is printed.
        let terminal = try_init().context("the terminal cannot be drawn on")?;
        Ok(Self(terminal))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the live view until a key or a signal ends it.
pub(super) async fn live(client: Client, url: &str, every: Duration) -> Result<ExitCode> {
    let began = Instant::now();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut screen = Screen::new(url);
    let mut terminal = Borrowed::take()?;
    let mut keys = read_keys();
    let mut answers = ask(client, began, every);
    let mut clock = tokio::time::interval(REDRAW);
    loop {
        terminal.0.draw(|frame| draw(frame, &screen, began.elapsed())).context("the terminal cannot be drawn on")?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Ok(Event::Key(key))) if screen.press(key) == Press::Quit => break,
                // A resize is redrawn by the loop; other events need no action.
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(anyhow!(e).context("the terminal cannot be read")),
                None => break,
            },
            Some(answer) = answers.recv() => screen.take(began.elapsed(), answer),
            _ = clock.tick() => {}
            _ = terminate.recv() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads keys and resizes on a separate thread, which ends when the receiver is dropped.
fn read_keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = match event::poll(LISTEN) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(e) => Err(e),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                break;
            }
        }
    });
    keys
}

/// Samples the status at this interval, until the receiver is dropped.
fn ask(client: Client, began: Instant, every: Duration) -> mpsc::Receiver<Result<Sample, String>> {
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let answer = look(&client, began).await.map_err(|e| terminal::sentence(e.chain()));
            if sender.send(answer).await.is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    });
    answers
}

/// Prints the text repeatedly, until stdout is closed or a signal arrives. Failures of the server go to stderr.
pub(super) async fn plain(client: Client, every: Duration, json: bool) -> Result<ExitCode> {
    loop {
        match StatusAnswer::of(&client).await {
            Ok(answer) => terminal::out(&format!("{}\n", answer.text(&client, json)?))?,
            Err(e) => terminal::err(&format!("error: {}", terminal::sentence(e.chain()))),
        }
        tokio::time::sleep(every).await;
    }
}
