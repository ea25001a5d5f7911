//! `stock_prices`: trades of eight shares, around the clock.
//!
//! A price is the sum of movements on four time scales, from a day to a minute, and so resembles real prices.

use serde::Serialize;

use super::chance::{Dice, wander};
use super::{Event, iso};

const MINUTE: i64 = 60_000;
/// Shares and their approximate prices.
const SHARES: [(&str, f64); 8] = [
    ("ACME", 184.0),
    ("DELT", 42.5),
    ("FERN", 310.0),
    ("KITE", 18.2),
    ("LUMO", 96.0),
    ("NOVA", 257.0),
    ("ORCA", 71.4),
    ("TIDE", 129.0),
];
/// Amplitudes of price movements, and their periods in minutes.
const WAVES: [(f64, i64); 4] = [(0.08, 1_440), (0.03, 90), (0.01, 12), (0.003, 1)];

#[derive(Serialize)]
struct Trade<'a> {
    symbol: &'a str,
    ts: String,
    price: f64,
    volume: u64,
}

pub(super) fn event(seed: u64, dice: &mut Dice, ts: i64) -> Event {
    let (symbol, level) = dice.pick(&SHARES);
    let waves: f64 =
        WAVES.iter().map(|(by, minutes)| by * wander(seed, &[symbol, "price"], ts, minutes * MINUTE)).sum();
    let price = level * (1.0 + waves + 0.0004 * dice.jitter());
    let trade = Trade {
        symbol,
        ts: iso(ts),
        // A price in hundredths has an exact shortest text, and a DECIMAL reads this text.
        price: (price * 100.0).round() / 100.0,
        volume: 1 + (400.0 * dice.unit().powi(3)) as u64,
    };
    Event::of(symbol, &trade)
}
