//! Looking again and again: live on a terminal, as text elsewhere.
//!
//! Invariant: the terminal is given back as it was on every way out, a panic included.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, try_init};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::frame::draw;
use super::samples::Sample;
use super::screen::{Press, Screen};
use super::{StatusAnswer, look};
use crate::client::Client;
use crate::terminal;

/// A server that takes longer than this is told to be silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often ages on the screen move on by themselves.
const REDRAW: Duration = Duration::from_secs(1);
/// How often the thread that reads keys looks whether anybody listens.
const LISTEN: Duration = Duration::from_millis(200);

/// The terminal while it is ours.
struct Borrowed(DefaultTerminal);

impl Borrowed {
    fn take() -> Result<Self> {
        // Its panic hook gives the terminal back before the panic is told.
        let terminal = try_init().context("the terminal cannot be drawn on")?;
        Ok(Self(terminal))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The live view, until a key or a signal ends it.
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
                // Another size is another drawing; the rest is nothing to us.
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

/// Keys and changes of size, read on a thread of their own, which ends with the receiver.
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

/// Looks every so often; ends with the receiver.
fn ask(client: Client, began: Instant, every: Duration) -> mpsc::Receiver<Result<Sample, String>> {
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let answer = match tokio::time::timeout(PATIENCE, look(&client, began)).await {
                Ok(Ok(sample)) => Ok(sample),
                Ok(Err(e)) => Err(terminal::sentence(&e)),
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            if sender.send(answer).await.is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    });
    answers
}

/// The text again and again, until the reader or a signal ends it. A server that does not answer is told on stderr.
pub(super) async fn plain(client: Client, every: Duration, json: bool) -> Result<ExitCode> {
    loop {
        match StatusAnswer::of(&client).await {
            Ok(answer) => terminal::out(&format!("{}\n", answer.text(&client, json)?))?,
            Err(e) => terminal::err(&format!("error: {}", terminal::sentence(&e))),
        }
        tokio::time::sleep(every).await;
    }
}
