//! The state of the screen, and its changes by keys and answers.
//!
//! Invariant: no function here reads a clock, a key or a socket; the same events give the same screen.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::samples::{History, Sample};

/// The state of the live view.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) url: String,
    pub(super) history: History,
    /// The time since which the server has not answered, and the reason.
    pub(super) silent: Option<(Duration, String)>,
    /// True while new answers are not shown.
    pub(super) paused: bool,
    /// The selected line: streams come first, then views.
    pub(super) selected: usize,
}

/// The effect of a key on the loop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Press {
    Quit,
    Stay,
}

impl Screen {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), history: History::default(), silent: None, paused: false, selected: 0 }
    }

    /// The number of lines that can be selected.
    fn lines(&self) -> usize {
        let newest = self.history.newest();
        newest.map_or(0, |sample| sample.streams.len() + sample.views.len())
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Press {
        if key.kind == KeyEventKind::Release {
            return Press::Stay;
        }
        let last = self.lines().saturating_sub(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Press::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Press::Quit,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => self.selected = 0,
            KeyCode::End | KeyCode::Char('G') => self.selected = last,
            _ => {}
        }
        Press::Stay
    }

    /// Records the server's answer, or the reason why it did not answer.
    pub(super) fn take(&mut self, now: Duration, answer: Result<Sample, String>) {
        match answer {
            Ok(sample) => {
                self.silent = None;
                if !self.paused {
                    self.history.push(sample);
                    self.selected = self.selected.min(self.lines().saturating_sub(1));
                }
            }
            Err(reason) => {
                let since = self.silent.as_ref().map_or(now, |(since, _)| *since);
                self.silent = Some((since, reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::tests::{sample, stream};
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A screen with three streams.
    fn screen() -> Screen {
        let mut screen = Screen::new("http://x");
        screen.take(at(0), Ok(sample(0, vec![stream(1), stream(2), stream(3)])));
        screen
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Press {
        screen.press(KeyEvent::from(code))
    }

    #[test]
    fn keys_move_the_mark_within_the_lines() {
        let mut screen = screen();
        for (code, expect) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::Char('j'), 2),
            (KeyCode::Down, 2),
            (KeyCode::Char('k'), 1),
            (KeyCode::End, 2),
            (KeyCode::Home, 0),
            (KeyCode::PageDown, 2),
            (KeyCode::PageUp, 0),
            (KeyCode::Char('x'), 0),
        ] {
            assert_eq!(press(&mut screen, code), Press::Stay);
            assert_eq!(screen.selected, expect, "{code:?}");
        }
        press(&mut screen, KeyCode::End);
        screen.take(at(1), Ok(sample(1, vec![stream(1)])));
        assert_eq!(screen.selected, 0);
    }

    #[test]
    fn keys_end_it() {
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen().press(control), Press::Quit);
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut screen(), code), Press::Quit);
        }
        assert_eq!(press(&mut screen(), KeyCode::Char('c')), Press::Stay);
    }

    #[test]
    fn a_paused_screen_stands_still() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Char('p'));
        screen.take(at(1), Ok(sample(1, vec![])));
        assert_eq!(screen.history.newest().unwrap().streams.len(), 3);
        press(&mut screen, KeyCode::Char('p'));
        screen.take(at(2), Ok(sample(2, vec![])));
        assert_eq!(screen.history.newest().unwrap().streams.len(), 0);
    }

    #[test]
    fn silence_is_counted_from_its_beginning_and_ends() {
        let mut screen = screen();
        screen.take(at(3), Err("one".into()));
        screen.take(at(5), Err("two".into()));
        assert_eq!(screen.silent, Some((at(3), "two".to_owned())));
        screen.take(at(6), Ok(sample(6, vec![])));
        assert_eq!(screen.silent, None);
    }
}
